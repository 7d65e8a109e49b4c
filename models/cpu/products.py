"""Matrix products of a few rows with a frozen matrix, and what stands between them in a Llama layer, in numba.

A product is computed six rows by 64 columns at a time.

Sums of a block stay in 24 registers from the first term to the last, in order, so that a row's result does not depend on the
rows beside it, bit for bit. Terms are float32, or pairs of bfloat16 that add up in float32. One core; on the machine measured a
block runs at the core's peak, where oneDNN reaches four fifths of it at 64 rows (docs/results/engine.md).

Legend: N rows, P columns of a product, K its terms, D hidden size, F feed-forward size. Types of 16 bits are bfloat16 as bits.
"""

from __future__ import annotations

import math

import llvmlite.binding as llvm
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kit.arithmetic import fast_exp
from kit.jit import FAST, jit
from models.cpu import long_attention_bf16
from models.cpu.long_attention import put, to_float
from models.cpu.short_attention import store_floats

ROWS = 6  # of one block
COLUMNS = 64  # of one block; four vectors, so that 24 sums are in flight
_LANES = 16
_INDEX = ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.IntType(32), _LANES)


def fast(pairs: bool) -> bool:
    """Whether the CPU has the vectors that blocks are made for; elsewhere they are right, and slow."""
    return long_attention_bf16.AVAILABLE if pairs else bool(llvm.get_host_cpu_features().get("avx512f", False))


@jit(inline="always")
def whole(columns):
    """`columns` filled up to whole blocks."""
    return -(-columns // COLUMNS) * COLUMNS


def packed(weight: np.ndarray, pairs: bool) -> np.ndarray:
    """weight float32 [P, K] in the order in which blocks read it, flat: float32, or with `pairs` the bits of bfloat16.

    Columns are filled up with zeros to whole blocks, terms to a pair.
    """
    columns, terms = weight.shape
    size = 2 if pairs else 1
    full = np.zeros((whole(columns), -(-terms // size) * size), np.float32)
    full[:columns, :terms] = weight
    blocks = full.reshape(-1, COLUMNS, full.shape[1] // size, size).transpose(
        0, 2, 1, 3
    )  # [blocks, K / size, 64, size]
    return bits(blocks).ravel() if pairs else np.ascontiguousarray(blocks).ravel()


def bits(x: np.ndarray) -> np.ndarray:
    """Bits of bfloat16 of float32 numbers, rounded to nearest even."""
    words = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype(np.uint16)


@intrinsic
def _block(typing_context, x, i, rows, terms, weights, j, bias, b, out, o, width):
    """out[o + r width :][:COLUMNS] = bias[b:] + sum over k < terms of x[i + r terms + k] * weights' column, for `rows` rows.

    Fewer than ROWS: the last row is computed again, and written over itself.
    """
    pairs = x.dtype == types.uint16

    def codegen(context, builder, signature, arguments):
        x, i, n_rows, terms, weights, j, bias, b, out, o, width = arguments
        source, matrix, addend, target = (
            builder.gep(context.make_array(signature.args[k])(context, builder, value=array).data, [start])
            for k, array, start in ((0, x, i), (4, weights, j), (6, bias, b), (8, out, o))
        )
        size = 2 if pairs else 1
        kind = _WORDS if pairs else _FLOATS
        single = ir.IntType(32) if pairs else ir.FloatType()
        undefined, spread = ir.Constant(kind, ir.Undefined), ir.Constant(_WORDS, [0] * _LANES)
        vectors = COLUMNS // _LANES
        addends = builder.bitcast(addend, _FLOATS.as_pointer())
        starts = []
        for v in range(vectors):
            start = builder.load(builder.gep(addends, [ir.Constant(_INDEX, v)]))
            start.align = 4
            starts.append(start)
        sums = [[cgutils.alloca_once_value(builder, start) for start in starts] for _ in range(ROWS)]
        last = builder.sub(n_rows, ir.Constant(_INDEX, 1))
        numbers = []
        for r in range(ROWS):
            number = ir.Constant(_INDEX, r)
            numbers.append(builder.select(builder.icmp_signed("<", number, n_rows), number, last))
        rows = [
            builder.bitcast(builder.gep(source, [builder.mul(terms, number)]), single.as_pointer())
            for number in numbers
        ]
        matrix = builder.bitcast(matrix, kind.as_pointer())
        count = builder.sdiv(terms, ir.Constant(_INDEX, size))
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, ir.Constant(_INDEX, vectors))
            columns = []
            for v in range(vectors):
                column = builder.load(builder.gep(matrix, [builder.add(at, ir.Constant(_INDEX, v))]))
                column.align = 4
                columns.append(column)
            for r in range(ROWS):
                term = builder.load(builder.gep(rows[r], [loop.index]))
                term.align = 2
                term = builder.insert_element(undefined, term, ir.IntType(32)(0))
                term = builder.shuffle_vector(term, undefined, spread)
                for v in range(vectors):
                    total = builder.load(sums[r][v])
                    if pairs:
                        total = long_attention_bf16.multiply_pairs(builder, total, term, columns[v])
                    else:
                        product = builder.fmul(term, columns[v], flags=("contract",))
                        total = builder.fadd(total, product, flags=("contract",))
                    builder.store(total, sums[r][v])
        for number, row in zip(numbers, sums, strict=True):
            place = builder.gep(target, [builder.mul(width, number)])
            for v, total in enumerate(row):
                store_floats(builder, builder.load(total), place, _LANES * v, _LANES)
        return context.get_dummy_value()

    index = types.int64
    return types.none(x, index, index, index, weights, index, bias, index, out, index, index), codegen


@jit
def product(x, rows, weights, start, bias, out):
    """The first `rows` rows of out [N, P] = x [N, K] times the packed matrix at weights[start:], plus bias float32 [P].

    x and weights: float32, or the bits of bfloat16, K being even then; out either. P is a multiple of COLUMNS.
    """
    terms, columns = x.shape[1], out.shape[1]
    source, target = x.reshape(-1), out.reshape(-1)
    for c in range(0, columns, COLUMNS):
        for r in range(0, rows, ROWS):
            left = min(ROWS, rows - r)
            _block(
                source, r * terms, left, terms, weights, start + c * terms, bias, c, target, r * columns + c, columns
            )


@jit(fastmath=FAST)
def add_and_normalise(stream, delta, gain, epsilon, out):
    """stream [N, D] += delta [N, D or more], unless that is empty; out = stream / rms(stream) * gain, row by row."""
    for b in range(stream.shape[0]):
        row = stream[b]
        if delta.shape[0]:
            change = delta[b]
            for j in range(row.size):
                row[j] += to_float(change[j])
        total = np.float32(0.0)
        for j in range(row.size):
            total += row[j] * row[j]
        scale = np.float32(1.0 / math.sqrt(total / row.size + epsilon))
        target = out[b]
        for j in range(row.size):
            put(target, j, row[j] * scale * gain[j])


@jit(fastmath=FAST)
def gate(gate_up, out):
    """out [N, F] = silu(gate) * up, for gate_up [N, 2F] = (gate, up)."""
    width = out.shape[1]
    line = np.empty(width, np.float32)
    for b in range(out.shape[0]):
        gates, ups, target = gate_up[b, :width], gate_up[b, width:], out[b]
        for j in range(width):  # three short loops vectorise, one long one does not
            line[j] = to_float(gates[j])
        for j in range(width):
            g = line[j]
            e = fast_exp(-abs(g))
            line[j] = g * max(e, np.float32(1.0) if g >= np.float32(0.0) else e) / (np.float32(1.0) + e)
        for j in range(width):
            put(target, j, line[j] * to_float(ups[j]))


def seen(tensor: torch.Tensor) -> np.ndarray:
    """The same memory; bfloat16 as the bits that the kernels read."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()

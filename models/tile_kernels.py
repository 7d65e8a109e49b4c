"""A small Llama over a batch of trie nodes in one compiled call, a tile of rows at a time through all layers.

A model of a few hundred thousand weights is bound by what happens between its products: calls, and activations that travel
through memory. Here a tile's activations stay in the nearest caches from the embedding to the log-probabilities. Products are
computed six rows by 64 columns at a time, in float32, or in pairs of bfloat16 that add up in float32 (`weights` tells which).

Legend: N rows of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward size, V vocabulary, P
columns of a product, K its terms.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from models.attention_bf16 import multiply_pairs
from models.fused_llama import add_and_normalise, gate
from models.kernels import FAST, fast_exp, largest
from models.short_attention import attend

TILE = 48  # rows; a multiple of ROWS
ROWS = 6  # of one block of a product
COLUMNS = 64  # of one block; four vectors, so that 24 sums are in flight
_LANES = 16
_INDEX = ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.IntType(32), _LANES)


def packed(weight: np.ndarray, pairs: bool) -> np.ndarray:
    """weight float32 [P, K] in the order in which blocks read it, flat: float32, or with `pairs` the bits of bfloat16.

    Columns are filled up with zeros to whole blocks, terms to a pair.
    """
    columns, terms = weight.shape
    size = 2 if pairs else 1
    full = np.zeros((-(-columns // COLUMNS) * COLUMNS, -(-terms // size) * size), np.float32)
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
def _block(typing_context, x, i, stride, terms, weights, j, out, o, width):
    """out[o + r width :][:COLUMNS] = sum over k < terms of x[i + r stride + k] * weights' column, for ROWS rows r."""
    pairs = x.dtype == types.uint16

    def codegen(context, builder, signature, arguments):
        x, i, stride, terms, weights, j, out, o, width = arguments
        kinds = signature.args
        source, matrix, target = (
            context.make_array(kinds[k])(context, builder, value=array).data
            for k, array in ((0, x), (4, weights), (6, out))
        )
        source, matrix, target = builder.gep(source, [i]), builder.gep(matrix, [j]), builder.gep(target, [o])
        size = 2 if pairs else 1
        kind = _WORDS if pairs else _FLOATS
        single = ir.IntType(32) if pairs else ir.FloatType()
        undefined, spread = ir.Constant(kind, ir.Undefined), ir.Constant(_WORDS, [0] * _LANES)
        vectors = COLUMNS // _LANES
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, [0.0] * _LANES)) for _ in range(vectors)]
            for _ in range(ROWS)
        ]
        rows = [
            builder.bitcast(builder.gep(source, [builder.mul(stride, ir.Constant(_INDEX, r))]), single.as_pointer())
            for r in range(ROWS)
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
                        total = multiply_pairs(builder, total, term, columns[v])
                    else:
                        product = builder.fmul(term, columns[v], flags=("contract",))
                        total = builder.fadd(total, product, flags=("contract",))
                    builder.store(total, sums[r][v])
        for r in range(ROWS):
            row = builder.gep(target, [builder.mul(width, ir.Constant(_INDEX, r))])
            row = builder.bitcast(row, _FLOATS.as_pointer())
            for v in range(vectors):
                place = builder.gep(row, [ir.Constant(_INDEX, v)])
                builder.store(builder.load(sums[r][v]), place).align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(x, index, index, index, weights, index, out, index, index), codegen


@njit(cache=True, nogil=True, error_model="numpy")
def product(x, rows, weights, start, out):
    """out [TILE, P] = x [TILE, K] times the packed matrix at weights[start:], of the first `rows` rows, rounded up to ROWS.

    P is a multiple of COLUMNS, K even where x holds the bits of bfloat16.
    """
    terms, columns = x.shape[1], out.shape[1]
    flat, target = x.reshape(-1), out.reshape(-1)
    for c in range(0, columns, COLUMNS):
        for r in range(0, rows, ROWS):
            _block(flat, r * terms, terms, terms, weights, start + c * terms, target, r * columns + c, columns)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _log_softmax(logits, mask, out):
    """out [V]: log-probabilities of logits [V or more] + mask [V], whose entries are 0 or -inf."""
    row = logits[: mask.size]
    for v in range(mask.size):
        row[v] += mask[v]
    top = largest(row)
    total = np.float32(0.0)
    for v in range(mask.size):
        total += fast_exp(row[v] - top)
    shift = np.float32(top + math.log(total))
    for v in range(mask.size):
        out[v] = row[v] - shift


@njit(cache=True, nogil=True, error_model="numpy")
def forward(
    tokens, nodes, slots, positions, paths, embedding, weights, starts, sizes, heads, lanes, cos, sin, epsilon, mask, kv, final,
    logprobs,
):  # fmt: skip
    """logprobs [cap, V] of `nodes` [N], and final [N, D]: normed hidden states without the last norm's gain.

    tokens, slots, positions int32 [N], paths int32 [N, T] as in `short_attention.attend`; embedding float32 [., D]; weights
    flat, of qkv, output, gate and up, down of each layer at starts int64 [layers, 4], of the logits at starts[layers, 0];
    sizes (H, G, F); mask float32 [V]: -inf where never sampled; kv [layers, S, 2, G E].
    """
    n_heads, n_kv_heads, width = sizes
    size, hidden = len(lanes), embedding.shape[1]
    qkv_size, mixed_size = (n_heads + 2 * n_kv_heads) * size, n_heads * size
    stream, ones = np.zeros((TILE, hidden), np.float32), np.ones(hidden, np.float32)
    normed, mixed = np.zeros((TILE, hidden), weights.dtype), np.zeros((TILE, mixed_size), weights.dtype)
    gated = np.zeros((TILE, width), weights.dtype)
    qkv, change = np.zeros((TILE, _whole(qkv_size)), np.float32), np.zeros((TILE, _whole(hidden)), np.float32)
    gates, logits = np.zeros((TILE, _whole(2 * width)), np.float32), np.zeros((TILE, _whole(mask.size)), np.float32)
    last = len(starts) - 1
    for begin in range(0, len(nodes), TILE):
        rows = min(TILE, len(nodes) - begin)
        end = begin + rows
        for r in range(rows):
            stream[r] = embedding[tokens[begin + r]]
        x = stream[:rows]
        add_and_normalise(x, change[:0], ones, epsilon, normed)
        for layer in range(last):
            product(normed, rows, weights, starts[layer, 0], qkv)
            attend(
                qkv[:rows], slots[begin:end], positions[begin:end], paths[begin:end], cos, sin, kv, layer,
                n_heads, n_kv_heads, heads, lanes, mixed[:rows],
            )  # fmt: skip
            product(mixed, rows, weights, starts[layer, 1], change)
            add_and_normalise(x, change[:rows], ones, epsilon, normed)
            product(normed, rows, weights, starts[layer, 2], gates)
            gate(gates[:rows], gated[:rows])
            product(gated, rows, weights, starts[layer, 3], change)
            add_and_normalise(x, change[:rows], ones, epsilon, normed)
        add_and_normalise(x, change[:0], ones, epsilon, final[begin:end])
        product(normed, rows, weights, starts[last, 0], logits)
        for r in range(rows):
            _log_softmax(logits[r], mask, logprobs[nodes[begin + r]])


@njit(cache=True, inline="always")
def _whole(columns):
    return -(-columns // COLUMNS) * COLUMNS

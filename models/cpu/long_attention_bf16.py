"""As `models.cpu.long_attention`, for bfloat16 on CPUs that multiply pairs of it: half of the instructions, nothing widened.

Keys of a block are transposed so that one instruction adds two terms to the products of BLOCK positions; values are interleaved
by pairs of positions, whose weights are rounded to bfloat16. Pairs lie at even positions whatever the grouping, so that here
too a row's result does not depend on its batch mates. Head sizes must be multiples of 32.
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kit.jit import FAST, jit
from models.cpu.long_attention import BLOCK, GROUP, prefetch, put, scratch, soften

AVAILABLE = bool(llvm.get_host_cpu_features().get("avx512bf16", False))
PAIRS = 2 * BLOCK  # bfloat16 of one vector

_CHAINS = 4  # sums side by side, as one instruction waits for the one before
_INDEX, _WORD = ir.IntType(64), ir.IntType(32)
_FLOATS, _WORDS = ir.VectorType(ir.FloatType(), BLOCK), ir.VectorType(_WORD, BLOCK)
_HALVES = ir.VectorType(ir.IntType(16), PAIRS)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_BFLOATS = ir.VectorType(_BFloat(), PAIRS)


def multiply_pairs(builder, total, a, b):
    """total + a[2i] b[2i] + a[2i + 1] b[2i + 1] in lane i."""
    kind = ir.FunctionType(_FLOATS, [_FLOATS, _BFLOATS, _BFLOATS])
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [total, builder.bitcast(a, _BFLOATS), builder.bitcast(b, _BFLOATS)])


def _pointer(context, builder, array_type, array, index, kind):
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _load(builder, pointer, at, align):
    value = builder.load(builder.gep(pointer, [ir.Constant(_INDEX, at)]))
    value.align = align
    return value


def _spread(builder, word):
    undefined = ir.Constant(_WORDS, ir.Undefined)
    single = builder.insert_element(undefined, word, _WORD(0))
    return builder.shuffle_vector(single, undefined, ir.Constant(_WORDS, [0] * BLOCK))


def _interleaved(builder, a, b):
    """(a0 b0 a1 b1 ..., the other half) of two equal vectors."""
    width = a.type.count
    lanes = [[start + i // 2 + width * (i % 2) for i in range(width)] for start in (0, width // 2)]
    return [builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_WORD, width), part)) for part in lanes]


def _row(context, builder, signature, arguments, j, kind):
    """Pointer to position j of the block of a path in kv, and whether it has one."""
    kv_type, paths_type = signature.args[0], signature.args[3]
    kv, stride, offset, paths, start, stop = arguments[:6]
    at = builder.add(start, ir.Constant(_INDEX, j))
    inside = builder.icmp_signed("<", at, stop)
    data = context.make_array(paths_type)(context, builder, value=paths).data
    safe = builder.select(inside, at, start)
    slot = builder.sext(builder.load(builder.gep(data, [safe])), _INDEX)
    return _pointer(context, builder, kv_type, kv, builder.add(builder.mul(slot, stride), offset), kind), inside


def queries_at_once(ratio: int) -> int:
    """Query heads of one key-value head that share its loads."""
    return next(n for n in (4, 3, 2, 1) if ratio % n == 0)


@intrinsic
def _load_keys(typing_context, kv, stride, offset, paths, start, stop, out, pairs):
    """out [E / 2, BLOCK]: pairs of a head's keys at flat `paths`[start:stop], transposed; zeros beyond. len(pairs) = E / 32."""
    count = pairs.count

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(_WORDS, [0] * BLOCK)
        rows = [_row(context, builder, signature, arguments, j, _WORDS) for j in range(BLOCK)]
        out = _pointer(context, builder, signature.args[6], arguments[6], ir.Constant(_INDEX, 0), _WORDS)
        for c in range(count):
            vectors = [builder.select(inside, _load(builder, pointer, c, 2), zero) for pointer, inside in rows]
            for _ in range(4):  # interleaving the halves log2(16) times transposes
                pairs_ = [_interleaved(builder, a, b) for a, b in zip(vectors[:8], vectors[8:], strict=True)]
                vectors = [vector for pair in pairs_ for vector in pair]
            for i, vector in enumerate(vectors):
                at = builder.gep(out, [ir.Constant(_INDEX, c * BLOCK + i)])
                builder.store(vector, at).align = 64
        return context.get_dummy_value()

    index = types.int64
    return types.none(kv, index, index, paths, index, index, out, pairs), codegen


@intrinsic
def _load_values(typing_context, kv, stride, offset, paths, start, stop, out, pairs):
    """out [BLOCK / 2, E / 16, BLOCK]: a head's values at flat `paths`[start:stop], two positions interleaved; zeros beyond."""
    count = pairs.count

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(_HALVES, [0] * PAIRS)
        rows = [_row(context, builder, signature, arguments, j, _HALVES) for j in range(BLOCK)]
        out = _pointer(context, builder, signature.args[6], arguments[6], ir.Constant(_INDEX, 0), _HALVES)
        for i in range(BLOCK // 2):
            for c in range(count):
                a, b = (
                    builder.select(inside, _load(builder, pointer, c, 2), zero)
                    for pointer, inside in rows[2 * i : 2 * i + 2]
                )
                for k, vector in enumerate(_interleaved(builder, a, b)):
                    at = builder.gep(out, [ir.Constant(_INDEX, (i * count + c) * 2 + k)])
                    builder.store(vector, at).align = 64
        return context.get_dummy_value()

    index = types.int64
    return types.none(kv, index, index, paths, index, index, out, pairs), codegen


@intrinsic
def _dots(typing_context, q, i, keys, out, o, width, scale, pairs, together):
    """out[o + n width :][:BLOCK] = scale times the products of q[i + n E :][:E] with a block of `_load_keys`."""
    count, queries = pairs.count, together.count

    def codegen(context, builder, signature, arguments):
        query = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        keys = _pointer(context, builder, signature.args[2], arguments[2], ir.Constant(_INDEX, 0), _WORDS)
        target = _pointer(context, builder, signature.args[3], arguments[3], arguments[4], ir.FloatType())
        totals = [[ir.Constant(_FLOATS, [0.0] * BLOCK)] * _CHAINS for _ in range(queries)]
        for p in range(count * BLOCK):
            key = _load(builder, keys, p, 64)
            for n, chains in enumerate(totals):
                word = _spread(builder, _load(builder, query, n * count * BLOCK + p, 2))
                chains[p % _CHAINS] = multiply_pairs(builder, chains[p % _CHAINS], key, word)
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        single = builder.insert_element(undefined, arguments[6], _WORD(0))
        factor = builder.shuffle_vector(single, undefined, ir.Constant(_WORDS, [0] * BLOCK))
        for n, chains in enumerate(totals):
            total = builder.fadd(builder.fadd(chains[0], chains[1]), builder.fadd(chains[2], chains[3]))
            place = builder.gep(target, [builder.mul(arguments[5], ir.Constant(_INDEX, n))])
            builder.store(builder.fmul(total, factor), builder.bitcast(place, _FLOATS.as_pointer())).align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(q, index, keys, out, index, index, types.float32, pairs, together), codegen


@intrinsic
def _mix(typing_context, weights, i, width, values, out, o, pairs, together):
    """out[o + n E :][:E] += the sum over a block of `_load_values` with the BLOCK bfloat16 weights[i + n width :]."""
    count, queries = pairs.count, together.count

    def codegen(context, builder, signature, arguments):
        words = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], ir.IntType(16))
        values = _pointer(context, builder, signature.args[3], arguments[3], ir.Constant(_INDEX, 0), _HALVES)
        target = _pointer(context, builder, signature.args[4], arguments[4], arguments[5], _FLOATS)
        spread = []
        for n in range(queries):
            row = builder.gep(words, [builder.mul(arguments[2], ir.Constant(_INDEX, n))])
            row = builder.bitcast(row, _WORD.as_pointer())
            spread.append([_spread(builder, _load(builder, row, p, 2)) for p in range(BLOCK // 2)])
        for c in range(2 * count):
            totals = [_load(builder, target, n * 2 * count + c, 4) for n in range(queries)]
            for p in range(BLOCK // 2):
                value = _load(builder, values, p * 2 * count + c, 64)
                totals = [multiply_pairs(builder, t, value, spread[n][p]) for n, t in enumerate(totals)]
            for n, total in enumerate(totals):
                builder.store(total, builder.gep(target, [ir.Constant(_INDEX, n * 2 * count + c)])).align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(weights, index, index, values, out, index, pairs, together), codegen


@jit(fastmath=FAST)
def attend(q, kv, paths, lengths, groups, heads, scale, softcap, window, pairs, together, out):
    """As `attention_kernels.attend`, q, kv and out being bits of bfloat16; pairs: any tuple of E / 32 items.

    together: any tuple of as many items as query heads are computed at once, a divisor of H / G.
    """
    n_heads, n_kv_heads, size = heads
    ratio, step = n_heads // n_kv_heads, len(together)
    stride, reach = 2 * n_kv_heads * size, paths.shape[1]
    flat_q, flat, flat_paths = q.reshape(q.size), kv.reshape(kv.size), paths.reshape(paths.size)
    width = (reach + 2 * BLOCK - 1) // BLOCK * BLOCK
    scores, mixed = scratch(GROUP * ratio * width), scratch(GROUP * ratio * size)
    block = scratch(size * BLOCK // 2)  # of keys or values: words of two
    weights = np.zeros(GROUP * ratio * width, np.uint16)
    totals = np.empty(GROUP * ratio, np.float32)
    for g in range(groups.shape[0]):
        first, count, shared = np.int64(groups[g, 0]), np.int64(groups[g, 1]), np.int64(groups[g, 2])
        shared -= shared % 2
        begin = np.int64(0)  # positions before it are out of every row's window
        if window > 0:
            shortest = lengths[first]
            for i in range(first, first + count):
                shortest = min(shortest, lengths[i])
            begin = min(max(0, shortest - window), shared) // BLOCK * BLOCK
        for head in range(n_kv_heads):
            offset, n_queries = head * size, count * ratio
            for p in range(begin, shared, BLOCK):
                _load_keys(flat, stride, offset, flat_paths, first * reach + p, first * reach + shared, block, pairs)
                prefetch(flat, stride, offset, flat_paths, first * reach + p + BLOCK, first * reach + shared, pairs)
                for n in range(0, n_queries, step):
                    at = ((first + n // ratio) * n_heads + head * ratio + n % ratio) * size
                    _dots(flat_q, at, block, scores, n * width + p, width, scale, pairs, together)
            for i in range(count):
                row, length = (first + i) * reach, np.int64(lengths[first + i])
                seen = max(0, length - window) if window > 0 else 0
                for p in range(shared, length, BLOCK):
                    _load_keys(flat, stride, offset, flat_paths, row + p, row + length, block, pairs)
                    for n in range(i * ratio, (i + 1) * ratio, step):
                        at = ((first + i) * n_heads + head * ratio + n % ratio) * size
                        _dots(flat_q, at, block, scores, n * width + p, width, scale, pairs, together)
                for n in range(i * ratio, (i + 1) * ratio):
                    score = scores[n * width + seen : n * width + length]
                    totals[n] = np.float32(1.0) / soften(score, softcap)
                    weight = weights[n * width : (n + 1) * width]
                    weight[begin:seen] = np.uint16(0)
                    weight[length:] = np.uint16(0)
                    weight = weight[seen:length]
                    for p in range(weight.size):
                        put(weight, p, score[p])
            mixed[: n_queries * size] = np.float32(0.0)
            offset += n_kv_heads * size
            for p in range(begin, shared, BLOCK):
                _load_values(flat, stride, offset, flat_paths, first * reach + p, first * reach + shared, block, pairs)
                prefetch(flat, stride, offset, flat_paths, first * reach + p + BLOCK, first * reach + shared, pairs)
                for n in range(0, n_queries, step):
                    _mix(weights, n * width + p, width, block, mixed, n * size, pairs, together)
            for i in range(count):
                row, length = (first + i) * reach, np.int64(lengths[first + i])
                for p in range(shared, length, BLOCK):
                    _load_values(flat, stride, offset, flat_paths, row + p, row + length, block, pairs)
                    for n in range(i * ratio, (i + 1) * ratio, step):
                        _mix(weights, n * width + p, width, block, mixed, n * size, pairs, together)
            for n in range(n_queries):
                start = (head * ratio + n % ratio) * size
                target, source = out[first + n // ratio, start : start + size], mixed[n * size : (n + 1) * size]
                for e in range(size):
                    put(target, e, source[e] * totals[n])

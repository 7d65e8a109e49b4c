"""Attention of trie nodes whose paths are short: rotary embedding, storing and attending in one pass, a node at a time.

Where paths have some twenty tokens and heads sixteen numbers, there is nothing to share between rows that would pay for
gathering it (`models.cpu.long_attention` does, for long paths); what costs is adding up the lanes of many short products. So
sixteen products are added up at once: those of 16 / b positions with a block of b heads, side by side in one vector, where
softmax is then done as well.

Legend: N rows of one batch, T longest path, H query heads, G key-value heads, E head size, S slots of the arena.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kit.jit import jit
from models.cpu.long_attention import BLOCK as LANES
from models.cpu.long_attention import scratch, sums_of_lanes

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_INDEX = ir.IntType(64)
_FAST = ("contract",)
_EXP2 = (1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2, 2.402264791363012e-1,
         6.931472028550421e-1, 1.0)  # as `kernels.fast_exp`  # fmt: skip
_MASKED = -1e30


def _number(x: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [float(np.float32(x))] * LANES)


def _shuffled(builder, value, order):
    undefined = ir.Constant(value.type, ir.Undefined)
    return builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order)))


def _splat(builder, scalar, kind):
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
    return _shuffled(builder, single, [0] * LANES)


def _widths(size: int) -> list[int]:
    """Lanes that each vector of a head fills."""
    return [min(LANES, size - start) for start in range(0, size, LANES)]


def _load(builder, pointer, offset: int, width: int):
    """`width` floats from pointer + offset on, zeros in the lanes beyond."""
    value = _floats(builder, pointer, offset, width)
    if width == LANES:
        return value
    zeros = ir.Constant(value.type, [0.0] * width)
    order = [min(i, width) for i in range(LANES)]  # lane `width` is the first of the zeros
    return builder.shuffle_vector(value, zeros, ir.Constant(ir.VectorType(ir.IntType(32), LANES), order))


def store_floats(builder, value, pointer, offset: int, width: int):
    """The first `width` lanes to pointer + offset, as what it points to: floats, or bits of bfloat16 (to nearest even)."""
    if width < value.type.count:
        value = _shuffled(builder, value, range(width))
    if isinstance(pointer.type.pointee, ir.IntType):
        words = ir.VectorType(ir.IntType(32), width)
        bits = builder.bitcast(value, words)
        half = ir.Constant(words, [16] * width)
        odd = builder.and_(builder.lshr(bits, half), ir.Constant(words, [1] * width))
        bits = builder.add(builder.add(bits, odd), ir.Constant(words, [0x7FFF] * width))
        value = builder.trunc(builder.lshr(bits, half), ir.VectorType(ir.IntType(16), width))
    at = builder.bitcast(builder.gep(pointer, [ir.Constant(_INDEX, offset)]), value.type.as_pointer())
    builder.store(value, at).align = 2 if isinstance(pointer.type.pointee, ir.IntType) else 4


def _floats(builder, pointer, offset: int, count: int):
    """`count` floats from pointer + offset on, of floats or of bits of bfloat16."""
    is_half = isinstance(pointer.type.pointee, ir.IntType)
    kind = ir.VectorType(ir.IntType(16) if is_half else ir.FloatType(), count)
    value = builder.load(builder.bitcast(builder.gep(pointer, [ir.Constant(_INDEX, offset)]), kind.as_pointer()))
    value.align = 2 if is_half else 4
    if not is_half:
        return value
    words = ir.VectorType(ir.IntType(32), count)
    bits = builder.shl(builder.zext(value, words), ir.Constant(words, [16] * count))
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), count))


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _over_positions(builder, value, heads: int, combine):
    """`combine` over the lanes of each head, which are `heads` apart; every lane gets the result."""
    step = heads
    while step < LANES:
        value = combine(value, _shuffled(builder, value, [(i + step) % LANES for i in range(LANES)]))
        step *= 2
    return value


def _exp(builder, x):
    """exp of a vector <= 0, as `kernels.fast_exp`."""
    x = _larger(builder, x, _number(-87.0))
    z = builder.fmul(x, _number(1.4426950408889634))
    kind = ir.FunctionType(_FLOATS, [_FLOATS])
    floor = cgutils.get_or_insert_function(builder.module, kind, "llvm.floor.v16f32")
    n = builder.call(floor, [builder.fadd(z, _number(0.5))])
    f = builder.fsub(z, n)
    p = _number(_EXP2[0])
    for coefficient in _EXP2[1:]:
        p = builder.fadd(builder.fmul(p, f, flags=_FAST), _number(coefficient), flags=_FAST)
    exponent = builder.add(builder.fptosi(n, _WORDS), ir.Constant(_WORDS, [127] * LANES))
    scale = builder.bitcast(builder.shl(exponent, ir.Constant(_WORDS, [23] * LANES)), _FLOATS)
    return builder.fmul(p, scale)


@intrinsic
def _turn(typing_context, x, i, cos, sin, j, out, o, lanes):
    """out[o : o + E] = x[i : i + E] turned by the angles at cos[j : j + E / 2], sin[j : ...]; E = len(lanes)."""
    half = lanes.count // 2

    def codegen(context, builder, signature, arguments):
        source, c, s, target = (
            builder.gep(
                context.make_array(signature.args[k])(context, builder, value=arguments[k]).data, [arguments[at]]
            )
            for k, at in ((0, 1), (2, 4), (3, 4), (5, 6))
        )
        first, second = _floats(builder, source, 0, half), _floats(builder, source, half, half)
        c, s = _floats(builder, c, 0, half), _floats(builder, s, 0, half)
        turned = builder.fsub(builder.fmul(first, c), builder.fmul(second, s), flags=_FAST)
        store_floats(builder, turned, target, 0, half)
        turned = builder.fadd(builder.fmul(second, c), builder.fmul(first, s), flags=_FAST)
        store_floats(builder, turned, target, half, half)
        return context.get_dummy_value()

    index = types.int64
    return types.none(x, index, cos, sin, index, out, index, lanes), codegen


@intrinsic
def _copy(typing_context, x, i, out, o, lanes):
    """out[o : o + E] = x[i : i + E], E = len(lanes)."""

    def codegen(context, builder, signature, arguments):
        source, target = (
            builder.gep(
                context.make_array(signature.args[k])(context, builder, value=arguments[k]).data, [arguments[k + 1]]
            )
            for k in (0, 2)
        )
        store_floats(builder, _floats(builder, source, 0, lanes.count), target, 0, lanes.count)
        return context.get_dummy_value()

    return types.none(x, types.int64, out, types.int64, lanes), codegen


@intrinsic
def _attend_heads(typing_context, q, i, kv, keys, values, stride, paths, p, length, scores, out, o, heads, lanes):
    """out[o : o + b E] = attention of the b = len(heads) queries q[i : i + b E] over slots paths[p : p + length].

    The keys of head h start at kv[slot * stride + keys[h]], its values at values[h]; E = len(lanes). `scores` is scratch for
    length * b floats, rounded up to LANES.
    """
    n_heads, size = heads.count, lanes.count
    at_once = LANES // n_heads  # positions of one vector
    widths = _widths(size)

    def codegen(context, builder, signature, arguments):
        kinds = signature.args

        def data(k):
            return context.make_array(kinds[k])(context, builder, value=arguments[k]).data

        def constant(x):
            return ir.Constant(_INDEX, x)

        query, target = builder.gep(data(0), [arguments[1]]), builder.gep(data(10), [arguments[11]])
        source, slots = data(2), builder.gep(data(6), [arguments[7]])
        stride, length = arguments[5], arguments[8]
        offsets = [
            [builder.load(builder.gep(data(k), [constant(h)])) for h in range(n_heads)] for k in (3, 4)
        ]  # of keys, of values
        vectors = builder.bitcast(data(9), _FLOATS.as_pointer())
        blocks = builder.sdiv(builder.add(length, constant(at_once - 1)), constant(at_once))
        last = builder.sub(length, constant(1))
        queries = [
            [_load(builder, query, h * size + LANES * c, width) for c, width in enumerate(widths)]
            for h in range(n_heads)
        ]
        places = ir.Constant(_WORDS, [lane // n_heads for lane in range(LANES)])

        def row(block, j):
            """Start of the slot at position j of a block; the last one of the path beyond its end."""
            position = builder.add(builder.mul(block, constant(at_once)), constant(j))
            position = builder.select(builder.icmp_signed("<", position, length), position, last)
            slot = builder.sext(builder.load(builder.gep(slots, [position])), _INDEX)
            return builder.gep(source, [builder.mul(slot, stride)])

        top = cgutils.alloca_once_value(builder, _number(_MASKED))
        with cgutils.for_range(builder, blocks) as loop:
            products = []
            for j in range(at_once):
                start = row(loop.index, j)
                for h in range(n_heads):
                    key = builder.gep(start, [offsets[0][h]])
                    total = builder.fmul(queries[h][0], _load(builder, key, 0, widths[0]))
                    for c in range(1, len(widths)):
                        product = builder.fmul(queries[h][c], _load(builder, key, LANES * c, widths[c]), flags=_FAST)
                        total = builder.fadd(total, product, flags=_FAST)
                    products.append(total)
            first = builder.trunc(builder.mul(loop.index, constant(at_once)), ir.IntType(32))
            position = builder.add(_splat(builder, first, _WORDS), places)
            end = _splat(builder, builder.trunc(length, ir.IntType(32)), _WORDS)
            inside = builder.icmp_signed("<", position, end)
            score = builder.select(inside, sums_of_lanes(builder, products), _number(_MASKED))
            builder.store(score, builder.gep(vectors, [loop.index])).align = 4
            builder.store(_larger(builder, builder.load(top), score), top)
        peak = _over_positions(builder, builder.load(top), n_heads, lambda a, b: _larger(builder, a, b))
        total = cgutils.alloca_once_value(builder, _number(0.0))
        mixed = [[cgutils.alloca_once_value(builder, _number(0.0)) for _ in widths] for _ in range(n_heads)]
        with cgutils.for_range(builder, blocks) as loop:
            score = builder.load(builder.gep(vectors, [loop.index]))
            score.align = 4
            weight = _exp(builder, builder.fsub(score, peak))
            builder.store(builder.fadd(builder.load(total), weight), total)
            for j in range(at_once):
                start = row(loop.index, j)
                for h in range(n_heads):
                    value = builder.gep(start, [offsets[1][h]])
                    spread = _shuffled(builder, weight, [j * n_heads + h] * LANES)
                    for c, width in enumerate(widths):
                        product = builder.fmul(spread, _load(builder, value, LANES * c, width), flags=_FAST)
                        builder.store(builder.fadd(builder.load(mixed[h][c]), product, flags=_FAST), mixed[h][c])
        sums = _over_positions(builder, builder.load(total), n_heads, builder.fadd)
        scale = builder.fdiv(_number(1.0), sums)
        for h in range(n_heads):
            spread = _shuffled(builder, scale, [h] * LANES)
            for c, width in enumerate(widths):
                product = builder.fmul(builder.load(mixed[h][c]), spread)
                store_floats(builder, product, target, h * size + LANES * c, width)
        return context.get_dummy_value()

    index = types.int64
    arrays = (q, index, kv, keys, values, index, paths, index, index, scores, out, index, heads, lanes)
    return types.none(*arrays), codegen


def head_block(n_heads: int) -> int:
    """Query heads that share a vector."""
    return next(block for block in (4, 2, 1) if n_heads % block == 0)


@jit
def turn_and_store(qkv, slots, positions, cos, sin, kv, n_heads, n_kv_heads, lanes, query):
    """Rotary embedding of q into query [N, H E] and of k into kv [S, 2, G E] at `slots` [N], v beside it.

    qkv [N, (H + 2G) E or more], positions [N], cos, sin [positions, E / 2]; lanes: any tuple of E items. qkv, kv and query:
    float32, or the bits of bfloat16.
    """
    size, half = len(lanes), len(lanes) // 2
    width, stride = n_kv_heads * size, 2 * n_kv_heads * size
    flat_qkv, flat_query, arena = qkv.reshape(-1), query.reshape(-1), kv.reshape(-1)
    flat_cos, flat_sin = cos.reshape(-1), sin.reshape(-1)
    for b in range(qkv.shape[0]):
        row, angle, start = b * qkv.shape[1], np.int64(positions[b]) * half, np.int64(slots[b]) * stride
        for h in range(n_heads):
            _turn(flat_qkv, row + h * size, flat_cos, flat_sin, angle, flat_query, (b * n_heads + h) * size, lanes)
        row += n_heads * size
        for g in range(n_kv_heads):
            _turn(flat_qkv, row + g * size, flat_cos, flat_sin, angle, arena, start + g * size, lanes)
            _copy(flat_qkv, row + width + g * size, arena, start + width + g * size, lanes)


@jit
def attend(qkv, slots, positions, paths, cos, sin, kv, layer, n_heads, n_kv_heads, heads, lanes, out):
    """out [N, H E]: attention of each row over its own path; its turned key and its value are stored on the way.

    qkv [N, (H + 2G) E]: q already scaled; slots, positions int32 [N]; paths int32 [N, T]: slots of each path, the row's own
    last; cos, sin [positions, E / 2]; kv [layers, S, 2, G E]. Rows are in an order in which ancestors come first; rows of qkv
    may be longer. heads, lanes: any tuples of `head_block(H)` and E items. qkv, kv and out: float32, or the bits of bfloat16.
    """
    size, block = len(lanes), len(heads)
    width, stride = n_kv_heads * size, 2 * n_kv_heads * size
    arena, flat_out, flat_paths = kv[layer].reshape(-1), out.reshape(-1), paths.reshape(-1)
    keys = np.arange(n_heads) // (n_heads // n_kv_heads) * size
    values = keys + width
    query, scores = np.empty((1, n_heads * size), np.float32), scratch((paths.shape[1] + LANES) * block)
    flat_query = query.reshape(-1)
    for b in range(qkv.shape[0]):
        here = slice(b, b + 1)
        turn_and_store(qkv[here], slots[here], positions[here], cos, sin, kv[layer], n_heads, n_kv_heads, lanes, query)
        for h in range(0, n_heads, block):
            _attend_heads(
                flat_query, h * size, arena, keys[h:], values[h:], stride, flat_paths, b * paths.shape[1],
                np.int64(positions[b]) + 1, scores, flat_out, b * n_heads * size + h * size, heads, lanes,
            )  # fmt: skip

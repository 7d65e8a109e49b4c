"""Compiled attention of trie nodes over their paths, read where keys and values lie in the arena.

Rows that share most of their path (the beams of one leaf, neighbours in a prompt) form a group: keys and values of what they
share are read and converted once for all their queries, as in cascade attention (Ye et al. 2024, "Cascade Inference");
deviation: the two levels meet in one softmax instead of being merged by their log-sums. Sums run over positions in
order whatever the grouping, so that a row's result does not depend on its batch mates, bit for bit.

Legend: N rows of one batch, T longest path, H query heads, G key-value heads, E head size, S slots of the arena. bfloat16
arrives as uint16 (numpy has no such type); sums are float32.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from kit.arithmetic import fast_exp, largest
from kit.jit import FAST, jit

BLOCK = 16  # positions at a time; also the lanes of a vector
GROUP = 16  # rows of a group at most
TAIL = 64  # positions that a row of a group may not share with the others

_VECTOR = ir.VectorType(ir.FloatType(), BLOCK)
_FUSED = ("contract",)


def to_float(x):
    """float32 of a float32, or of the bits of a bfloat16."""
    raise TypeError("compiled code only")


@overload(to_float, inline="always")
def _to_float(x):
    if x == types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: np.float32(x)


def put(array, index, x):
    """array[index] = x, rounded to nearest even where the array holds bits of bfloat16."""
    raise TypeError("compiled code only")


@overload(put, inline="always")
def _put(array, index, x):
    if array.dtype == types.uint16:

        def rounded(array, index, x):
            bits = np.float32(x).view(np.uint32)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            array[index] = np.uint16(np.uint32(bits + odd + np.uint32(0x7FFF)) >> np.uint32(16))

        return rounded

    def plain(array, index, x):
        array[index] = x

    return plain


def _at(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _load(builder, pointer, chunk=0):
    loaded = builder.load(builder.gep(pointer, [ir.Constant(ir.IntType(64), chunk)]))
    loaded.align = 4
    return loaded


def sums_of_lanes(builder, vectors):
    """One vector whose lane j is the sum of the lanes of vectors[j]; BLOCK vectors."""
    even, odd = (
        ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), list(range(start, 2 * BLOCK, 2))) for start in (0, 1)
    )
    while len(vectors) > 1:
        vectors = [
            builder.fadd(builder.shuffle_vector(a, b, even), builder.shuffle_vector(a, b, odd))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


@intrinsic
def _dots(typing_context, q, i, keys, out, o, chunks):
    """out[o : o + BLOCK] = products of q[i : i + 16 c] with BLOCK rows of `keys`, c = len(chunks) vectors each."""
    count = chunks.count

    def codegen(context, builder, signature, arguments):
        types_ = signature.args
        query = _at(context, builder, types_[0], arguments[0], arguments[1])
        rows = _at(context, builder, types_[2], arguments[2], ir.Constant(ir.IntType(64), 0))
        parts = [_load(builder, query, c) for c in range(count)]
        sums = []
        for j in range(BLOCK):
            total = builder.fmul(parts[0], _load(builder, rows, j * count))
            for c in range(1, count):
                product = builder.fmul(parts[c], _load(builder, rows, j * count + c), flags=_FUSED)
                total = builder.fadd(total, product, flags=_FUSED)
            sums.append(total)
        target = _at(context, builder, types_[3], arguments[3], arguments[4])
        builder.store(sums_of_lanes(builder, sums), target).align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(q, index, keys, out, index, chunks), codegen


@intrinsic
def _mix(typing_context, weights, i, values, out, o, chunks):
    """out[o : o + 16 c] += sum over j < BLOCK of weights[i + j] * row j of `values`, one after the other."""
    count = chunks.count

    def codegen(context, builder, signature, arguments):
        types_ = signature.args
        data = context.make_array(types_[0])(context, builder, value=arguments[0]).data
        rows = _at(context, builder, types_[2], arguments[2], ir.Constant(ir.IntType(64), 0))
        target = _at(context, builder, types_[3], arguments[3], arguments[4])
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        spread = []
        for j in range(BLOCK):
            index = builder.add(arguments[1], ir.Constant(ir.IntType(64), j))
            single = builder.insert_element(undefined, builder.load(builder.gep(data, [index])), ir.IntType(32)(0))
            spread.append(builder.shuffle_vector(single, undefined, lanes))
        for c in range(count):
            total = _load(builder, target, c)
            for j in range(BLOCK):
                product = builder.fmul(spread[j], _load(builder, rows, j * count + c), flags=_FUSED)
                total = builder.fadd(total, product, flags=_FUSED)
            at = builder.gep(target, [ir.Constant(ir.IntType(64), c)])
            builder.store(total, at).align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(weights, index, values, out, index, chunks), codegen


@intrinsic
def _widen(typing_context, kv, i, out, o, chunks):
    """out[o : o + 16 c] = floats of kv[i : i + 16 c]."""
    count = chunks.count

    def codegen(context, builder, signature, arguments):
        kv_type, _, out_type, _, _ = signature.args
        data = context.make_array(kv_type)(context, builder, value=arguments[0]).data
        target = _at(context, builder, out_type, arguments[2], arguments[3])
        half = kv_type.dtype == types.uint16
        words = ir.VectorType(ir.IntType(16), BLOCK) if half else _VECTOR
        source = builder.bitcast(builder.gep(data, [arguments[1]]), words.as_pointer())
        for c in range(count):
            value = builder.load(builder.gep(source, [ir.Constant(ir.IntType(64), c)]))
            value.align = 2 if half else 4
            if half:
                wide = ir.VectorType(ir.IntType(32), BLOCK)
                bits = builder.shl(builder.zext(value, wide), ir.Constant(wide, [16] * BLOCK))
                value = builder.bitcast(bits, _VECTOR)
            builder.store(value, builder.gep(target, [ir.Constant(ir.IntType(64), c)])).align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(kv, index, out, index, chunks), codegen


@intrinsic
def prefetch(typing_context, kv, stride, offset, paths, start, stop, lines):
    """Ask for len(lines) cache lines, from `offset` on, of the slots at flat `paths`[start : start + BLOCK] below `stop`.

    Slots lie scattered, so that no hardware guesses them, and a block takes about as long to compute as to fetch.
    """
    count = lines.count

    def codegen(context, builder, signature, arguments):
        kv_array, stride, offset, paths, start, stop, _ = arguments
        data = context.make_array(signature.args[0])(context, builder, value=kv_array).data
        slots = context.make_array(signature.args[3])(context, builder, value=paths).data
        byte = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        index = ir.IntType(64)
        last = builder.sub(stop, ir.Constant(index, 1))
        for j in range(BLOCK):
            at = builder.add(start, ir.Constant(index, j))
            at = builder.select(builder.icmp_signed("<", at, stop), at, last)
            slot = builder.sext(builder.load(builder.gep(slots, [at])), index)
            row = builder.bitcast(builder.gep(data, [builder.add(builder.mul(slot, stride), offset)]), byte)
            for line in range(count):
                target = builder.gep(row, [ir.Constant(index, 64 * line)])
                builder.call(function, [target, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    index = types.int64
    return types.none(kv, index, index, paths, index, index, lines), codegen


@jit
def group_rows(paths, lengths, first, count, shared):
    """Cut rows [N] into groups of neighbours; returns how many. Group g is rows first[g] : first[g] + count[g], which have
    their first shared[g] positions in common. paths int32 [N, T]: slots; lengths int32 [N]; results int32 [N]."""
    groups = 0
    for row in range(lengths.size):
        joined = False
        if groups > 0 and count[groups - 1] < GROUP:
            g = groups - 1
            head = first[g]
            limit = min(shared[g], lengths[row])
            common = 0
            while common < limit and paths[row, common] == paths[head, common]:
                common += 1
            longest = lengths[row]
            for other in range(head, row):
                longest = max(longest, lengths[other])
            if longest - common <= TAIL:
                count[g] += 1
                shared[g] = common
                joined = True
        if not joined:
            first[groups], count[groups], shared[groups] = row, 1, lengths[row]
            groups += 1
    return groups


@jit
def scratch(count):
    """float32 zeros that start on a cache line, so that no vector straddles two."""
    memory = np.zeros(count + 16, np.float32)
    skip = -(memory.ctypes.data // 4) % 16
    return memory[skip : skip + count]


@jit(fastmath=FAST)
def _gather(kv, stride, offset, paths, row, start, stop, size, chunks, out):
    """out [BLOCK, 16 c]: floats kv[slot * stride + offset :][:size] of slots paths[row, start:stop]; zeros below and beside."""
    padded = BLOCK * len(chunks)
    for j in range(BLOCK):
        if start + j < stop:
            at = np.int64(paths[row, start + j]) * stride + offset
            if size == padded:
                _widen(kv, at, out, j * padded, chunks)
            else:
                for e in range(size):
                    out[j * padded + e] = to_float(kv[at + e])
        else:
            for e in range(padded):
                out[j * padded + e] = np.float32(0.0)


@jit(fastmath=FAST)
def soften(row, softcap):
    """row = exp(row - max), soft-capped before; returns the sum."""
    if softcap > 0:
        for p in range(row.size):
            row[p] = softcap * np.float32(math.tanh(row[p] / softcap))
    top = largest(row)
    total = np.float32(0.0)
    for p in range(row.size):
        weight = fast_exp(row[p] - top)
        row[p] = weight
        total += weight
    return total


@jit
def store(k, v, slots, kv):
    """Write k, v [N, G E] of new rows to `slots` int32 [N] of one layer kv [S, 2, G E]."""
    for i in range(slots.size):
        for e in range(k.shape[1]):
            kv[slots[i], 0, e] = k[i, e]
            kv[slots[i], 1, e] = v[i, e]


@jit(fastmath=FAST)
def attend(q, kv, paths, lengths, groups, heads, scale, softcap, window, chunks, out):
    """out [N, H E]: attention of q [N, H E] over each row's path in one layer's kv [S, 2, G E].

    groups int32 [n, 3]: (first, count, shared) of `group_rows`; heads: (H, G, E); softcap: 0 for none; window: the latest
    positions that a row sees, 0 for all; chunks: any tuple of ceil(E / 16) items.
    """
    n_heads, n_kv_heads, size = heads
    ratio = n_heads // n_kv_heads
    padded = BLOCK * len(chunks)
    stride, flat = 2 * n_kv_heads * size, kv.reshape(kv.size)
    width = (paths.shape[1] + 2 * BLOCK - 1) // BLOCK * BLOCK
    queries, mixed = scratch(GROUP * ratio * padded), scratch(GROUP * ratio * padded)
    scores, rows = scratch(GROUP * ratio * width), scratch(BLOCK * padded)
    totals = np.empty(GROUP * ratio, np.float32)
    for g in range(groups.shape[0]):
        first, count, shared = groups[g, 0], groups[g, 1], groups[g, 2]
        begin = 0  # positions before it are out of every row's window
        if window > 0:
            shortest = lengths[first]
            for i in range(first, first + count):
                shortest = min(shortest, lengths[i])
            begin = min(max(0, shortest - window), shared) // BLOCK * BLOCK
        for head in range(n_kv_heads):
            at, n_queries = head * size, count * ratio
            for n in range(n_queries):
                start = (head * ratio + n % ratio) * size
                source = q[first + n // ratio, start : start + size]
                target = queries[n * padded : (n + 1) * padded]
                for e in range(size):
                    target[e] = to_float(source[e]) * scale
            for p in range(begin, shared, BLOCK):
                _gather(flat, stride, at, paths, first, p, shared, size, chunks, rows)
                for n in range(n_queries):
                    _dots(queries, n * padded, rows, scores, n * width + p, chunks)
            for i in range(count):
                length = lengths[first + i]
                seen = max(0, length - window) if window > 0 else 0
                for p in range(shared, length, BLOCK):
                    _gather(flat, stride, at, paths, first + i, p, length, size, chunks, rows)
                    for n in range(i * ratio, (i + 1) * ratio):
                        _dots(queries, n * padded, rows, scores, n * width + p, chunks)
                for n in range(i * ratio, (i + 1) * ratio):
                    totals[n] = np.float32(1.0) / soften(scores[n * width + seen : n * width + length], softcap)
                    scores[n * width + begin : n * width + seen] = np.float32(0.0)
                    scores[n * width + length : (n + 1) * width] = np.float32(0.0)
            mixed[: n_queries * padded] = np.float32(0.0)
            at += n_kv_heads * size
            for p in range(begin, shared, BLOCK):
                _gather(flat, stride, at, paths, first, p, shared, size, chunks, rows)
                for n in range(n_queries):
                    _mix(scores, n * width + p, rows, mixed, n * padded, chunks)
            for i in range(count):
                length = lengths[first + i]
                for p in range(shared, length, BLOCK):
                    _gather(flat, stride, at, paths, first + i, p, length, size, chunks, rows)
                    for n in range(i * ratio, (i + 1) * ratio):
                        _mix(scores, n * width + p, rows, mixed, n * padded, chunks)
            for n in range(n_queries):
                start = (head * ratio + n % ratio) * size
                target, source = out[first + n // ratio, start : start + size], mixed[n * padded : (n + 1) * padded]
                for e in range(size):
                    put(target, e, source[e] * totals[n])

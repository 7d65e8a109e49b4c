"""Compiled loops of the token trie: its child table, and the forward of a Llama node by node.

Legend: B nodes of one call, S tokens of a span, T positions, V vocabulary, F feed-forward size, H query heads, G key-value
heads, E head size, cap nodes that the arena holds. Arrays are C-contiguous; results are written into the arguments named so.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

NO_NODE = -1  # the parent of a root

FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # no assumption about NaN and infinity
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, inline="always")
def splitmix64(x):
    """A 64-bit mix (Steele et al. 2014, the finaliser of SplitMix): a counter in, an independent-looking word out."""
    z = np.uint64(x) + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
def fast_exp(x):
    """float32 exp for x <= 0, about 1e-7 relative (Cephes' exp2f polynomial); loops over it vectorise, math.exp's do not."""
    z = max(np.float32(x), np.float32(-87.0)) * np.float32(1.4426950408889634)
    n = np.floor(z + np.float32(0.5))
    f = np.float32(z - n)
    p = np.float32(1.535336188319500e-4)
    p = p * f + np.float32(1.339887440266574e-3)
    p = p * f + np.float32(9.618437357674640e-3)
    p = p * f + np.float32(5.550332471162809e-2)
    p = p * f + np.float32(2.402264791363012e-1)
    p = p * f + np.float32(6.931472028550421e-1)
    p = p * f + np.float32(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


# ---- the trie -------------------------------------------------------------------------------------------------------


@njit(cache=True, inline="always")
def _child_slot(table, parents, tokens, parent, token):
    """Position in the open-addressing `table` of child (parent, token), or of the empty place where it belongs."""
    mask = table.size - 1
    at = np.int64(splitmix64(np.uint64(parent + 1) * np.uint64(65536) + np.uint64(token)) & np.uint64(mask))
    while True:
        node = table[at]
        if node < 0 or (parents[node] == parent and tokens[node] == token):
            return at
        at = (at + 1) & mask


@njit(cache=True)
def insert_spans(table, parents, tokens, depths, n_nodes, starts, spans, lengths, ends):
    """Walk spans [B, S] of `lengths` [B] down from `starts` [B], adding missing nodes; `ends` [B] gets the last ones.

    New nodes are numbered on from `n_nodes`, ancestors before descendants. Returns the new number of nodes.
    """
    ends[:] = starts
    for b in range(spans.shape[0]):
        for s in range(lengths[b]):  # span by span: what lies on one path lies side by side in memory
            parent, token = ends[b], spans[b, s]
            at = _child_slot(table, parents, tokens, parent, token)
            if table[at] < 0:
                table[at] = n_nodes
                parents[n_nodes] = parent
                tokens[n_nodes] = token
                depths[n_nodes] = depths[parent] + 1 if parent != NO_NODE else 0
                n_nodes += 1
            ends[b] = table[at]
    return n_nodes


@njit(cache=True)
def rehash(table, parents, tokens, n_nodes):
    """Fill an empty `table` with the first `n_nodes` nodes."""
    for node in range(n_nodes):
        table[_child_slot(table, parents, tokens, parents[node], tokens[node])] = node


@njit(cache=True)
def ancestors(parents, depths, node, out):
    """out [depth + 1]: the nodes of the path to `node`, itself included."""
    for t in range(depths[node], -1, -1):
        out[t] = node
        node = parents[node]


@njit(cache=True)
def needed(parents, slot_of, nodes, marks, stamp, room, todo):
    """How many of `nodes` (ascending) can be computed at once in `room` slots, their whole paths included.

    Returns (nodes taken, entries of `todo`): the taken ones and their ancestors that have no slot, in no order. `marks` int64
    [cap] holds the last stamp of a node; nodes of the paths of those taken get `stamp`.
    """
    held, n_todo = 0, 0
    for i in range(nodes.size):
        before = held, n_todo
        node = nodes[i]
        while node != NO_NODE and marks[node] != stamp:
            marks[node] = stamp
            held += 1
            if slot_of[node] < 0 and node != nodes[i]:
                todo[n_todo] = node
                n_todo += 1
            node = parents[node]
        if held > room:
            node = nodes[i]
            for _ in range(held - before[0]):  # what this node marked, and nothing else
                marks[node] = 0
                node = parents[node]
            return i, before[1]
        todo[n_todo] = nodes[i]
        n_todo += 1
    return nodes.size, n_todo


@njit(cache=True)
def slots_of_paths(parents, depths, slot_of, nodes, uses, clock, out):
    """out [N, T]: the slot at every position of the path of each of `nodes`; `uses` [S] of these slots is brought up to date.

    A use orders slots for eviction: by `clock` first, then the deeper the earlier, so that no ancestor goes before its heirs.
    """
    for i in range(nodes.size):
        node = nodes[i]
        for t in range(depths[node], -1, -1):
            slot = slot_of[node]
            out[i, t] = slot
            uses[slot] = (np.int64(clock) << 20) - t
            node = parents[node]


# ---- the forward of a Llama, node by node ---------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def normalise(x, epsilon, out):
    """out = x / rms(x) row by row (RMSNorm without its gain, which is folded into the weights that follow)."""
    width = x.shape[1]
    for b in range(x.shape[0]):
        total = np.float32(0.0)
        for j in range(width):
            total += x[b, j] * x[b, j]
        scale = np.float32(1.0 / math.sqrt(total / width + epsilon))
        for j in range(width):
            out[b, j] = x[b, j] * scale


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def gate(gate_up, out):
    """out [B, F] = silu(gate) * up, for gate_up [B, 2F] = (gate, up)."""
    width = out.shape[1]
    for b in range(out.shape[0]):
        for j in range(width):
            g = gate_up[b, j]
            e = fast_exp(-abs(g))
            sigmoid = (np.float32(1.0) if g >= 0 else e) / (np.float32(1.0) + e)
            out[b, j] = g * sigmoid * gate_up[b, width + j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def rotate_and_store(qkv, slots, positions, cos, sin, kv, layer, n_heads, n_kv_heads, lanes):
    """Rotary embedding of q in place and of k into the arena, v beside it.

    qkv [B, (H + 2G) E]; cos, sin [positions, E/2]; kv [layers, S, 2, G E] gets `slots` [B] of `layer`; positions [B];
    `lanes`: any tuple of E items, its length being a constant to the compiler, so that inner loops are unrolled.
    """
    size = len(lanes)
    half = size // 2
    for b in range(qkv.shape[0]):
        node = slots[b]
        at = positions[b]
        for h in range(n_heads):
            for j in range(half):
                x, y = qkv[b, h * size + j], qkv[b, h * size + half + j]
                qkv[b, h * size + j] = x * cos[at, j] - y * sin[at, j]
                qkv[b, h * size + half + j] = y * cos[at, j] + x * sin[at, j]
        for g in range(n_kv_heads):
            k = (n_heads + g) * size
            v = k + n_kv_heads * size
            for j in range(half):
                x, y = qkv[b, k + j], qkv[b, k + half + j]
                kv[layer, node, 0, g * size + j] = x * cos[at, j] - y * sin[at, j]
                kv[layer, node, 0, g * size + half + j] = y * cos[at, j] + x * sin[at, j]
            for j in range(size):
                kv[layer, node, 1, g * size + j] = qkv[b, v + j]


def _vector_at(context, builder, array_type, array, index, vector_type):
    """Pointer to array[index:index + lanes] (flat, float32) as one vector."""
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), vector_type.as_pointer())


@intrinsic
def _dot(typing_context, x, i, y, j, lanes):
    """Scalar product of x[i:i+E] and y[j:j+E], E = len(lanes). Numba's vectoriser gives up on loops this short."""
    vector_type = ir.VectorType(ir.FloatType(), lanes.count)

    def codegen(context, builder, signature, arguments):
        vectors = [
            builder.load(_vector_at(context, builder, signature.args[k], arguments[k], arguments[k + 1], vector_type))
            for k in (0, 2)
        ]
        for vector in vectors:
            vector.align = 4
        signature_of_sum = ir.FunctionType(ir.FloatType(), [ir.FloatType(), vector_type])
        name = f"llvm.vector.reduce.fadd.v{lanes.count}f32"
        total = cgutils.get_or_insert_function(builder.module, signature_of_sum, name)
        return builder.call(total, [ir.FloatType()(0.0), builder.fmul(*vectors)], fastmath=("reassoc", "nsz"))

    return types.float32(x, types.int64, y, types.int64, lanes), codegen


@intrinsic
def _weighted_sum(typing_context, out, i, weights, w, rows, r, count, y, j, stride, lanes):
    """out[i:i+E] = sum over t < count of weights[w+t] * y[k:k+E] with k = j + rows[r+t] * stride; E = len(lanes)."""
    vector_type = ir.VectorType(ir.FloatType(), lanes.count)

    def codegen(context, builder, signature, arguments):
        out, i, weights, w, rows, r, count, y, j, stride, _ = arguments
        out_type, weights_type, rows_type, y_type = (signature.args[k] for k in (0, 2, 4, 7))
        weights_data = context.make_array(weights_type)(context, builder, value=weights).data
        rows_data = context.make_array(rows_type)(context, builder, value=rows).data
        undefined, zeros = ir.Constant(vector_type, ir.Undefined), [0.0] * lanes.count
        total = cgutils.alloca_once_value(builder, ir.Constant(vector_type, zeros))  # a register, once optimised
        to_all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), [0] * lanes.count)
        with cgutils.for_range(builder, count) as loop:
            weight = builder.load(builder.gep(weights_data, [builder.add(w, loop.index)]))
            row = builder.sext(builder.load(builder.gep(rows_data, [builder.add(r, loop.index)])), ir.IntType(64))
            at = builder.add(j, builder.mul(row, stride))
            vector = builder.load(_vector_at(context, builder, y_type, y, at, vector_type))
            vector.align = 4
            single = builder.insert_element(undefined, weight, ir.IntType(32)(0))
            scale = builder.shuffle_vector(single, undefined, to_all_lanes)
            product = builder.fmul(scale, vector, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        stored = builder.store(builder.load(total), _vector_at(context, builder, out_type, out, i, vector_type))
        stored.align = 4
        return context.get_dummy_value()

    index = types.int64
    return types.none(out, index, weights, index, rows, index, index, y, index, index, lanes), codegen


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def attend(qkv, positions, paths, kv, layer, n_heads, n_kv_heads, lanes, out):
    """out [B, H E]: attention of rotated, scaled q (first H E columns of qkv) over the path of each node.

    Reads ancestors' keys and values in the arena, so that nothing is gathered, padded or masked. paths [B, T]: slots.
    """
    size = len(lanes)
    width = n_kv_heads * size
    kv_offset = np.arange(n_heads) // (n_heads // n_kv_heads) * size  # of the key-value head that a query head reads
    layer_start = layer * kv.shape[1] * 2 * width
    flat_q, flat_kv, flat_out = qkv.reshape(qkv.size), kv.reshape(kv.size), out.reshape(out.size)
    weights = np.empty((n_heads, paths.shape[1]), np.float32)
    flat_weights, flat_paths = weights.reshape(weights.size), paths.reshape(paths.size)
    for b in range(qkv.shape[0]):
        length = positions[b] + 1
        q = b * qkv.shape[1]
        for t in range(length):
            k = layer_start + paths[b, t] * 2 * width
            for h in range(n_heads):
                weights[h, t] = _dot(flat_q, q + h * size, flat_kv, k + kv_offset[h], lanes)
        for h in range(n_heads):
            top = weights[h, 0]
            for t in range(1, length):
                top = max(top, weights[h, t])
            total = np.float32(0.0)
            for t in range(length):
                w = fast_exp(weights[h, t] - top)
                weights[h, t] = w
                total += w
            scale = np.float32(1.0) / total
            for t in range(length):
                weights[h, t] *= scale
        for h in range(n_heads):
            v, mixed = layer_start + width + kv_offset[h], b * out.shape[1] + h * size
            _weighted_sum(
                flat_out, mixed, flat_weights, h * paths.shape[1], flat_paths, b * paths.shape[1], length,
                flat_kv, v, 2 * width, lanes,
            )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def log_softmax(logits, masked, nodes, out):
    """Rows `nodes` [B] of out [cap, V]: log-probabilities of logits [B, V] without the `masked` tokens [V], which get -inf."""
    size = masked.size
    for b in range(logits.shape[0]):
        top = np.float32(-3.0e38)
        for v in range(size):
            logits[b, v] = np.float32(-1.0e30) if masked[v] else logits[b, v]
            top = max(top, logits[b, v])
        total = np.float32(0.0)
        for v in range(size):
            total += fast_exp(logits[b, v] - top) if not masked[v] else np.float32(0.0)
        shift = np.float32(top + math.log(total))
        for v in range(size):
            out[nodes[b], v] = np.float32(-np.inf) if masked[v] else logits[b, v] - shift

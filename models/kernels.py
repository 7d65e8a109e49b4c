"""Compiled loops of the token trie: its child table, paths, and rows of log-probabilities.

Legend: B nodes of one call, S tokens of a span, T positions, V vocabulary, cap nodes that the arena holds. Arrays are
C-contiguous; results are written into the arguments named so.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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


@njit(cache=True, error_model="numpy", fastmath=FAST | {"nnan"})
def largest(row):
    """Maximum of float32 [V] without NaN, -inf included; a loop that promises so vectorises."""
    top = np.float32(-np.inf)
    for v in range(row.size):
        top = max(top, row[v])
    return top


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

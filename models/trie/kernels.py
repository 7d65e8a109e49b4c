"""Compiled loops of the token trie: its child table, paths, and rows of log-probabilities.

Legend: B nodes of one call, S tokens of a span, T positions, V vocabulary, cap nodes that the arena holds. Arrays are
C-contiguous; results are written into the arguments named so.
"""

from __future__ import annotations

import numpy as np

from kit.arithmetic import splitmix64
from kit.jit import jit

NO_NODE = -1  # the parent of a root


# ---- the trie -------------------------------------------------------------------------------------------------------


@jit(inline="always")
def _child_slot(table, parents, tokens, parent, token):
    """Position in the open-addressing `table` of child (parent, token), or of the empty place where it belongs."""
    mask = table.size - 1
    at = np.int64(splitmix64(np.uint64(parent + 1) * np.uint64(65536) + np.uint64(token)) & np.uint64(mask))
    while True:
        node = table[at]
        if node < 0 or (parents[node] == parent and tokens[node] == token):
            return at
        at = (at + 1) & mask


@jit
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


@jit
def rehash(table, parents, tokens, n_nodes):
    """Fill an empty `table` with the first `n_nodes` nodes."""
    for node in range(n_nodes):
        table[_child_slot(table, parents, tokens, parents[node], tokens[node])] = node


@jit
def ancestors(parents, depths, node, out):
    """out [depth + 1]: the nodes of the path to `node`, itself included."""
    for t in range(depths[node], -1, -1):
        out[t] = node
        node = parents[node]


@jit
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


@jit
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

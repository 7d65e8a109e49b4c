"""Rollouts of rules without a heap: after an expansion the same tree goes on at its first new state, compiled.

Waiting states of a tree are a stack of links in the heap table, which these rules do not use otherwise.
"""

from __future__ import annotations

import numpy as np

from kit.jit import jit
from mcts.store.frontier import H_NEXT, goes_on_at, take

# isort: off
from mcts.store.records import (
    CLOSED, EXPANDED, FLAGS, IN_FLIGHT, NONE, PENDING, QUEUE, QUEUED, RUNNING, SIM_LIMIT, SIMULATIONS, STATUS,
    TREE_ID,
)  # fmt: skip
# isort: on


@jit
def rollout_select(nodes, edges, heap, trees, turn, wave_size, leaves, offsets, path):
    """States in which rollouts go on, up to `wave_size` of each running tree of `turn`. Returns (leaves found, path buffer)."""
    found, end = 0, 0
    for t in turn:
        if trees[t, STATUS] != RUNNING:
            continue
        room = min(wave_size, trees[t, SIM_LIMIT] - trees[t, SIMULATIONS] - trees[t, IN_FLIGHT])
        while room > 0 and trees[t, QUEUE] != NONE:
            n = np.int32(trees[t, QUEUE])
            trees[t, QUEUE] = heap[n, H_NEXT]
            nodes[n, FLAGS] &= ~QUEUED
            if nodes[n, FLAGS] & (CLOSED | PENDING | EXPANDED):
                continue
            found, end, path = take(nodes, edges, trees, n, leaves, offsets, path, found, end)
            room -= 1
    return found, path


@jit
def rollout_push(nodes, edges, heap, trees, leaves, first_new_edges):
    """Let each leaf's rollout go on at its first new open child; first_new_edges [L + 1] as in `best_first_backup`."""
    for row in range(leaves.shape[0] - 1, -1, -1):
        child = goes_on_at(nodes, edges, leaves[row], first_new_edges[row], QUEUED | EXPANDED | PENDING)
        if child != NONE:
            wait(nodes, heap, trees, child)


@jit
def rollout_cancel(nodes, heap, trees, leaves):
    """States that were never expanded come next, in the same order; a step more at an expanded one is chosen anew."""
    for row in range(leaves.shape[0] - 1, -1, -1):
        if not nodes[leaves[row], FLAGS] & (EXPANDED | QUEUED):
            wait(nodes, heap, trees, leaves[row])


@jit
def wait(nodes, heap, trees, n):
    """Put a state on top of its tree's stack."""
    t = nodes[n, TREE_ID]
    nodes[n, FLAGS] |= QUEUED
    heap[n, H_NEXT] = trees[t, QUEUE]
    trees[t, QUEUE] = n

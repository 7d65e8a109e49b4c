"""Breadth-first sweeps over reversed edges, compiled."""

from __future__ import annotations

import numpy as np

from kit.jit import jit

# isort: off
from mcts.store.records import (
    E_NEXT_IN, E_PARENT, EXHAUSTED, FIRST_IN, FLAGS, NONE, SOLVED, TERMINAL,
)  # fmt: skip
# isort: on

UNREACHED = np.iinfo(np.int32).max


@jit
def sweep(nodes, edges, distance, queue, size):
    """Fill int32 distances from the `size` sources in `queue` (distance 0 set), along reversed edges."""
    head = 0
    while head < size:
        n = queue[head]
        head += 1
        e = nodes[n, FIRST_IN]
        while e != NONE:
            parent = edges[e, E_PARENT]
            if distance[parent] == UNREACHED:
                distance[parent] = distance[n] + 1
                queue[size] = parent
                size += 1
            e = edges[e, E_NEXT_IN]


@jit
def solution_distances(nodes, edges, n_nodes):
    """int32 [n_nodes]: edges to the nearest solved terminal, UNREACHED where none is known."""
    distance = np.full(n_nodes, UNREACHED, np.int32)
    queue = np.empty(n_nodes, np.int32)
    size = 0
    for n in range(n_nodes):
        if nodes[n, FLAGS] & SOLVED:
            distance[n] = 0
            queue[size] = n
            size += 1
    sweep(nodes, edges, distance, queue, size)
    return distance


@jit
def hope_distances(nodes, edges, n_nodes):
    """int32 [n_nodes]: edges to the nearest solved terminal or state with steps not yet seen, UNREACHED: neither."""
    distance = np.full(n_nodes, UNREACHED, np.int32)
    queue = np.empty(n_nodes, np.int32)
    size = 0
    for n in range(n_nodes):
        flags = nodes[n, FLAGS]
        if flags & SOLVED or not flags & (TERMINAL | EXHAUSTED):
            distance[n] = 0
            queue[size] = n
            size += 1
    sweep(nodes, edges, distance, queue, size)
    return distance

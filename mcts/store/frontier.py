"""The two rules that look at the whole frontier, compiled: best-first by a heap, and sampling in proportion to mass."""

from __future__ import annotations

import math

import numpy as np

from kit.arithmetic import uniform
from kit.jit import jit

# isort: off
from mcts.store.records import (
    ALL_CLOSED, BEST_UNSEEN, CLOSED, COUNT_EDGES, COUNT_RAISED, DEPTH, DRAWS, E_CHILD, E_IN_FLIGHT, E_LOGPROB,
    E_NEXT, E_NEXT_IN, E_PARENT, E_TOKENS, EXHAUSTED, EXPANDED, FIRST_EDGE, FIRST_IN, FLAGS, IN_FLIGHT,
    N_TREE_NODES, NONE, ON_STACK, OPEN_MASS, PATH_EDGE, PATH_LOGPROB, PENDING, QUEUE, QUEUED, RAW_VALUE, ROOT,
    RUNNING, SEED, SIM_LIMIT, SIMULATIONS, STATUS, TERMINAL, TREE_ID, UNSEEN,
)  # fmt: skip
# isort: on

H_CHILD, H_NEXT, H_PREV, H_PRIORITY = range(4)  # links of the pairing heap; H_PREV is the parent for a first child
VALUE_WEIGHT, LAM, COST_KIND, LOG_DISCOUNT, PARK = range(5)
NEXT = np.float32(1e30)  # priority of a state in which a rollout goes on
COST_DEPTH, COST_TOKENS, COST_NONE = range(3)
VALUE_FLOOR = 1e-6  # log V of a state that the head calls hopeless


@jit
def meld(heap, a, b):
    """Join two heaps by their tops (Fredman et al. 1986). Higher priority on top, ties to the lower node id."""
    if a == NONE or b == NONE:
        return b if a == NONE else a
    priority = heap.view(np.float32)
    x, y = priority[a, H_PRIORITY], priority[b, H_PRIORITY]
    if y > x or (y == x and b < a):
        a, b = b, a
    heap[b, H_NEXT] = heap[a, H_CHILD]
    if heap[a, H_CHILD] != NONE:
        heap[heap[a, H_CHILD], H_PREV] = b
    heap[b, H_PREV] = a
    heap[a, H_CHILD] = b
    return a


@jit
def push(heap, trees, t, n, priority):
    heap[n, H_CHILD] = NONE
    heap[n, H_NEXT] = NONE
    heap[n, H_PREV] = NONE
    heap.view(np.float32)[n, H_PRIORITY] = priority
    trees[t, QUEUE] = meld(heap, np.int32(trees[t, QUEUE]), np.int32(n))


@jit
def pop(heap, trees, t):
    """Take the best node off the heap of tree `t`: two-pass pairing."""
    top = np.int32(trees[t, QUEUE])
    e = heap[top, H_CHILD]
    pairs = np.int32(NONE)
    while e != NONE:
        second = heap[e, H_NEXT]
        rest = heap[second, H_NEXT] if second != NONE else np.int32(NONE)
        heap[e, H_NEXT] = NONE
        if second != NONE:
            heap[second, H_NEXT] = NONE
        joined = meld(heap, e, second)
        heap[joined, H_NEXT] = pairs
        pairs = joined
        e = rest
    best = np.int32(NONE)
    while pairs != NONE:
        rest = heap[pairs, H_NEXT]
        heap[pairs, H_NEXT] = NONE
        best = meld(heap, best, pairs)
        pairs = rest
    if best != NONE:
        heap[best, H_PREV] = NONE
    trees[t, QUEUE] = best
    return top


@jit
def raise_key(heap, trees, t, n, priority):
    """Higher priority for a node in the heap: cut it out and meld it with the top."""
    heap.view(np.float32)[n, H_PRIORITY] = priority
    if trees[t, QUEUE] == n:
        return
    before, after = heap[n, H_PREV], heap[n, H_NEXT]
    if heap[before, H_CHILD] == n:
        heap[before, H_CHILD] = after
    else:
        heap[before, H_NEXT] = after
    if after != NONE:
        heap[after, H_PREV] = before
    heap[n, H_NEXT] = NONE
    heap[n, H_PREV] = NONE
    trees[t, QUEUE] = meld(heap, np.int32(trees[t, QUEUE]), np.int32(n))


@jit
def priority_of(nodes, edges, n, prm):
    """Best first: log V + lam * (log pi(path) + best unseen - log cost), see `rules/best_first.py`.
    PHS* where LOG_DISCOUNT < 0: -log((g + h) / pi^(1 + h / g)), g the cost, h = log V / log discount, see `rules/phs.py`.
    """
    node_values = nodes.view(np.float32)
    reach = np.float64(node_values[n, PATH_LOGPROB])
    if nodes[n, FLAGS] & EXPANDED:
        reach += min(np.float64(node_values[n, BEST_UNSEEN]), 0.0)
    cost = 1.0
    if prm[COST_KIND] == COST_DEPTH:
        cost = nodes[n, DEPTH] + 1.0
    elif prm[COST_KIND] == COST_TOKENS:
        e = nodes[n, PATH_EDGE]
        while e != NONE:
            cost += edges[e, E_TOKENS]
            e = nodes[edges[e, E_PARENT], PATH_EDGE]
    if prm[LOG_DISCOUNT] < 0.0:
        ahead = math.log(max(np.float64(node_values[n, RAW_VALUE]), VALUE_FLOOR)) / prm[LOG_DISCOUNT]
        return np.float32((1.0 + ahead / cost) * reach - math.log(cost + ahead))
    value = 0.0
    if prm[VALUE_WEIGHT] != 0.0:
        value = prm[VALUE_WEIGHT] * math.log(max(np.float64(node_values[n, RAW_VALUE]), VALUE_FLOOR))
    return np.float32(value + prm[LAM] * (reach - math.log(cost)))


@jit
def path_to(nodes, edges, n, path, end):
    """Append the most probable known path from the root to `n`. Returns (new end, buffer, maybe grown)."""
    length = 0
    e = nodes[n, PATH_EDGE]
    while e != NONE:
        length += 1
        e = nodes[edges[e, E_PARENT], PATH_EDGE]
    if end + length > path.shape[0]:
        grown = np.empty(2 * (end + length), path.dtype)
        grown[:end] = path[:end]
        path = grown
    e = nodes[n, PATH_EDGE]
    for i in range(end + length - 1, end - 1, -1):
        path[i] = e
        e = nodes[edges[e, E_PARENT], PATH_EDGE]
    return end + length, path


@jit
def take(nodes, edges, trees, n, leaves, offsets, path, found, end):
    """Make `n` the next leaf of a wave: it waits for the model, its path is in flight. Returns (leaves, path's end, buffer)."""
    nodes[n, FLAGS] |= PENDING
    trees[nodes[n, TREE_ID], IN_FLIGHT] += 1
    start = end
    end, path = path_to(nodes, edges, n, path, end)
    for i in range(start, end):
        edges[path[i], E_IN_FLIGHT] += 1
    leaves[found] = n
    offsets[found + 1] = end
    return found + 1, end, path


@jit
def best_first_select(nodes, edges, heap, trees, turn, wave_size, leaves, offsets, path):
    """Pop up to `wave_size` nodes off the heap of each running tree of `turn`. Returns (number of leaves, path buffer)."""
    found, end = 0, 0
    for t in turn:
        if trees[t, STATUS] != RUNNING:
            continue
        room = min(wave_size, trees[t, SIM_LIMIT] - trees[t, SIMULATIONS] - trees[t, IN_FLIGHT])
        root = trees[t, ROOT]
        if room > 0 and not nodes[root, FLAGS] & (EXPANDED | QUEUED | PENDING):
            push(heap, trees, t, root, np.float32(0.0))
            nodes[root, FLAGS] |= QUEUED
        if room > 0 and trees[t, QUEUE] == NONE and trees[t, IN_FLIGHT] == 0:
            trees[t, STATUS] = ALL_CLOSED
        while room > 0 and trees[t, QUEUE] != NONE:
            n = pop(heap, trees, t)
            nodes[n, FLAGS] &= ~QUEUED
            found, end, path = take(nodes, edges, trees, n, leaves, offsets, path, found, end)
            room -= 1
    return found, path


@jit
def cancel(nodes, edges, trees, leaves, offsets, path):
    """Take the marks of a wave off: its leaves wait for nobody, its paths are not in flight."""
    for n in leaves:
        nodes[n, FLAGS] &= ~PENDING
        trees[nodes[n, TREE_ID], IN_FLIGHT] -= 1
    for i in range(offsets[leaves.shape[0]]):
        edges[path[i], E_IN_FLIGHT] -= 1


@jit
def best_first_cancel(nodes, edges, heap, trees, leaves, prm):
    """Back into the heaps, with the priority that they had, or that of a better path found while they were in flight."""
    for n in leaves:
        nodes[n, FLAGS] |= QUEUED
        before = heap.view(np.float32)[n, H_PRIORITY]
        push(heap, trees, nodes[n, TREE_ID], n, max(before, priority_of(nodes, edges, n, prm)))


@jit
def enqueue(nodes, edges, heap, trees, n, priority):
    """Put a node that still has unseen steps into its tree's heap, or raise it if it is there already."""
    if nodes[n, FLAGS] & (TERMINAL | EXHAUSTED | PENDING):
        return
    if not nodes[n, FLAGS] & QUEUED:
        nodes[n, FLAGS] |= QUEUED
        push(heap, trees, nodes[n, TREE_ID], n, priority)
    elif priority > heap.view(np.float32)[n, H_PRIORITY]:
        raise_key(heap, trees, nodes[n, TREE_ID], n, priority)


@jit
def best_first_adopt(nodes, edges, heap, trees, n_nodes, prm):
    """Heaps anew: every state that still has unseen steps, the roots that were never expanded excepted."""
    for t in range(trees.shape[0]):
        trees[t, QUEUE] = NONE
    for n in range(n_nodes):
        nodes[n, FLAGS] &= ~QUEUED
        if nodes[n, FLAGS] & EXPANDED or trees[nodes[n, TREE_ID], ROOT] != n:
            enqueue(nodes, edges, heap, trees, n, priority_of(nodes, edges, n, prm))


@jit
def best_first_backup(nodes, edges, heap, trees, counters, raised, leaves, first_new_edges, prm, rollout):
    """Requeue the wave's leaves, queue their new children, raise what got a more probable path.

    first_new_edges [L + 1]: of each leaf, NONE if it has none; the last is the first of the wave.
    `rollout`: the first new child of each leaf that leads deeper comes next, unless its value has fallen too far (PARK).
    """
    for n in leaves:
        enqueue(nodes, edges, heap, trees, n, priority_of(nodes, edges, n, prm))
    for e in range(first_new_edges[leaves.shape[0]], counters[COUNT_EDGES]):
        child = edges[e, E_CHILD]
        enqueue(nodes, edges, heap, trees, child, priority_of(nodes, edges, child, prm))
    for i in range(counters[COUNT_RAISED]):
        enqueue(nodes, edges, heap, trees, raised[i], priority_of(nodes, edges, raised[i], prm))
    values = nodes.view(np.float32)
    for row in range(leaves.shape[0] if rollout else 0):
        child = goes_on_at(nodes, edges, leaves[row], first_new_edges[row], EXPANDED | PENDING)
        if child == NONE:
            continue
        one_chain = nodes[child, DEPTH] + 1 == trees[nodes[child, TREE_ID], N_TREE_NODES]
        parked_below = prm[PARK] ** 2 if one_chain else prm[PARK]
        if values[child, RAW_VALUE] >= parked_below * values[leaves[row], RAW_VALUE]:
            enqueue(nodes, edges, heap, trees, child, NEXT)


@jit
def goes_on_at(nodes, edges, n, e, barred):
    """Where a rollout goes on after leaf `n`: its first candidate from edge `e` on that is deeper, open and not `barred`."""
    while e != NONE:
        child = edges[e, E_CHILD]
        if nodes[child, DEPTH] > nodes[n, DEPTH] and not nodes[child, FLAGS] & (CLOSED | barred):
            return child
        e = edges[e, E_NEXT]
    return np.int32(NONE)


@jit
def child_mass(nodes, edges, e, waiting):
    """Prior times open mass of the child; 0 for an edge that does not go deeper and for a closed child.

    `waiting`: PENDING in a draw, where a child that waits for the model counts 0; 0 in a sum that is kept, since that child may
    be told or cancelled without another look at its ancestors.
    """
    child = edges[e, E_CHILD]
    flags = nodes[child, FLAGS]
    if nodes[child, DEPTH] <= nodes[edges[e, E_PARENT], DEPTH] or flags & CLOSED:
        return 0.0
    if flags & waiting and not flags & EXPANDED:
        return 0.0
    mass = math.exp(np.float64(edges.view(np.float32)[e, E_LOGPROB]))
    return mass * np.float64(nodes.view(np.float32)[child, OPEN_MASS])


@jit
def unseen_mass(nodes, n, waiting):
    """Mass of the steps of `n` not yet handed out; `waiting` as in `child_mass`."""
    if nodes[n, FLAGS] & (EXHAUSTED | waiting):
        return 0.0
    return math.exp(np.float64(nodes.view(np.float32)[n, UNSEEN]))


@jit
def proportional_select(nodes, edges, heap, trees, turn, wave_size, leaves, offsets, path):
    """Draw up to `wave_size` distinct leaves of each running tree of `turn`. Returns (number of leaves, path buffer)."""
    found, end = 0, 0
    for t in turn:
        if trees[t, STATUS] != RUNNING:
            continue
        first, flying = found, trees[t, IN_FLIGHT]
        room = min(wave_size, trees[t, SIM_LIMIT] - trees[t, SIMULATIONS] - flying)
        while room > 0:
            n = np.int64(trees[t, ROOT])
            while trees[t, QUEUE] != NONE:  # a rollout that goes on comes first
                waiting = trees[t, QUEUE]
                trees[t, QUEUE] = heap[waiting, H_NEXT]
                nodes[waiting, FLAGS] &= ~QUEUED
                if not nodes[waiting, FLAGS] & (CLOSED | PENDING):
                    n = waiting
                    break
            draw = trees[t, DRAWS]
            trees[t, DRAWS] += 1
            level = 0
            while nodes[n, FLAGS] & EXPANDED:
                total = unseen_mass(nodes, n, PENDING)
                e = nodes[n, FIRST_EDGE]
                while e != NONE:
                    total += child_mass(nodes, edges, e, PENDING)
                    e = edges[e, E_NEXT]
                if total <= 0.0:
                    break
                u = uniform(trees[t, SEED], draw, level) * total
                level += 1
                u -= unseen_mass(nodes, n, PENDING)
                chosen = NONE
                e = nodes[n, FIRST_EDGE]
                while e != NONE and u >= 0.0:
                    mass = child_mass(nodes, edges, e, PENDING)
                    if mass > 0.0:
                        chosen = e
                        u -= mass
                    e = edges[e, E_NEXT]
                if chosen == NONE:
                    break
                n = edges[chosen, E_CHILD]
            if nodes[n, FLAGS] & (PENDING | CLOSED | EXHAUSTED):
                if found == first and flying > 0:
                    trees[t, DRAWS] -= 1  # asking once more while answers are under way changes nothing
                break  # all that is left of this tree waits for the model
            found, end, path = take(nodes, edges, trees, n, leaves, offsets, path, found, end)
            room -= 1
    return found, path


@jit
def proportional_backup(nodes, edges, heap, trees, stack, leaves, first_new_edges, rollout):
    """Take finished mass off all ancestors and let each leaf's rollout go on at its first new open child."""
    node_values = nodes.view(np.float32)
    for n in leaves:
        stack[0] = n
        size = 1
        while size > 0:
            size -= 1
            at = stack[size]
            nodes[at, FLAGS] &= ~ON_STACK
            mass = 0.0
            if not nodes[at, FLAGS] & CLOSED:
                mass = unseen_mass(nodes, at, 0)
                e = nodes[at, FIRST_EDGE]
                while e != NONE:
                    mass += child_mass(nodes, edges, e, 0)
                    e = edges[e, E_NEXT]
            if at != n and np.float32(mass) == node_values[at, OPEN_MASS]:
                continue
            node_values[at, OPEN_MASS] = mass
            e = nodes[at, FIRST_IN]
            while e != NONE:
                parent = edges[e, E_PARENT]
                if nodes[parent, DEPTH] < nodes[at, DEPTH] and not nodes[parent, FLAGS] & ON_STACK:
                    nodes[parent, FLAGS] |= ON_STACK
                    stack[size] = parent
                    size += 1
                e = edges[e, E_NEXT_IN]
    for row in range(leaves.shape[0] if rollout else 0):
        child = goes_on_at(nodes, edges, leaves[row], first_new_edges[row], QUEUED)
        if child != NONE:
            nodes[child, FLAGS] |= QUEUED
            t = nodes[child, TREE_ID]
            heap[child, H_NEXT] = trees[t, QUEUE]
            trees[t, QUEUE] = child

"""What an expansion does to the graph, compiled: new edges, nodes merged on (tree, key), better paths, closed subtrees."""

from __future__ import annotations

import numpy as np

from kit.arithmetic import GOLDEN, mix64
from kit.jit import jit

# isort: off
from mcts.store.records import (
    BEST_UNSEEN, CLOSED, COUNT_EDGES, COUNT_KEYED, COUNT_NODES, COUNT_RAISED, DEAD, DEPTH, E_CHILD, E_IN_FLIGHT,
    E_LOGPROB, E_NEXT, E_NEXT_IN, E_PARENT, E_TOKENS, E_VISITS, EXHAUSTED, EXPANDED, FAILURES, FIRST_EDGE, FIRST_IN,
    FIRST_SOLUTION, FLAGS, LAST_EDGE, LOST, N_EDGES, N_TREE_NODES, NEVER, NONE, ON_STACK, OPEN_MASS, PATH_EDGE,
    PATH_LOGPROB, PENDING, RAISED, RAW_VALUE, ROOT, SOLVED, TERMINAL, TOKENS, TREE_ID, UNSEEN, VALUE, VISITS,
)  # fmt: skip
# isort: on


@jit
def slot_of(table, keys, nodes, tree, key, terminal):
    """Slot of (tree, key, terminal) in the open-addressing table, or the empty slot where it belongs."""
    x = mix64(key ^ (np.uint64(2 * tree + terminal) * GOLDEN))
    mask = np.uint64(table.shape[0] - 1)
    slot = np.int64(x & mask)
    while table[slot] != NONE:
        n = table[slot]
        if keys[n] == key and nodes[n, TREE_ID] == tree and ((nodes[n, FLAGS] & TERMINAL) != 0) == (terminal != 0):
            return slot
        slot = (slot + 1) & np.int64(mask)
    return slot


@jit
def rehash(table, keys, nodes, n_nodes):
    """Fill an empty table with all keyed nodes."""
    for n in range(n_nodes):
        if keys[n] != 0:
            terminal = 1 if nodes[n, FLAGS] & TERMINAL else 0
            table[slot_of(table, keys, nodes, nodes[n, TREE_ID], keys[n], terminal)] = n


@jit
def raise_path(nodes, edges, counters, stack, raised, e):
    """Relax edge `e`: a more probable path to its child, and from there eagerly to all descendants (Bellman-Ford).

    Only strict gains move on, and a log-probability above 0 counts as 0, so cycles end. Nodes whose path got more
    probable are listed once in `raised`.
    """
    node_values, edge_values = nodes.view(np.float32), edges.view(np.float32)
    size, n = 0, edges[e, E_PARENT]
    only = e
    while True:
        e = only if only != NONE else nodes[n, FIRST_EDGE]
        while e != NONE:
            child = edges[e, E_CHILD]
            gain = node_values[n, PATH_LOGPROB] + min(edge_values[e, E_LOGPROB], np.float32(0.0))
            if gain > node_values[child, PATH_LOGPROB]:
                node_values[child, PATH_LOGPROB] = gain
                nodes[child, PATH_EDGE] = e
                if not nodes[child, FLAGS] & ON_STACK:
                    nodes[child, FLAGS] |= ON_STACK
                    stack[size] = child
                    size += 1
                if not nodes[child, FLAGS] & RAISED:
                    nodes[child, FLAGS] |= RAISED
                    raised[counters[COUNT_RAISED]] = child
                    counters[COUNT_RAISED] += 1
            e = NONE if only != NONE else edges[e, E_NEXT]
        only = NONE
        if size == 0:
            return
        size -= 1
        n = stack[size]
        nodes[n, FLAGS] &= ~ON_STACK


@jit
def close(nodes, edges, stack, n):
    """Re-judge an expanded node, and its parents as long as something changes.

    CLOSED: exhausted, and every *forward* child (deeper than its parent) is closed: nothing new lies below. Edges that
    do not go deeper lead to states that the tree reaches on another path, so cycles never keep a subtree open.
    DEAD: closed without any reward below. LOST: dead, and all children on any edge are lost: the value is exactly 0.
    """
    size = 1
    stack[0] = n
    nodes[n, FLAGS] |= ON_STACK
    while size > 0:
        size -= 1
        n = stack[size]
        nodes[n, FLAGS] &= ~ON_STACK
        if not nodes[n, FLAGS] & EXHAUSTED or nodes[n, FLAGS] & LOST:
            continue
        verdict = CLOSED | DEAD | LOST
        e = nodes[n, FIRST_EDGE]
        while e != NONE and verdict != 0:
            child = edges[e, E_CHILD]
            if nodes[child, DEPTH] > nodes[n, DEPTH]:
                verdict &= nodes[child, FLAGS]
            elif not nodes[child, FLAGS] & LOST:
                verdict &= ~LOST
            e = edges[e, E_NEXT]
        if verdict & ~nodes[n, FLAGS] == 0:
            continue
        nodes[n, FLAGS] |= verdict
        if verdict & LOST:
            nodes.view(np.float32)[n, VALUE] = 0.0
        e = nodes[n, FIRST_IN]
        while e != NONE:
            parent = edges[e, E_PARENT]
            if not nodes[parent, FLAGS] & ON_STACK:
                nodes[parent, FLAGS] |= ON_STACK
                stack[size] = parent
                size += 1
            e = edges[e, E_NEXT_IN]


@jit
def new_node(
    nodes, keys, handles, counters, trees, tree, key, handle, raw_value, flags, depth, path_logprob, path_edge
):
    """Append a node record; the caller made room. Returns its id."""
    n = counters[COUNT_NODES]
    counters[COUNT_NODES] += 1
    node_values = nodes.view(np.float32)
    keys[n], handles[n] = key, handle
    nodes[n, VISITS] = 0
    node_values[n, VALUE] = raw_value
    node_values[n, RAW_VALUE] = raw_value
    nodes[n, FLAGS] = flags
    nodes[n, FIRST_EDGE] = NONE
    nodes[n, LAST_EDGE] = NONE
    nodes[n, N_EDGES] = 0
    nodes[n, TREE_ID] = tree
    nodes[n, DEPTH] = depth
    node_values[n, UNSEEN] = 0.0
    node_values[n, BEST_UNSEEN] = 0.0
    node_values[n, PATH_LOGPROB] = path_logprob
    nodes[n, PATH_EDGE] = path_edge
    nodes[n, FIRST_IN] = NONE
    node_values[n, OPEN_MASS] = 0.0 if flags & CLOSED else 1.0
    nodes[n, FAILURES] = 0
    trees[tree, N_TREE_NODES] += 1
    return n


@jit
def plant(nodes, keys, node_handles, counters, trees, table, root_keys, root_handles, raw_values):
    """One root for each of the last trees, as many as there are roots."""
    first = trees.shape[0] - root_keys.shape[0]
    for row in range(root_keys.shape[0]):
        t, key = first + row, root_keys[row]
        n = new_node(
            nodes, keys, node_handles, counters, trees, t, key, root_handles[row], raw_values[row], 0, 0, 0.0, NONE
        )
        trees[t, ROOT] = n
        if key != 0:
            table[slot_of(table, keys, nodes, t, key, 0)] = n
            counters[COUNT_KEYED] += 1


@jit
def insert(
    nodes, keys, node_handles, edges, edge_handles, trees, counters, table, stack, raised,
    leaves, offsets, handles, new_keys, logprobs, raw_values, rewards, terminal, legal, tokens,
    leaf_tokens, unseen_logmass, best_unseen_logprob,
):  # fmt: skip
    """Enter the candidates of a wave, leaf after leaf. Arrays as in `types.Expansion`; the store has made room.

    A candidate whose key is known in its tree becomes an edge to that node. A terminal and a non-terminal state never
    merge, so that a path-dependent limit cannot end another path's state. The terminal's value is its reward.
    """
    node_values, edge_values = nodes.view(np.float32), edges.view(np.float32)
    for row in range(leaves.shape[0]):
        n = leaves[row]
        t = nodes[n, TREE_ID]
        nodes[n, FLAGS] = (nodes[n, FLAGS] | EXPANDED) & ~PENDING
        node_values[n, UNSEEN] = unseen_logmass[row]
        node_values[n, BEST_UNSEEN] = best_unseen_logprob[row]
        none_left = unseen_logmass[row] == -np.inf or best_unseen_logprob[row] == -np.inf
        if none_left or offsets[row + 1] == offsets[row]:
            nodes[n, FLAGS] |= EXHAUSTED
        trees[t, TOKENS] += leaf_tokens[row]
        alive = 0
        for c in range(offsets[row], offsets[row + 1]):
            ended = terminal[c] or not legal[c]
            flags, reward = 0, np.float32(0.0)
            if ended:
                if legal[c]:
                    reward = rewards[c]
                flags = TERMINAL | CLOSED
                flags |= 0 if reward > 0.0 else DEAD | LOST
                flags |= SOLVED if reward >= 1.0 else 0
            value = reward if ended else raw_values[c]
            key = new_keys[c] if legal[c] else np.uint64(0)
            e = counters[COUNT_EDGES]
            counters[COUNT_EDGES] += 1
            slot, child = NONE, NONE
            if key != 0:
                slot = slot_of(table, keys, nodes, t, key, 1 if ended else 0)
                child = table[slot]
            merged = child != NONE
            if not merged:
                reach = node_values[n, PATH_LOGPROB] + min(logprobs[c], np.float32(0.0))
                depth = nodes[n, DEPTH] + 1
                child = new_node(
                    nodes, keys, node_handles, counters, trees, t, key, handles[c], value, flags, depth, reach, e
                )
                if slot != NONE:
                    table[slot] = child
                    counters[COUNT_KEYED] += 1
            edges[e, E_VISITS] = 0
            edges[e, E_IN_FLIGHT] = 0
            edge_values[e, E_LOGPROB] = logprobs[c]
            edges[e, E_TOKENS] = tokens[c]
            edges[e, E_CHILD] = child
            edges[e, E_PARENT] = n
            edges[e, E_NEXT] = NONE
            edges[e, E_NEXT_IN] = nodes[child, FIRST_IN]
            edge_handles[e] = handles[c]
            nodes[child, FIRST_IN] = e
            if nodes[n, LAST_EDGE] == NONE:
                nodes[n, FIRST_EDGE] = e
            else:
                edges[nodes[n, LAST_EDGE], E_NEXT] = e
            nodes[n, LAST_EDGE] = e
            nodes[n, N_EDGES] += 1
            if merged:
                raise_path(nodes, edges, counters, stack, raised, e)
            if not nodes[child, FLAGS] & DEAD:
                alive += 1
            if nodes[child, FLAGS] & SOLVED and trees[t, FIRST_SOLUTION] == NEVER:
                trees[t, FIRST_SOLUTION] = trees[t, TOKENS]
        if alive == 0:
            nodes[n, FAILURES] += 1
        close(nodes, edges, stack, n)


@jit
def edges_of(nodes, edges, n):
    """Edge ids of a node in the order in which its candidates came."""
    out = np.empty(nodes[n, N_EDGES], np.int32)
    e, i = nodes[n, FIRST_EDGE], 0
    while e != NONE:
        out[i] = e
        i += 1
        e = edges[e, E_NEXT]
    return out

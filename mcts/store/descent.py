"""Descent from the root and backup along the path, compiled. Module-level functions only: numba caches them.

Scores are computed in float64, stored in float32.
"""

from __future__ import annotations

import math

import numpy as np

from kit.arithmetic import uniform
from kit.jit import jit

# isort: off
from mcts.store.records import (
    COUNT_RAISED, DEAD, E_CHILD, E_IN_FLIGHT, E_LOGPROB, E_NEXT, E_PARENT, E_VISITS, EXHAUSTED, EXPANDED, FAILURES,
    FIRST_EDGE, FLAGS, FREE_RUN, IN_FLIGHT, LOST, NONE, ON_PATH, PENDING, RAISED, RAW_VALUE, ROOT, RUNNING,
    SATURATED, SEED, SIM_LIMIT, SIMULATIONS, SOLVED, STATUS, TERMINAL, TREE_ID, VALUE, VISITS, WON,
)  # fmt: skip
# isort: on

# What a pick at one node answers when it names no edge.
ASK, STUCK, BLOCKED = -1, -2, -3
FREE_LIMIT = 1024  # simulations in a row without a model call, after which a tree stops

# Words of the parameter vector of a rule. The first three say how values are carried up.
DISCOUNT, MAX_SHARE, HOW = range(3)
(C_INIT, C_LOG, C_BASE, VIRTUAL_LOSS, WIDEN_C, WIDEN_ALPHA, NOISE_ALPHA, NOISE_FRACTION,
 FORCED, STDEV_SCALE, STDEV_PRIOR, STDEV_WEIGHT) = range(3, 15)  # fmt: skip
VALUE_SCALE, MAXVISIT_INIT, MAX_CONSIDERED, GUMBEL_SCALE = range(3, 7)
MOMENTS, SOLVE = 1, 2  # bits of HOW: keep the mean of squares; carry proven wins up
SQUARE = 0  # word of a node's scratch record: mean of the squared values below it
FORCE = 1e20  # score of a child that is owed a visit
KIND_PUCT, KIND_GUMBEL = 0, 1


@jit
def gumbel(seed, index):
    """Standard Gumbel noise of the index-th root candidate."""
    return -math.log(-math.log(uniform(seed, 0, index)))


@jit
def gamma_variate(seed, index, alpha):
    """Gamma(alpha, 1) of the index-th root candidate: Marsaglia and Tsang 2000, boosted by u^(1/alpha) below 1."""
    d = (alpha + 1.0 if alpha < 1.0 else alpha) - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    draw = 0
    value = 0.0
    while True:
        u, w = uniform(seed, 1 + index, draw), uniform(seed, 1 + index, draw + 1)
        x = math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * w)
        v = (1.0 + c * x) ** 3
        u = uniform(seed, 1 + index, draw + 2)
        draw += 3
        if v > 0.0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
            value = d * v
            break
    if alpha < 1.0:
        value *= uniform(seed, 1 + index, draw) ** (1.0 / alpha)
    return value


@jit
def square_of(nodes, scratch, n):
    """Mean of the squared values below a node; of one that was never expanded, the square of its value."""
    if nodes[n, FLAGS] & EXPANDED:
        return np.float64(scratch.view(np.float32)[n, SQUARE])
    value = np.float64(nodes.view(np.float32)[n, VALUE])
    return value * value


@jit
def refresh(nodes, edges, scratch, n, prm):
    """Idempotent visits and value of one expanded node from its edges (KataGo, GraphSearch.md).

    N(n) = 1 + F + sum_e N(e);  mean(n) = (U(n) + sum_e N(e) gamma Q(child(e))) / N(n), with U the raw value and F the
    expansions that handed out no live candidate, each a measured failure of value 0.
    Q(n) = (1 - s) mean(n) + s max over visited e of gamma Q(child(e)), s = MAX_SHARE. A lost node has Q = 0; with SOLVE, one
    with a solved terminal or a won child has Q = max of gamma Q over these, and is won.
    """
    node_values = nodes.view(np.float32)
    raw = np.float64(node_values[n, RAW_VALUE])
    total, squares, best, won, gamma = raw, raw * raw, -1.0, -1.0, prm[DISCOUNT]
    how = np.int64(prm[HOW])
    visits = 1 + nodes[n, FAILURES]
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        k, child = edges[e, E_VISITS], edges[e, E_CHILD]
        q = gamma * np.float64(node_values[child, VALUE])
        if k > 0:
            visits += k
            total += k * q
            best = max(best, q)
            if how & MOMENTS:
                squares += k * (gamma * gamma * square_of(nodes, scratch, child))
        if how & SOLVE and nodes[child, FLAGS] & (SOLVED | WON):
            won = max(won, q)
        e = edges[e, E_NEXT]
    nodes[n, VISITS] = visits
    value = total / visits
    if prm[MAX_SHARE] > 0.0 and best >= 0.0:
        value = (1.0 - prm[MAX_SHARE]) * value + prm[MAX_SHARE] * best
    if won >= 0.0:
        nodes[n, FLAGS] |= WON
        value = won
    node_values[n, VALUE] = 0.0 if nodes[n, FLAGS] & LOST else np.float32(value)
    if how & MOMENTS:
        scratch.view(np.float32)[n, SQUARE] = np.float32(squares / visits)


@jit
def backup_path(nodes, edges, scratch, path, start, end, last, prm):
    """One more visit of each edge of path[start:end], which ends in node `last`; values from the bottom up."""
    if nodes[last, FLAGS] & TERMINAL:
        nodes[last, VISITS] += 1
    else:
        refresh(nodes, edges, scratch, last, prm)
    for i in range(end - 1, start - 1, -1):
        edges[path[i], E_VISITS] += 1
        refresh(nodes, edges, scratch, edges[path[i], E_PARENT], prm)


@jit
def backup(nodes, edges, scratch, trees, counters, raised, leaves, offsets, path, prm):
    """Backup of a whole wave: marks off, then each path as in `backup_path`, in the wave's order."""
    for i in range(counters[COUNT_RAISED]):
        nodes[raised[i], FLAGS] &= ~RAISED
    counters[COUNT_RAISED] = 0
    for i in range(offsets[leaves.shape[0]]):
        edges[path[i], E_IN_FLIGHT] -= 1
    for row in range(leaves.shape[0]):
        backup_path(nodes, edges, scratch, path, offsets[row], offsets[row + 1], leaves[row], prm)
        trees[nodes[leaves[row], TREE_ID], SIMULATIONS] += 1
        trees[nodes[leaves[row], TREE_ID], IN_FLIGHT] -= 1


@jit
def open_to(nodes, child):
    """0: may be entered; 1: dead or on the path; 2: waits for the model."""
    flags = nodes[child, FLAGS]
    if flags & (DEAD | ON_PATH):
        return 1
    if flags & PENDING and not flags & EXPANDED:
        return 2
    return 0


@jit
def spread_factor(nodes, scratch, n, prm):
    """1 + scale (stdev / prior - 1), stdev of the values below `n` with a prior of STDEV_WEIGHT visits (KataGo).

    `getFpuValueForChildrenAssumeVisited` in cpp/search/searchexplorehelpers.cpp; utilities there lie in [-1, 1], values here
    in [0, 1], so that a prior here is half of one there.
    """
    visits = np.float64(nodes[n, VISITS])
    if visits <= 1.0:
        return 1.0
    weight, prior = prm[STDEV_WEIGHT], prm[STDEV_PRIOR]
    value = np.float64(nodes.view(np.float32)[n, VALUE])
    mean_square = value * value
    squares = max(square_of(nodes, scratch, n), mean_square)
    variance = ((mean_square + prior * prior) * weight + squares * visits) / (weight + visits - 1.0) - mean_square
    return 1.0 + prm[STDEV_SCALE] * (math.sqrt(max(0.0, variance)) / prior - 1.0)


@jit
def pick_puct(nodes, edges, scratch, n, at_root, seed, prm):
    """Edge to follow at an expanded node, or ASK / STUCK / BLOCKED. AlphaZero's PUCT; see `rules/puct.py`."""
    node_values, edge_values = nodes.view(np.float32), edges.view(np.float32)
    noisy = at_root and prm[NOISE_FRACTION] > 0.0
    visits, alive, top, noise_total, index = 1 + nodes[n, FAILURES], 0, -np.inf, 0.0, 0
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        visits += edges[e, E_VISITS] + edges[e, E_IN_FLIGHT]
        if not nodes[edges[e, E_CHILD], FLAGS] & DEAD:
            alive += 1
            top = max(top, np.float64(edge_values[e, E_LOGPROB]))
            if noisy:
                noise_total += gamma_variate(seed, index, prm[NOISE_ALPHA])
        index += 1
        e = edges[e, E_NEXT]
    flags = nodes[n, FLAGS]
    may_ask = not flags & (EXHAUSTED | PENDING)
    if may_ask and alive < prm[WIDEN_C] * np.float64(visits) ** prm[WIDEN_ALPHA]:
        return ASK
    mass = 0.0
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        if not nodes[edges[e, E_CHILD], FLAGS] & DEAD:
            mass += math.exp(np.float64(edge_values[e, E_LOGPROB]) - top)
        e = edges[e, E_NEXT]
    c_puct = prm[C_LOG] * math.log((1.0 + visits + prm[C_BASE]) / prm[C_BASE]) + prm[C_INIT]
    if prm[STDEV_SCALE] > 0.0:
        c_puct *= spread_factor(nodes, scratch, n, prm)
    explore = c_puct * math.sqrt(np.float64(visits))
    owed = prm[FORCED] * np.float64(visits - 1 - nodes[n, FAILURES]) if at_root else 0.0
    best, best_score, blocked, index = NONE, -np.inf, False, -1
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        child = edges[e, E_CHILD]
        index += 1
        gate = open_to(nodes, child)
        if gate:
            blocked = blocked or gate == 2
            e = edges[e, E_NEXT]
            continue
        prior = math.exp(np.float64(edge_values[e, E_LOGPROB]) - top) / mass
        if noisy:
            share = gamma_variate(seed, index, prm[NOISE_ALPHA]) / max(noise_total, 1e-300)
            prior = (1.0 - prm[NOISE_FRACTION]) * prior + prm[NOISE_FRACTION] * share
        done, flying = np.float64(edges[e, E_VISITS]), np.float64(edges[e, E_IN_FLIGHT])
        q = prm[DISCOUNT] * np.float64(node_values[child, VALUE])
        q = q * (1.0 + done) / (1.0 + done + prm[VIRTUAL_LOSS] * flying)
        score = q + explore * prior / (1.0 + done + flying)
        if owed > 0.0 and done + flying > 0.0 and done + flying < math.sqrt(owed * prior):
            score = FORCE
        if score > best_score:
            best, best_score = e, score
        e = edges[e, E_NEXT]
    if best != NONE:
        return best
    if may_ask:
        return ASK
    return BLOCKED if blocked or flags & PENDING else STUCK


@jit
def edge_q(nodes, edges, e, mixed, discount):
    """Q of a visited edge, the mixed value of an unvisited one."""
    if edges[e, E_VISITS] + edges[e, E_IN_FLIGHT] == 0:
        return mixed
    return discount * np.float64(nodes.view(np.float32)[edges[e, E_CHILD], VALUE])


@jit
def pick_gumbel(nodes, edges, n, row, at_root, tree_seed, noise, prm, table):
    """Edge to follow at an expanded node, or ASK / STUCK / BLOCKED. Gumbel MuZero; see `rules/gumbel.py`.

    Five passes over the candidates: sums, range of completed Q, maximum and sum of pi', argmax.
    """
    node_values, edge_values = nodes.view(np.float32), edges.view(np.float32)
    sum_visits, max_visits, alive, top = 0.0, 0.0, 0, -np.inf
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        if not nodes[edges[e, E_CHILD], FLAGS] & DEAD:
            count = np.float64(edges[e, E_VISITS] + edges[e, E_IN_FLIGHT])
            sum_visits += count
            max_visits = max(max_visits, count)
            alive += 1
            top = max(top, np.float64(edge_values[e, E_LOGPROB]))
        e = edges[e, E_NEXT]
    visited_mass, weighted_q = 0.0, 0.0
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        if not nodes[edges[e, E_CHILD], FLAGS] & DEAD and edges[e, E_VISITS] + edges[e, E_IN_FLIGHT] > 0:
            prior = max(math.exp(np.float64(edge_values[e, E_LOGPROB]) - top), 1e-300)
            visited_mass += prior
            weighted_q += prior * edge_q(nodes, edges, e, 0.0, prm[DISCOUNT])
        e = edges[e, E_NEXT]
    mixed = np.float64(node_values[n, RAW_VALUE])
    if visited_mass > 0.0:
        mixed = (mixed + sum_visits * (weighted_q / visited_mass)) / (sum_visits + 1.0)
    low, high = np.inf, -np.inf
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        if not nodes[edges[e, E_CHILD], FLAGS] & DEAD:
            q = edge_q(nodes, edges, e, mixed, prm[DISCOUNT])
            low, high = min(low, q), max(high, q)
        e = edges[e, E_NEXT]
    scale = (prm[MAXVISIT_INIT] + max_visits) * prm[VALUE_SCALE] / max(high - low, 1e-8)
    peak, total = -np.inf, 0.0
    for sweep in range(2):
        e = nodes[n, FIRST_EDGE]
        while e != NONE:
            if not nodes[edges[e, E_CHILD], FLAGS] & DEAD:
                logit = np.float64(edge_values[e, E_LOGPROB]) - top
                logit += scale * (edge_q(nodes, edges, e, mixed, prm[DISCOUNT]) - low)
                if sweep == 0:
                    peak = max(peak, logit)
                else:
                    total += math.exp(logit - peak)
            e = edges[e, E_NEXT]
    want = -1.0
    if at_root and alive > 0:
        column = min(np.int64(sum_visits), table.shape[1] - 1)
        want = np.float64(table[min(alive, table.shape[0] - 1), column])
    best, best_score, best_gap, blocked, index = NONE, -np.inf, np.inf, False, -1
    e = nodes[n, FIRST_EDGE]
    while e != NONE:
        child = edges[e, E_CHILD]
        index += 1
        gate = open_to(nodes, child)
        if gate:
            blocked = blocked or gate == 2
            e = edges[e, E_NEXT]
            continue
        count = np.float64(edges[e, E_VISITS] + edges[e, E_IN_FLIGHT])
        logit = np.float64(edge_values[e, E_LOGPROB]) - top
        logit += scale * (edge_q(nodes, edges, e, mixed, prm[DISCOUNT]) - low)
        if at_root:
            # Halving: candidates with the considered visit count; if none can be entered, the nearest count.
            g = noise[row, index] if index < noise.shape[1] else gumbel(tree_seed, index)
            gap, score = abs(count - want), max(prm[GUMBEL_SCALE] * g + logit, -1e9)
        else:
            gap, score = 0.0, math.exp(logit - peak) / total - count / (1.0 + sum_visits)
        if gap < best_gap or (gap == best_gap and score > best_score):
            best, best_score, best_gap = e, score, gap
        e = edges[e, E_NEXT]
    if best != NONE:
        return best
    if not nodes[n, FLAGS] & (EXHAUSTED | PENDING):
        return ASK
    return BLOCKED if blocked or nodes[n, FLAGS] & PENDING else STUCK


@jit
def select(kind, nodes, edges, scratch, trees, turn, wave_size, prm, table, noise, leaves, offsets, path):
    """Up to `wave_size` distinct leaves of each running tree of `turn` int64 [S]. Returns (number of leaves, path buffer).

    leaves int32 [S * wave_size], offsets int64 [S * wave_size + 1] and the path buffer int32, maybe grown, are written to.
    Terminal hits and dead ends of a path are backed up here, at once, without the model; each is one simulation.
    """
    found, end = 0, 0
    for t in turn:
        if trees[t, STATUS] != RUNNING:
            continue
        root, seed, first = trees[t, ROOT], trees[t, SEED], found
        while found - first < wave_size and trees[t, SIMULATIONS] + trees[t, IN_FLIGHT] < trees[t, SIM_LIMIT]:
            if trees[t, FREE_RUN] >= FREE_LIMIT:
                if trees[t, IN_FLIGHT] == 0:
                    trees[t, STATUS] = SATURATED
                break
            start, n, pick = end, root, STUCK
            while True:
                nodes[n, FLAGS] |= ON_PATH
                flags = nodes[n, FLAGS]
                if flags & TERMINAL:
                    pick = STUCK
                elif not flags & EXPANDED:
                    pick = BLOCKED if flags & PENDING else ASK
                elif kind == KIND_PUCT:
                    pick = pick_puct(nodes, edges, scratch, n, n == root, seed, prm)
                else:
                    pick = pick_gumbel(nodes, edges, n, t, n == root, seed, noise, prm, table)
                if pick < 0:
                    break
                if end == path.shape[0]:
                    grown = np.empty(2 * end, path.dtype)
                    grown[:end] = path
                    path = grown
                path[end] = pick
                end += 1
                n = edges[pick, E_CHILD]
            nodes[root, FLAGS] &= ~ON_PATH
            for i in range(start, end):
                nodes[edges[path[i], E_CHILD], FLAGS] &= ~ON_PATH
            if pick == ASK:
                for i in range(start, end):
                    edges[path[i], E_IN_FLIGHT] += 1
                nodes[n, FLAGS] |= PENDING
                leaves[found] = n
                found += 1
                offsets[found] = end
                trees[t, IN_FLIGHT] += 1
                trees[t, FREE_RUN] = 0
                continue
            if pick == STUCK:
                backup_path(nodes, edges, scratch, path, start, end, n, prm)
                trees[t, SIMULATIONS] += 1
                trees[t, FREE_RUN] += 1
            end = start
            if pick == BLOCKED:
                break
    return found, path

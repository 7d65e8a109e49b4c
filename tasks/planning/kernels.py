"""Planning on an enumerated space in numba: breadth-first search and training rows.

Legend: S states, M moves, E pairs of a state and a move that is legal there, G goals, K goals that one state can
meet, A words of a goal, W of a state, P of the longest move, B rows, L tokens of a row.
Tokens of a row: BOS, A goal, bar, W state, newline | up to P move, W next state, newline.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kit.jit import jit
from tasks.base import BOS_ID, NEWLINE_ID, PAD_ID, SPECIAL_TOKENS

BAR = "|"
BAR_ID = len(SPECIAL_TOKENS)  # in the vocabulary of every planning task
NO_STATE = -1  # where a move is illegal
NO_GOAL = -1  # in `Tables.met`
UNREACHABLE = 255  # in a table of distances


class Tables(NamedTuple):
    """The rules of a space as arrays, and how states, goals and moves are written. Words are token ids."""

    first: np.ndarray  # int32 [S + 1]: the legal moves of state s are edges first[s]..first[s + 1] - 1
    edge_move: np.ndarray  # int16 [E]: the move, ascending within a state
    edge_to: np.ndarray  # int32 [E]: the state that it leads to
    met: np.ndarray  # int32 [S, K]: goals that a state meets, NO_GOAL where there are fewer
    span: np.ndarray  # int32 [G, 2]: the states of the goal's own game, first and one past the last
    start_span: np.ndarray  # int32 [G, 2]: the states that problems of a goal start in, first and one past the last
    goal_words: np.ndarray  # int16 [G, A]
    state_words: np.ndarray  # int16 [S, W]
    move_words: np.ndarray  # int16 [M, P], PAD_ID after the end


@jit
def distances_to(goal, low, high, met, first, before):
    """uint8 [high - low]: least number of moves from each state of low..high-1 to one that meets `goal`, or UNREACHABLE.

    `before`: the states that one move takes to state s are before[first[s]:first[s + 1]].
    """
    distance = np.full(high - low, UNREACHABLE, np.uint8)
    queue = np.empty(high - low, np.int32)
    tail = 0
    for state in range(low, high):
        if _meets(met, state, goal):
            distance[state - low] = 0
            queue[tail] = state
            tail += 1
    head = 0
    while head < tail:
        state = queue[head]
        head += 1
        for k in range(first[state], first[state + 1]):
            earlier = before[k]
            if distance[earlier - low] == UNREACHABLE:
                distance[earlier - low] = distance[state - low] + 1
                queue[tail] = earlier
                tail += 1
    return distance


@jit
def random_rows(rng, tables, goals, moves, discount, tokens, value):
    """Fill int32 tokens [B, L]: a goal of `goals`, a state that random play came to from one of its starts, a random move.

    Goal, start, length of that play (0..moves) and each legal move are uniform; what ends in the goal is drawn again. Fill
    float32 value [B, L] at the context's end: random play goes on from the state for `moves` moves; discount ** (moves
    until it met the goal), else 0.
    """
    k = 0
    while k < len(tokens):
        goal = goals[int(rng.random() * len(goals))]
        low, high = tables.start_span[goal]
        state = low + int(rng.random() * (high - low))
        for _ in range(int(rng.random() * (moves + 1))):
            state = tables.edge_to[_random_edge(rng, tables, state, NO_STATE)]
        if _meets(tables.met, state, goal):
            continue
        end = _write_context(tokens[k], tables, goal, state)
        edge = _random_edge(rng, tables, state, NO_STATE)
        state = tables.edge_to[edge]
        _write_step(tokens[k], tables, end, tables.edge_move[edge], state)
        value[k, end - 1] = 0.0
        for taken in range(1, moves + 1):
            if _meets(tables.met, state, goal):
                value[k, end - 1] = discount**taken
                break
            state = tables.edge_to[_random_edge(rng, tables, state, NO_STATE)]
        k += 1


@jit
def walk_rows(rng, tables, splits, split, moves, discount, shorten, tokens, value):
    """Fill int32 tokens [B, L] and float32 value [B, L] (NaN), one row from each random walk of `moves` moves.

    A walk starts anywhere and does not step straight back where it can do otherwise. A goal that one of its states meets
    and that belongs to `split` (codes in `splits` uint8 [G]) becomes the goal, another one of its states the state. All
    happens in the walk's own graph, which is the states it visited and every move between them: the goal can be reached
    from the state and after the step, which is the first one of a shortest way if `shorten`, else any. Values are discount
    ** (distance to the goal in that graph), of the state on the newline that ends the context and of the next state on the
    newline that ends the step.
    """
    far = moves + 1
    most = np.diff(tables.first).max() * (moves + 1)
    place = np.full(len(tables.first) - 1, -1, np.int32)  # [S]: where in `states`, of visited states only
    states = np.empty(moves + 1, np.int32)  # distinct, in order of the first visit
    first = np.empty(moves + 2, np.int32)  # edges of node v are first[v]..first[v + 1] - 1
    edge_to = np.empty(most, np.int32)  # a node
    edge_move = np.empty(most, np.int32)
    distance = np.empty(moves + 1, np.int32)
    k = 0
    while k < len(tokens):
        nodes = _walk(rng, tables, moves, states, place)
        ways = tables.met[states[int(rng.random() * nodes)]]
        goal = ways[int(rng.random() * len(ways))]
        ours = goal != NO_GOAL and splits[goal] == split
        if ours:
            _connect(tables, states, nodes, place, first, edge_to, edge_move)
        _forget(states, nodes, place)
        if not ours:
            continue
        for v in range(nodes):
            distance[v] = 0 if _meets(tables.met, states[v], goal) else far
        _relax(first, edge_to, nodes, distance)
        if not ((distance[:nodes] > 0) & (distance[:nodes] < far)).any():
            continue
        node = int(rng.random() * nodes)
        while distance[node] == 0 or distance[node] == far:
            node = int(rng.random() * nodes)
        edge = first[node] + int(rng.random() * (first[node + 1] - first[node]))
        while distance[edge_to[edge]] == far:
            edge = first[node] + int(rng.random() * (first[node + 1] - first[node]))
        if shorten:
            for e in range(first[node], first[node + 1]):
                if distance[edge_to[e]] < distance[edge_to[edge]]:
                    edge = e
        end = _write_context(tokens[k], tables, goal, states[node])
        value[k, end - 1] = discount ** distance[node]
        last = _write_step(tokens[k], tables, end, edge_move[edge], states[edge_to[edge]])
        value[k, last] = discount ** distance[edge_to[edge]]
        k += 1


@jit
def _walk(rng, tables, moves, states, place):
    """A random walk from a uniform state: its distinct states and their places; returns how many there are."""
    state, previous, nodes = int(rng.random() * len(place)), NO_STATE, 0
    for step in range(moves + 1):
        if step:
            edge = _random_edge(rng, tables, state, previous)
            previous, state = state, tables.edge_to[edge]
        if place[state] < 0:
            place[state] = nodes
            states[nodes] = state
            nodes += 1
    return nodes


@jit
def _connect(tables, states, nodes, place, first, edge_to, edge_move):
    """Every move from one visited state to another, as edges by node."""
    edges = 0
    for v in range(nodes):
        first[v] = edges
        for e in range(tables.first[states[v]], tables.first[states[v] + 1]):
            if place[tables.edge_to[e]] >= 0:
                edge_to[edges] = place[tables.edge_to[e]]
                edge_move[edges] = tables.edge_move[e]
                edges += 1
    first[nodes] = edges


@jit
def _relax(first, edge_to, nodes, distance):
    """Least numbers of edges to the nodes of distance 0, by sweeps until nothing changes."""
    changed = True
    while changed:
        changed = False
        for v in range(nodes - 1, -1, -1):
            for e in range(first[v], first[v + 1]):
                if distance[edge_to[e]] + 1 < distance[v]:
                    distance[v] = distance[edge_to[e]] + 1
                    changed = True


@jit
def _forget(states, nodes, place):
    for v in range(nodes):
        place[states[v]] = -1


@jit
def _random_edge(rng, tables, state, avoid):
    """A uniform legal move, as an edge, that does not lead to the state `avoid`; any legal one if all of them do."""
    first, last = tables.first[state], tables.first[state + 1]
    edge = first + int(rng.random() * (last - first))
    if tables.edge_to[edge] != avoid:
        return edge
    options = 0
    for e in range(first, last):
        options += tables.edge_to[e] != avoid
    if options == 0:
        return edge
    left = int(rng.random() * options)
    edge = first - 1
    while left >= 0:
        edge += 1
        left -= tables.edge_to[edge] != avoid
    return edge


@jit
def _meets(met, state, goal):
    found = False
    for k in range(met.shape[1]):
        found |= met[state, k] == goal
    return found


@jit
def _write_context(row, tables, goal, state):
    """Returns the place after the context."""
    row[0] = BOS_ID
    at = 1
    for word in tables.goal_words[goal]:
        row[at] = word
        at += 1
    row[at] = BAR_ID
    return _write_state(row, tables, at + 1, state) + 1


@jit
def _write_step(row, tables, at, move, state):
    """Returns the place of the step's newline."""
    for word in tables.move_words[move]:
        if word != PAD_ID:
            row[at] = word
            at += 1
    return _write_state(row, tables, at, state)


@jit
def _write_state(row, tables, at, state):
    """A state and its newline; returns the newline's place."""
    for word in tables.state_words[state]:
        row[at] = word
        at += 1
    row[at] = NEWLINE_ID
    return at

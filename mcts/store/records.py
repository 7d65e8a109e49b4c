"""The records of the arena: words of a node, an edge and a tree, and the bits of their flags, defined once."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

NONE = -1  # no node, no edge
NEVER = np.iinfo(np.int64).max  # tokens at first solution of a tree that has none
NO_LIMIT = np.iinfo(np.int64).max
MAX_NODES = np.iinfo(np.int32).max

NODE = np.dtype(
    [
        ("visits", "i4"),  # 1 + failures + sum of edge visits once expanded; hits if terminal
        ("value", "f4"),  # Q after backup; the raw value before the first
        ("raw_value", "f4"),  # value head; the reward if terminal
        ("flags", "i4"),  # bits of Flag
        ("first_edge", "i4"),
        ("last_edge", "i4"),
        ("n_edges", "i4"),
        ("tree", "i4"),
        ("depth", "i4"),  # edges from the root on the path that first reached the node
        ("unseen_logmass", "f4"),
        ("best_unseen_logprob", "f4"),
        ("path_logprob", "f4"),  # log-probability of the most probable known path from the root
        ("path_edge", "i4"),  # last edge of that path
        ("first_in", "i4"),  # head of the list of incoming edges
        ("open_mass", "f4"),  # mass below that may still be drawn; kept by the proportional rule
        ("failures", "i4"),  # expansions that handed out no live candidate
    ]
)
EDGE = np.dtype(
    [
        ("visits", "i4"),
        ("in_flight", "i4"),  # visits of leaves that wait for the model
        ("logprob", "f4"),  # log pi(step | parent)
        ("tokens", "i4"),  # generated tokens that the step newly cost
        ("child", "i4"),
        ("parent", "i4"),
        ("next", "i4"),  # next candidate of the parent
        ("next_in", "i4"),  # next edge into the child
    ]
)
TREE = np.dtype(
    [
        ("root", "i8"),
        ("seed", "i8"),  # bits of a uint64
        ("simulations", "i8"),
        ("tokens", "i8"),
        ("first_solution", "i8"),  # tokens spent when the first solution was found, NEVER if none
        ("status", "i8"),
        ("n_nodes", "i8"),
        ("free_run", "i8"),  # simulations in a row without a model call
        ("queue", "i8"),  # top of the best-first heap, or of the stack of unfinished rollouts
        ("draws", "i8"),  # counter of the proportional rule's randomness
        ("simulation_limit", "i8"),
        ("in_flight", "i8"),  # leaves that wait for the model
    ]
)
SAVED_TREE_WORDS = TREE.itemsize // 8 - 1  # nothing is in flight when a store is saved
N_COUNTERS = 4  # nodes, edges, raised paths, keyed nodes


class Flag(IntFlag):
    """Bits of a node's `flags`."""

    EXPANDED = 1 << 0
    TERMINAL = 1 << 1
    EXHAUSTED = 1 << 2  # the evaluator has no unseen step here
    SOLVED = 1 << 3  # terminal with reward >= 1
    CLOSED = 1 << 4  # nothing new to find below
    DEAD = 1 << 5  # closed, and no reward below
    LOST = 1 << 6  # proven: no continuation at all earns a reward
    PENDING = 1 << 7  # waits for the model
    ON_PATH = 1 << 8
    QUEUED = 1 << 9
    RAISED = 1 << 10
    ON_STACK = 1 << 11
    WON = 1 << 12  # proven: a reward of 1 lies below; kept by rules that carry proven wins up


class Status(IntEnum):
    """Why a tree no longer grows."""

    RUNNING = 0
    CLOSED = 1  # everything that can be found was found
    SATURATED = 2  # a long run of simulations ended in known terminals
    SOLVED = 3  # stop_on_solution
    BUDGET = 4
    FULL = 5  # node limit
    DECIDED = 6  # an early stop


# The same as plain numbers, which compiled code takes: words of a node, an edge and a tree, bits of the flags, counters.
(VISITS, VALUE, RAW_VALUE, FLAGS, FIRST_EDGE, LAST_EDGE, N_EDGES, TREE_ID, DEPTH, UNSEEN, BEST_UNSEEN, PATH_LOGPROB,
 PATH_EDGE, FIRST_IN, OPEN_MASS, FAILURES) = range(len(NODE.names or ()))  # fmt: skip
E_VISITS, E_IN_FLIGHT, E_LOGPROB, E_TOKENS, E_CHILD, E_PARENT, E_NEXT, E_NEXT_IN = range(len(EDGE.names or ()))
(ROOT, SEED, SIMULATIONS, TOKENS, FIRST_SOLUTION, STATUS, N_TREE_NODES, FREE_RUN, QUEUE, DRAWS, SIM_LIMIT,
 IN_FLIGHT) = range(len(TREE.names or ()))  # fmt: skip
EXPANDED, TERMINAL, EXHAUSTED, SOLVED, CLOSED, DEAD, LOST, PENDING, ON_PATH, QUEUED, RAISED, ON_STACK, WON = (
    flag.value for flag in Flag
)
RUNNING, ALL_CLOSED, SATURATED = Status.RUNNING.value, Status.CLOSED.value, Status.SATURATED.value
COUNT_NODES, COUNT_EDGES, COUNT_RAISED, COUNT_KEYED = range(N_COUNTERS)

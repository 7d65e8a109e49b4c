"""Enumerated planning spaces: which goals belong to which split, exact distances, problems by optimal length.

The labels lie in this module's caches, keyed by space; no `Problem`, `Space` or `Task` refers to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tasks.base import Split, TaskError
from tasks.planning.kernels import NO_STATE, UNREACHABLE, Tables, distances_to
from tasks.splits import GoalSplits, check_int, deal_goals, split_code


@dataclass(frozen=True, eq=False)
class Space:
    """A finite game with one player and no chance: all its states, moves and goals. Hashed by identity; read-only.

    Every state is in the `span` of some goal, and no move leads out of a span.
    """

    vocabulary: tuple[str, ...]
    after: np.ndarray  # int32 [S, M]: the state that a move leads to, or NO_STATE
    tables: Tables
    identities: tuple[bytes, ...]  # [G]: what the split of a goal hangs on
    goal_of_text: dict[str, int]

    def goal_text(self, goal: int) -> str:
        return self.text(self.tables.goal_words[goal])

    def state_text(self, state: int) -> str:
        return self.text(self.tables.state_words[state])

    def text(self, words: np.ndarray) -> str:
        """Words of token ids, padding left out."""
        return " ".join([self.vocabulary[word] for word in words.tolist() if word])


def make_space(
    vocabulary: tuple[str, ...],
    identities: Sequence[bytes],
    *,
    after: np.ndarray,
    met: np.ndarray,
    span: np.ndarray,
    start_span: np.ndarray,
    goal_words: np.ndarray,
    state_words: np.ndarray,
    move_words: np.ndarray,
) -> Space:
    """A space of the arrays of `Space` and `Tables`, which become read-only, with its edges and goals made findable."""
    state, edge_move = np.nonzero(after != NO_STATE)
    tables = Tables(
        np.searchsorted(state, np.arange(len(after) + 1)).astype(np.int32),
        edge_move.astype(np.int16),
        after[state, edge_move],
        *(
            met,
            span,
            start_span,
            goal_words.astype(np.int16),
            state_words.astype(np.int16),
            move_words.astype(np.int16),
        ),
    )
    for array in (*tables, after):
        array.setflags(write=False)
    space = Space(vocabulary, after, tables, tuple(identities), {})
    space.goal_of_text.update({space.goal_text(goal): goal for goal in range(len(goal_words))})
    return space


@lru_cache(maxsize=16)
def split_goals(space: Space, train_fraction: float, dev_fraction: float) -> GoalSplits:
    """Deal all goals to the splits by keyed hash of their identities."""
    return deal_goals(space.identities, train_fraction, dev_fraction)


@lru_cache(maxsize=8)
def _moves_back(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """(first int64 [S + 1], before int32 [E]): the states that one move takes to s are before[first[s]:first[s + 1]]."""
    tables = space.tables
    before = np.repeat(np.arange(len(space.after), dtype=np.int32), np.diff(tables.first))
    first = np.zeros(len(space.after) + 1, np.int64)
    np.cumsum(np.bincount(tables.edge_to, minlength=len(space.after)), out=first[1:])
    return first, before[np.argsort(tables.edge_to, kind="stable")]


@lru_cache(maxsize=32_768)
def distances(space: Space, goal: int) -> np.ndarray:
    """uint8 [states of the goal's span]: least number of moves to the goal; UNREACHABLE = 255."""
    low, high = space.tables.span[goal]
    table = distances_to(goal, low, high, space.tables.met, *_moves_back(space))
    table.setflags(write=False)
    return table


@dataclass(frozen=True, eq=False)
class Pairs:
    """All problems of a split, by optimal length, read-only: those of length d are goal[ends[d - 1]:ends[d]]."""

    goal: np.ndarray  # uint [P]
    start: np.ndarray  # uint [P]
    ends: np.ndarray  # int64 [deepest + 1]; no problem has length 0

    @property
    def deepest(self) -> int:
        return len(self.ends) - 1

    def counts(self, distance_min: int, distance_max: int) -> np.ndarray:
        """int64: how many problems there are of each length of the range, as far as there are any longer ones."""
        return np.diff(self.ends[max(distance_min - 1, 0) : distance_max + 1])


@lru_cache(maxsize=12)
def problem_pairs(space: Space, train_fraction: float, dev_fraction: float, split: Split) -> Pairs:
    """Every (goal of the split, start) that can be solved and is not solved at once."""
    goals = split_goals(space, train_fraction, dev_fraction).goals[split]
    parts, length = [], []
    for goal in goals.tolist():
        table = _start_distances(space, goal)
        chosen = np.flatnonzero((table > 0) & (table < UNREACHABLE))
        parts.append((chosen + space.tables.start_span[goal, 0]).astype(np.min_scalar_type(len(space.after))))
        length.append(table[chosen])
    counts = [len(part) for part in parts]
    lengths = np.concatenate([*length, np.zeros(0, np.uint8)])
    order = np.argsort(lengths, kind="stable")
    goal = np.repeat(goals.astype(np.min_scalar_type(len(space.identities))), counts)[order]
    start = np.concatenate([*parts, np.zeros(0, np.uint8)])[order]
    ends = np.cumsum(np.bincount(lengths, minlength=1))
    for array in (goal, start, ends):
        array.setflags(write=False)
    return Pairs(goal, start, ends)


def has_problem(space: Space, goals: np.ndarray, distance_min: int, distance_max: int) -> bool:
    """Whether one of `goals` has a start so many moves away. Looks no further than the first, which `problem_pairs` does."""
    longest = min(distance_max, UNREACHABLE - 1)
    tables = (_start_distances(space, goal) for goal in goals.tolist())
    return any(bool(((table >= distance_min) & (table <= longest)).any()) for table in tables)


def _start_distances(space: Space, goal: int) -> np.ndarray:
    """uint8 [starts of the goal's span]: see `distances`."""
    low, high = space.tables.start_span[goal]
    first = space.tables.span[goal, 0]
    return distances(space, goal)[low - first : high - first]


def draw_stratified(counts: np.ndarray, n: int | None, split: Split, seed: int) -> np.ndarray:
    """int64 [n]: positions in strata of `counts` members that lie one after the other, without replacement.

    Strata come equally often for as long as each of them lasts, members of a stratum uniformly, in an order fixed by
    (split, seed). A smaller `n` gives a prefix of a larger one; all positions if `n` is None.

    Raises:
        TaskError: there are fewer than `n`.
    """
    check_int("seed", seed, 0, 2**63 - 1)
    total = int(counts.sum())
    n = total if n is None else check_int("n", n, 0, 2**63 - 1)
    if n > total:
        raise TaskError(f"the {split} split holds {total} problems, not {n}: ask for fewer or widen the ranges")
    positions, turns = [np.zeros(0, np.int64)], [np.zeros(0)]
    for stratum, (begin, count) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
        rng = np.random.default_rng([split_code(split), seed, stratum])
        members = begin + rng.permutation(count)[:n]
        positions.append(members)
        turns.append(np.arange(len(members)) + rng.random(count)[: len(members)])  # one of each stratum a turn
    return np.concatenate(positions)[np.argsort(np.concatenate(turns), kind="stable")[:n]]

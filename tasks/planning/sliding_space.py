"""Which goals of the sliding puzzle belong to which split, and exact distances for ranges and labels.

Distances are invariant under renaming tiles, so one breadth-first search for each square of the goal's blank serves all
goals: rename the tiles so that the goal reads 1, 2, 3, ... in order and look the renamed start up. The tables live in
this module's caches; no `Problem` and no `Task` refers to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import factorial

import numpy as np

from tasks.planning.sliding_kernels import UNREACHABLE, distances_to, rank, unrank_many
from tasks.splits import GoalSplits, deal_goals

Board = tuple[int, ...]


@lru_cache(maxsize=4)
def split_goals(rows: int, cols: int, train_fraction: float, dev_fraction: float) -> GoalSplits:
    """Deal all N! goals to the splits by keyed hash."""
    squares = rows * cols
    boards = unrank_many(np.arange(factorial(squares)), squares).astype(np.uint8)
    return deal_goals(_identities(rows, cols, boards), train_fraction, dev_fraction)


@lru_cache(maxsize=32)
def distance_table(rows: int, cols: int, blank: int) -> np.ndarray:
    """uint8 [N!] by rank: moves to the goal 1 2 3 ... in order with its blank on square `blank`; UNREACHABLE = 255."""
    goal = np.insert(np.arange(1, rows * cols), blank, 0)
    table = distances_to(goal, rows, cols)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=32)
def starts_within(rows: int, cols: int, blank: int, distance_min: int, distance_max: int) -> np.ndarray:
    """int64 [starts]: ranks of the boards whose distance to that goal is in range (bounds included)."""
    table = distance_table(rows, cols, blank)
    starts = np.flatnonzero((table >= distance_min) & (table <= min(distance_max, UNREACHABLE - 1)))
    starts.setflags(write=False)
    return starts


def distance(rows: int, cols: int, board: Board, goal: Board) -> int | None:
    """Least number of moves between two boards, None if there is no way."""
    names = {tile: name for name, tile in enumerate(sorted(goal, key=lambda tile: (tile != 0, goal.index(tile))))}
    renamed = np.array([names[tile] for tile in board])
    moves = int(distance_table(rows, cols, goal.index(0))[rank(renamed)])
    return None if moves == UNREACHABLE else moves


def start_board(start: np.ndarray, goal: Board) -> Board:
    """A board of `starts_within`, its tiles renamed for `goal`."""
    tiles = (0, *(tile for tile in goal if tile != 0))
    return tuple(tiles[name] for name in start.tolist())


def _identities(rows: int, cols: int, boards: np.ndarray) -> Iterator[bytes]:
    stem = f"sliding:{rows}x{cols}:".encode()
    for board in boards:
        yield stem + board.tobytes()

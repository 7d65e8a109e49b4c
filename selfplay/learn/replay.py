"""Replay: the rows of the last few iterations, sampled near the goal first.

A row that teaches a step is drawn in proportion to (its value target) ** `nearness`. Where targets are discounted by distance
this is a curriculum: steps next to the goal are seen often and learned first, and what leads to them follows. Without it the
sliding puzzle was not learned at all from the same rows (docs/LOG.md). Undiscounted targets are all 1 and make it uniform.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from selfplay.learn.learner import select, stack
from tasks.base import Rows


class Replay:
    """Rows that this rank's actor made in the last `window` iterations."""

    def __init__(self, window: int, nearness: float = 0.0):
        self._iterations: deque[Rows] = deque(maxlen=window)
        self._nearness = nearness
        self._all: Rows | None = None
        self._cumulative = np.zeros(0)

    def add(self, rows: Rows) -> None:
        """One iteration's rows; the oldest iteration leaves when the window is full. Empty iterations count."""
        self._iterations.append(rows)
        kept = [part for part in self._iterations if len(part)]
        self._all = stack(kept) if kept else None
        if self._all is not None:
            self._cumulative = np.cumsum(priorities(self._all, self._nearness))

    def __len__(self) -> int:
        return 0 if self._all is None else len(self._all)

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows with replacement, each in proportion to its priority."""
        assert self._all is not None, "an empty replay has no rows to sample"
        drawn = np.searchsorted(self._cumulative, rng.random(n) * self._cumulative[-1], side="right")
        return select(self._all, np.minimum(drawn, len(self._all) - 1))


def priorities(rows: Rows, nearness: float) -> np.ndarray:
    """float64 [B]: (first value target) ** nearness of rows that teach a step; the mean of those for the other rows."""
    teaches = (rows.weight != 0).any(1)
    known = ~np.isnan(rows.value)
    first = rows.value[np.arange(len(rows)), known.argmax(1)]
    target = np.where(known.any(1), first, 1.0).astype(np.float64)
    priority = np.where(teaches, target**nearness, 1.0)
    if teaches.any():
        priority[~teaches] = priority[teaches].mean()
    return priority

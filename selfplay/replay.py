"""Replay: the rows of the last few iterations, sampled uniformly."""

from __future__ import annotations

from collections import deque

import numpy as np

from selfplay.learner import select, stack
from tasks.base import Rows


class Replay:
    """Rows that this rank's actor made in the last `window` iterations."""

    def __init__(self, window: int):
        self._iterations: deque[Rows] = deque(maxlen=window)
        self._all: Rows | None = None

    def add(self, rows: Rows) -> None:
        """One iteration's rows; the oldest iteration leaves when the window is full. Empty iterations count."""
        self._iterations.append(rows)
        kept = [part for part in self._iterations if len(part)]
        self._all = stack(kept) if kept else None

    def __len__(self) -> int:
        return 0 if self._all is None else len(self._all)

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows, uniform with replacement."""
        assert self._all is not None, "an empty replay has no rows to sample"
        return select(self._all, rng.integers(0, len(self._all), n))

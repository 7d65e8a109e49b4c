"""Items of reasoning-gym, the same wherever they are made: in a task, in a judge worker, tomorrow.

The library draws an item from `Random(seed + index)`, so that seeds need a distance of more than the number of items. Some of
its datasets use Python's and numpy's global generators as well, or change the precision of decimals for the whole thread:
those are fixed here for each item and put back after it.
"""

from __future__ import annotations

import decimal
import io
import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from tasks.base import TaskError

GENERATES = (AssertionError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Items:
    """Items 0 to `size` - 1 of a dataset, as the library makes them: dicts with question, answer and metadata.

    `config`: the dataset's own options, without seed and size.

    Raises:
        TaskError: no such dataset, the library is missing, or it refuses the options.
    """

    def __init__(self, dataset: str, config: Mapping[str, object], seed: int, size: int):
        registered = registry()
        if dataset not in registered:
            raise TaskError(f"reasoning-gym has no dataset {dataset!r}: python -m tasks.gym.audit lists all")
        made, options = registered[dataset]
        self.dataset, self._seed, self._size = dataset, seed, size
        self._decimals = decimal.Context()
        try:
            with self._fixed(seed):
                self._made = made(options(**config, seed=seed, size=size))
        except GENERATES as error:
            raise TaskError(f"dataset {dataset} refuses its config: {_told(error)}; mend task.config") from None

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item.

        Raises:
            TaskError: the library cannot make it, e.g. since the config leaves too little room.
        """
        try:
            with self._fixed(self._seed + index):
                return self._made[index]
        except GENERATES as error:
            raise TaskError(
                f"dataset {self.dataset} cannot make item {index}: {_told(error)}; mend task.config"
            ) from None

    def official(self, answer: str, item: dict[str, Any]) -> float:
        """The library's own reward. For judge workers alone: some of its scorers run the answer as code."""
        return float(self._made.score_answer(answer, item))

    @contextmanager
    def _fixed(self, seed: int) -> Generator[None]:
        decimals, python, arrays = decimal.getcontext(), random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        decimal.setcontext(self._decimals)
        try:
            with redirect_stdout(io.StringIO()):  # some print as they go
                yield
        finally:
            decimal.setcontext(decimals)
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


def registry() -> Mapping[str, tuple[Any, Any]]:
    """Dataset -> (its class, the class of its config).

    Raises:
        TaskError: the library is not installed.
    """
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise TaskError("task gym needs reasoning-gym: pip install reverse-o1[gym]") from None
    return DATASETS


def _told(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:120]}".strip()

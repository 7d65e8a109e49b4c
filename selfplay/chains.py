"""Chains of steps as training rows: tokens, policy weights and value targets in the layout of `tasks.base.Rows`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.base import BOS_ID, PAD_ID, Problem, Rows, Task


class RowBuilder:
    """Collects rows of different lengths and pads them once."""

    def __init__(self, task: Task):
        self._task = task
        self._width = task.max_context_tokens + task.max_step_tokens
        self._tokens: list[list[int]] = []
        self._weight: list[list[float]] = []
        self._value: list[list[float]] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def chain(
        self,
        problem: Problem,
        steps: Sequence[str],
        weights: Sequence[float],
        values: Sequence[float],
        ended: float = np.nan,
    ) -> None:
        """Rows of one chain from the problem's start.

        `weights` [S]: policy weight of each step. `values` [S]: value target of the state *before* each step, NaN for none.
        `ended`: value target of the finished chain.
        A task with history gives one row; a Markov task, whose context shows the present state only, one row a step.
        """
        task, row = self._task, _Row(self._task.context(problem, ()))
        for k, (step, weight, value) in enumerate(zip(steps, weights, values, strict=True)):
            context = task.context(problem, steps[:k])
            if context != row.text:
                self._close(row)
                row = _Row(context)
            row.add(step, weight, value, task)
        row.value[-1:] = [ended]
        self._close(row)

    def ended(self, problem: Problem, steps: Sequence[str], value: float) -> None:
        """A row without policy weight that ends in a finished chain and teaches its value."""
        row = _Row(self._task.context(problem, steps[:-1]))
        row.add(steps[-1], 0.0, np.nan, self._task)
        row.value[-1] = value
        self._close(row)

    def state(self, problem: Problem, steps: Sequence[str], value: float) -> None:
        """A row without policy weight that ends in the state after `steps` and teaches its value."""
        row = _Row(self._task.context(problem, steps))
        row.add("", 0.0, value, self._task)
        self._close(row)

    def step(self, problem: Problem, steps: Sequence[str], step: str, weight: float, value: float) -> None:
        """A row that teaches one step after `steps`, and the value of the state before it; earlier steps weigh 0."""
        row = _Row(self._task.context(problem, steps))
        row.add(step, weight, value, self._task)
        self._close(row)

    def rows(self) -> Rows:
        """Everything collected, int32/float32 [B, L] with L the task's longest row."""
        shape = (len(self), self._width)
        tokens = np.full(shape, PAD_ID, np.int32)
        weight = np.zeros(shape, np.float32)
        value = np.full(shape, np.nan, np.float32)
        for k, ids in enumerate(self._tokens):
            tokens[k, : len(ids)], weight[k, : len(ids)], value[k, : len(ids)] = ids, self._weight[k], self._value[k]
        return Rows(tokens, weight, value)

    def _close(self, row: _Row) -> None:
        if row.tokens:
            self._tokens.append(row.tokens)
            self._weight.append(row.weight)
            self._value.append(row.value)


class _Row:
    """One context and the steps that extend it."""

    def __init__(self, context: str):
        self.text = context
        self._opening = context
        self.tokens: list[int] = []
        self.weight: list[float] = []
        self.value: list[float] = []

    def add(self, step: str, weight: float, value: float, task: Task) -> None:
        if not self.tokens:
            self.tokens = [BOS_ID, *task.encode(self._opening)]
            self.weight = [0.0] * len(self.tokens)
            self.value = [np.nan] * len(self.tokens)
        self.value[-1] = value
        ids = task.encode(step)
        self.tokens += ids
        self.weight += [weight] * len(ids)
        self.value += [np.nan] * len(ids)
        self.text += step

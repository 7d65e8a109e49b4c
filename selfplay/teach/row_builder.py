"""Chains of steps as training rows, in the tokens that the policy sampled: tokens, policy weights and value targets.

A row is what the policy read and wrote: the context as its codec opens it, then each step's own tokens. Steps that nobody
sampled (chains that came with the data, or those of a policy whose tokens the learner does not share) are written in the tokens
that the learner would read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.abilities import Step
from models.steps.codec import Codec
from tasks.base import PAD_ID, Problem, Rows, Task


class RowBuilder:
    """Collects rows of different lengths and pads them once."""

    def __init__(self, task: Task, codec: Codec, *, own: bool = True):
        """`codec`: of who learns from the rows. `own`: steps come with tokens of this codec; False: their text is encoded."""
        self._task, self._codec, self._own = task, codec, own
        self._never = frozenset(codec.masked)
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def chain(
        self,
        problem: Problem,
        steps: Sequence[Step],
        weights: Sequence[float],
        values: Sequence[float],
        ended: float = np.nan,
    ) -> None:
        """Rows of one chain from the problem's start.

        `weights` [S]: policy weight of each step. `values` [S]: value target of the state *before* each step, NaN for none.
        `ended`: value target of the finished chain.
        A task with history gives one row; a Markov task, whose context shows the present state only, one row a step.
        """
        texts = [step.text for step in steps]
        row = self._opened(self._task.context(problem, ()))
        for k, (step, weight, value) in enumerate(zip(steps, weights, values, strict=True)):
            context = self._task.context(problem, texts[:k])
            if context != row.text:
                self._close(row)
                row = self._opened(context)
            row.value[-1] = value
            self._add(row, step, weight)
        row.value[-1] = ended
        self._close(row)

    def ended(self, problem: Problem, steps: Sequence[Step], value: float) -> None:
        """A row without policy weight that ends in a finished chain and teaches its value."""
        row = self._after(problem, steps[:-1])
        self._add(row, steps[-1], 0.0)
        row.value[-1] = value
        self._close(row)

    def state(self, problem: Problem, steps: Sequence[Step], value: float) -> None:
        """A row without policy weight that ends in the state after `steps` and teaches its value."""
        row = self._after(problem, steps)
        row.value[-1] = value
        self._close(row)

    def step(self, problem: Problem, steps: Sequence[Step], step: Step, weight: float, value: float) -> None:
        """A row that teaches one step after `steps`, and the value of the state before it; earlier steps weigh 0."""
        row = self._after(problem, steps)
        row.value[-1] = value
        self._add(row, step, weight)
        self._close(row)

    def written(self, tokens: Sequence[int], weights: Sequence[float]) -> None:
        """A row as it stands, in the learner's tokens, without values; none where nothing of it is taught."""
        if any(weights):
            row = _Row("", tokens)
            row.weight, row.value = list(weights), [np.nan] * len(tokens)
            self._rows.append(row)

    def rows(self) -> Rows:
        """Everything collected, int32/float32 [B, L] with L the longest row."""
        shape = (len(self._rows), max((len(row.tokens) for row in self._rows), default=1))
        tokens = np.full(shape, PAD_ID, np.int32)
        weight = np.zeros(shape, np.float32)
        value = np.full(shape, np.nan, np.float32)
        for k, row in enumerate(self._rows):
            n = len(row.tokens)
            tokens[k, :n], weight[k, :n], value[k, :n] = row.tokens, row.weight, row.value
        return Rows(tokens, weight, value)

    def _after(self, problem: Problem, steps: Sequence[Step]) -> _Row:
        """A row that ends in the state after `steps`, nothing of it taught."""
        texts = [step.text for step in steps]
        opening, context = self._task.context(problem, ()), self._task.context(problem, texts)
        if context != opening + "".join(texts):
            return self._opened(context)
        row = self._opened(opening)
        for step in steps:
            self._add(row, step, 0.0)
        return row

    def _opened(self, context: str) -> _Row:
        return _Row(context, self._codec.context(context))

    def _add(self, row: _Row, step: Step, weight: float) -> None:
        """Text of another policy may hold what the learner never writes, e.g. a word that it does not have: that weighs 0."""
        sampled = step.tokens if self._own else None
        tokens = self._codec.tokens(step.text) if sampled is None else sampled
        row.add(step.text, tokens, [0.0 if token in self._never else weight for token in tokens])

    def _close(self, row: _Row) -> None:
        if len(row.tokens) > row.opening or not np.isnan(row.value[-1]):
            self._rows.append(row)


class _Row:
    """One context and the steps that extend it."""

    def __init__(self, context: str, tokens: Sequence[int]):
        self.text, self.tokens, self.opening = context, list(tokens), len(tokens)
        self.weight = [0.0] * len(self.tokens)
        self.value = [np.nan] * len(self.tokens)

    def add(self, text: str, tokens: Sequence[int], weights: Sequence[float]) -> None:
        self.text += text
        self.tokens += tokens
        self.weight += weights
        self.value += [np.nan] * len(tokens)

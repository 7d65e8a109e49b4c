"""Rows that need no model: random legal play, taught as it came, by hindsight, or for its value alone."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from tasks.base import BOS_ID, PAD_ID, Rows, Split, Task, TaskError


class FreePlay(Task):
    """A task whose legal moves can be played at random, so that there are rows to learn from before any search."""

    @abstractmethod
    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """`n` rows of uniform random *legal* play on problems of a split: format and arithmetic, no target-seeking.

        Policy weight 1 on step tokens; with `rules_only`, 0 on what the player chooses freely, so that a row teaches what
        follows from a choice (results, new states) and leaves choice and value to better teachers. Values otherwise: what
        random play itself went on to earn on the problem, where the task measures that; else NaN.
        """

    @abstractmethod
    def hindsight(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows of random legal play relabelled with what it reached, only identities that belong to `split`."""

    @abstractmethod
    def value_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows of random legal play towards real targets of a split, policy weight 0, with a Monte-Carlo value
        target after each step (a hit in several random plays from there; no solver)."""

    def ended_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows of finished chains, half of them right, policy weight 0, value 1 or 0 after the last token: for a value that
        is to read an answer which nobody judges.

        Raises:
            TaskError: a task that makes none.
        """
        raise TaskError(f"task {self.name} makes no finished chains to tell apart: set learner.ended_share=0")

    def check_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """`n` rows of streams that end with what is said of a step: legal play, in which a result may be false.

        A check stands in the place of what follows from the step's choice; a verdict stands behind a false step or a finished
        chain, or behind any step where a context shows the present state alone. Policy weight on these, and on what is right of
        the steps before. No values.

        Raises:
            TaskError: a task that makes none, or one without stream words.
        """
        raise TaskError(f"task {self.name} has no checks to write: use learner.fill=random, hindsight or rules")

    def examples(self, n: int, seed: int = 0) -> list[str]:
        rows = self.hindsight("train", n, np.random.default_rng(seed))
        return [self.decode([token for token in row if token not in (PAD_ID, BOS_ID)]) for row in rows.tokens.tolist()]


def free_play(task: Task) -> FreePlay:
    """The task, as one that makes free rows.

    Raises:
        TaskError: it makes none.
    """
    if not isinstance(task, FreePlay):
        raise TaskError(
            f"task {task.name} makes no free rows: begin with selfplay.phases of teacher given, star or search, and set"
            " learner.fill=given"
        )
    return task

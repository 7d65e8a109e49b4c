"""The guessing control: what is solved without a model. Every table of results prints it beside the model.

Where questions have answers, the commonest answers of the train split (one for pass@1, N for pass@N), where a chain's end is
judged its commonest ends; where every step is judged, uniform random legal play, N times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from tasks.base import Problem, Scorer
from tasks.judging.answer_line import answer_line
from tasks.oracle import Oracle


class Guesser(Protocol):
    """Answers without looking at a model."""

    def guesses(self, problem: Problem, n: int) -> list[list[str]]:
        """Up to `n` chains for a problem, the best guess first; the first ones of a larger `n`."""
        ...


class CommonestAnswers:
    """The same answers for every problem, in order of how often they are right on train."""

    def __init__(self, answers: Iterable[str]):
        self._ranked = [answer for answer, _ in Counter(answers).most_common()]

    def guesses(self, problem: Problem, n: int) -> list[list[str]]:
        return [[answer_line(answer)] for answer in self._ranked[:n]]


class CommonestEnds:
    """The same ends for every problem, most common first, for tasks that judge the end of a chain alone.

    `ending`: a legal chain of a problem that comes to an end.
    """

    def __init__(self, ending: Callable[[Problem, int], list[str]], ranked: Sequence[int]):
        self._ending, self._ranked = ending, ranked

    def guesses(self, problem: Problem, n: int) -> list[list[str]]:
        return [self._ending(problem, end) for end in self._ranked[:n]]


class RandomPlay:
    """Uniform random legal steps, to the end of the chain; for tasks that can list their legal steps."""

    def __init__(self, task: Oracle, seed: int = 0):
        self._task, self._seed = task, seed

    def guesses(self, problem: Problem, n: int) -> list[list[str]]:
        return [self._play(problem, np.random.default_rng([self._seed, k, *problem.id.encode()])) for k in range(n)]

    def _play(self, problem: Problem, rng: np.random.Generator) -> list[str]:
        task, state, steps = self._task, self._task.initial_state(problem), []
        while state is not None and len(steps) < task.max_steps:
            legal = task.legal_steps(problem, state)
            if not legal:
                break
            steps.append(legal[rng.integers(len(legal))])
            _, state = task.advance(problem, state, steps[-1])
        return steps


def guessed(guesser: Guesser, scorer: Scorer, problems: Sequence[Problem], n: int) -> np.ndarray:
    """bool [P, n]: which of the first k + 1 guesses hold a right one; column 0 is pass@1, the last one pass@n."""
    tries = [guesser.guesses(problem, n) for problem in problems]
    asked = [problem for problem, chains in zip(problems, tries, strict=True) for _ in chains]
    verdicts = iter(scorer.score(asked, [chain for chains in tries for chain in chains]))
    hits = np.zeros((len(problems), n), bool)
    for row, chains in zip(hits, tries, strict=True):
        for k in range(len(chains)):
            row[k] = next(verdicts).reward >= 1
    return np.logical_or.accumulate(hits, axis=1)

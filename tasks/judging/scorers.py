"""Scorers: what a finished chain is worth. The only place where gold answers meet what a model wrote."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from tasks.base import AnswerKey, Problem, Task, TaskError, Verdict
from tasks.judging.answer_line import answer_of
from tasks.judging.equal import is_plain
from tasks.judging.grading import MATH, grade
from tasks.sandbox.pool import JudgePool


class Replay:
    """For self-verifying tasks: the task's own verdict."""

    def __init__(self, task: Task):
        self._task = task

    def score(self, problems: Sequence[Problem], chains: Sequence[Sequence[str]]) -> list[Verdict]:
        return [self._task.verdict(problem, steps) for problem, steps in zip(problems, chains, strict=True)]


class GoldScorer:
    """For tasks with gold answers: legal chains whose answer line equals the key's entry, by `grading.grade`.

    `pool`: of the scorers `grading.MATH`; made at the first question for it, if none is given.

    Raises:
        TaskError: some gold answers are formulas, and math-verify is not installed.
    """

    def __init__(self, task: Task, key: AnswerKey, pool: JudgePool | None = None):
        formula = next((gold for gold in key.answers.values() if not is_plain(gold)), None)
        if formula is not None and pool is None and find_spec("math_verify") is None:
            raise TaskError(
                f"answers such as {formula[:40]!a} need math-verify: pip install -c constraints.txt -e '.[math]'"
            )
        self._task, self._key, self._pool = task, key, pool or JudgePool(MATH)

    def score(self, problems: Sequence[Problem], chains: Sequence[Sequence[str]]) -> list[Verdict]:
        """See `Scorer.score`.

        Raises:
            KeyError: a problem that the key does not know.
        """
        verdicts = [self._task.verdict(problem, steps) for problem, steps in zip(problems, chains, strict=True)]
        asked = [i for i, verdict in enumerate(verdicts) if not verdict.scored]
        cases = [
            (self._key.answers[problems[i].id], answer_of(chains[i]) or "", self._task.prompt(problems[i]))
            for i in asked
        ]
        grades = grade(cases, self._pool)
        for i, found in zip(asked, grades, strict=True):
            if found.right is None:
                verdicts[i] = Verdict(0.0, True, True, found.reason, scored=False)
            else:
                verdicts[i] = Verdict(float(found.right), True, True, found.reason)
        return verdicts

    def close(self) -> None:
        """End the judge pool."""
        self._pool.close()

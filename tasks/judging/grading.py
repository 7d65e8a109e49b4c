"""Grade texts against gold answers: `equal.decide` first, and what it cannot tell goes to math-verify in a judge pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.judging.equal import decide
from tasks.sandbox.pool import Job, JudgePool

MATH = {"equal": "tasks.judging.math_verify:equal"}


@dataclass(frozen=True, slots=True)
class Grade:
    """`right`: True, False, or None where the judge ran out of time, raised or died, which is neither."""

    right: bool | None
    reason: str


def grade(asked: Sequence[tuple[str, str, str]], pool: JudgePool) -> list[Grade]:
    """A grade for each (gold, text, question); an empty question is one that nobody knows.

    `pool` has the scorers of `MATH`; it is asked all at once.
    """
    decisions = [decide(gold, text, question) for gold, text, question in asked]
    asks = [(i, ask) for i, decision in enumerate(decisions) for ask in decision.asks]
    outcomes = pool.judge([Job("equal", {"gold": gold, "answer": answer}) for _, (gold, answer) in asks])
    grades = [Grade(decision.kind != "wrong", decision.reason) for decision in decisions]
    for (i, _), outcome in zip(asks, outcomes, strict=True):
        if outcome.status != "ok" and grades[i].right:
            grades[i] = Grade(None, f"the judge: {outcome.status}, {outcome.detail}")
        elif outcome.status == "ok" and outcome.value is not True:
            grades[i] = Grade(False, "not equal")
    return grades

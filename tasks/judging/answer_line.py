"""The line that ends a chain of free reasoning: how an answer is written and read."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from tasks.base import NEWLINE

ANSWER = "answer:"


def answer_of(steps: Sequence[str]) -> str | None:
    """What a chain's last step answers; None if it is no answer line."""
    line = steps[-1].strip() if steps else ""
    return line[len(ANSWER) :].strip() if line.lower().startswith(ANSWER) else None


def answer_line(answer: str) -> str:
    """The step that gives an answer."""
    return f"{ANSWER} {answer}{NEWLINE}"


def letter(position: int) -> str:
    """Name of a choice."""
    return ascii_uppercase[position]

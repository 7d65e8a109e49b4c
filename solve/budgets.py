"""Named budgets, and a stop that a person may ask for."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from solve.types import Interrupted, SolveError
from tasks.base import Task

EFFORTS = {  # of one problem: chains of the longest kind that its tokens pay for, and seconds
    "low": (8, 10.0),
    "medium": (64, 60.0),
    "high": (512, 600.0),
}
UNLIMITED = 10**9  # of tokens, simulations or seconds: no search gets there


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a call; the first one reached stops it."""

    tokens: int  # generated, a problem
    simulations: int | None = None  # a problem
    seconds: float | None = None  # in all
    size: int | None = None  # tokens a problem for what is sized or shared where `tokens` is no limit; None: `tokens`


def budget_of(
    task: Task,
    effort: str,
    *,
    tokens: int | None = None,
    simulations: int | None = None,
    seconds: float | None = None,
) -> Budget:
    """The limits of an effort, or those that are given in its place.

    Raises:
        SolveError: no such effort, or a limit that buys nothing or cannot be counted.
    """
    if effort not in EFFORTS:
        raise SolveError(f"unknown effort {effort!r}: use one of {', '.join(EFFORTS)}")
    given = {"tokens": tokens, "simulations": simulations, "seconds": seconds}
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float if name == "seconds" else int):
            raise SolveError(f"budget.{name}={value!r}: give {'a number' if name == 'seconds' else 'a whole number'}")
        if not value > 0:
            raise SolveError(f"budget.{name}={value} buys nothing: give more than 0, or null for no limit")
        if value > UNLIMITED:
            raise SolveError(f"budget.{name}={value} is more than can be counted: give null for no limit")
    chains, most_seconds = EFFORTS[effort]
    longest = task.max_steps * task.max_step_tokens
    size = chains * longest
    if tokens is not None and tokens < task.max_step_tokens:
        raise SolveError(
            f"budget.tokens={tokens} does not pay for one step of task {task.name}: give {longest} or more"
        )
    if not any(given.values()):
        return Budget(size, None, most_seconds, size)
    return Budget(tokens or UNLIMITED, simulations, seconds, tokens or size)


@contextmanager
def interruptible() -> Generator[Interrupted]:
    """Within it the first Ctrl-C only sets what is yielded; the second one is raised as ever."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)

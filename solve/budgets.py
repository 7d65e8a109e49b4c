"""Efforts and other budgets, what an answer has cost, and a stop that a person may ask for."""

from __future__ import annotations

import math
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType

import numpy as np

from solve.types import Interrupted, SolveError
from tasks.base import Task

# greedy chains that the tokens of one problem pay for; None: the request's own limit
EFFORTS: Mapping[str, int | None] = {
    "none": 1, "minimal": 2, "low": 8, "medium": 64, "high": 512, "xhigh": 2048, "max": None,
}  # fmt: skip
UNLIMITED = 10**9  # of tokens, simulations or seconds: no search gets there


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Limits of a call; the first one reached stops it."""

    tokens: int | np.ndarray  # generated, a problem; int64 [P] where each has a limit of its own
    simulations: int | None = None  # a problem
    seconds: float | None = None  # in all
    size: int | None = None  # tokens a problem for what is sized or shared where `tokens` is no limit; None: `tokens`


def chains_of(effort: str) -> int | None:
    """Greedy chains that an effort pays for; None: it has no limit of its own.

    Raises:
        SolveError: no such effort.
    """
    if effort not in EFFORTS:
        raise SolveError(f"unknown effort {effort!r}: use one of {', '.join(EFFORTS)}")
    return EFFORTS[effort]


def budget_of(
    task: Task,
    effort: str,
    *,
    greedy_tokens: float | None,
    tokens: int | None = None,
    simulations: int | None = None,
    seconds: float | None = None,
) -> TokenBudget | None:
    """The limits that are given, or else those of an effort; None: they wait for the problems' own greedy chains.

    `greedy_tokens`: of a greedy chain on dev, on average; None: never measured. Seconds alone limit no tokens.

    Raises:
        SolveError: no such effort, or a limit that buys nothing or cannot be counted.
    """
    chains = chains_of(effort)
    limits = {"tokens": tokens, "simulations": simulations, "seconds": seconds}
    for name, value in limits.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float if name == "seconds" else int):
            raise SolveError(f"budget.{name}={value!r}: give {'a number' if name == 'seconds' else 'a whole number'}")
        if not value > 0:
            raise SolveError(f"budget.{name}={value} buys nothing: give more than 0, or null for no limit")
        if value > UNLIMITED:
            raise SolveError(f"budget.{name}={value} is more than can be counted: give null for no limit")
    longest = task.max_steps * task.max_step_tokens
    if tokens is not None and tokens < task.max_step_tokens:
        raise SolveError(
            f"budget.tokens={tokens} does not pay for one step of task {task.name}: give {task.max_step_tokens} or more"
        )
    if any(limits.values()):
        each = longest if greedy_tokens is None else greedy_tokens
        size = math.ceil((chains or EFFORTS["high"] or 0) * each)
        return TokenBudget(tokens or UNLIMITED, simulations, seconds, tokens or size)
    if chains is None:
        raise SolveError(
            f"effort={effort} has no limit of its own: give budget.tokens, budget.simulations or budget.seconds"
        )
    if greedy_tokens is None:
        return None
    limit = math.ceil(chains * greedy_tokens)
    return TokenBudget(limit, size=limit)


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer has cost: of one problem; of a batch, the mean of what its problems shared."""

    simulations: int
    generated_tokens: int
    prefilled_tokens: float
    seconds: float  # wall clock
    flops: float | None  # None: nobody says how large the model is

    def to_dict(self) -> dict[str, float | None]:
        """Plain numbers."""
        return asdict(self)


@contextmanager
def interruptible() -> Generator[Interrupted]:
    """Within it the first Ctrl-C only sets what is yielded; the second one is raised as ever."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(signals)
    finally:
        signal.signal(signal.SIGINT, before)

"""The shipped Countdown net, loaded once, and searches of its dev problems."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from models.policy import SHIPPED
from solve.search.wall import wall
from solve.solver import Solver
from solve.strategies import way
from solve.types import Search, Verify, Workbench
from tasks.base import Problem
from tasks.numbers.countdown import Countdown

FOLDER = SHIPPED / "countdown3"


@cache
def solver(trust_value: bool = False) -> Solver:
    """A solver of the shipped net, the same at each call: change nothing of it."""
    return Solver(str(FOLDER), trust_value=trust_value)


def recalibrated(fresh: Solver, **changes: Any) -> Solver:
    """`fresh`, which is nobody else's, with other facts in its calibration."""
    fresh.shelved = replace(fresh.shelved, calibration=replace(fresh.shelved.calibration, **changes))
    return fresh


def task() -> Countdown:
    """What the net was trained on."""
    return solver().shelved.task


def problems(count: int) -> list[Problem]:
    return task().problems("dev", count)


def bench(verify: Verify = "task", trust_value: bool = False, **settings: Any) -> Workbench:
    return Workbench(solver().shelved.policy, wall(task(), verify), verify, trust_value, **settings)


def started(strategy: str, asked: list[Problem], limit: int, at: Workbench) -> Search:
    """A search that has spent nothing yet."""
    return way(strategy, task()).search.start(at, asked, limit)


def searched(strategy: str, asked: list[Problem], limit: int, at: Workbench) -> Search:
    """A search that has spent its limit on each problem, or has come to its end."""
    search = started(strategy, asked, limit, at)
    search.advance(np.full(len(asked), limit))
    return search

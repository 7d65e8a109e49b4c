"""What a calibration stands on: one policy, dev problems of its task, and who may say what was right."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.files.calibration import ChainFit
from models.policy import Policy
from solve.search.wall import wall
from solve.types import Verify, Workbench
from tasks.base import Problem, Scorer, Task


@dataclass(frozen=True)
class Ground:
    """One policy on its problems. P problems."""

    policy: Policy
    task: Task
    scorer: Scorer  # asked when a search has ended
    problems: Sequence[Problem]
    chain_tokens: int  # of a greedy chain, mean over the problems, rounded up so that two of them fit into two
    limit: int  # tokens a problem
    trust_value: bool
    chain_fit: ChainFit | None = None
    seed: int = 0
    part: int = 100  # problems searched at once
    until: float | None = None  # on the monotonic clock: no part starts after it, the first one apart; None: all do

    def bench(self, verify: Verify, **changes: Any) -> Workbench:
        """What a search works with, `changes` apart."""
        task = wall(self.task, verify)
        usual = Workbench(self.policy, task, verify, self.trust_value, self.seed, self.chain_fit)
        return replace(usual, **changes)

    def parts(self) -> Iterator[tuple[int, Sequence[Problem]]]:
        """The problems in parts that are searched at once, each with the number of its first one."""
        for start in range(0, len(self.problems), self.part):
            if start and self.until is not None and time.monotonic() >= self.until:
                return
            yield start, self.problems[start : start + self.part]


def greedy_tokens(
    policy: Policy, task: Task, problems: Sequence[Problem], until: float | None = None, part: int = 100
) -> tuple[float, int]:
    """(tokens of a greedy chain, mean over the problems; how many were decoded): the unit of efforts and of budgets.

    `until`, `part`: as in `Ground`.
    """
    blind, tokens = wall(task, "task" if task.self_verifying else "none"), []
    for start in range(0, len(problems), part):
        if start and until is not None and time.monotonic() >= until:
            break
        greedy = policy.chains(blind, problems[start : start + part], temperature=0.0)
        tokens += [chains[0].tokens for chains in greedy]
    return float(np.mean(tokens)), len(tokens)

"""Independent chains: greedy decoding, and sampling again and again.

Every token of every chain is paid, as by a sampler that knows of no tree. A round draws as many chains as the limit still
pays for at the mean price of those before, so that little is drawn past a limit; as a power of two, so that problems
come together. Which chain is a problem's k-th depends on neither rounds nor limits, and nothing on other problems.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.abilities import Rollout
from solve.types import COLDEST, NEVER, Chain, Workbench
from tasks.base import Problem

LARGEST_ROUND = 16  # chains of one problem drawn at once


@dataclass(frozen=True, slots=True)
class Samples:
    """Chains at `temperature` (0: the greedy chain alone, once). `no_reentry`: a step into a state of its chain is redrawn."""

    temperature: float = 1.0
    no_reentry: bool = False
    sized: bool = False

    def __post_init__(self) -> None:
        if self.temperature != 0 and not COLDEST <= self.temperature < math.inf:
            raise ValueError(f"a temperature is 0 for greedy decoding, or {COLDEST} or more")

    def start(self, bench: Workbench, problems: Sequence[Problem], limit: int | None = None) -> SampleSearch:
        return SampleSearch(self, bench, problems)


class SampleSearch:
    """See `solve.types.Search`."""

    def __init__(self, settings: Samples, bench: Workbench, problems: Sequence[Problem]):
        self._settings, self._bench = settings, bench
        self._problems: list[Problem] = []
        self.tokens = self.simulations = self.solved_at = np.empty(0, np.int64)
        self.exhausted = np.empty(0, np.bool_)
        self.prefilled_tokens = 0
        self._found: list[list[tuple[int, Rollout]]] = []  # (tokens paid when it ended, chain)
        self.join(problems)

    def join(self, problems: Sequence[Problem]) -> None:
        """See `solve.types.Joinable`."""
        none = np.zeros(len(problems), np.int64)
        self._problems.extend(problems)
        self._found.extend([] for _ in problems)
        self.tokens, self.simulations = np.append(self.tokens, none), np.append(self.simulations, none)
        self.solved_at, self.exhausted = np.append(self.solved_at, none + NEVER), np.append(self.exhausted, none > 0)

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        start = time.monotonic()
        most = np.broadcast_to(NEVER if simulations is None else simulations, len(self.tokens))
        while not self._bench.interrupted() and (seconds is None or time.monotonic() - start < seconds):
            open_ = (self.tokens < limits) & (self.solved_at == NEVER) & ~self.exhausted & (self.simulations < most)
            active = np.flatnonzero(open_)
            if not len(active):
                return
            wanted = self._chains_wanted(active, limits, most)
            for chains in np.unique(wanted).tolist():
                self._draw(active[wanted == chains], chains)

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        return [
            self._chain(problem, paid, chain)
            for paid, chain in self._found[problem]
            if within is None or paid <= within
        ]

    def _chain(self, problem: int, paid: int, chain: Rollout) -> Chain:
        answer, reward = self._bench.outcome(self._problems[problem], chain.steps, chain.verdict)
        value = self._bench.chain_value(chain.values[-1], chain.last_logprob, chain.end_value)
        return Chain(chain.steps, answer, paid, votes=1.0, visits=1, value=value, reward=reward)

    def _chains_wanted(self, active: np.ndarray, limits: np.ndarray, most: np.ndarray) -> np.ndarray:
        """int64 [A]: powers of two."""
        if self._settings.temperature == 0:
            return np.ones(len(active), np.int64)
        paid, drawn = self.tokens[active], self.simulations[active]
        left = (limits[active] - paid) * drawn // np.maximum(paid, 1)
        return 1 << np.log2(np.clip(np.minimum(left, most[active] - drawn), 1, LARGEST_ROUND)).astype(np.int64)

    def _draw(self, active: np.ndarray, chains: int) -> None:
        bench = self._bench
        drawn = bench.policy.chains(
            bench.task,
            [self._problems[i] for i in active],
            chains,
            temperature=self._settings.temperature,
            seed=bench.seed,
            first=self.simulations[active].tolist(),
            no_reentry=self._settings.no_reentry,
            most=bench.most_tokens,
            on_prefill=self._prefilled,
        )
        for i, batch in zip(active.tolist(), drawn, strict=True):
            if not sum(chain.tokens for chain in batch):
                self.exhausted[i] = True  # the policy gave no step: neither will it for the same prompt
            for chain in batch:
                self.tokens[i] += chain.tokens
                self.simulations[i] += 1
                self._found[i].append((int(self.tokens[i]), chain))
                if bench.verify == "task" and chain.verdict.reward >= 1:
                    self.solved_at[i] = min(self.solved_at[i], self.tokens[i])
        if self._settings.temperature == 0:
            self.exhausted[active] = True

    def _prefilled(self, tokens: int) -> None:
        self.prefilled_tokens += tokens

"""A search whose budget is told in the problems' own greedy chains: these are drawn first, and paid.

For a policy that was never calibrated on its task. The greedy chain of a problem is its unit; its tokens count against the
problem's limit, and it is the answer where the judge accepts it, or where the search finds no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from solve.search.samples import Samples
from solve.types import NEVER, Chain, Joinable, Search, Strategy, Workbench
from tasks.base import Problem


class PrimedSearch:
    """See `solve.types.Search`. `inner`: the search that goes on after the greedy chains; `units` int64 [P]: their tokens."""

    def __init__(self, strategy: Strategy, bench: Workbench, problems: Sequence[Problem], chains: int):
        """`chains`: greedy chains that a problem's limit pays for, the one drawn here included."""
        self._greedy, self._chains = Samples(0.0).start(bench, problems), chains
        self._greedy.advance(np.full(len(problems), NEVER))
        self.units = self._greedy.tokens.copy()
        self.limits = np.maximum(chains * self.units, 1)
        size = int(np.ceil(self.limits.mean()))
        self.inner: Search = strategy.start(
            replace(bench, chain_tokens=int(np.ceil(self.units.mean()))), problems, size
        )

    def join(self, problems: Sequence[Problem]) -> None:
        """See `solve.types.Joinable`: their greedy chains are drawn at once. `inner` has to let them join."""
        self._greedy.join(problems)
        self._greedy.advance(np.full(len(self._greedy.tokens), NEVER))
        self.units = self._greedy.tokens.copy()
        self.limits = np.maximum(self._chains * self.units, 1)
        cast(Joinable, self.inner).join(problems)

    @property
    def tokens(self) -> np.ndarray:
        return self.units + self.inner.tokens

    @property
    def simulations(self) -> np.ndarray:
        return self._greedy.simulations + self.inner.simulations

    @property
    def solved_at(self) -> np.ndarray:
        later = self.inner.solved_at
        later = np.where(later == NEVER, NEVER, np.minimum(later, NEVER - self.units) + self.units)
        return np.minimum(self._greedy.solved_at, later)

    @property
    def prefilled_tokens(self) -> int:
        return self._greedy.prefilled_tokens + self.inner.prefilled_tokens

    @property
    def exhausted(self) -> np.ndarray:
        return self.inner.exhausted

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        """See `Search.advance`."""
        open_ = self._greedy.solved_at == NEVER
        left = np.where(open_, np.maximum(np.asarray(limits) - self.units, 0), 0)
        self.inner.advance(left, seconds, simulations)

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        """See `Search.chains`: what the search found; the greedy chain where it was accepted or is all there is."""
        unit = int(self.units[problem])
        first = self._greedy.chains(problem, within)
        if self._greedy.solved_at[problem] != NEVER:
            return first
        later = self.inner.chains(problem, None if within is None else within - unit)
        later = [replace(chain, tokens=chain.tokens + unit) for chain in later]
        return later if any(chain.answer is not None for chain in later) else first + later

"""One search that requests join and leave while it goes on: what the requests of a server have in common.

    lane = Lane(plan)
    ticket = lane.join(problem, budget, chains)
    while lane.going(ticket):
        lane.turn(over)        # a slice for every request, in common waves
    lane.solution(ticket)

A request gets the slices of its own budget that `Solver.solve` would hand out for it alone, whatever else goes on beside it and
however often a turn is cut short. So its chains are those of `solve`, bit for bit where the policy computes a state the same
beside others (`Abilities.alone`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np

from solve.allocation import SLICES
from solve.budgets import UNLIMITED, TokenBudget
from solve.plan import Plan, Solution
from solve.search.primed import PrimedSearch
from solve.types import NEVER, Chain, Search
from tasks.base import Problem

FULL = 1 << 13  # tokens after which a search takes in no more: its trie and its trees are forgotten when it is empty


class Lane:
    """Requests that differ in problem and limits alone. Call it from one thread at a time.

    Attributes:
        search: None until somebody has joined. Its store may be read between turns.
    """

    def __init__(self, plan: Plan):
        self._pause = _Pause()
        self.plan = replace(plan, bench=replace(plan.bench, interrupted=self._pause.asked))
        self.search: Search | None = None
        self._alone = False  # its search is made for one request
        self._problems: list[Problem] = []
        self._began: list[float] = []
        self._answers: dict[int, Solution] = {}  # of those that have come to an end
        self._limits = self._slices = self._targets = np.empty(0, np.int64)  # tokens
        self._most = np.empty(0, np.int64)  # simulations
        self._open = np.empty(0, np.bool_)

    @property
    def full(self) -> bool:
        """Whether nobody can join any more."""
        if self.search is None:
            return False
        return self._alone or int(self.search.tokens.sum()) + self.search.prefilled_tokens > FULL

    @property
    def empty(self) -> bool:
        """Whether everybody has left or come to an end."""
        return not self._open.any()

    def join(self, problem: Problem, budget: TokenBudget | None, chains: int | None = None) -> int:
        """Take a request in; returns its ticket. Limits as `plan.planned` gave them; `chains`: as in `Plan.start`.

        Raises:
            ValueError: the lane is full.
            TrieError: the prompt does not fit the model's positions. The others go on.
        """
        if self.full:
            raise ValueError("the lane is full: open another one")
        if self.search is None:
            self.search, own = self.plan.start([problem], budget, chains)
            self._alone = not self.plan.joinable(budget)
        else:
            self.search.join([problem])  # ty: ignore[missing-attribute]
            own = budget if budget is not None else TokenBudget(UNLIMITED)
        if budget is None and isinstance(self.search, PrimedSearch):
            own = TokenBudget(int((chains or 1) * self.search.units[-1]))
        limit = max(int(own.tokens), 1)
        self._problems.append(problem)
        self._began.append(time.monotonic())
        self._limits = np.append(self._limits, limit)
        self._slices = np.append(self._slices, max(1, limit // SLICES))
        self._most = np.append(self._most, UNLIMITED if own.simulations is None else own.simulations)
        self._targets = np.append(self._targets, 0)
        self._open = np.append(self._open, True)
        return len(self._problems) - 1

    def cap(self, ticket: int, tokens: int) -> None:
        """Spend so many generated tokens on a request at most; the expansion or chain under way is still paid."""
        self._limits[ticket] = max(1, min(self._limits[ticket], tokens))

    def limit(self, ticket: int) -> int:
        """Generated tokens that a request may spend."""
        return int(self._limits[ticket])

    def leave(self, ticket: int) -> None:
        """Spend nothing more on a request."""
        self._open[ticket] = False

    def going(self, ticket: int) -> bool:
        """Whether more tokens may change the request's answer."""
        return bool(self._open[ticket])

    def turn(self, over: Callable[[], bool] = lambda: False) -> int:
        """A slice for every request that goes on; ends early, between waves, once `over` says so. Returns tokens generated."""
        search = self.search
        if search is None or self.empty:
            return 0
        before = search.tokens.copy()
        due = self._open & (self._targets <= before)
        self._targets[due] = (before + np.minimum(self._slices, self._limits - before))[due]
        self._pause.begin(over)
        try:
            # without limits of requests a search that halves a number of simulations keeps its own
            most = None if (self._most == UNLIMITED).all() else self._most
            search.advance(np.where(self._open, self._targets, 0), None, most)
        finally:
            cut = self._pause.end()
        after, were_open = search.tokens, self._open.copy()
        ended = (
            (search.solved_at != NEVER)
            | search.exhausted
            | (after >= self._limits)
            | (search.simulations >= self._most)
        )
        self._open &= ~ended
        if not cut:  # who was given a whole slice and spent nothing has nothing to spend it on
            self._open &= after != before
        for ticket in np.flatnonzero(were_open & ~self._open).tolist():
            self._answers[ticket] = self._answer(ticket)  # why it ended is forgotten when the others go on
        return int((after - before).sum())

    def solution(self, ticket: int) -> Solution:
        """The answer to a request as it is now.

        Raises:
            ValueError: nobody has joined.
        """
        if self.search is None:
            raise ValueError("nobody has joined the lane")
        return self._answers.get(ticket) or self._answer(ticket)

    def chains(self, ticket: int) -> list[Chain]:
        """What the search has found for a request, in order of appearance."""
        return [] if self.search is None else self.search.chains(ticket)

    def _answer(self, ticket: int) -> Solution:
        seconds = time.monotonic() - self._began[ticket]
        return self.plan.solution(ticket, self._problems[ticket], cast(Search, self.search), seconds)


class _Pause:
    """Says when a turn is over. A search holds it and not the lane, which would keep its memory until cycles are looked for."""

    def __init__(self) -> None:
        self._over: Callable[[], bool] | None = None
        self._cut = False

    def begin(self, over: Callable[[], bool]) -> None:
        """A turn that ends once `over` says so."""
        self._over, self._cut = over, False

    def asked(self) -> bool:
        """Whether the search is to pause."""
        self._cut = self._cut or (self._over is not None and self._over())
        return self._cut

    def end(self) -> bool:
        """Whether the turn was cut short."""
        cut, self._over, self._cut = self._cut, None, False
        return cut

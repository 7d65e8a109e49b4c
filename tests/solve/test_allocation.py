"""How a shared budget is handed out: to searches that pay what they are given and are as sure as a script says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solve.allocation import DOUBT, SERVED, SHARES, SLICES, allocated
from solve.budgets import TokenBudget
from solve.types import NEVER, Chain, SolveError


class Paid:
    """P problems; each pays its limit to the token, until it is solved after `cost` tokens. `share`: of its leading answer."""

    prefilled_tokens = 0

    def __init__(self, shares: list[float], costs: list[int]):
        self.shares, self.costs = shares, np.array(costs)
        self.tokens = np.zeros(len(shares), np.int64)
        self.simulations = np.zeros(len(shares), np.int64)
        self.solved_at = np.full(len(shares), NEVER)
        self.exhausted = np.zeros(len(shares), bool)
        self.served: list[list[int]] = []

    def advance(self, limits, seconds=None, simulations=None):
        before = self.tokens.copy()
        self.tokens = np.minimum(np.maximum(self.tokens, limits), self.costs)
        self.solved_at = np.where(self.tokens >= self.costs, self.costs, NEVER)
        self.served.append(np.flatnonzero(self.tokens > before).tolist())

    def chains(self, problem, within=None):
        return [Chain((), "x", 0, votes=1.0, visits=1, value=self.shares[problem], reward=None)]


SEARCHES = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 400)), min_size=1, max_size=12)


@given(SEARCHES, st.sampled_from(SHARES), st.integers(16, 200))
def test_no_way_to_share_spends_more_than_there_is_and_none_stops_early(problems, share, tokens):
    search = Paid(*map(list, zip(*problems, strict=True)))
    allocated(search, share, TokenBudget(tokens), len(problems), "value")
    total = tokens * len(problems)
    assert search.tokens.sum() <= total + tokens // SLICES
    if share == "none":
        assert search.tokens.tolist() == np.minimum(search.costs, tokens).tolist()
    else:
        assert search.tokens.sum() >= min(total, search.costs.sum())


class Overspent(Paid):
    """Pays more than it is given, each problem its own amount, as a search does that finishes what is under way."""

    def advance(self, limits, seconds=None, simulations=None):
        more = (40 * np.array(self.shares)).astype(int)
        super().advance(limits + more * (np.asarray(limits) > self.tokens), seconds, simulations)


@given(SEARCHES, st.integers(16, 200))
def test_without_sharing_a_problem_gets_what_it_gets_alone(problems, tokens):
    def paid(some: list[tuple[float, int]]) -> list[int]:
        search = Overspent(*map(list, zip(*some, strict=True)))
        allocated(search, "none", TokenBudget(tokens), len(some), "value")
        return search.tokens.tolist()

    assert paid(problems) == [paid([one])[0] for one in problems]


def test_every_round_serves_the_quarter_whose_doubt_is_largest_for_what_was_spent():
    shares = [0.99, 0.2, 0.9, 0.5, 0.7, 0.1, 0.95, 0.6]
    search = Paid(shares, [10_000] * 8)
    allocated(search, "uncertain", TokenBudget(160), 8, "value")
    spent = np.zeros(8)
    assert search.served[0] == list(range(8))  # everybody gets a first slice
    for served in search.served:
        if spent.all():
            urgency = (1 - np.array(shares)) ** DOUBT / spent
            left = max(1, round((160 * 8 - spent.sum()) / 10))
            assert sorted(np.argsort(-urgency, kind="stable")[: min(round(SERVED * 8), left)].tolist()) == served
        spent[served] += 10
    assert spent.argmax() == 5
    assert spent[0] == 10


def test_what_is_uncertain_gets_more_than_a_uniform_share_and_what_is_sure_less():
    given_to = {}
    for share in ("uniform", "uncertain"):
        search = Paid([0.9] * 4 + [0.3] * 4, [10_000] * 8)
        allocated(search, share, TokenBudget(160), 8, "value")
        given_to[share] = search.tokens
    assert given_to["uniform"].tolist() == [160] * 8
    assert given_to["uncertain"][:4].max() < 160 < given_to["uncertain"][4:].min()


def test_an_unknown_way_to_share_is_refused():
    with pytest.raises(SolveError, match="use one of none, uniform, uncertain"):
        allocated(Paid([0.5], [10]), "fair", TokenBudget(16), 1, "value")

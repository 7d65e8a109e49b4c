"""One answer out of many chains: hand-made chains, and what must hold for all of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.files.calibration import ChainFit, ConfidenceFit
from solve.answers import CHOICES, NOTHING, chosen, sureness
from solve.types import Chain, Workbench
from tests.models.fakes import SumTask


def chain(
    answer: str | None, *, votes: float = 1.0, visits: int = 1, value: float = 0.5, reward: float | None = None
) -> Chain:
    return Chain((f"{answer}\n",), answer, tokens=0, votes=votes, visits=visits, value=value, reward=reward)


# "a" has most chains, "b" the best value, "c" most visits, "d" the largest sum of votes x value
MIXED = [
    chain("a", votes=0.30, visits=2, value=0.1),
    chain("b", votes=0.01, visits=1, value=0.9),
    chain("a", votes=0.30, visits=2, value=0.2),
    chain("c", votes=0.10, visits=9, value=0.3),
    chain("d", votes=0.25, visits=1, value=0.8),
    chain(None, votes=9.0, visits=99, value=1.0),
]


@pytest.mark.parametrize(
    ("choose", "answer", "share"),
    [
        ("votes", "a", 0.60 / 0.96),
        ("value", "b", 0.9),
        ("visits", "c", 9 / 15),
        ("product", "d", 0.2 / (0.09 + 0.009 + 0.03 + 0.2)),
    ],
)
def test_each_way_to_choose_takes_the_answer_of_its_own_highest_score(choose, answer, share):
    found = chosen(MIXED, choose)
    assert found.answer == answer
    assert found.share == pytest.approx(share)
    assert not found.judged


def test_the_chain_that_is_told_is_the_best_of_those_that_agree():
    assert chosen(MIXED, "votes").agreeing == 2
    assert chosen(MIXED, "value").chain == MIXED[1]
    better = chain("a", votes=0.4)
    assert chosen([*MIXED, better], "votes").chain == better


@pytest.mark.parametrize("choose", CHOICES)
def test_a_chain_that_a_judge_accepted_wins_whatever_the_scores(choose):
    accepted = chain("right", votes=1e-9, visits=1, value=0.0, reward=1.0)
    found = chosen([*MIXED, accepted, chain("right too", reward=1.0)], choose)
    assert found.chain == accepted
    assert (found.share, found.judged) == (1.0, True)


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("reward", [0.0, 0.5, 0.999])
def test_a_refused_chain_never_wins(choose, reward):
    refused = chain("wrong", votes=1e9, visits=10**9, value=1.0, reward=reward)
    assert chosen([refused], choose) == NOTHING
    assert chosen([refused, *MIXED], choose) == chosen(MIXED, choose)


@pytest.mark.parametrize("choose", CHOICES)
def test_ties_go_to_the_answer_that_was_found_first(choose):
    assert chosen([chain("x"), chain("y"), chain("z")], choose).answer == "x"
    assert chosen([chain("y"), chain("x"), chain("x", votes=0.0, visits=0, value=0.0)], choose).answer == "y"


@pytest.mark.parametrize("choose", CHOICES)
def test_no_chain_with_an_answer_gives_no_answer(choose):
    assert chosen([], choose) == NOTHING
    assert chosen([chain(None)], choose).answer is None


def test_an_answer_whose_scores_are_all_zero_has_no_share():
    assert chosen([chain("x", value=0.0)], "value").share == 0.0


# ---------------------------------------------------------------------------------------------- properties

PORTIONS = st.floats(0.0, 1.0)
CHAINS = st.lists(
    st.builds(
        lambda answer, votes, visits, value: chain(answer, votes=votes, visits=visits, value=value),
        st.sampled_from(["a", "b", "c", None]),
        PORTIONS,
        st.integers(1, 1000),
        PORTIONS,
    ),
    max_size=12,
)


@given(CHAINS, st.sampled_from(CHOICES))
def test_the_share_is_a_probability_and_the_chain_is_one_of_those_found(chains, choose):
    found = chosen(chains, choose)
    assert 0.0 <= found.share <= 1.0
    assert found.chain is None or found.chain in chains
    assert (found.chain is None) == all(one.answer is None for one in chains)


@given(CHAINS, PORTIONS)
def test_a_chain_that_agrees_never_lowers_the_share_of_votes(chains, votes):
    before = chosen(chains, "votes")
    after = chosen([*chains, chain(before.answer, votes=votes)], "votes")
    assert after.answer == before.answer
    assert after.share >= before.share - 1e-12
    assert after.agreeing == before.agreeing + (before.answer is not None)


# ---------------------------------------------------------------------------------------------- calibration

INNER = st.floats(1e-4, 1.0 - 1e-4)


@given(INNER, st.floats(-5.0, 5.0), st.floats(-5.0, 5.0))
def test_confidence_is_the_formula_of_platt(share, slope, offset):
    expected = 1.0 / (1.0 + ((1.0 - share) / share) ** slope * math.exp(-offset))
    assert ConfidenceFit(slope, offset).confidence(share) == pytest.approx(expected, rel=1e-9)


@given(PORTIONS, PORTIONS, st.floats(0.0, 50.0), st.floats(-50.0, 50.0))
def test_confidence_never_falls_as_the_share_rises(one, other, slope, offset):
    fit = ConfidenceFit(slope, offset)
    low, high = fit.confidence(min(one, other)), fit.confidence(max(one, other))
    assert 0.0 <= low <= high <= 1.0


def test_no_fit_leaves_the_share_as_it_is():
    assert ConfidenceFit().confidence(0.3) == pytest.approx(0.3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_confidence_at_the_ends_is_a_number(share):
    assert ConfidenceFit(1e6, 0.0).confidence(share) == pytest.approx(share)


WEIGHTS = st.floats(-5.0, 5.0)


@given(INNER, INNER, INNER, WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS)
def test_the_fit_of_a_chain_is_the_formula(value, step, ended, of_value, of_step, of_end, offset):
    told = ((value, of_value), (step, of_step), (ended, of_end))
    odds = math.prod((p / (1.0 - p)) ** weight for p, weight in told) * math.exp(offset)
    fit = ChainFit(of_value, of_step, offset, of_end)
    assert fit.right(value, math.log(step), ended) == pytest.approx(odds / (1.0 + odds), rel=1e-6)
    assert ChainFit(of_value, of_step, offset).right(value, math.log(step), ended) == ChainFit(
        of_value, of_step, offset, 0.0
    ).right(value, math.log(step), 0.5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("logprob", [-math.inf, -1e4, -1e-300, 0.0, 1e-9])
@pytest.mark.parametrize("ended", [0.0, 1.0])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (1e6, -1e6, 1e6, -1e6)])
def test_the_fit_of_a_chain_is_a_probability_at_all_ends(value, logprob, ended, weights):
    assert 0.0 <= ChainFit(*weights).right(value, logprob, ended) <= 1.0


@pytest.mark.parametrize(
    ("fit", "trusted", "one_answer", "expected"),
    [
        (ChainFit(1.0, 1.0, 0.0), True, False, 0.8),
        (None, True, False, 0.25),
        (ChainFit(1.0, 1.0, 0.0), False, False, 0.25),
        (ChainFit(1.0, 1.0, 0.0), True, True, 0.25),  # agreeing is worth something there
    ],
)
def test_sureness_is_that_of_the_chain_where_it_is_known_and_a_share_elsewhere(fit, trusted, one_answer, expected):
    task = SumTask()
    task.one_answer = one_answer
    at = Workbench(None, task, "task", trusted, chain_fit=fit)
    votes = chosen(
        [chain("a", votes=0.1, value=0.8), chain("b", votes=0.05), *[chain(x, votes=0.05) for x in "cdefg"]], "votes"
    )
    assert votes.answer == "a"
    assert sureness(votes, at) == pytest.approx(expected)
    assert sureness(NOTHING, at) == 0.0

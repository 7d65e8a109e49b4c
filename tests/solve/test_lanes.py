"""Requests that join and leave one search: each is answered as `Solver.solve` answers it alone, whatever goes on beside it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from solve import lanes
from solve.budgets import chains_of
from solve.lanes import Lane
from solve.plan import Solution, planned
from solve.solver import Solver
from tests.solve.shipped import recalibrated

FOUR, THINKS = Solver("countdown4"), Solver("countdown4think")
REQUESTS = [
    ("3 7 8 8 = 24", "low"),
    ("1 5 7 9 = 30", "minimal"),
    ("2 3 4 9 = 31", "low"),
    ("6 6 7 7 = 25", "none"),
    ("1 1 2 2 = 47", "low"),
]


def lane_of(solver: Solver, **asked) -> Lane:
    plan, _ = planned(solver.shelved, trust_value=solver.trust_value, **{"effort": "high", **asked})
    return Lane(plan)


def limits_of(solver: Solver, effort: str, **asked):
    return planned(solver.shelved, trust_value=solver.trust_value, effort=effort, **asked)[1], chains_of(effort)


def told(solution: Solution) -> Solution:
    """What does not hang on the clock, or on what prompts had in common."""
    return replace(solution, cost=replace(solution.cost, seconds=0.0, prefilled_tokens=0.0, flops=None))


def served(solver: Solver, requests, order: int, **asked) -> list[Solution]:
    """Answers of requests that join at random turns, some of them cut short at random waves."""
    rng, lane = np.random.default_rng(order), lane_of(solver, **asked)
    waiting, tickets = list(requests), []
    while waiting or not lane.empty:
        while waiting and (lane.empty or rng.random() < 0.5):
            text, effort = waiting.pop(0)
            tickets.append(lane.join(solver.read(text), *limits_of(solver, effort, **asked)))
        waves = iter(range(int(rng.integers(1, 9))))
        lane.turn(lambda: next(waves, None) is None)  # noqa: B023
    return [told(lane.solution(ticket)) for ticket in tickets]


@pytest.mark.parametrize("strategy", ["best_first", "best_of_n", "self_consistency", "unique_merged", "puct", "greedy"])
@pytest.mark.parametrize("verify", ["task", "none"])
def test_a_request_is_answered_as_it_is_alone_whatever_goes_on_beside_it(strategy, verify):
    asked = {"strategy": strategy, "verify": verify, "seed": 3}
    alone = [told(FOUR.solve([text], effort=effort, **asked)[0]) for text, effort in REQUESTS]
    assert served(FOUR, REQUESTS, 0, **asked) == alone
    assert served(FOUR, REQUESTS[::-1], 1, **asked) == alone[::-1]


def test_streams_that_are_asked_together_are_those_that_are_asked_alone():
    texts = [text for text, _ in REQUESTS]
    lane = lane_of(THINKS, strategy="think", effort="high", verify="none")
    tickets = [lane.join(THINKS.read(text), *limits_of(THINKS, "high", strategy="think")) for text in texts]
    lane.turn()
    alone = [THINKS.solve([text], strategy="think", effort="high", verify="none")[0] for text in texts]
    assert [told(lane.solution(ticket)) for ticket in tickets] == [told(one) for one in alone]


def test_streams_join_others_between_lines_and_are_those_that_are_asked_alone():
    asked = {"strategy": "think", "verify": "none"}
    alone = [told(THINKS.solve([text], effort="high", **asked)[0]) for text, _ in REQUESTS]
    requests = [(text, "high") for text, _ in REQUESTS]
    assert served(THINKS, requests, 3, **asked) == alone


@pytest.mark.parametrize("strategy", ["beam", "gumbel"])
def test_a_search_that_is_sized_by_its_limit_is_for_one_request(strategy):
    lane = lane_of(FOUR, strategy=strategy)
    assert not lane.full
    ticket = lane.join(FOUR.read("3 7 8 8 = 24"), *limits_of(FOUR, "low", strategy=strategy))
    assert lane.full
    with pytest.raises(ValueError, match="the lane is full"):
        lane.join(FOUR.read("1 5 7 9 = 30"), *limits_of(FOUR, "low", strategy=strategy))
    while lane.going(ticket):
        lane.turn()
    assert told(lane.solution(ticket)) == told(FOUR.solve(["3 7 8 8 = 24"], strategy=strategy)[0])


def test_a_policy_that_was_never_measured_pays_in_the_greedy_chains_of_its_problems():
    solver = recalibrated(Solver("countdown4"), greedy_tokens=None)
    asked = {"strategy": "best_first", "verify": "task"}
    alone = [told(solver.solve([text], effort=effort, **asked)[0]) for text, effort in REQUESTS]
    assert served(solver, REQUESTS, 2, **asked) == alone


def test_who_leaves_spends_no_more_and_harms_nobody():
    asked = {"strategy": "unique_merged", "verify": "none"}
    lane = lane_of(FOUR, **asked)
    gone, stays = (
        lane.join(FOUR.read(text), *limits_of(FOUR, "medium", **asked)) for text in ("3 7 8 8 = 24", "1 5 7 9 = 30")
    )
    lane.turn()
    paid = lane.solution(gone).cost.generated_tokens
    lane.leave(gone)
    while lane.going(stays):
        assert lane.turn() > 0
    assert lane.solution(gone).cost.generated_tokens == paid > 0
    assert told(lane.solution(stays)) == told(FOUR.solve(["1 5 7 9 = 30"], effort="medium", **asked)[0])
    assert lane.empty
    assert lane.turn() == 0


def test_a_stream_that_is_left_in_the_middle_is_written_no_further():
    asked = {"strategy": "think", "verify": "none"}
    lane = lane_of(THINKS, **asked)
    gone, stays = (
        lane.join(THINKS.read(text), *limits_of(THINKS, "high", **asked)) for text in ("1 1 2 2 = 47", "3 7 8 8 = 24")
    )
    rounds = iter(range(2))
    lane.turn(lambda: next(rounds, None) is None)
    paid = lane.solution(gone).cost.generated_tokens
    lane.leave(gone)
    while lane.going(stays):
        lane.turn()
    assert lane.solution(gone).cost.generated_tokens == paid > 0
    assert lane.solution(gone).answer is None
    assert told(lane.solution(stays)) == told(THINKS.solve(["3 7 8 8 = 24"], effort="high", **asked)[0])


def test_limits_in_simulations_are_those_of_each_request():
    asked = {"strategy": "unique_merged", "verify": "none"}
    lane = lane_of(FOUR, **asked)
    tickets = [lane.join(FOUR.read("3 7 8 8 = 24"), *limits_of(FOUR, "max", **asked, simulations=n)) for n in (3, 5)]
    while not lane.empty:
        lane.turn()
    assert [lane.solution(ticket).cost.simulations for ticket in tickets] == [3, 5]


def test_a_lane_that_has_spent_much_takes_in_nobody_and_answers_who_is_there(monkeypatch):
    monkeypatch.setattr(lanes, "FULL", 100)
    asked = {"strategy": "unique_merged", "verify": "none"}
    lane = lane_of(FOUR, **asked)
    ticket = lane.join(FOUR.read("1 1 2 2 = 47"), *limits_of(FOUR, "low", **asked))
    assert not lane.full
    while lane.going(ticket):
        lane.turn()
    assert lane.full
    assert told(lane.solution(ticket)) == told(FOUR.solve(["1 1 2 2 = 47"], **asked)[0])


@pytest.mark.parametrize("strategy", ["best_first", "think", "best_of_n"])
def test_a_lane_that_nobody_holds_gives_its_memory_back_at_once(strategy):
    lane = lane_of(THINKS, strategy=strategy, verify="none")
    lane.join(THINKS.read("3 7 8 8 = 24"), *limits_of(THINKS, "low", strategy=strategy))
    while not lane.empty:
        lane.turn()
    search = weakref.ref(lane.search)
    gc.disable()
    del lane
    gone = search() is None
    gc.enable()
    assert gone

"""`solve` and `Solver`: an answer with what it cost, by every strategy, within limits that hold, and mistakes in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import pytest

from models.files.calibration import ChainFit, ConfidenceFit
from solve import Solution, SolveError, Solver, solve
from solve.budgets import EFFORTS, UNLIMITED, budget_of
from solve.strategies import THINK, way, ways
from tasks import TaskError
from tests.solve.shipped import FOLDER, problems, recalibrated, solver, task

NAMES = [
    "greedy", "best_of_n", "self_consistency", "weighted_vote", "unique", "unique_merged", "beam", "dvts", "puct", "graph",
    "puct_rollout",
    "gumbel", "levin", "phs", "best_first", "best_first_blind", "selfplay",
]  # fmt: skip
EASY, HARD = "3 7 12 = 15", "1 1 1 = 50"  # the second has no solution


def asked_for(**settings) -> Solution:
    return solver().solve([EASY], **settings)[0]


# ---------------------------------------------------------------------------------------------- an answer and its cost


def test_a_problem_is_answered_with_the_steps_that_lead_there():
    found = solve(EASY)
    assert found.solved is True
    assert found.stopped == "solved"
    assert found.verify == "task"
    problem = task().parse_problem(EASY)
    assert found.problem == task().prompt(problem).strip()
    assert task().verdict(problem, found.steps).reward == 1.0
    assert found.answer == found.steps[-1].removeprefix("answer ").strip()
    assert (found.confidence, found.calibrated) == (1.0, True)


def test_a_problem_without_a_solution_has_no_answer_that_a_judge_accepts():
    found = solver().solve([HARD])[0]
    assert (found.solved, found.answer, found.steps, found.confidence) == (False, None, (), 0.0)


def test_every_strategy_is_tested_here():
    assert list(ways(task())) == [*NAMES, THINK]  # this one in test_think


@pytest.mark.parametrize("verify", ["task", "none"])
@pytest.mark.parametrize("strategy", NAMES)
def test_every_strategy_gives_solutions_whose_figures_agree(strategy, verify):
    limit = 400
    each = solver().shelved.policy.flops_per_token
    for found in solver().solve(problems(4), strategy=strategy, verify=verify, tokens=limit):
        cost = found.cost
        assert 0 < cost.generated_tokens <= limit + 16 * task().max_step_tokens
        assert cost.simulations > 0
        assert cost.prefilled_tokens > 0
        assert cost.flops == pytest.approx(each * (cost.generated_tokens + cost.prefilled_tokens))
        assert (found.strategy, found.verify) == (strategy, verify)
        assert (found.solved is None) == (verify == "none")
        assert (found.stopped == "solved") == (found.solved is True)
        assert found.agreeing <= found.chains
        assert (found.answer is None) == (found.steps == ())
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["cost"]["flops"] == cost.flops


def test_a_token_costs_two_products_of_every_weight_but_the_embedding():
    model = solver().shelved.policy.model
    sizes = [p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name]
    assert solver().shelved.policy.flops_per_token == 2 * sum(sizes)


class Noted:
    """A way to search that writes down what it is started for."""

    def __init__(self, name: str):
        self._way, self.started = way(name, task()), []

    def start(self, bench, asked, limit):
        self.started.append((len(asked), limit))
        return self._way.search.start(bench, asked, limit)


def test_kernels_are_compiled_before_the_clock_of_a_budget_in_seconds_starts(monkeypatch):
    noted = Noted("best_first")
    monkeypatch.setattr("solve.plan.way", lambda name, of: replace(way(name, of), search=noted))
    fresh = Solver(str(FOLDER))
    fresh.solve([EASY, HARD], tokens=90)
    assert noted.started == [(2, 90)]
    fresh.solve([EASY, HARD], tokens=90, seconds=50)
    fresh.solve([EASY, HARD], tokens=90, seconds=50)
    one_step = (1, task().max_step_tokens)
    assert noted.started[1:] == [one_step, (2, 90), (2, 90)]


def test_equal_seeds_give_equal_answers_and_other_seeds_other_samples():
    def samples(seed: int) -> list[tuple]:
        found = solver().solve(problems(6), strategy="self_consistency", verify="none", tokens=64, seed=seed)
        return [(one.steps, one.confidence, one.agreeing) for one in found]

    assert samples(0) == samples(0)
    assert samples(0) != samples(1)


# ---------------------------------------------------------------------------------------------- without a judge


def test_without_a_judge_confidence_is_the_share_of_the_votes_until_it_is_calibrated():
    fit = ConfidenceFit(2.0, -1.0)
    plain, fitted = (
        recalibrated(Solver(str(FOLDER), trust_value=False), value_auc=None, confidence=fits)
        for fits in ({}, {"best_first": fit})
    )
    settings = {"strategy": "best_first", "verify": "none", "tokens": 100}
    shares = []
    for one, other in zip(plain.solve(problems(6), **settings), fitted.solve(problems(6), **settings), strict=True):
        assert (one.calibrated, other.calibrated) == (False, True)
        assert 0.0 < one.confidence <= 1.0
        assert other.confidence == fit.confidence(one.confidence)
        assert one.answer == other.answer
        shares.append(one.confidence)
    assert min(shares) < 1.0


@pytest.mark.parametrize(
    ("other", "calibrated"),
    [
        ({}, True),
        ({"choose": "value"}, True),  # as the strategy chooses by itself
        ({"choose": "votes"}, False),
        ({"strategy": "levin"}, False),
        ({"strategy": "best_first:park=0.4"}, False),
    ],
)
def test_a_fit_is_used_for_the_strategy_and_the_choice_that_it_was_made_for(other, calibrated):
    told = {"strategy": "best_first", "verify": "none", "tokens": 60}
    fits = {"best_first": ConfidenceFit()}
    fitted = recalibrated(Solver(str(FOLDER), trust_value=True), confidence=fits, chain=None)
    assert fitted.solve([EASY], **told | other)[0].calibrated == calibrated


def test_a_fit_that_was_made_with_a_trusted_value_is_not_used_without_it():
    blind = Solver(str(FOLDER), trust_value=False)
    assert blind.shelved.calibration.confidence["best_first"]
    assert blind.shelved.calibration.chain is not None
    assert not blind.solve([EASY], verify="none", tokens=60)[0].calibrated
    assert Solver(str(FOLDER)).solve([EASY], verify="none", tokens=60)[0].calibrated


@pytest.mark.parametrize("strategy", ["best_first", "self_consistency", "puct"])
def test_where_a_chain_is_known_its_own_probability_is_the_confidence(strategy):
    fit, platt = ChainFit(0.7, 0.4, -1.0), ConfidenceFit(2.0, -1.0)
    plain, fitted = (
        recalibrated(Solver(str(FOLDER), trust_value=True), confidence=fits, chain=fit)
        for fits in ({}, {strategy: platt})
    )
    chains = {}
    settings = {"strategy": strategy, "verify": "none", "tokens": 100}
    found = plain.solve(problems(6), on_search=lambda search, _: chains.update(search=search), **settings)
    for i, (one, other) in enumerate(zip(found, fitted.solve(problems(6), **settings), strict=True)):
        assert one.confidence in [chain.value for chain in chains["search"].chains(i) if chain.steps == one.steps]
        assert other.confidence == platt.confidence(one.confidence)
        assert (one.calibrated, other.calibrated) == (False, True)


# ---------------------------------------------------------------------------------------------- limits


def test_a_limit_in_simulations_or_seconds_alone_takes_the_place_of_the_efforts_tokens():
    low = budget_of(task(), "low", greedy_tokens=16.5)
    for limit in ({"simulations": 7}, {"seconds": 2.5}):
        alone = budget_of(task(), "low", greedy_tokens=16.5, **limit)
        assert alone.tokens == UNLIMITED
        assert alone.size == low.tokens  # of a beam, which has to know how wide it is to be
        assert (alone.simulations, alone.seconds) == (limit.get("simulations"), limit.get("seconds"))
    most = low.tokens // task().max_step_tokens + 50
    found = solver().solve([HARD], strategy="best_of_n", simulations=most)[0]
    assert found.cost.simulations == most
    assert solver().solve([HARD], strategy="beam", seconds=50)[0].cost.generated_tokens < 4 * low.tokens


def test_efforts_rise_and_a_given_limit_takes_their_place():
    limits = [budget_of(task(), effort, greedy_tokens=16.5) for effort in list(EFFORTS)[:-1]]
    assert [limit.tokens for limit in limits] == [17, 33, 132, 1056, 8448, 33792]  # 1, 2, 8, 64, 512, 2048 chains
    assert [limit.seconds for limit in limits] == [None] * 6  # no effort holds a clock
    assert list(EFFORTS) == ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    assert budget_of(task(), "low", greedy_tokens=16.5, tokens=40).tokens == 40
    with pytest.raises(SolveError, match=r"effort=max has no limit of its own: give budget\.tokens"):
        budget_of(task(), "max", greedy_tokens=16.5)
    assert budget_of(task(), "max", greedy_tokens=16.5, tokens=40).tokens == 40


def test_the_effort_none_decodes_greedily_and_searches_only_where_it_is_told_to():
    found = solver().solve(problems(4), effort="none")
    assert [(one.strategy, one.cost.simulations) for one in found] == [("greedy", 1)] * 4
    assert all(one.steps or not one.solved for one in found)
    assert solver().solve([EASY], effort="none", strategy="levin")[0].strategy == "levin"
    assert solver().solve([EASY], effort="none", tokens=100)[0].strategy == "best_first"


@pytest.mark.parametrize("verify", ["task", "none"])
@pytest.mark.parametrize("strategy", ["best_first", "best_of_n", "beam", "gumbel", "greedy"])
def test_without_a_measured_chain_a_problems_own_is_the_unit_and_is_paid(strategy, verify):
    bare = recalibrated(Solver(str(FOLDER), trust_value=False), greedy_tokens=None)
    asked = [*problems(5), HARD]
    own = bare.solve(asked, strategy="greedy", verify=verify)
    found = bare.solve(asked, strategy=strategy, effort="low", verify=verify)
    wave = 16 * task().max_step_tokens
    for one, first in zip(found, own, strict=True):
        unit = first.cost.generated_tokens
        assert unit <= one.cost.generated_tokens <= 8 * unit + wave
        assert one.steps or not first.steps
        if first.solved:
            assert one.cost.generated_tokens == unit


def test_the_first_limit_that_is_reached_stops():
    least = task().max_step_tokens
    settings = {"strategy": "unique", "verify": "none"}
    by_simulations = solver().solve([EASY], simulations=3, tokens=10_000, **settings)[0]
    assert by_simulations.cost.simulations == 3
    by_tokens = solver().solve([EASY], simulations=10_000, tokens=least, **settings)[0]
    assert least <= by_tokens.cost.generated_tokens < 2 * least
    by_time = solver().solve([EASY], simulations=10_000, tokens=10_000, seconds=1e-9, **settings)[0]
    assert (by_time.cost.generated_tokens, by_time.stopped) == (0, "budget")


def test_more_effort_looks_longer_at_what_cannot_be_solved():
    low, medium = (solver().solve([HARD], strategy="unique", effort=effort)[0].cost for effort in ("low", "medium"))
    assert low.generated_tokens < medium.generated_tokens


def test_an_interrupted_search_says_so_and_answers_with_what_it_has():
    calls = count()
    found = asked_for(strategy="unique", verify="none", effort="high", interrupted=lambda: next(calls) > 40)
    assert found.stopped == "interrupted"
    assert found.answer is not None


@pytest.mark.parametrize("share", ["uniform", "uncertain"])
@pytest.mark.parametrize("verify", ["task", "none"])
def test_a_shared_budget_is_kept_to_and_buys_no_less(share, verify):
    asked, tokens = problems(24), 24
    shared = solver().solve(asked, tokens=tokens, share=share, verify=verify)
    alone = solver().solve(asked, tokens=tokens, share="none", verify=verify)
    wave = task().max_step_tokens
    assert sum(found.cost.generated_tokens for found in shared) <= (tokens + wave) * len(asked)
    if verify == "task":
        assert sum(found.solved for found in shared) >= sum(found.solved for found in alone)
        assert 0 < sum(found.solved for found in alone) < len(asked)


def test_what_solved_problems_leave_goes_to_the_others():
    shared = solver().solve([EASY] * 4 + [HARD], strategy="unique", tokens=60, share="uniform")
    assert [found.solved for found in shared] == [True] * 4 + [False]
    assert shared[-1].cost.generated_tokens > 2 * 60


# ---------------------------------------------------------------------------------------------- settings and mistakes


def test_a_strategy_takes_settings_behind_a_colon():
    assert way("best_of_n:temperature=0.5", task()).search.temperature == 0.5
    assert way("puct:n_candidates=2,wave=3", task()).search.rule.n_candidates == 2
    assert way("puct:n_candidates=2,wave=3", task()).search.wave == 3
    assert way("unique:merge=true", task()).search == way("unique_merged", task()).search
    assert way("beam:width=2", task()).search.width == 2
    assert asked_for(strategy="best_of_n:temperature=0.5").strategy == "best_of_n:temperature=0.5"
    assert way("best_of_n", task()).search.temperature == 1.0  # nothing stays changed


WRONG_STRATEGIES = {
    "nothing": "unknown strategy 'nothing': use one of greedy",
    "": "unknown strategy ''",
    "best_of_n_fresh": "unknown strategy",  # for tasks whose steps can be undone
    "best_of_n:heat=1": "no setting 'heat': use one of temperature",
    "best_of_n:temperature": "temperature='' cannot be",
    "best_of_n:temperature=warm": "temperature='warm' cannot be",
    "best_of_n:temperature=-1": "temperature='-1' cannot be",
    "best_of_n:temperature=nan": "temperature='nan' cannot be",
    "best_of_n:no_reentry=maybe": "no_reentry='maybe' cannot be",
    "unique:temperature=0": "temperature='0' cannot be",
    "unique:wave=0": "wave='0' cannot be",
    "beam:candidates=0": "candidates='0' cannot be",
    "beam:width=0": "width='0' cannot be",
    "puct:n_candidates=0": "n_candidates='0' cannot be",
    "best_first:lam=nan": "lam='nan' cannot be",
    "best_first:cost=money": "cost='money' cannot be",
    "best_first:rule=puct": "no setting 'rule'",
    "best_first:blind=1": "no setting 'blind'",
    "beam:sized=false": "no setting 'sized'",
}


@pytest.mark.parametrize("strategy", WRONG_STRATEGIES)
def test_a_strategy_that_cannot_be_is_refused_in_one_line(strategy):
    with pytest.raises(SolveError) as refused:
        way(strategy, task())
    assert WRONG_STRATEGIES[strategy] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"verify": "gold"}, "use task or none"),
        ({"verify": False}, "use task or none"),
        ({"choose": "luck"}, "use one of votes, value, visits, product"),
        ({"share": "fair"}, "use one of none, uniform, uncertain"),
        ({"effort": "heroic"}, "use one of none, minimal, low, medium, high, xhigh, max"),
        ({"tokens": 0}, "give more than 0"),
        ({"tokens": 1}, "does not pay for one step"),
        ({"simulations": -1}, "give more than 0"),
        ({"simulations": 0.5}, "a whole number"),
        ({"tokens": "100"}, "a whole number"),
        ({"tokens": 10**24}, "null for no limit"),
        ({"seed": None}, "from 0 up"),
        ({"strategy": 3}, "give the name of one"),
        ({"seconds": float("nan")}, "give more than 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(settings, mend):
    with pytest.raises(SolveError, match=mend) as refused:
        asked_for(**settings)
    assert "\n" not in str(refused.value)


def test_a_setting_that_is_none_is_named():
    with pytest.raises(SolveError, match="typo: no setting of solve"):
        solve(EASY, typo=1)
    with pytest.raises(TaskError, match="no option 'typo'"):
        solve(EASY, task="countdown", typo=1)


def test_what_is_no_text_is_no_problem():
    for ask in (solve, lambda problem: solver().solve([problem])):
        for problem in (None, 5):
            with pytest.raises(SolveError, match="give its text"):
                ask(problem)
    with pytest.raises(SolveError, match="use true, false, or null"):
        Solver(str(FOLDER), trust_value="no")


def test_no_problems_have_no_solutions_but_their_settings_are_checked():
    assert solver().solve([]) == []
    with pytest.raises(SolveError, match="unknown effort"):
        solver().solve([], effort="heroic")

"""What a search is kept from seeing: without a judge in the loop nothing tells a right answer from a wrong one."""

from __future__ import annotations

import re

import numpy as np
import pytest

import mcts
from models.steps.evaluator import ModelEvaluator
from solve.search.wall import NOT_JUDGED, Curtained, Unjudged, wall
from solve.types import SolveError, Workbench
from tasks.planning.sliding import Sliding
from tests.models.fakes import SumTask
from tests.solve.shipped import problems, solver, task

ASKED = "3 7 12 = 24"  # two numbers left: 3 8 in the table below, so 3 * 8 = 24 is right
LEFT = (3, 8)
ANSWERS = {
    "right": "answer 3 * 8 = 24\n",
    "another number": "answer 3 + 8 = 11\n",
    "false arithmetic that hits": "answer 3 + 8 = 24\n",
    "false arithmetic that misses": "answer 3 * 8 = 25\n",
    "numbers that are not there": "answer 4 * 6 = 24\n",
}
NO_ANSWERS = {
    "no equation": "answer 24\n",
    "a proposal's numbers left": "answer 3 * 8 = 24 | 24\n",
    "no operation": "answer 3 ? 8 = 24\n",
    "a word for a number": "answer 3 * x = 24\n",
    "a number in other digits": "answer 3 * ٨ = 24\n",
    "not finished": "answer 3 * 8 = 24",
    "nothing": "",
    "the word alone": "answer\n",
    "a proposal": "3 * 8 = 24\n",
    "far too long": "answer 3 * 8 = 24" + " 24" * 999 + "\n",
}
FORM = re.compile(r"answer \d+ [-+*/] \d+ = \d+\n", re.ASCII)
PROPOSALS = ["12 - 7 = 5 | 3 5\n", "12 - 7 = 5 | 5 3\n", "3 * 7 = 21 | 12 21\n", "7 + 12 = 19 | 3 19\n"]
BROKEN_PROPOSALS = ["12 - 7 = 6 | 3 6\n", "12 - 7 = 5 | 3 6\n", "12 - 7 = 5\n", "1 + 2 = 3 | 3 7\n", "", "\n", "12 - 7"]


class NeedsGold(SumTask):
    """A task that cannot judge itself."""

    name = "needs gold"
    self_verifying = False


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_answer_gets_the_same_verdict(kind):
    problem = task().parse_problem(ASKED)
    assert Unjudged(task()).advance(problem, LEFT, ANSWERS[kind]) == (NOT_JUDGED, None)


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_has_not_the_form_of_an_answer_is_refused_as_in_the_task(kind):
    problem = task().parse_problem(ASKED)
    verdict, after = Unjudged(task()).advance(problem, LEFT, NO_ANSWERS[kind])
    assert (verdict, after) == task().advance(problem, LEFT, NO_ANSWERS[kind])
    assert not verdict.legal


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_with_numbers_left_to_join_is_none(kind):
    problem = task().parse_problem(ASKED)
    verdict, _ = Unjudged(task()).advance(problem, (3, 7, 12), ANSWERS[kind])
    assert not verdict.legal


def test_the_task_itself_tells_these_answers_apart():
    problem = task().parse_problem(ASKED)
    rewards = {kind: task().advance(problem, LEFT, step)[0].reward for kind, step in ANSWERS.items()}
    assert rewards == {kind: float(kind == "right") for kind in ANSWERS}


@pytest.mark.parametrize("step", PROPOSALS)
def test_a_proposal_by_the_rules_goes_on_as_in_the_task(step):
    problem = task().parse_problem(ASKED)
    verdict, after = Unjudged(task()).advance(problem, (3, 7, 12), step)
    assert after is not None
    assert (verdict, after) == task().advance(problem, (3, 7, 12), step)


@pytest.mark.parametrize("step", BROKEN_PROPOSALS)
def test_a_proposal_that_breaks_the_rules_is_refused_as_in_the_task(step):
    problem = task().parse_problem(ASKED)
    verdict, after = Unjudged(task()).advance(problem, (3, 7, 12), step)
    assert (verdict, after) == task().advance(problem, (3, 7, 12), step)
    assert (verdict.legal, verdict.terminal, after) == (False, True, None)


def test_a_task_whose_chains_end_at_the_goal_cannot_go_unjudged():
    with pytest.raises(SolveError, match="use verify=task"):
        Unjudged(Sliding())


@pytest.mark.parametrize(
    "ask",
    [
        lambda blind, problem, rng: blind.solvable(problem, LEFT),
        lambda blind, problem, rng: blind.distance(problem, LEFT),
        lambda blind, problem, rng: blind.legal_steps(problem, LEFT),
        lambda blind, problem, rng: blind.hindsight("train", 1, rng),
        lambda blind, problem, rng: blind.value_play("train", 1, rng),
        lambda blind, problem, rng: blind.ended_play("train", 1, rng),
        lambda blind, problem, rng: blind.random_play("train", 1, rng),
    ],
    ids=["solvable", "distance", "legal_steps", "hindsight", "value_play", "ended_play", "random_play"],
)
def test_labels_and_rows_are_not_to_be_had_of_an_unjudged_task(ask, rng):
    with pytest.raises(SolveError, match="searched unjudged"):
        ask(Unjudged(task()), task().parse_problem(ASKED), rng)


def test_the_policy_reads_the_same_with_and_without_a_judge():
    blind, problem = Unjudged(task()), task().parse_problem(ASKED)
    assert blind.prompt(problem) == task().prompt(problem)
    assert blind.context(problem, PROPOSALS[:1]) == task().context(problem, PROPOSALS[:1])
    assert blind.state_key(problem, LEFT) == task().state_key(problem, LEFT)
    assert blind.parse_problem(ASKED) == problem
    assert blind.encode(PROPOSALS[0]) == task().encode(PROPOSALS[0])


# ---------------------------------------------------------------------------------------------- the wall and the bench


def test_the_wall_lets_a_task_judge_only_if_it_can_and_should():
    own, gold = SumTask(), NeedsGold()
    assert wall(own, "task") is own
    assert isinstance(wall(own, "none"), Unjudged)
    assert wall(gold, "none") is gold
    with pytest.raises(SolveError, match="use verify=none"):
        wall(gold, "task")
    with pytest.raises(SolveError, match="use verify=task"):
        wall(Sliding(), "none")


def test_a_bench_refuses_a_judge_where_none_was_asked_for_and_none_where_one_was():
    with pytest.raises(SolveError, match="put it behind"):
        Workbench(None, SumTask(), "none", False)
    with pytest.raises(SolveError, match="use verify=none"):
        Workbench(None, NeedsGold(), "task", False)
    with pytest.raises(SolveError, match="use verify=none"):
        Workbench(None, Unjudged(SumTask()), "task", False)


# ---------------------------------------------------------------------------------------------- what a search sees


def seen_answers(rule: mcts.Rule, values: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all answers that an unjudged search met: what it saw of each (reward, legal), and whether it is right."""
    asked = problems(6)
    evaluator = ModelEvaluator(solver().shelved.policy.model, wall(task(), "none"))
    curtained = Curtained(evaluator, values=values)
    waves: list[mcts.Expansion] = []
    mcts.search(
        curtained.begin(asked), curtained, rule, mcts.Budget(tokens=150), on_wave=lambda *wave: waves.append(wave[-1])
    )
    rewards, legal, right = [], [], []
    for wave in waves:
        for row, handle in enumerate(wave.handles.tolist()):
            text = evaluator.step(handle).text
            if FORM.fullmatch(text) and len(evaluator.steps(handle)) == task().max_steps:
                rewards.append(wave.rewards[row])
                legal.append(wave.legal[row])
                right.append(task().verdict(asked[evaluator.tree(handle)], evaluator.steps(handle)).reward == 1)
    assert max(wave.rewards.max(initial=0.0) for wave in waves) < 1.0
    return np.array(rewards), np.array(legal), np.array(right)


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("rule", [mcts.BestFirst(), mcts.Proportional(), mcts.PUCT()], ids=lambda r: type(r).__name__)
def test_an_unjudged_search_sees_no_reward_of_one_and_no_answer_that_is_illegal(rule, values):
    rewards, legal, right = seen_answers(rule, values)
    assert 0 < right.sum() < len(right)  # it met right answers and wrong ones
    assert legal.all()
    assert (rewards < 1.0).all()


def test_with_the_value_head_off_all_answers_look_the_same():
    rewards, _, right = seen_answers(mcts.BestFirst(), False)
    assert set(right.tolist()) == {True, False}
    assert set(rewards.tolist()) == {0.5}

"""The actor's search is an entry of the one table of strategies, with settings that suit the task."""

from dataclasses import replace

import pytest

import mcts
from kit.seeds import generator
from models.abilities import Rollout
from models.policy import open_policy
from models.steps.codec import WordCodec
from selfplay.config import ActorConfig
from selfplay.teach.actor import act
from selfplay.teach.search import tree_of
from selfplay.team import Team
from solve.types import SolveError
from tasks import make_task
from tasks.base import Verdict
from tasks.numbers.countdown import Countdown
from tasks.planning.sliding import Sliding

SLIDING = Sliding(distance_min=1, distance_max=3)
COUNTDOWN = Countdown(number_max=6, target_max=30)


@pytest.mark.parametrize(("task", "follows"), [(COUNTDOWN, True), (SLIDING, False)], ids=["countdown", "sliding"])
def test_self_play_follows_a_step_to_its_end_where_steps_cannot_be_undone(task, follows):
    tree = tree_of(ActorConfig(discount=0.9), task)
    assert tree.rule == mcts.BestFirst(n_candidates=4, draw="sample", discount=0.9, rollout=follows)
    assert (tree.wave, tree.merge, tree.go_on, tree.temperature) == (4, True, True, 1.0)


def test_another_entry_searches_on_after_a_solution_too():
    tree = tree_of(ActorConfig(strategy="puct:n_candidates=2,wave=3"), COUNTDOWN)
    assert isinstance(tree.rule, mcts.PUCT)
    assert (tree.rule.n_candidates, tree.wave, tree.go_on) == (2, 3, True)


@pytest.mark.parametrize(
    ("strategy", "mend"),
    [("best_of_n", "use selfplay, puct"), ("nothing", "use one of greedy"), ("", "use one of greedy")],
)
def test_a_strategy_that_grows_no_tree_is_refused_in_one_line(strategy, mend):
    with pytest.raises(SolveError, match=mend) as refused:
        tree_of(ActorConfig(strategy=strategy), COUNTDOWN)
    assert "\n" not in str(refused.value)


class Refused:
    """A policy whose server refuses every prompt: its chains end before their first step, and cost nothing."""

    name = version = "refused"

    def codec(self, task):
        return WordCodec(task)

    def chains(self, task, problems, n=1, **_):
        ended = Verdict(0.0, True, False, "the server gave no step")
        return [[Rollout((), ended, 0, 0.0, 0.0, (), (), 0.0, ())] * n for _ in problems]


def test_a_problem_that_nobody_answers_is_not_sampled_for_ever():
    experience = act(Refused(), COUNTDOWN, "star", ActorConfig(problems=3, mine=False), Team(), seed=0, iteration=1)
    assert (experience.problems, experience.solved, experience.generated_tokens, len(experience.rows)) == (3, 0, 0, 0)


@pytest.mark.parametrize(("teacher", "tokens"), [("search", 200), ("star", 30)])
def test_what_a_net_can_do_already_need_not_be_taught(teacher, tokens):
    opened = open_policy("countdown4")
    policy, task = opened.policy, make_task(**(opened.task_options or {}))
    settings = {"strategy": "best_first_blind", "go_on": False, "mine": False, "losing_rows": 0, "rows_per_problem": 1}
    config = ActorConfig(problems=40, tokens=tokens, **settings)

    def taught(share: float) -> set[str]:
        rows = act(policy, task, teacher, replace(config, known_share=share), Team(), seed=0, iteration=1).rows
        return {task.decode(row[1:]).partition("\n")[0] for row in rows.tokens.tolist()}

    every, new = taught(1.0), taught(0.0)
    assert set() < new < every
    problems = task.practice(40, generator(0, "act", 1, 0))
    greedy = zip(problems, policy.chains(task, problems, temperature=0.0), strict=True)
    able = {task.prompt(problem).partition("\n")[0] for problem, (chain,) in greedy if chain.verdict.reward >= 1}
    if teacher == "search":
        assert new == every - able  # its first chain is greedy

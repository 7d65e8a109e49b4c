"""How far data and calls travel through the house, counted while they do (`tests/house.py` has the rules)."""

from __future__ import annotations

import pytest

from models.policy import SHIPPED, Policy, open_policy
from selfplay.config import ActorConfig
from selfplay.teach.actor import act
from selfplay.teach.row_builder import RowBuilder
from selfplay.team import Team
from tasks import make_task
from tests import house

MOST_BOXES = 7
MOST_CLIMBS, MOST_RETURNS = 4, 8


def files_of_an_expansion(policy: Policy) -> set[str]:
    """Modules that a second expansion of four problems enters: the first one has compiled and prefilled."""
    task = make_task("countdown")
    evaluator = policy.evaluator(task)
    roots = evaluator.begin(task.problems("dev", 4))
    evaluator.expand(roots.handles, 4)
    return house.files_entered(lambda: evaluator.expand(roots.handles, 4))


def test_one_expansion_of_a_small_net_enters_few_boxes_and_files():
    files = files_of_an_expansion(open_policy(str(SHIPPED / "countdown3")).policy)
    assert len(house.boxes_entered(files)) <= MOST_BOXES
    assert len(files) <= 16


@pytest.mark.slow
@pytest.mark.llm
def test_one_expansion_of_a_language_model_enters_few_boxes_and_files(smollm2):
    files = files_of_an_expansion(open_policy("smollm2").policy)
    assert len(house.boxes_entered(files)) <= MOST_BOXES
    assert len(files) <= 21


@pytest.mark.parametrize("teacher", ["search", "star"])
def test_a_task_seldom_climbs_or_returns_on_its_way_through_the_actor(teacher):
    policy, task = open_policy(str(SHIPPED / "countdown3")).policy, make_task("countdown")
    config = ActorConfig(problems=4)
    steps = house.walk(task, lambda: act(policy, task, teacher, config, Team(), seed=1, iteration=0))
    climbs, returns = house.climbs_and_returns(steps, house.imports())
    assert len(steps) > 5
    assert (climbs <= MOST_CLIMBS, returns <= MOST_RETURNS) == (True, True)


@pytest.mark.parametrize(("teacher", "most"), [("search", 5), ("star", 8)])
def test_a_sampled_step_passes_few_files_on_its_way_into_a_row(teacher, most, monkeypatch):
    policy, task = open_policy(str(SHIPPED / "countdown3")).policy, make_task("countdown")
    config = ActorConfig(problems=4, mine=False)
    taught: list[str] = []
    chain = RowBuilder.chain

    def noted(builder, problem, steps, *rest):
        taught.extend(step.text for step in steps)
        chain(builder, problem, steps, *rest)

    monkeypatch.setattr(RowBuilder, "chain", noted)
    act(policy, task, teacher, config, Team(), seed=1, iteration=0)
    files = house.carriers(taught[0], lambda: act(policy, task, teacher, config, Team(), seed=1, iteration=0))
    between = files[: files.index("selfplay.teach.row_builder")]
    assert len(between) > 2, "somebody wrote the step, and somebody handed it on"
    assert len(between) <= most

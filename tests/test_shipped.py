"""The checkpoints that come with the repository work at once, and are what their pages say."""

from __future__ import annotations

import numpy as np
import pytest

import mcts
from models.checkpoint import load_checkpoint
from models.rollout import rollouts
from solve.shelf import SHIPPED, shipped, take
from solve.spending import solved_at
from solve.strategies import way
from solve.tree import Tree
from solve.types import Workbench
from tasks import make_task

each_net = pytest.mark.parametrize("name", shipped())


@each_net
def test_it_is_small_and_says_how_it_was_made(name):
    folder = SHIPPED / name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_500_000
    page = (folder / "README.md").read_text()
    assert all(word in page for word in ("Command", "Commit", "Seed", "Test"))


@each_net
def test_it_says_its_task_and_how_well_its_value_was_measured(name):
    told = load_checkpoint(SHIPPED / name)[2]
    assert make_task(**told["task"]).name in name
    assert told["value"]["split"] == "dev"
    assert told["value"]["auc_ci95"][0] <= told["value"]["auc"] <= told["value"]["auc_ci95"][1]


@each_net
def test_search_solves_more_than_greedy_decoding(name):
    shelved = take(str(SHIPPED / name))
    task, trusted = shelved.task, shelved.trusted
    problems = task.problems("test", 40, seed=1)
    bench = Workbench(shelved.model, task, "task", trusted)
    budget = 4 * task.max_steps * task.max_step_tokens
    greedy, searched = (
        solved_at(bench, way(strategy, task).search, problems, budget) <= budget
        for strategy in ("greedy", "best_first")
    )
    assert searched.sum() > greedy.sum()


def test_the_default_net_solves_problems_that_it_never_saw():
    task = make_task("countdown")
    model, _, _ = load_checkpoint(SHIPPED / "countdown3")
    problems = task.problems("test", 120, seed=1)
    greedy = np.mean(
        [chains[0].verdict.reward >= 1 for chains in rollouts(model, task, problems, 1, temperature=0.0, seed=0)]
    )
    bench = Workbench(model, task, "task", trust_value=True)
    found = solved_at(bench, Tree(mcts.BestFirst()), problems, 100)
    assert greedy > 0.7  # 4 standard errors below what it measured on the whole split
    assert (found <= 100).mean() > greedy

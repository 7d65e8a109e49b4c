"""The checkpoints that come with the repository work at once, and are what their pages say."""

from __future__ import annotations

import numpy as np
import pytest

import mcts
from models.policy import SHIPPED, open_policy, shipped
from solve.policies import take
from solve.search.solved_at import solved_at
from solve.search.tree import Tree
from solve.strategies import way
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
    opened = open_policy(name)
    assert make_task(**opened.task_options).name in name
    measured = opened.calibration
    assert measured.measured["split"] == "dev"
    low, high = measured.measured["auc_ci95"]
    assert low <= measured.value_auc <= high
    assert measured.trusted == (name != "chainthink")  # which learned by checks alone, and no values
    assert measured.greedy_tokens > 0


@each_net
def test_search_solves_more_than_greedy_decoding(name):
    shelved = take(name)
    task, trusted = shelved.task, shelved.trusted
    problems = task.problems("test", 40, seed=1)
    bench = Workbench(shelved.policy, task, "task", trusted)
    budget = 4 * task.max_steps * task.max_step_tokens
    greedy, searched = (
        solved_at(bench, way(strategy, task).search, problems, budget) <= budget
        for strategy in ("greedy", "best_first")
    )
    assert searched.sum() > greedy.sum()


def test_the_default_net_solves_problems_that_it_never_saw():
    task = make_task("countdown")
    policy = open_policy("countdown3").policy
    problems = task.problems("test", 120, seed=1)
    greedy = np.mean([chains[0].verdict.reward >= 1 for chains in policy.chains(task, problems, temperature=0.0)])
    bench = Workbench(policy, task, "task", trust_value=True)
    found = solved_at(bench, Tree(mcts.BestFirst()), problems, 100)
    assert greedy > 0.7  # 4 standard errors below what it measured on the whole split
    assert (found <= 100).mean() > greedy

"""The checkpoint that comes with the repository works at once, and is what its page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import mcts
from models.checkpoint import load_checkpoint
from models.rollout import rollouts
from solve.spending import solved_at
from solve.tree import Tree
from solve.types import Workbench
from tasks import make_task

SHIPPED = Path(__file__).parents[1] / "models" / "shipped" / "countdown3"


def test_it_is_small_and_says_how_it_was_made():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 4_000_000
    page = (SHIPPED / "README.md").read_text()
    assert all(word in page for word in ("Command", "Commit", "Seed"))


def test_it_solves_problems_that_it_never_saw():
    task = make_task("countdown")
    model, _, _ = load_checkpoint(SHIPPED)
    problems = task.problems("test", 120, seed=1)
    greedy = np.mean(
        [chains[0].verdict.reward >= 1 for chains in rollouts(model, task, problems, 1, temperature=0.0, seed=0)]
    )
    bench = Workbench(model, task, "task", trust_value=True)
    found = solved_at(bench, Tree(mcts.BestFirst()), problems, 100)
    assert greedy > 0.7  # 4 standard errors below what it measured on the whole split
    assert (found <= 100).mean() > greedy

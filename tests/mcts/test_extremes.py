"""No children, seventy thousand of them, and paths ten thousand steps long."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcts import PHS, PUCT, BestFirst, Budget, Expansion, Gumbel, Proportional, Roots, Status, search

RULES = {
    "puct": PUCT(n_candidates=70_000, root_candidates=70_000),
    "gumbel": Gumbel(n_candidates=70_000, root_candidates=70_000),
    "best-first": BestFirst(n_candidates=70_000),
    "phs": PHS(n_candidates=70_000),
    "proportional": Proportional(n_candidates=70_000),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
ROOT = Roots(np.zeros(1, np.int64), np.zeros(1, np.uint64), np.full(1, 0.5, np.float32))


class Fan:
    """Every state has `width` equally probable steps; those of the root do not end unless `ends`."""

    def __init__(self, width: int, *, ends: bool = False):
        self.width, self.ends, self.made = width, ends, 0

    def expand(self, handles, n_candidates, draw="sample") -> Expansion:
        count = min(self.width, n_candidates)
        n = count * len(handles)
        new = np.arange(self.made + 1, self.made + n + 1)
        self.made += n
        none_left = np.full(len(handles), -np.inf, np.float32)
        return Expansion(
            np.arange(len(handles) + 1) * count, new, np.zeros(n, np.uint64),
            np.full(n, -math.log(max(self.width, 1)), np.float32), np.full(n, 0.5, np.float32), np.zeros(n, np.float32),
            np.full(n, self.ends), np.ones(n, bool), np.ones(n, np.int32), np.full(len(handles), count, np.int32),
            none_left, none_left,
        )  # fmt: skip


@each_rule
def test_a_root_without_a_step_is_closed(rule):
    result = search(ROOT, Fan(0), rule, Budget(simulations=10))
    assert result.status[0] == Status.CLOSED
    assert result.simulations[0] == 1
    assert result.action(0) == -1


@each_rule
def test_seventy_thousand_children(rule):
    result = search(ROOT, Fan(70_000), rule, Budget(simulations=3), wave_size=2)
    assert result.simulations[0] == 3
    assert len(result.children(0)) == 70_000
    assert result.store.n_nodes == 1 + 3 * 70_000


@each_rule
@pytest.mark.parametrize("steps", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_paths_of_thousands_of_steps(rule, steps):
    result = search(ROOT, Fan(1), rule, Budget(simulations=steps))
    assert result.store.nodes["depth"].max() == steps
    assert result.store.nodes["visits"][0] == steps


@each_rule
def test_a_zero_budget_is_no_search(rule):
    result = search(ROOT, Fan(3), rule, Budget(simulations=0))
    assert (result.simulations[0], result.status[0]) == (0, Status.BUDGET)


@each_rule
def test_a_wave_larger_than_all_leaves_takes_what_there_is(rule):
    sizes = []
    search(
        ROOT,
        Fan(3, ends=True),
        rule,
        Budget(simulations=50),
        wave_size=1000,
        on_wave=lambda _, leaves, __: sizes.append(len(leaves)),
    )
    assert sizes == [1]

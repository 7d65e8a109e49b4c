"""PHS*: the order is that of its phi; without a heuristic it is Levin's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcts import PHS, BestFirst, Budget, Flag, search
from tests.mcts.fakes import TableEvaluator, shape_of


def phi(node, discount: float) -> float:
    """log of (g + h) / pi^(1 + h / g), Orseau and Lelis 2021, with g = depth + 1 and h off the value."""
    reach = node["path_logprob"] + (min(node["best_unseen_logprob"], 0.0) if node["flags"] & Flag.EXPANDED else 0.0)
    g, h = node["depth"] + 1.0, math.log(max(node["raw_value"], 1e-6)) / math.log(discount)
    return math.log(g + h) - (1.0 + h / g) * reach


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("discount", [0.5, 0.95])
def test_every_leaf_has_the_least_phi_of_the_whole_frontier(merged, discount):
    world, before, taken = TableEvaluator(3, merged=merged, n_states=300, min_steps=1, max_steps=5), {}, 0

    def check(store, leaves, expansion):
        nonlocal taken
        for leaf in leaves.nodes.tolist():
            tree = int(store.nodes["tree"][leaf])
            if tree in before:
                assert before[tree][leaf] <= min(before[tree].values()) + 1e-4
                taken += 1
        for tree in range(len(store.trees)):
            live = (store.nodes["flags"] & (Flag.TERMINAL | Flag.EXHAUSTED)) == 0
            frontier = np.flatnonzero((store.nodes["tree"] == tree) & live)
            before[tree] = {int(n): phi(store.nodes[n], discount) for n in frontier}

    search(world.begin(range(4)), world, PHS(n_candidates=2, discount=discount), Budget(simulations=80), on_wave=check)
    assert taken > 60


class Blind(TableEvaluator):
    """Every state is worth 1: no step to go, so h = 0."""

    def raw_value(self, problem, state):
        return 1.0


def test_without_steps_to_go_the_order_is_levins():
    trees = []
    for rule in (PHS(n_candidates=2), BestFirst(n_candidates=2, value_weight=0.0, lam=1.0, discount=0.95)):
        world = Blind(5, min_steps=2, max_steps=5)
        result = search(world.begin(range(4)), world, rule, Budget(simulations=120))
        trees.append([shape_of(result, world, tree) for tree in range(4)])
    assert trees[0] == trees[1]


def test_a_perfect_heuristic_goes_straight_to_the_goal():
    """A line of ten among uniform decoys: with V = discount ** (steps to go), nothing off the way is expanded."""

    class Line(TableEvaluator):
        def steps(self, problem, state):
            if not 0 <= state < 10:
                return [(-math.log(4), 1000 + 4 * abs(state) + k, 0.95**20, 0.0, False, True, 1) for k in range(4)]
            ends = state == 9
            right = (-math.log(4), state + 1, 0.95 ** (9 - state), float(ends), ends, True, 1)
            return [right, *((-math.log(4), 1000 + 4 * state + k, 0.95**20, 0.0, False, True, 1) for k in range(3))]

        def raw_value(self, problem, state):
            return 0.95**10

    world = Line(0)
    result = search(world.begin([0]), world, PHS(n_candidates=4), Budget(simulations=500), stop_on_solution=True)
    assert result.solved[0]
    assert result.simulations[0] == 10


@pytest.mark.parametrize("discount", [1.0, 0.0])
def test_values_that_do_not_tell_steps_are_refused(discount):
    with pytest.raises(ValueError, match="steps to go"):
        PHS(discount=discount)

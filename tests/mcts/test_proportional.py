"""Mass-proportional descent: the right frequencies, nothing twice, nothing left over."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from mcts import Budget, Flag, Proportional, search
from tests.mcts.fakes import TableEvaluator

N_RUNS = 10_000


class Coin(TableEvaluator):
    """The same three-level tree for every problem, whose steps are drawn with noise of the problem's own."""

    def steps(self, problem, state):
        return super().steps(0, state)

    def _order(self, handle, draw):
        problem, _, _ = self.arrivals[handle]
        table = self.steps(0, self.arrivals[handle][1])
        rng = np.random.default_rng((problem, handle))
        noise = rng.gumbel(size=len(table))
        return sorted(range(len(table)), key=lambda a: -(table[a][0] + noise[a]))


def leaf_probabilities(world, state=0, logprob=0.0):
    """(terminal state, its parent) -> probability under the policy."""
    out = {}
    for step in world.steps(0, state):
        if step[4]:
            out[step[1], state] = math.exp(logprob + step[0])
        else:
            out |= leaf_probabilities(world, step[1], logprob + step[0])
    return out


def small_world():
    world = Coin(35, min_steps=2, max_steps=3, p_terminal=0.6, p_illegal=0.0)
    assert 6 <= len(leaf_probabilities(world)) <= 12
    return world


def terminals_in_order(world, n_trees, simulations, **settings):
    """For each tree, its terminals as (state, parent state) in the order in which they were drawn."""
    drawn = [[] for _ in range(n_trees)]

    def note(store, leaves, expansion):
        for row, leaf in enumerate(leaves.nodes):
            for c in range(expansion.offsets[row], expansion.offsets[row + 1]):
                if expansion.terminal[c]:
                    states = [world.arrivals[h][1] for h in (expansion.handles[c], leaves.handles[row])]
                    drawn[store.nodes["tree"][leaf]].append(tuple(states))

    roots = world.begin(range(n_trees))
    result = search(roots, world, Proportional(**settings), Budget(simulations=simulations), on_wave=note)
    return drawn, result


def test_first_and_second_rollout_follow_the_policy_without_replacement():
    world = small_world()
    mass = leaf_probabilities(world)
    drawn, _ = terminals_in_order(world, N_RUNS, 12)
    first = Counter(row[0] for row in drawn)
    pairs = Counter((row[0], row[1]) for row in drawn)
    for leaf, p in mass.items():
        assert abs(first[leaf] / N_RUNS - p) < 4.0 * math.sqrt(p * (1 - p) / N_RUNS) + 1e-4
        for second, q in mass.items():
            if second != leaf:
                joint = p * q / (1 - p)
                assert abs(pairs[leaf, second] / N_RUNS - joint) < 4.0 * math.sqrt(joint / N_RUNS) + 1e-4


@pytest.mark.parametrize("rollout", [False, True])
def test_every_terminal_is_drawn_once_and_then_the_tree_is_closed(rollout):
    world = small_world()
    drawn, result = terminals_in_order(world, 40, None, rollout=rollout)
    expected = sorted(leaf_probabilities(world))
    assert all(sorted(row) == expected for row in drawn)
    assert (result.store.nodes["flags"][result.roots] & Flag.CLOSED != 0).all()
    np.testing.assert_array_equal(result.store.nodes["open_mass"][result.roots], 0.0)


def test_open_mass_is_what_has_not_been_drawn():
    world = small_world()
    probability = leaf_probabilities(world)
    drawn, result = terminals_in_order(world, 50, 5)
    for row, root in zip(drawn, result.roots, strict=True):
        left = 1.0 - sum(probability[leaf] for leaf in row)
        assert result.store.nodes["open_mass"][root] == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize("wave_size", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_on_a_graph_with_cycles_every_reachable_state_is_found(seed, wave_size):
    world = TableEvaluator(seed, merged=True, n_states=50, min_steps=1, max_steps=4, p_illegal=0.1)
    result = search(world.begin([0, 1, 2]), world, Proportional(), Budget(), wave_size=wave_size)
    for tree in range(3):
        reachable, frontier = {0}, [0]
        while frontier:
            for step in world.steps(tree, frontier.pop()):
                if step[5] and step[1] not in reachable:
                    reachable.add(step[1])
                    if not step[4]:
                        frontier.append(step[1])
        handles = result.store.node_handles[result.store.nodes["tree"] == tree]
        legal_steps = {world.arrivals[h][1] for h in handles.tolist()}
        assert reachable <= legal_steps
        assert result.store.nodes["flags"][result.roots[tree]] & Flag.CLOSED

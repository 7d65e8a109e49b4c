"""A forest's Gumbel search repeats mctx's root visits exactly."""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

from mcts.forest.forest import Forest
from mcts.forest.rules import TreeGumbel
from tests.mcts.test_gumbel import N_TABLES, N_TREES, HashTree, compiled_mctx


def forest_visits(
    world: HashTree, states: np.ndarray, simulations: int, rule: TreeGumbel, noise: np.ndarray, wave: int = 1
):
    forest = Forest(len(states), world.n_actions, simulations=simulations + 1, rule=rule, noise=noise, wave=wave)
    state = np.zeros(1 << 18, np.int64)
    priors = np.exp(world.logprobs)
    while forest.step():
        if (forest.parents < 0).all():
            state[forest.nodes] = states[forest.trees]
        else:
            state[forest.nodes] = HashTree.after(state[forest.parents], forest.actions.astype(np.int64))
        row = state[forest.nodes] % N_TABLES
        forest.answer(priors[row], world.values[row])
    return forest


def assert_visits_equal(n_actions: int, simulations: int, max_considered: int, seeds: range) -> None:
    run = compiled_mctx(n_actions, simulations, max_considered)
    states = np.arange(100, 100 + N_TREES, dtype=np.int32)
    for seed in seeds:
        world = HashTree(n_actions, seed)
        action, _, visits, gumbel = (
            np.asarray(x) for x in run(jax.random.PRNGKey(seed), world.logprobs, world.values, states)
        )
        forest = forest_visits(world, states, simulations, TreeGumbel(max_considered=max_considered), gumbel)
        np.testing.assert_array_equal(forest.root_visits(), visits)
        np.testing.assert_array_equal(forest.best_actions(), action)


@pytest.mark.parametrize(
    ("n_actions", "simulations", "max_considered"),
    [
        (4, 64, 4),
        (32, 50, 16),
        *(pytest.param(*s, marks=pytest.mark.slow) for s in ((3, 12, 16), (8, 40, 4), (12, 64, 8))),
    ],
)
def test_root_visits_and_action_equal_mctx(n_actions, simulations, max_considered):
    assert_visits_equal(n_actions, simulations, max_considered, range(4))


@pytest.mark.slow
@pytest.mark.parametrize("n_actions", [2, 4, 5, 8, 17, 32, 64])
def test_root_visits_equal_mctx_in_many_configurations(n_actions):
    for simulations, considered in ((5, 4), (30, 16), (64, 8), (150, 16)):
        assert_visits_equal(n_actions, simulations, considered, range(8))


def test_another_seed_draws_other_noise_and_the_same_seed_the_same():
    world, states = HashTree(12, 3), np.arange(20)
    found = [
        forest_visits(world, states, 30, TreeGumbel(), np.random.default_rng(seed).gumbel(size=(20, 12))).root_visits()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_waves_take_every_simulation_too():
    world, states = HashTree(8, 3), np.arange(6)
    noise = np.random.default_rng(0).gumbel(size=(6, 8))
    forest = forest_visits(world, states, 40, TreeGumbel(), noise, wave=4)
    assert (forest.root_visits().sum(1) == 40).all()

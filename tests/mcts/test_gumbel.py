"""Gumbel root visits equal mctx's; completed Q and the halving schedule are the paper's."""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import functools

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from mcts import NONE, Budget, Expansion, Gumbel, Roots, completed_q, improved_policy, search
from mcts.gumbel_formulas import halving_visits
from tests.mcts.fakes import TableEvaluator

N_TABLES = 997
N_TREES = 9


class HashTree:
    """Every state has A steps; state h, step a leads to a hash of both. No terminals, no merging, one expansion a state."""

    def __init__(self, n_actions: int, seed: int):
        rng = np.random.default_rng(seed)
        prior = rng.dirichlet(np.full(n_actions, 0.7), N_TABLES).clip(1e-5).astype(np.float32)
        self.logprobs = np.log(prior / prior.sum(1, keepdims=True))
        self.values = rng.random(N_TABLES, dtype=np.float32)
        self.n_actions = n_actions

    @staticmethod
    def after(state, action):
        return (state * 31 + 7 * action + 12345) % 1_000_003

    def expand(self, handles, n_candidates, draw):
        after = self.after(handles[:, None], np.arange(self.n_actions)).ravel()
        n, c = len(handles), len(after)
        return Expansion(
            np.arange(n + 1) * self.n_actions, after, np.zeros(c, np.uint64),
            self.logprobs[handles % N_TABLES].ravel(), self.values[after % N_TABLES], np.zeros(c, np.float32),
            np.zeros(c, bool), np.ones(c, bool), np.ones(c, np.int32), np.full(n, self.n_actions, np.int32),
            np.full(n, -np.inf, np.float32), np.full(n, -np.inf, np.float32),
        )  # fmt: skip


@functools.cache
def compiled_mctx(n_actions: int, simulations: int, max_considered: int):
    """One compilation a shape; tables are arguments."""

    @jax.jit
    def run(key, logprobs, values, states):
        def step(params, rng, action, state):
            after = HashTree.after(state, action)
            row = after % N_TABLES
            zeros = jnp.zeros(N_TREES)
            output = mctx.RecurrentFnOutput(
                reward=zeros, discount=zeros + 1, prior_logits=logprobs[row], value=values[row]
            )
            return output, after

        row = states % N_TABLES
        root = mctx.RootFnOutput(prior_logits=logprobs[row], value=values[row], embedding=states)
        policy = mctx.gumbel_muzero_policy(
            None, key, root, step, simulations, max_num_considered_actions=max_considered
        )
        summary = policy.search_tree.summary()
        return policy.action, policy.action_weights, summary.visit_counts, policy.search_tree.extra_data.root_gumbel

    return run


def assert_equal_to_mctx(n_actions: int, simulations: int, max_considered: int, seeds: range) -> None:
    run = compiled_mctx(n_actions, simulations, max_considered)
    states = np.arange(100, 100 + N_TREES, dtype=np.int32)
    for seed in seeds:
        world = HashTree(n_actions, seed)
        action, weights, visits, gumbel = (
            np.asarray(x) for x in run(jax.random.PRNGKey(seed), world.logprobs, world.values, states)
        )
        rule = Gumbel(n_candidates=n_actions, root_candidates=n_actions, max_considered=max_considered,
                      root_noise=gumbel)  # fmt: skip
        roots = Roots(states.astype(np.int64), np.zeros(N_TREES, np.uint64), world.values[states % N_TABLES])
        result = search(roots, world, rule, Budget(simulations=simulations + 1))
        for t, root in enumerate(result.roots):
            edges = result.children(root)
            np.testing.assert_array_equal(edges["visits"], visits[t])
            assert result.action(t) == result.store.edges_of(root)[action[t]]
            q = completed_q(
                edges["logprob"], edges["visits"], result.store.nodes["value"][edges["child"]],
                float(result.store.nodes["raw_value"][root]),
            )  # fmt: skip
            np.testing.assert_allclose(improved_policy(edges["logprob"], q), weights[t], atol=2e-4)


@pytest.mark.parametrize(
    ("n_actions", "simulations", "max_considered"),
    [(8, 40, 4), (20, 50, 16), *(pytest.param(*s, marks=pytest.mark.slow) for s in ((3, 12, 16), (12, 64, 8)))],
)
def test_root_visits_equal_mctx(n_actions, simulations, max_considered):
    assert_equal_to_mctx(n_actions, simulations, max_considered, range(4))


@pytest.mark.slow
@pytest.mark.parametrize("n_actions", [2, 4, 5, 8, 17, 32, 64])
def test_root_visits_equal_mctx_in_many_configurations(n_actions):
    for simulations, considered in ((5, 4), (30, 16), (64, 8), (150, 16)):
        assert_equal_to_mctx(n_actions, simulations, considered, range(8))


@pytest.mark.parametrize("simulations", [1, 7, 16, 33, 100])
@pytest.mark.parametrize("considered", [1, 2, 5, 16])
def test_halving_schedule_equals_mctx(considered, simulations):
    table = mctx._src.seq_halving.get_sequence_of_considered_visits(considered, simulations)
    assert tuple(halving_visits(considered, simulations)) == table


def test_mixed_value_matches_appendix_d():
    prior = np.array([0.5, 0.3, 0.2])
    sigma = completed_q(np.log(prior), np.array([3, 1, 0]), np.array([0.2, 0.8, 9.0]), 0.4)
    mixed = (0.4 + 4 * (0.5 * 0.2 + 0.3 * 0.8) / 0.8) / 5
    expected = (50 + 3) * 0.1 * (np.array([0.2, 0.8, mixed]) - 0.2) / 0.6
    np.testing.assert_allclose(sigma, expected, rtol=1e-12)


def test_without_visits_the_improved_policy_is_the_prior():
    logprobs = np.log([0.6, 0.3, 0.1])
    np.testing.assert_allclose(
        improved_policy(logprobs, completed_q(logprobs, np.zeros(3), np.zeros(3), 0.7)), [0.6, 0.3, 0.1]
    )


def test_a_budget_without_simulations_is_refused():
    world = HashTree(3, 0)
    roots = Roots(np.array([1]), np.zeros(1, np.uint64), np.array([0.5], np.float32))
    with pytest.raises(ValueError, match="simulations"):
        search(roots, world, Gumbel(), Budget(tokens=10))
    roots = Roots(np.array([1, 2]), np.zeros(2, np.uint64), np.array([0.5, 0.5], np.float32))
    with pytest.raises(ValueError, match="one number for all"):
        search(roots, world, Gumbel(), Budget(simulations=np.array([10, 20])))


def test_another_seed_draws_other_noise_and_the_same_seed_the_same():
    world = HashTree(12, 3)
    roots = Roots(np.arange(20, dtype=np.int64), np.zeros(20, np.uint64), world.values[:20])
    runs = [search(roots, world, Gumbel(), Budget(simulations=30), seed=seed).store.state() for seed in (1, 1, 2)]
    assert runs[0]["edge_planes"].tobytes() == runs[1]["edge_planes"].tobytes()
    assert runs[0]["edge_planes"].tobytes() != runs[2]["edge_planes"].tobytes()


@pytest.mark.parametrize("wave_size", [1, 4])
def test_terminals_and_merged_states_do_not_stop_the_halving(wave_size):
    world = TableEvaluator(4, merged=True, n_states=200, min_steps=2, max_steps=6)
    result = search(world.begin(range(16)), world, Gumbel(), Budget(simulations=60), wave_size=wave_size)
    unfinished = result.simulations < 60
    closed = result.store.nodes["flags"][result.roots] & 16 != 0
    assert (closed | ~unfinished).all()
    assert (~unfinished).sum() >= 8
    assert all(result.action(t) != NONE for t in range(16))

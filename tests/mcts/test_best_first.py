"""Best-first: the order is the sorted enumeration, Levin's bound holds, better paths are taken over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcts import BestFirst, Budget, Expansion, Flag, Roots, path_edges, search
from tests.mcts.fakes import TableEvaluator, shape_of

LEVIN = {"value_weight": 0.0, "lam": 1.0}


def expanded_in_order(world, rule, simulations, problems=(0,), wave_size=1):
    """Path log-probability and depth of the nodes in the order in which they were first expanded; and the result."""
    order = []

    def note(store, leaves, expansion):
        order.extend(n for n in leaves.nodes.tolist() if n not in order)

    result = search(
        world.begin(problems), world, rule, Budget(simulations=simulations), wave_size=wave_size, on_wave=note
    )
    nodes = result.store.nodes[order]
    return nodes["path_logprob"].astype(np.float64), nodes["depth"], result


def enumerate_tree(world, limit, cost):
    """(log cost - log-probability, depth) of every non-terminal state, sorted, by plain recursion down to `limit`."""
    found = []

    def walk(state, logprob, depth):
        key = cost(depth) - logprob
        if key > limit:
            return
        found.append(key)
        for step in world.steps(0, state):
            if not step[4]:
                walk(step[1], logprob + step[0], depth + 1)

    walk(0, 0.0, 0)
    return np.sort(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("cost", "log_cost"), [("none", lambda depth: 0.0), ("depth", lambda d: math.log(d + 1))])
def test_order_of_expansion_is_the_sorted_enumeration(seed, cost, log_cost):
    world = TableEvaluator(seed, min_steps=2, max_steps=5)
    logprobs, depths, _ = expanded_in_order(world, BestFirst(n_candidates=9, cost=cost, **LEVIN), 150)
    keys = np.array([log_cost(d) for d in depths]) - logprobs
    expected = enumerate_tree(world, keys.max() + 1e-3, log_cost)
    assert len(keys) > 30
    np.testing.assert_allclose(keys, expected[: len(keys)], atol=1e-4)


def test_one_candidate_at_a_time_hands_out_steps_by_path_probability():
    world = TableEvaluator(5, min_steps=2, max_steps=5)
    handed = []

    def note(store, leaves, expansion):
        reach = np.repeat(store.nodes["path_logprob"][leaves.nodes], np.diff(expansion.offsets))
        handed.extend(zip(reach + expansion.logprobs, expansion.terminal, strict=True))

    rule = BestFirst(n_candidates=1, cost="none", **LEVIN)
    search(world.begin([0]), world, rule, Budget(simulations=400), on_wave=note)
    # A new state is entered at its own probability, so a step comes out at most one level ahead of the order:
    # the probability of what is still to come never exceeds that of the last state that was requeued.
    expected = enumerate_tree(world, 3.0, lambda depth: 0.0)
    states = np.sort([-p for p, terminal in handed if not terminal and -p <= 3.0])
    np.testing.assert_allclose(states, expected[1:], atol=1e-4)  # the root is not handed out
    assert len(states) > 5


@pytest.mark.parametrize("seed", range(20))
def test_levin_bound_on_expansions_holds(seed):
    world = TableEvaluator(seed, min_steps=1, max_steps=4, p_terminal=0.3)
    rule = BestFirst(n_candidates=9, **LEVIN)
    result = search(world.begin([0]), world, rule, Budget(simulations=2000), stop_on_solution=True)
    if not result.solved[0]:
        assert result.simulations[0] == 2000 or result.store.nodes["flags"][0] & Flag.CLOSED
        return
    path = result.solution_path(0)
    parent = result.store.nodes[result.store.edges["parent"][path[-1]]]
    bound = (parent["depth"] + 1) / math.exp(parent["path_logprob"])
    assert result.simulations[0] <= bound + 1e-6


def test_the_value_moves_a_promising_state_forward():
    world = TableEvaluator(3, min_steps=3, max_steps=5, p_terminal=0.0, p_illegal=0.0)
    rule = BestFirst(n_candidates=9, value_weight=1.0, lam=0.0)
    result = search(world.begin([0]), world, rule, Budget(simulations=2))
    edges = result.children(result.roots[0])
    best = edges["child"][np.argmax(result.store.nodes["raw_value"][edges["child"]])]
    assert result.store.nodes["flags"][best] & Flag.EXPANDED


class Diamond:
    """0 -> 1 (p .1) -> 3; 0 -> 2 (p .9) -> 1 (p .9); 3 -> 4. The likelier path to 1 is found second."""

    EDGES = {0: [(1, 0.1), (2, 0.9)], 1: [(3, 1.0)], 2: [(1, 0.9), (5, 0.1)], 3: [(4, 1.0)]}  # noqa: RUF012
    VALUES = {0: 0.5, 1: 0.9, 2: 0.4, 3: 0.8, 4: 0.01, 5: 0.01}  # noqa: RUF012

    def expand(self, handles, n_candidates, draw):
        steps = [self.EDGES.get(h, []) for h in handles.tolist()]
        flat = [step for row in steps for step in row]
        after = np.array([state for state, _ in flat], np.int64)
        n, c = len(steps), len(flat)
        return Expansion(
            np.concatenate([[0], np.cumsum([len(row) for row in steps])]), after, (after + 1).astype(np.uint64),
            np.log(np.array([p for _, p in flat], np.float32)), np.array([self.VALUES[s] for s, _ in flat], np.float32),
            np.zeros(c, np.float32), np.zeros(c, bool), np.ones(c, bool), np.ones(c, np.int32),
            np.ones(n, np.int32), np.full(n, -np.inf, np.float32), np.full(n, -np.inf, np.float32),
        )  # fmt: skip


def test_a_better_path_raises_the_state_and_its_descendants():
    roots = Roots(np.array([0]), np.array([1], np.uint64), np.array([0.5], np.float32))
    result = search(roots, Diamond(), BestFirst(n_candidates=9, value_weight=5.0, lam=1.0), Budget(simulations=20))
    store = result.store
    reach = {int(h): math.exp(p) for h, p in zip(store.node_handles, store.nodes["path_logprob"], strict=True)}
    assert reach == pytest.approx({0: 1.0, 1: 0.81, 2: 0.9, 3: 0.81, 4: 0.81, 5: 0.09}, rel=1e-5)
    node = int(np.flatnonzero(store.node_handles == 4)[0])
    assert store.node_handles[store.edges["child"][path_edges(store, node)]].tolist() == [2, 1, 3, 4]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_heap_pops_what_a_scan_of_the_whole_frontier_would(seed, merged):
    """At every wave of one leaf, no queued node has a higher priority than the leaf taken."""
    world = TableEvaluator(seed, merged=merged, n_states=300, min_steps=1, max_steps=5)
    rule = BestFirst(n_candidates=2, value_weight=1.0, lam=0.7, cost="depth")
    before = {}

    def priority(node):
        reach = node["path_logprob"] + (node["best_unseen_logprob"] if node["flags"] & Flag.EXPANDED else 0.0)
        return math.log(max(node["raw_value"], 1e-6)) + 0.7 * (reach - math.log(node["depth"] + 1))

    def check(store, leaves, expansion):
        for leaf in leaves.nodes.tolist():
            tree = int(store.nodes["tree"][leaf])
            if tree in before:
                assert before[tree][leaf] >= max(before[tree].values()) - 1e-4
        for tree in range(len(store.trees)):
            open_nodes = np.flatnonzero(
                (store.nodes["tree"] == tree) & (store.nodes["flags"] & (Flag.TERMINAL | Flag.EXHAUSTED) == 0)
            )
            before[tree] = {int(n): priority(store.nodes[n]) for n in open_nodes}

    result = search(world.begin(range(4)), world, rule, Budget(simulations=80), on_wave=check)
    assert result.simulations.sum() > 60


@pytest.mark.parametrize("cost", ["depth", "tokens", "none"])
def test_every_state_is_found_when_nothing_stops_the_search(cost):
    world = TableEvaluator(2, merged=True, n_states=60, min_steps=1, max_steps=4, p_illegal=0.0)
    result = search(world.begin([0, 1]), world, BestFirst(n_candidates=2, cost=cost), Budget(), wave_size=3)
    for tree, problem in enumerate((0, 1)):
        reachable, frontier = {0}, [0]
        while frontier:
            for step in world.steps(problem, frontier.pop()):
                if step[1] not in reachable:
                    reachable.add(step[1])
                    if not step[4]:
                        frontier.append(step[1])
        found = {state for state, *_ in ((row[0][0],) for row in shape_of(result, world, tree))}
        assert found == reachable


def test_an_unknown_cost_is_refused():
    with pytest.raises(ValueError, match="depth"):
        BestFirst(cost="hops")


@pytest.mark.parametrize("wave_size", [1, 3])
def test_a_rollout_follows_a_new_step_to_its_end(wave_size):
    world = TableEvaluator(4, min_steps=2, max_steps=5, p_terminal=0.2)
    waiting, followed = set(), 0

    def note(store, leaves, expansion):
        nonlocal followed
        for node in leaves.nodes.tolist():
            followed += node in waiting
            waiting.discard(node)
        if store.trees["simulations"].min() < 180:  # the last waves are cut by the budget
            assert not waiting  # every state that a wave has just reached is expanded by the next
        for edge in range(store.n_edges - len(expansion.handles), store.n_edges):
            child = store.edges["child"][edge]
            if not store.nodes["flags"][child] & (Flag.TERMINAL | Flag.EXPANDED):
                waiting.add(int(child))

    rule = BestFirst(n_candidates=1, rollout=True, **LEVIN)
    search(world.begin([0, 1]), world, rule, Budget(simulations=190), wave_size=wave_size, on_wave=note)
    assert followed > 100


def test_a_rollout_goes_on_in_order_where_it_cannot_go_deeper():
    world = TableEvaluator(4, merged=True, n_states=60, min_steps=2, max_steps=5)
    plain, rolled = (
        search(world.begin([0]), world, BestFirst(n_candidates=2, rollout=rollout), Budget(simulations=3000))
        for rollout in (False, True)
    )
    assert plain.simulations[0] < 3000
    assert rolled.store.n_nodes == plain.store.n_nodes  # the same graph in the end, in another order

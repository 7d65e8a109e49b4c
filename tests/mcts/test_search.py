"""The loop: budgets, determinism, waves, stops, and what a result tells."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mcts import NEVER, NONE, PUCT, BestFirst, Budget, Flag, Gumbel, Proportional, Roots, Status, Store, resume, search
from tests.mcts.fakes import TableEvaluator, shape_of

RULES = {
    "puct": PUCT(n_candidates=3, widen_c=1.0, noise_fraction=0.25),
    "gumbel": Gumbel(n_candidates=3),
    "best-first": BestFirst(n_candidates=2),
    "best-first-sampled": BestFirst(n_candidates=2, draw="sample"),
    "proportional": Proportional(),
    "puct-rollout": PUCT(n_candidates=1, widen_c=1.0, rollout=True),
    "best-first-parked": BestFirst(n_candidates=1, rollout=True, park=0.9),
}
BIG = {"merged": True, "n_states": 3000, "min_steps": 2, "max_steps": 5, "p_terminal": 0.1}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
each_wave = pytest.mark.parametrize("wave_size", [1, 8])


@each_rule
@each_wave
def test_batch_mates_do_not_change_a_tree(rule, wave_size):
    alone, crowd = TableEvaluator(1, **BIG), TableEvaluator(1, **BIG)
    seeds = np.arange(10, 20, dtype=np.uint64)
    together = search(
        crowd.begin(range(10)), crowd, rule, Budget(simulations=60), wave_size=wave_size, tree_seeds=seeds
    )
    for tree in (0, 4, 9):
        single = search(
            alone.begin([tree]), alone, rule, Budget(simulations=60), wave_size=wave_size,
            tree_seeds=seeds[tree : tree + 1],
        )  # fmt: skip
        assert shape_of(single, alone, 0) == shape_of(together, crowd, tree)
        assert len(shape_of(single, alone, 0)) > 20


@each_rule
@each_wave
def test_same_seed_same_bytes(rule, wave_size):
    states = []
    for _ in range(2):
        world = TableEvaluator(2, **BIG)
        result = search(world.begin(range(6)), world, rule, Budget(simulations=50), wave_size=wave_size, seed=7)
        states.append({name: array.tobytes() for name, array in result.store.state().items()})
    assert states[0] == states[1]


@each_rule
@each_wave
def test_save_and_load_go_on_identically(rule, wave_size):
    world = TableEvaluator(3, **BIG)
    roots = world.begin(range(5))
    through = search(roots, world, rule, Budget(simulations=90), wave_size=wave_size, seed=1).store.state()
    world = TableEvaluator(3, **BIG)
    saved = []

    def keep(store, leaves, expansion):
        if len(saved) == 0 and store.trees["simulations"].max() >= 40:
            state = {name: array.copy() for name, array in store.state().items()}
            orders = {handle: list(order) for handle, order in world.orders.items()}
            saved.append((state, list(world.arrivals), orders))

    search(world.begin(range(5)), world, rule, Budget(simulations=90), wave_size=wave_size, seed=1, on_wave=keep)
    state, world.arrivals, world.orders = saved[0]
    result = resume(Store.from_state(state), world, rule, Budget(simulations=90), wave_size=wave_size)
    again = result.store.state()
    assert {k: v.tobytes() for k, v in again.items()} == {k: v.tobytes() for k, v in through.items()}


def test_a_broken_state_is_refused():
    world = TableEvaluator(0)
    state = Store.plant(world.begin([0])).state()
    del state["edge_planes"]
    with pytest.raises(ValueError, match="edge_planes"):
        Store.from_state(state)


@each_rule
def test_growth_of_the_arena_does_not_change_results(rule):
    results = []
    for capacity in (1, 100_000):
        world = TableEvaluator(4, **BIG)
        store = Store.plant(world.begin(range(6)), 5, capacity=capacity)
        results.append(resume(store, world, rule, Budget(simulations=80), wave_size=2).store.state())
    assert all(results[0][name].tobytes() == results[1][name].tobytes() for name in results[0])


@each_rule
def test_a_wave_of_eight_never_repeats_a_leaf(rule):
    world = TableEvaluator(5, **BIG)
    sizes = []

    def note(store, leaves, expansion):
        assert len(set(leaves.nodes.tolist())) == len(leaves)
        sizes.append(len(leaves))

    result = search(world.begin(range(4)), world, rule, Budget(simulations=100), wave_size=8, on_wave=note)
    assert max(sizes) > 8
    np.testing.assert_array_equal(result.store.edges["in_flight"], 0)
    assert not (result.store.nodes["flags"] & (Flag.PENDING | Flag.ON_PATH | Flag.ON_STACK | Flag.RAISED)).any()


@each_rule
@pytest.mark.parametrize("simulations", [0, 1, 2, 13])
@each_wave
def test_the_simulation_budget_is_exact(rule, simulations, wave_size):
    world = TableEvaluator(6, merged=False, min_steps=2, max_steps=4, p_terminal=0.1)
    result = search(world.begin(range(6)), world, rule, Budget(simulations=simulations), wave_size=wave_size)
    np.testing.assert_array_equal(result.simulations, simulations)
    assert (result.status == Status.BUDGET).all()


@each_rule
def test_no_wave_starts_once_the_tokens_are_spent(rule):
    world = TableEvaluator(6, merged=False, min_steps=2, max_steps=4, p_terminal=0.1)
    spent = np.zeros(6, np.int64)

    def note(store, leaves, expansion):
        trees = store.nodes["tree"][leaves.nodes]
        assert (spent[trees] < 60).all()
        np.add.at(spent, trees, expansion.leaf_tokens)

    budget = Budget(tokens=60, simulations=500)
    result = search(world.begin(range(6)), world, rule, budget, on_wave=note)
    np.testing.assert_array_equal(result.tokens, spent)
    stopped = result.status == Status.BUDGET
    assert stopped.any()
    assert (spent[stopped] >= 60).all()


def test_no_time_left_stops_before_the_first_wave():
    world = TableEvaluator(0)
    result = search(world.begin([0]), world, PUCT(), Budget(seconds=0.0))
    assert result.simulations[0] == 0
    assert result.action(0) == NONE
    assert len(result.best_path(0)) == 0


@each_rule
def test_stop_on_solution_stops_at_the_first_and_without_it_the_search_goes_on(rule):
    setting = {"merged": True, "n_states": 400, "min_steps": 2, "max_steps": 4, "p_terminal": 0.3}
    world = TableEvaluator(7, **setting)
    short = search(world.begin(range(8)), world, rule, Budget(simulations=200), stop_on_solution=True)
    world = TableEvaluator(7, **setting)
    long = search(world.begin(range(8)), world, rule, Budget(simulations=200))
    assert short.solved.any()
    for tree in np.flatnonzero(short.solved):
        assert short.status[tree] == Status.SOLVED
        assert short.tokens_at_first_solution[tree] == short.tokens[tree] == long.tokens_at_first_solution[tree]
        assert short.simulations[tree] <= long.simulations[tree]
        path = short.solution_path(int(tree))
        edges = short.store.edges[path]
        assert edges["parent"][0] == short.roots[tree]
        np.testing.assert_array_equal(edges["child"][:-1], edges["parent"][1:])
        assert short.store.nodes["flags"][edges["child"][-1]] & Flag.SOLVED
    for tree in np.flatnonzero(~short.solved):
        assert short.tokens_at_first_solution[tree] == NEVER
        assert len(short.solution_path(int(tree))) == 0
    assert long.simulations.sum() > short.simulations.sum()


@each_rule
@each_wave
def test_cycles_do_not_hang_and_everything_reachable_is_found(rule, wave_size):
    world = TableEvaluator(
        8, merged=True, n_states=12, min_steps=2, max_steps=4, p_terminal=0.0, p_illegal=0.0
    )  # no terminal at all: every path runs into a cycle
    result = search(world.begin(range(4)), world, rule, Budget(simulations=5000), wave_size=wave_size)
    assert (result.status == Status.CLOSED).all()
    assert (result.simulations < 5000).all()
    states = {(problem, state) for problem, state, _ in (world.arrivals[h] for h in result.store.node_handles)}
    assert len(states) == result.store.n_nodes
    assert all(flags & Flag.EXHAUSTED for flags in result.store.nodes["flags"])


@each_rule
def test_best_path_is_a_path_without_repeated_states(rule):
    world = TableEvaluator(9, merged=True, n_states=80, min_steps=2, max_steps=4)
    result = search(world.begin(range(8)), world, rule, Budget(simulations=150))
    for tree in range(8):
        edges = result.store.edges[result.best_path(tree)]
        assert len(edges) > 0
        assert edges["parent"][0] == result.roots[tree]
        np.testing.assert_array_equal(edges["child"][:-1], edges["parent"][1:])
        assert len(set(edges["child"].tolist()) | {int(result.roots[tree])}) == len(edges) + 1
        mine = set(result.edges(tree).tolist())
        assert set(result.best_path(tree).tolist()) <= mine


@each_rule
def test_at_the_node_limit_the_best_so_far_is_the_result(rule):
    world = TableEvaluator(10, min_steps=3, max_steps=4, p_terminal=0.05)
    result = search(world.begin(range(3)), world, rule, Budget(simulations=2000), node_limit=100, wave_size=2)
    assert (result.status == Status.FULL).all()
    assert result.store.trees["n_nodes"].max() <= 100
    assert all(len(result.best_path(tree)) > 0 for tree in range(3))


def test_a_search_of_known_terminals_stops_though_no_token_is_spent():
    world = TableEvaluator(11, min_steps=2, max_steps=3, p_terminal=0.8, p_illegal=0.0)
    result = search(world.begin(range(10)), world, PUCT(n_candidates=1, c_init=0.0), Budget(tokens=10**9))
    assert set(result.status.tolist()) <= {Status.CLOSED, Status.SATURATED}


def test_no_trees_are_no_work():
    empty = Roots(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.float32))
    for rule in RULES.values():
        assert len(search(empty, TableEvaluator(0), rule, Budget(simulations=3)).roots) == 0


def test_a_wave_needs_a_leaf():
    with pytest.raises(ValueError, match="wave_size"):
        search(TableEvaluator(0).begin([0]), TableEvaluator(0), PUCT(), Budget(simulations=3), wave_size=0)


def test_dirichlet_noise_is_a_distribution_with_the_right_spread():
    from mcts.store.descent import gamma_variate

    for alpha in (0.3, 1.0, 2.5):
        draws = np.array([gamma_variate(np.int64(99), i, alpha) for i in range(20_000)])
        assert draws.mean() == pytest.approx(alpha, rel=0.05)
        assert draws.var() == pytest.approx(alpha, rel=0.08)


def test_import_is_free_of_torch_and_compiles_nothing():
    code = (
        "import sys, mcts; from mcts.store import descent, insertion, frontier, sweeps as g;"
        "assert 'torch' not in sys.modules; assert not descent.select.signatures; assert not g.sweep.signatures"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "other"), [("Forest", "mcts.rules"), ("Forest", "mcts.store.store"), ("Store", "mcts.forest.forest")]
)
def test_each_engine_starts_without_the_other(name, other):
    code = f"import sys, mcts; mcts.{name}; assert {other!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

"""The compiled PUCT equals the plain-Python search, visit by visit."""

from __future__ import annotations

import numpy as np
import pytest

from mcts import NEVER, PUCT, Budget, Flag, search
from tests.mcts.fakes import TableEvaluator
from tests.mcts.reference import reference_search

N_TREES = 16


def assert_equal_trees(result, trees) -> None:
    store = result.store
    for t, tree in enumerate(trees):
        ids = np.flatnonzero(store.nodes["tree"] == t)
        assert len(ids) == len(tree.nodes)
        numbers = {id(node): int(n) for node, n in zip(tree.nodes, ids, strict=True)}
        for node, n in zip(tree.nodes, ids, strict=True):
            record = store.nodes[n]
            flags = int(record["flags"])
            seen = (int(record["visits"]), float(record["value"]), int(record["failures"]), int(record["depth"]))
            assert seen == (node.visits, node.value, node.failures, node.depth)
            verdict = [bool(flags & flag) for flag in (Flag.CLOSED, Flag.DEAD, Flag.LOST)]
            assert verdict == [node.closed, node.dead, node.lost]
            edges = [(int(e["visits"]), int(e["child"]), int(e["in_flight"])) for e in result.children(n)]
            assert edges == [(e.visits, numbers[id(e.child)], 0) for e in node.edges]
        assert result.simulations[t] == tree.simulations
        assert result.tokens[t] == tree.tokens
        assert result.tokens_at_first_solution[t] == (NEVER if tree.first_solution is None else tree.first_solution)


CASES = [
    # merged, wave size, K, widen_c, discount, virtual loss, draw, min steps
    pytest.param(False, 1, 8, 0.0, 1.0, 1.0, "sample", 0, id="tree"),
    pytest.param(False, 1, 1, 1.0, 0.9, 1.0, "best", 1, id="tree-widening"),
    pytest.param(False, 8, 3, 0.0, 1.0, 1.0, "sample", 0, id="tree-waves"),
    pytest.param(True, 1, 8, 0.0, 1.0, 1.0, "sample", 0, id="graph"),
    pytest.param(True, 1, 2, 1.5, 0.95, 1.0, "sample", 0, id="graph-widening"),
    pytest.param(True, 4, 2, 1.0, 0.97, 3.0, "best", 1, id="graph-widening-waves"),
    pytest.param(True, 8, 4, 0.0, 1.0, 0.0, "sample", 1, id="graph-waves-no-virtual-loss"),
]


@pytest.mark.parametrize(("merged", "wave_size", "k", "widen_c", "discount", "loss", "draw", "min_steps"), CASES)
def test_kernels_match_reference(merged, wave_size, k, widen_c, discount, loss, draw, min_steps):
    total = 0
    for world in range(6):
        rule = PUCT(n_candidates=k, widen_c=widen_c, discount=discount, virtual_loss=loss, draw=draw)
        settings = {
            "merged": merged, "n_states": (30, 400)[world % 2], "min_steps": min_steps, "max_steps": 3 + world,
            "p_terminal": (0.05, 0.2, 0.4)[world % 3], "p_illegal": (0.0, 0.2)[world % 2],
        }  # fmt: skip
        simulations = (70, 330)[world % 2]
        ours, theirs = TableEvaluator(world, **settings), TableEvaluator(world, **settings)
        result = search(
            ours.begin(range(N_TREES)), ours, rule, Budget(simulations=simulations), wave_size=wave_size, seed=world
        )
        trees = reference_search(theirs.begin(range(N_TREES)), theirs, rule, simulations, wave_size)
        assert_equal_trees(result, trees)
        total += int(result.simulations.sum())
    assert total > 3_000


KATAGO = {"c_init": 1.0, "c_log": 0.45, "c_base": 500.0}
RULES = [
    pytest.param({**KATAGO, "stdev_scale": 0.85}, id="spread"),
    pytest.param({**KATAGO, "stdev_scale": 1.0, "stdev_prior": 0.05, "discount": 0.9}, id="spread-discounted"),
    pytest.param({"forced": 2.0}, id="forced"),
    pytest.param({"forced": 8.0, "widen_c": 1.0, "stdev_scale": 0.5}, id="forced-widening-spread"),
    pytest.param({"max_share": 1.0}, id="max"),
    pytest.param({"max_share": 0.5, "discount": 0.95}, id="mixed"),
    pytest.param({"solve": True, "discount": 0.97}, id="solve"),
    pytest.param({"solve": True, "max_share": 0.3, "forced": 2.0, "stdev_scale": 0.85}, id="everything"),
]


@pytest.mark.parametrize("settings", RULES)
@pytest.mark.parametrize("merged", [False, True], ids=["tree", "graph"])
@pytest.mark.parametrize("wave_size", [1, 5])
def test_every_addition_to_puct_matches_the_reference(settings, merged, wave_size):
    rule = PUCT(n_candidates=3, **settings)
    world = {"merged": merged, "n_states": 150, "max_steps": 5, "p_terminal": 0.15}
    ours, theirs = TableEvaluator(7, **world), TableEvaluator(7, **world)
    result = search(ours.begin(range(N_TREES)), ours, rule, Budget(simulations=150), wave_size=wave_size)
    assert_equal_trees(result, reference_search(theirs.begin(range(N_TREES)), theirs, rule, 150, wave_size))
    assert result.simulations.sum() > 1000

"""Millions of random operations: PUCT with every addition, over random worlds, equals the plain-Python search throughout.

An operation is one simulation. A game is: search, compare; go on with more simulations, compare; take a step, go on below it,
compare. Worlds vary in merges, cycles, terminals, uneven children, widening and waves; the arena starts at one node.
"""

from __future__ import annotations

import numpy as np
import pytest

from mcts import PUCT, Budget, Flag, Store, reroot, resume
from tests.mcts.fakes import TableEvaluator
from tests.mcts.reference import play, reference_search
from tests.mcts.test_reference import assert_equal_trees

N_TREES = 12


def random_game(seed: int) -> int:
    """Play one game; returns how many simulations were compared."""
    rng = np.random.default_rng(seed)
    merged = bool(rng.integers(2))
    world = {
        "merged": merged, "n_states": int(rng.choice([8, 30, 300])), "min_steps": int(rng.integers(3)),
        "max_steps": int(rng.integers(2, 9)), "p_terminal": float(rng.choice([0.0, 0.05, 0.3])),
        "p_illegal": float(rng.choice([0.0, 0.2])), "draw_seed": seed,
    }  # fmt: skip
    rule = PUCT(
        n_candidates=int(rng.choice([1, 2, 4, 8])), draw=str(rng.choice(["sample", "best"])),
        discount=float(rng.choice([1.0, 0.9])), c_init=float(rng.choice([0.3, 1.25])), c_log=float(rng.choice([0.45, 1.0])),
        c_base=float(rng.choice([50.0, 19652.0])), virtual_loss=float(rng.choice([0.0, 1.0, 3.0])),
        widen_c=float(rng.choice([0.0, 1.0])), forced=float(rng.choice([0.0, 2.0])),
        stdev_scale=float(rng.choice([0.0, 0.85])), max_share=float(rng.choice([0.0, 0.0, 0.5])), solve=bool(rng.integers(2)),
    )  # fmt: skip
    wave_size, slots = int(rng.choice([1, 3, 8])), None if rng.integers(2) else 8
    first, second = sorted(rng.integers(1, 300, 2).tolist())
    ours, theirs = TableEvaluator(seed, **world), TableEvaluator(seed, **world)
    store = Store.plant(ours.begin(range(N_TREES)), seed, capacity=1)
    result = resume(store, ours, rule, Budget(simulations=first), wave_size=wave_size, slots=slots)
    trees = reference_search(theirs.begin(range(N_TREES)), theirs, rule, first, wave_size)
    assert_equal_trees(result, trees)
    result = resume(store, ours, rule, Budget(simulations=second), wave_size=wave_size, slots=slots)
    go_on(trees)
    play(trees, theirs, rule, second, wave_size)
    assert_equal_trees(result, trees)
    played = int(result.simulations.sum())
    if not merged:
        played += a_step_later(result, trees, ours, theirs, rule, second + first, wave_size, rng)
    return played


def go_on(trees) -> None:
    for tree in trees:
        tree.free = 0


def a_step_later(result, trees, ours, theirs, rule, simulations, wave_size, rng) -> int:
    chosen = []
    for tree, root in zip(trees, result.roots.tolist(), strict=True):
        ids = np.flatnonzero(result.store.nodes["tree"] == result.store.nodes["tree"][root]).tolist()
        open_ = [e.child for e in tree.root.edges if not e.child.terminal]
        node = open_[int(rng.integers(len(open_)))] if open_ else tree.root
        chosen.append(ids[tree.nodes.index(node)])
        take(tree, node)
    moved = reroot(result.store, rule, chosen)
    assert not (moved.store.nodes["flags"] & (Flag.PENDING | Flag.RAISED)).any()
    ended = resume(moved.store, ours, rule, Budget(simulations=simulations), wave_size=wave_size)
    play(trees, theirs, rule, simulations, wave_size)
    for t, tree in enumerate(trees):
        root = ended.store.nodes[ended.roots[t]]
        assert (int(root["visits"]), float(root["value"])) == (tree.root.visits, tree.root.value)
        assert ended.children(int(ended.roots[t]))["visits"].tolist() == [e.visits for e in tree.root.edges]
    return int(ended.simulations.sum())


def take(tree, node) -> None:
    """The reference takes a step, in a tree without merges."""
    depth, below = node.depth, [node]
    for each in below:
        each.depth -= depth
        below += [e.child for e in each.edges]
    node.parents = []
    tree.root, tree.simulations, tree.free = node, node.visits, 0


def play_games(simulations: int, first_seed: int) -> None:
    seed = first_seed
    while simulations > 0:
        simulations -= random_game(seed)
        seed += 1


@pytest.mark.slow
def test_twenty_thousand_operations_match():
    play_games(20_000, 0)


@pytest.mark.slow
def test_five_million_operations_match():
    play_games(5_000_000, 1_000_000)

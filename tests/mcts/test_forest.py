"""A forest equals a plain Python search visit by visit, repeats mctx's Gumbel visits, and refuses what it cannot use."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numba.core.caching import NullCache

from mcts.forest.forest import Forest, ForestError
from mcts.forest.kernels import cancel
from mcts.forest.layout import EXTRA, TABLE, entry
from mcts.forest.records import NO_NODE
from mcts.forest.rules import TreeGumbel, TreePUCT
from mcts.store import memory
from tests.mcts.forest_reference import ReferenceTree, child_key


class Evaluator:
    """Answers that are a pure function of a node's key."""

    def __init__(self, n_actions: int, *, terminals: float = 0.0, uneven: bool = False, seed: int = 0):
        self.n_actions, self.terminals, self.uneven, self.seed = n_actions, terminals, uneven, seed
        self.keys: dict[int, int] = {}

    def answer(self, key: int):
        """(priors, value, terminal, first plays)."""
        draw = np.random.default_rng([key, self.seed])
        count = int(draw.integers(1, self.n_actions + 1)) if self.uneven else self.n_actions
        priors = draw.dirichlet(np.full(count, 0.6)).astype(np.float32).clip(1e-6)
        value, terminal = np.float32(draw.random()), draw.random() < self.terminals
        if terminal:
            value = np.float32(draw.integers(0, 2))
        return priors, value, terminal, draw.random(count).astype(np.float32)

    def feed(self, forest: Forest) -> None:
        """Answer the wave under way."""
        leaves, wide = forest.leaves, self.n_actions
        priors, first = np.zeros((leaves, wide), np.float32), np.zeros((leaves, wide), np.float32)
        values, counts, terminal = np.zeros(leaves, np.float32), np.zeros(leaves, int), np.zeros(leaves, bool)
        where = zip(forest.nodes, forest.parents, forest.actions, forest.trees, strict=True)
        for row, (node, parent, action, tree) in enumerate(where):
            key = int(tree) if parent == NO_NODE else child_key(self.keys[int(parent)], int(action))
            self.keys[int(node)] = key
            p, values[row], terminal[row], f = self.answer(key)
            counts[row], priors[row, : len(p)], first[row, : len(p)] = len(p), p, f
        forest.answer(priors, values, counts=counts, terminal=terminal, first_play=first)


def play(forest: Forest, evaluator: Evaluator, rounds: int = 1 << 30) -> Forest:
    while rounds and forest.step():
        evaluator.feed(forest)
        rounds -= 1
    return forest


def tree_of(forest: Forest, node: int) -> list:
    """[(visits, Q, subtree), ...] of a node's children."""
    ids, visits, q = forest.children(node)
    return [(int(n), float(v), tree_of(forest, int(i))) for i, n, v in zip(ids, visits, q, strict=True)]


def reference_tree(node, rule) -> list:
    """The same of a reference's node."""
    return [
        (c.visits, float(c.q() if c.visits else first_play(c, node, rule)), reference_tree(c, rule))
        for c in node.children
    ]


def first_play(child, node, rule: TreePUCT) -> np.float32:
    if rule.first_play != "mean":
        return child.first_play
    return max(node.total / np.float32(node.visits) - np.float32(rule.first_play_reduction), np.float32(0))


def settings(seed: int):
    """A random rule, shape and evaluator."""
    draw = np.random.default_rng(seed)
    first_play = [float(draw.random()), 0.0, "parent", "given", "mean"][seed % 5]
    rule = TreePUCT(
        c_init=float(draw.uniform(0.5, 3)), c_base=float(draw.choice([19652.0, 50.0])), first_play=first_play,
        first_play_reduction=float(draw.uniform(0, 0.3)), pending_value=float(draw.choice([0.0, 0.0, 0.5, -1.0])),
    )  # fmt: skip
    n_actions = int(draw.choice([1, 2, 3, 4, 5, 8, 13, 33]))
    evaluator = Evaluator(
        n_actions, terminals=float(draw.choice([0.0, 0.1, 0.4])), uneven=bool(draw.integers(2)), seed=seed
    )
    return rule, int(draw.integers(1, 6)), int(draw.choice([1, 1, 2, 5])), int(draw.integers(2, 120)), evaluator


def assert_equals_reference(seed: int) -> int:
    """Play a random configuration both ways; simulations played."""
    rule, n_trees, wave, limit, evaluator = settings(seed)
    forest = Forest(n_trees, evaluator.n_actions, simulations=limit, rule=rule, wave=wave, capacity=4)
    play(forest, evaluator)
    for tree in range(n_trees):
        reference = ReferenceTree(rule, tree, wave, limit)
        while reference.play(evaluator.answer):
            pass
        assert tree_of(forest, 4 * tree) == reference_tree(reference.root, rule), (seed, tree)
        assert forest.simulations[tree] == reference.simulations
    return n_trees * limit


@pytest.mark.parametrize("block", range(8))
def test_equals_plain_python_visit_by_visit(block):
    for seed in range(12 * block, 12 * block + 12):
        assert_equals_reference(seed)


@pytest.mark.slow
def test_equals_plain_python_over_many_random_searches():
    played, seed = 0, 1000
    while played < 500_000:
        played += assert_equals_reference(seed)
        seed += 1


@pytest.mark.slow
def test_large_counts_leave_the_table_of_exploration_factors():
    rule, evaluator = TreePUCT(c_base=300.0), Evaluator(2)
    forest = play(Forest(1, 2, simulations=TABLE + 300, rule=rule), evaluator)
    reference = ReferenceTree(rule, 0, 1, TABLE + 300)
    while reference.play(evaluator.answer):
        pass
    assert tree_of(forest, 0) == reference_tree(reference.root, rule)


def test_a_tree_of_terminals_ends():
    def evaluate(forest):
        forest.answer(np.full((forest.leaves, 2), 0.5), np.full(forest.leaves, 0.25), terminal=forest.depths > 0)

    forest = Forest(2, 2)
    while forest.step():
        evaluate(forest)
    assert [int(visits.sum()) for _, visits, _ in map(forest.children, (0, 4))] == [2 + EXTRA + 1] * 2
    assert forest.children(0)[2].tolist() == [0.25, 0.25]


def test_a_tree_does_not_depend_on_its_batch_mates_nor_on_slots():
    evaluator = Evaluator(5, terminals=0.2, uneven=True)
    rule = TreePUCT(first_play="parent")
    together = play(Forest(7, 5, simulations=80, rule=rule, wave=3), evaluator)
    turns = play(Forest(7, 5, simulations=80, rule=rule, wave=3, slots=7), Evaluator(5, terminals=0.2, uneven=True))
    for tree in range(7):
        assert tree_of(together, 4 * tree) == tree_of(turns, 4 * tree)


def test_few_slots_serve_every_tree_in_turn():
    evaluator, seen = Evaluator(3), []
    forest = Forest(5, 3, simulations=40, slots=2)
    for _ in range(10):
        assert forest.step()
        assert forest.leaves == 2
        seen.append(set(forest.trees.tolist()))
        evaluator.feed(forest)
    assert seen == [{2 * i % 5, (2 * i + 1) % 5} for i in range(10)]


def test_a_descent_to_a_leaf_that_waits_is_taken_back():
    forest = Forest(1, 2, wave=8)
    assert forest.step()
    assert forest.leaves == forest.simulations[0] == 1  # all descents end at the root
    forest.answer([[0.5, 0.5]], [0.5])
    forest.step()
    assert len(set(forest.nodes.tolist())) == forest.leaves == 2
    assert forest.simulations[0] == 3 == 1 + forest.children(0)[1].sum()


def test_cancel_takes_the_wave_back():
    one, other = (Forest(3, 4, wave=2, rule=TreePUCT(first_play=0.3)) for _ in range(2))
    evaluator = Evaluator(4, uneven=True)
    play(one, evaluator, 20)
    play(other, Evaluator(4, uneven=True), 20)
    for forest in (one, other):
        forest.step()
    before, played = [tree_of(one, 4 * tree) for tree in range(3)], one.simulations
    under_way = np.bincount(one.trees, minlength=3)
    one.cancel()
    assert one.leaves == 0
    assert under_way.min() > 0
    assert (one.simulations == played - under_way).all()
    one.step()
    assert [tree_of(one, 4 * tree) for tree in range(3)] == before == [tree_of(other, 4 * tree) for tree in range(3)]


def test_an_evaluator_that_raises_leaves_the_forest_usable():
    forest, evaluator, calls = Forest(2, 3, simulations=30), Evaluator(3), []

    def evaluate(forest):
        calls.append(1)
        if len(calls) == 10:
            raise RuntimeError("out of memory")
        return np.full((forest.leaves, 3), 1 / 3), np.full(forest.leaves, 0.5)

    with pytest.raises(RuntimeError, match="out of memory"):
        forest.search(evaluate)
    assert forest.leaves == 0
    assert forest.simulations.tolist() == [9, 9]
    forest.search(evaluate)
    assert forest.simulations.tolist() == [30, 30]
    assert evaluator.keys == {}


def test_reroot_keeps_the_subtree_and_goes_on_as_it_would_have():
    evaluator = Evaluator(6, terminals=0.1, uneven=True)
    forest = play(Forest(3, 6, simulations=150), evaluator)
    assert not forest.leaves
    chosen = []
    for tree in range(3):
        ids, visits, _ = forest.children(4 * tree)
        alive = [len(forest.children(int(node))[0]) > 0 for node in ids]
        chosen.append(int(ids[np.argmax(visits * alive)]))
    before, nodes = [tree_of(forest, node) for node in chosen], forest.n_nodes
    keys = {node: evaluator.keys[node] for node in evaluator.keys}
    moved = forest.reroot(chosen)
    assert [tree_of(forest, 4 * tree) for tree in range(3)] == before
    assert len(moved) == nodes > forest.n_nodes
    assert moved[chosen].tolist() == [0, 4, 8]
    evaluator.keys = {int(moved[node]): key for node, key in keys.items() if moved[node] != NO_NODE}
    play(forest, evaluator)
    assert (forest.simulations == 150).all()
    assert (forest.root_visits().sum(1) == 149).all()


def test_deep_paths():
    def chain(forest):
        return np.ones((forest.leaves, 1)), np.full(forest.leaves, 0.5)

    forest = Forest(2, 1, simulations=10_001).search(chain)
    node, depth = 0, 0
    while len(ids := forest.children(node)[0]):
        node, depth = int(ids[0]), depth + 1
    assert depth == 10_001


@pytest.mark.parametrize(
    ("priors", "value", "names"),
    [
        ([0.5, np.nan, 0.5], 0.5, "priors"),
        ([0.0, 0.0, 0.0], 0.5, "priors"),
        ([-0.1, 0.6, 0.5], 0.5, "priors"),
        ([np.inf, 0.6, 0.5], 0.5, "priors"),
        ([3e38, 0.6, 0.5], 0.5, "priors"),
        ([0.2, 0.3, 0.5], np.nan, "value"),
        ([0.2, 0.3, 0.5], 1.5, "value"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_and_can_be_given_again(priors, value, names):
    evaluator = Evaluator(3)
    forest = play(Forest(2, 3, simulations=50), evaluator, 10)
    forest.step()
    evaluator.feed(forest)
    before = tree_of(forest, 0), tree_of(forest, 4)
    forest.answer([priors, [0.2, 0.3, 0.5]], [value, 0.5])
    with pytest.raises(ForestError, match=names):
        forest.step()
    assert (tree_of(forest, 0), tree_of(forest, 4)) == before
    evaluator.feed(forest)
    play(forest, evaluator)
    assert tree_of(forest, 0) == tree_of(play(Forest(2, 3, simulations=50), Evaluator(3)), 0)


def test_a_forest_in_memory_that_was_used_before_is_the_same(monkeypatch):
    monkeypatch.setattr(memory, "_dropped", [])
    evaluator, rule = Evaluator(6, terminals=0.1, uneven=True), TreePUCT(first_play="given")
    before = tree_of(play(Forest(1, 6, simulations=60, rule=rule), evaluator), 0)
    memory._dropped.clear()
    pages = memory.Pages(18 * 2000)
    pages.words[:] = -1
    del pages
    again = Forest(1, 6, simulations=60, rule=rule, capacity=4 * 1500)
    assert again._records.lines[-1] == -1
    assert tree_of(play(again, Evaluator(6, terminals=0.1, uneven=True)), 0) == before


def test_kernels_start_without_numbas_cache(monkeypatch):
    monkeypatch.setattr(cancel, "_cache", NullCache())
    assert entry.__wrapped__(cancel)(Forest(1, 2)._address) == 0


def test_bad_settings_are_refused_in_one_line():
    for wrong in ({"n_actions": 0}, {"n_actions": 70_000}, {"n_trees": 0}, {"wave": 0}, {"slots": 1, "wave": 2}):
        with pytest.raises(ForestError, match="must lie in"):
            Forest(**{"n_trees": 2, "n_actions": 3, **wrong})
    with pytest.raises(ForestError, match=r"1\.\.248; mcts\.search takes any number"):
        Forest(2, 70_000)
    with pytest.raises(ForestError, match="simulations"):
        Forest(1, 2, rule=TreeGumbel())
    with pytest.raises(ForestError, match="one for each of the 3 trees"):
        Forest(3, 2, simulations=np.array([4, 5]))
    with pytest.raises(ForestError, match="noise"):
        Forest(3, 2, simulations=9, rule=TreeGumbel(), noise=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="first_play"):
        TreePUCT(first_play="best")
    with pytest.raises(ValueError, match="c_init"):
        TreePUCT(c_init=-1.0)
    forest = Forest(1, 3)
    forest.step()
    with pytest.raises(ForestError, match="1 leaves of 3 actions"):
        forest.answer([[0.5, 0.5]], [0.5])
    forest.answer([[0.2, 0.3, 0.5]], [0.5], counts=[0])
    with pytest.raises(ForestError, match="0 children of node 0"):
        forest.step()
    assert not Forest(1, 3, simulations=0).step()


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (TreePUCT, {"first_play": float("nan")}),
        (TreePUCT, {"c_init": float("inf")}),
        (TreePUCT, {"pending_value": float("nan")}),
        (TreeGumbel, {"value_scale": float("nan")}),
        (TreeGumbel, {"max_considered": 0}),
    ],
)
def test_a_rule_that_cannot_be_computed_is_refused(rule, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        rule(**settings)


@pytest.mark.parametrize("n_actions", [4, 8, 20])
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e30])
@pytest.mark.parametrize(
    "rule", [TreePUCT(c_init=1e9), TreeGumbel(value_scale=100.0)], ids=lambda rule: type(rule).__name__
)
def test_scores_that_are_no_numbers_stay_inside_the_tree(rule, scale, n_actions):
    """Gumbel's normaliser underflows where the best child has no prior: 0 / 0."""
    rng, forest = np.random.default_rng(0), Forest(3, n_actions, simulations=600, rule=rule)
    while forest.step():
        priors = np.eye(n_actions, dtype=np.float32)[rng.integers(0, n_actions, forest.leaves)] * np.float32(scale)
        forest.answer(priors, rng.random(forest.leaves))
    assert forest.root_visits().sum(1).tolist() == [599] * 3


def test_the_package_imports_neither_torch_nor_jax():
    code = "import sys, mcts.forest.forest; sys.exit(bool({'torch', 'jax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

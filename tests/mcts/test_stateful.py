"""Whatever is done to a tree in whatever order, it stays equal to the plain-Python one: hypothesis chooses the operations."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcts import PUCT, Budget, Driver, Forest, Store, TreePUCT, load, reroot, resume, save
from mcts.forest.records import NO_NODE
from tests.mcts import reference
from tests.mcts.fakes import TableEvaluator
from tests.mcts.forest_reference import ReferenceTree
from tests.mcts.test_forest import Evaluator, reference_tree, tree_of

N_TREES = 3


class Broken(RuntimeError):
    """An evaluator that fails."""


class BrokenEvaluator:
    def expand(self, handles, n_candidates, draw="sample"):
        raise Broken


def saved_and_loaded(tree):
    with tempfile.TemporaryDirectory() as folder:
        save(tree, Path(folder) / "tree.safetensors")
        return load(Path(folder) / "tree.safetensors")


def take_back(wave):
    """Cancel (path of edges, node) pairs of the reference."""
    for edges, node in wave:
        node.pending = False
        for edge in edges:
            edge.flying -= 1


class StoreMachine(RuleBasedStateMachine):
    """A `Store` without merges, searched by PUCT."""

    @initialize(seed=st.integers(0, 1 << 30), widen=st.sampled_from([0.0, 1.0]), loss=st.sampled_from([0.0, 1.0]),
                solve=st.booleans(), shape=st.sampled_from([(0, 4, 0.2), (1, 2, 0.0), (2, 8, 0.1)]))  # fmt: skip
    def begin(self, seed, widen, loss, solve, shape):
        low, high, terminal = shape
        world = {"min_steps": low, "max_steps": high, "p_terminal": terminal, "draw_seed": seed}
        self.rule = PUCT(n_candidates=3, widen_c=widen, virtual_loss=loss, solve=solve, discount=0.95)
        self.ours, self.theirs = TableEvaluator(seed, **world), TableEvaluator(seed, **world)
        self.store = Store.plant(self.ours.begin(range(N_TREES)), seed, capacity=1)
        roots = self.theirs.begin(range(N_TREES))
        self.trees = [
            reference.Tree(self.rule, int(h), int(k), float(v))
            for h, k, v in zip(roots.handles, roots.keys, roots.raw_values, strict=True)
        ]
        self.wanted = 0

    @rule(more=st.integers(1, 40), wave=st.integers(1, 6), slots=st.sampled_from([None, 6]))
    def search_on(self, more, wave, slots):
        self.wanted += more
        for tree in self.trees:
            tree.free = 0
        resume(self.store, self.ours, self.rule, Budget(simulations=self.wanted), wave_size=wave, slots=slots)
        reference.play(self.trees, self.theirs, self.rule, self.wanted, wave)

    @rule(wave=st.integers(1, 6))
    def fail_in_a_wave(self, wave):
        closed = all(tree.root.closed for tree in self.trees)
        try:
            resume(self.store, BrokenEvaluator(), self.rule, Budget(simulations=self.wanted + 1), wave_size=wave)
        except Broken:
            assert not closed
        for tree in self.trees:  # descents that ended without asking the evaluator count
            tree.free = 0
            take_back([] if tree.root.closed else tree.select(wave, self.wanted + 1))

    @rule(more=st.integers(1, 40), wave=st.integers(1, 4), order=st.permutations(range(4)), lost=st.integers(0, 4))
    def waves_are_told_out_of_order(self, more, wave, order, lost):
        """Up to four waves in flight; the answer to one of them, if there are so many, never comes."""
        self.wanted += more
        driver, waves = Driver(self.store, self.rule, Budget(simulations=self.wanted), wave_size=wave), []
        for _ in order:
            flying = [sum(tree is other for _, theirs in waves for other, _, _ in theirs) for tree in self.trees]
            theirs = []
            for tree, busy in zip(self.trees, flying, strict=True):
                tree.free = 0
                if not tree.root.closed:
                    theirs += [(tree, *leaf) for leaf in tree.select(wave, self.wanted - busy)]
            waves.append((driver.ask(), theirs))
        for i in order:
            leaves, theirs = waves[i]
            assert len(leaves) == len(theirs)
            if i == lost:
                driver.cancel(leaves)
                take_back([leaf for _, *leaf in theirs])
                continue
            expansion = self.theirs.expand(np.array([node.handle for _, _, node in theirs], np.int64), 3)
            driver.tell(leaves, self.ours.expand(leaves.handles, driver.wanted(leaves), self.rule.draw))
            for row, (tree, _, node) in enumerate(theirs):
                tree.insert(node, expansion, row)
            for _, edges, _ in theirs:
                for edge in edges:
                    edge.flying -= 1
            for tree, edges, node in theirs:
                tree.backup(edges, node)
        assert driver.in_flight == 0

    @rule()
    def save_and_load(self):
        self.store = saved_and_loaded(self.store)

    @rule(choice=st.integers(0, 1 << 30))
    def take_a_step(self, choice):
        chosen = []
        for tree, root in zip(self.trees, self.store.trees["root"].tolist(), strict=True):
            edges = self.store.edges[self.store.edges_of(root)]
            open_ = [i for i, edge in enumerate(tree.root.edges) if not edge.child.terminal]
            if not open_:
                chosen.append(root)
                continue
            index = open_[choice % len(open_)]
            chosen.append(int(edges["child"][index]))
            node = tree.root.edges[index].child
            node.parents = []
            tree.root, tree.simulations, tree.free = node, node.visits, 0
        self.store = reroot(self.store, self.rule, chosen).store

    @invariant()
    def equal(self):
        for tree, root in zip(self.trees, self.store.trees["root"].tolist(), strict=True):
            self.compare(root, tree.root)

    def compare(self, node, expected):
        record = self.store.nodes[node]
        assert (int(record["visits"]), float(record["value"])) == (expected.visits, expected.value)
        edges = self.store.edges[self.store.edges_of(node)]
        assert edges["visits"].tolist() == [edge.visits for edge in expected.edges]
        assert not edges["in_flight"].any()
        for child, edge in zip(edges["child"].tolist(), expected.edges, strict=True):
            self.compare(child, edge.child)


class ForestMachine(RuleBasedStateMachine):
    """A `Forest`, searched by PUCT."""

    @initialize(seed=st.integers(0, 1 << 30), first=st.sampled_from([0.0, 0.4, "mean", "parent", "given"]),
                wave=st.integers(1, 4), n_actions=st.sampled_from([1, 3, 4, 7, 20]),
                terminals=st.sampled_from([0.0, 0.2]))  # fmt: skip
    def begin(self, seed, first, wave, n_actions, terminals):
        self.rule = TreePUCT(first_play=first)
        self.evaluator = Evaluator(n_actions, terminals=terminals, uneven=True, seed=seed)
        self.forest = Forest(N_TREES, n_actions, rule=self.rule, wave=wave, capacity=1)
        self.trees = [ReferenceTree(self.rule, tree, wave, 1 << 30) for tree in range(N_TREES)]
        self.spent = [False] * N_TREES
        self.select()

    def select(self):
        """The next wave of both; between operations it is under way."""
        self.forest.step()
        for tree, reference_ in enumerate(self.trees):
            if not self.spent[tree]:
                self.spent[tree] = not reference_.select()

    @rule(rounds=st.integers(1, 12))
    def play(self, rounds):
        for _ in range(rounds):
            self.evaluator.feed(self.forest)
            for reference_ in self.trees:
                reference_.answer_wave(self.evaluator.answer)
            self.select()

    @rule()
    def cancel_and_select_again(self):
        self.forest.cancel()
        for tree, reference_ in enumerate(self.trees):
            self.spent[tree] &= not reference_.paths
            reference_.cancel()
        self.select()

    @rule()
    def save_and_load(self):
        self.forest = saved_and_loaded(self.forest)

    @precondition(lambda self: not any(self.spent))
    @rule(choice=st.integers(0, 1 << 30))
    def take_a_step(self, choice):
        chosen = []
        self.forest.cancel()
        for reference_ in self.trees:
            reference_.cancel()
        for tree, reference_ in enumerate(self.trees):
            ids = self.forest.children(4 * tree)[0]
            inner = [i for i, child in enumerate(reference_.root.children) if child.children]
            index = inner[choice % len(inner)] if inner else None
            chosen.append(4 * tree if index is None else int(ids[index]))
            reference_.root = reference_.root if index is None else reference_.root.children[index]
            reference_.simulations = reference_.root.visits
        moved = self.forest.reroot(chosen)
        keys = {int(moved[node]): key for node, key in self.evaluator.keys.items() if node < len(moved)}
        self.evaluator.keys = {node: key for node, key in keys.items() if node != NO_NODE}
        self.select()

    @invariant()
    def equal(self):
        for tree, reference_ in enumerate(self.trees):
            assert tree_of(self.forest, 4 * tree) == reference_tree(reference_.root, self.rule)
        np.testing.assert_array_equal(self.forest.simulations, [tree.simulations for tree in self.trees])


TestStore = StoreMachine.TestCase
TestForest = ForestMachine.TestCase
TestStore.settings = TestForest.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)

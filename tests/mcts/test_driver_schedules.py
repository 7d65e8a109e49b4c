"""Waves in flight, told, cancelled and split at random: every tree stays sound, whatever the order."""

from __future__ import annotations

import numpy as np

from mcts import NONE, BestFirst, Budget, Driver, Flag, Proportional, SmartPruning, Status
from mcts.store.frontier import priority_of
from tests.mcts.fakes import TableEvaluator
from tests.mcts.test_driver import WORLD, answer, each_rule, planted

FRONTIER = (BestFirst, Proportional)  # these visit nothing without asking


class Desk:
    """Questions in flight, and a careful record of what a driver was told."""

    def __init__(self, driver: Driver):
        self.driver, self.store, self.waiting = driver, driver.store, []
        n_trees = len(driver.store.trees)
        self.tokens, self.told, self.at_root = (np.zeros(n_trees, np.int64) for _ in range(3))
        self.visits: dict[int, int] = {}

    def ask(self):
        driver, trees = self.driver, self.store.trees
        spent, busy = trees["tokens"].copy(), {n for leaves in self.waiting for n in leaves.nodes.tolist()}
        leaves = driver.ask()
        nodes = leaves.nodes.tolist()
        assert len(set(nodes)) == len(nodes)
        assert not busy & set(nodes)
        asked = self.store.nodes["tree"][leaves.nodes]
        if driver.budget.tokens is not None:
            assert (spent[asked] < driver.budget.tokens).all()
        if len(leaves):
            self.waiting.append(leaves)
        return leaves

    def tell(self, leaves, expansion):
        tree = self.store.nodes["tree"][leaves.nodes]
        self.driver.tell(leaves, expansion)
        np.add.at(self.tokens, tree, expansion.leaf_tokens)
        np.add.at(self.told, tree, 1)
        np.add.at(self.at_root, tree[leaves.nodes == self.store.trees["root"][tree]], 1)
        for edge in leaves.path.tolist():
            self.visits[edge] = self.visits.get(edge, 0) + 1

    def check(self):
        """What is in flight is marked as such, and nothing else."""
        store, trees = self.store, self.store.trees
        nodes = np.concatenate([np.zeros(0, np.int32), *(leaves.nodes for leaves in self.waiting)])
        path = np.concatenate([np.zeros(0, np.int32), *(leaves.path for leaves in self.waiting)])
        flags = store.nodes["flags"]
        np.testing.assert_array_equal(np.flatnonzero(flags & Flag.PENDING), np.sort(nodes))
        np.testing.assert_array_equal(store.edges["in_flight"], np.bincount(path, minlength=store.n_edges))
        flying = np.bincount(store.nodes["tree"][nodes], minlength=len(trees))
        np.testing.assert_array_equal(trees["in_flight"], flying)
        assert self.driver.in_flight == len(nodes)
        assert (trees["simulations"] + trees["in_flight"] <= trees["simulation_limit"]).all()
        assert not (flags & (Flag.ON_PATH | Flag.ON_STACK | Flag.RAISED)).any()
        assert len(set(store.edge_handles.tolist())) == store.n_edges  # no step twice
        queued = sorted(node for tree in range(len(trees)) for node in self.queue(tree))
        assert queued == np.flatnonzero(flags & Flag.QUEUED).tolist()
        if isinstance(self.driver.rule, BestFirst):
            # Whatever has unseen steps is in flight or queued, by its best path.
            done = flags & (Flag.TERMINAL | Flag.EXHAUSTED | Flag.PENDING | Flag.QUEUED)
            assert set(np.flatnonzero(done == 0)) <= set(trees["root"].tolist())
            priority, parameters = store.heap.view(np.float32)[:, 3], self.driver.rule._parameters()
            for node in queued:
                unexpanded_root = node in trees["root"] and not flags[node] & Flag.EXPANDED
                least = priority_of(store.node_planes, store.edge_planes, node, parameters)
                assert unexpanded_root or priority[node] >= least
        if isinstance(self.driver.rule, Proportional):
            self.check_masses()

    def check_masses(self):
        """Open masses hold all that may still be drawn, what is in flight included."""
        nodes, edges = self.store.nodes, self.store.edges
        flags, child, parent = nodes["flags"], edges["child"], edges["parent"]
        forward = (nodes["depth"][child] > nodes["depth"][parent]) & ((flags[child] & Flag.CLOSED) == 0)
        mass = np.where(flags & Flag.EXHAUSTED, 0.0, np.exp(nodes["unseen_logmass"]))
        np.add.at(mass, parent[forward], (np.exp(edges["logprob"]) * nodes["open_mass"][child])[forward])
        expanded = (flags & Flag.EXPANDED) != 0
        mass[(flags & Flag.CLOSED) != 0] = 0.0
        np.testing.assert_allclose(nodes["open_mass"][expanded], mass[expanded], atol=1e-5)

    def queue(self, tree: int) -> list[int]:
        """Nodes of a tree's heap or stack, each once."""
        heap, found, stack = self.store.heap, [], [int(self.store.trees["queue"][tree])]
        while stack:
            node = stack.pop()
            if node != NONE:
                found.append(node)
                assert len(found) <= self.store.n_nodes, "a loop"
                stack.append(int(heap[node, 1]))
                if isinstance(self.driver.rule, BestFirst):
                    stack.append(int(heap[node, 0]))
        return found

    def check_end(self):
        store, trees = self.store, self.store.trees
        self.check()
        assert self.driver.in_flight == 0
        np.testing.assert_array_equal(trees["tokens"], self.tokens)
        told = np.array([self.visits.get(edge, 0) for edge in range(store.n_edges)], np.int64)
        free = store.edges["visits"] - told
        assert (free >= 0).all()
        assert (trees["simulations"] >= self.told).all()
        if isinstance(self.driver.rule, FRONTIER):
            np.testing.assert_array_equal(free, 0)
            np.testing.assert_array_equal(trees["simulations"], self.told)
        for node in np.flatnonzero(store.nodes["flags"] & Flag.EXPANDED).tolist():
            visits = store.edges["visits"][store.edges_of(node)].sum()
            assert store.nodes["visits"][node] == 1 + store.nodes["failures"][node] + visits
        for tree, root in enumerate(trees["root"].tolist()):
            passed = store.edges["visits"][store.edges_of(root)].sum()
            assert trees["simulations"][tree] == self.at_root[tree] + passed or store.nodes["flags"][root] & Flag.CLOSED


def random_schedule(rule, seed: int) -> int:
    """Drive three trees by asks, tells, cancels and parts in a random order; returns the most waves and parts in flight."""
    rng = np.random.default_rng(seed)
    limit, tokens = int(rng.integers(6, 40)), [None, 60][int(rng.integers(2))]
    world = TableEvaluator(seed, **{**WORLD, "n_states": int(rng.choice([12, 600])), "min_steps": int(rng.integers(3))})
    store = planted(world, 3)
    nodes = [None, 60][int(rng.integers(2))]
    driver = Driver(
        store, rule, Budget(simulations=limit, tokens=tokens), wave_size=int(rng.choice([1, 3])), node_limit=nodes,
        slots=[None, 4][int(rng.integers(2))], stop_on_solution=bool(rng.integers(2)),
        stops=[(), (SmartPruning(),)][int(rng.integers(2))],
    )  # fmt: skip
    desk, most = Desk(driver), 0
    while not driver.done:
        if not desk.waiting or (len(desk.waiting) < 6 and rng.random() < 0.6):
            desk.ask()
        else:
            leaves = desk.waiting.pop(int(rng.integers(len(desk.waiting))))
            order = rng.permutation(len(leaves))
            for rows in np.split(order, [int(rng.integers(len(order) + 1))]):
                part, fate = leaves.part(rows), rng.random()
                if fate < 0.2:
                    desk.waiting.append(part) if len(part) else None
                elif fate < 0.35:
                    driver.cancel(part)
                else:
                    desk.tell(part, answer(driver, world, part))
        most = max(most, len(desk.waiting))
        if rng.random() < 0.4:
            desk.check()
    desk.check_end()
    status, trees = driver.result().status, store.trees
    assert (status != Status.RUNNING).all()
    assert (trees["simulations"][(status == Status.BUDGET) & (trees["tokens"] < (tokens or np.inf))] == limit).all()
    assert nodes is None or (trees["n_nodes"] <= nodes).all()
    assert (store.nodes["flags"][trees["root"][status == Status.CLOSED]] & Flag.CLOSED).all()
    return most


@each_rule
def test_any_order_of_tells_parts_and_cancels_leaves_a_sound_tree(rule):
    assert max(random_schedule(rule, seed) for seed in range(8)) > 4

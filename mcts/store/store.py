"""The arena of nodes and edges: one graph of states a tree, many trees in one store.

A node is one cache line of 64 bytes, an edge 32. Two candidates of a tree with equal keys lead to one node (a hash
table inside the store), so what grows is a graph; visits are counted on edges (KataGo GraphSearch.md). Ids are int32,
records are numpy structured arrays, and nothing here is a Python object a node. Capacity doubles when needed; ids
never change.

Values are P(solved) in [0, 1], seen by the solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from kit.arithmetic import GOLDEN, mix64
from mcts.store import insertion

# isort: off
from mcts.store.records import (
    EDGE, MAX_NODES, N_COUNTERS, NEVER, NO_LIMIT, NODE, NONE, SAVED_TREE_WORDS, TREE, Flag,
)  # fmt: skip

# isort: on
from mcts.types import Expansion, Roots, check_expansion


@dataclass(frozen=True, slots=True)
class Leaves:
    """A wave: L distinct leaves and the path of edges from the root to each.

    (question, row) names one asking of one leaf: asked again, the leaf has another.
    """

    nodes: np.ndarray  # int32 [L]
    handles: np.ndarray  # int64 [L], what the evaluator gets
    offsets: np.ndarray  # int64 [L+1]
    path: np.ndarray  # int32 [P]; edges of leaf l are path[offsets[l]:offsets[l+1]]
    question: int = NONE  # number of the `Driver.ask` that gave the wave, one of the process; NONE: no driver did
    rows: np.ndarray | None = None  # int64 [L], places in that wave; None: 0 to L - 1

    def __len__(self) -> int:
        return len(self.nodes)

    def part(self, indices: npt.ArrayLike) -> Leaves:
        """Some leaves of the wave, to be told or cancelled by themselves.

        Args:
            indices: int [M], in any order, or bool [L].

        Raises:
            ValueError: an index comes twice.
            IndexError: there is no such leaf.
        """
        named = np.asarray(indices)
        chosen = np.arange(len(self))[named if named.dtype == np.bool_ else named.astype(np.int64)].reshape(-1)
        if len(np.unique(chosen)) != len(chosen):
            raise ValueError(f"part({chosen.tolist()}): name each leaf once")
        starts, ends = self.offsets[:-1][chosen], self.offsets[1:][chosen]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])
        path = self.path[np.repeat(ends - offsets[1:], ends - starts) + np.arange(offsets[-1])]
        rows = chosen if self.rows is None else self.rows[chosen]
        return Leaves(self.nodes[chosen], self.handles[chosen], offsets, path, self.question, rows)


def splitmix64(x: npt.ArrayLike) -> np.ndarray:
    """One splitmix64 output per uint64 of `x` (Steele, Lea, Flood 2014)."""
    return mix64.py_func(np.asarray(x, np.uint64) + GOLDEN)


def owned(array: np.ndarray, dtype: type) -> np.ndarray:
    """`array` as a contiguous writable array: other layouts would make numba compile again."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.writeable else array.copy()


class Store:
    """Nodes, edges and trees of one search. Made by `Store.plant` or `Store.from_state`.

    Attributes (record arrays of the used part, writable views):
        nodes: NODE [n_nodes]
        edges: EDGE [n_edges]
        trees: TREE [T]
        node_handles: int64 [n_nodes], of the edge that first reached the node
        edge_handles: int64 [n_edges]
    """

    def __init__(self, n_trees: int, node_capacity: int, edge_capacity: int) -> None:
        self.node_planes = np.zeros((node_capacity, NODE.itemsize // 4), np.int32)
        self.edge_planes = np.zeros((edge_capacity, EDGE.itemsize // 4), np.int32)
        self.tree_planes = np.zeros((n_trees, TREE.itemsize // 8), np.int64)
        self.counters = np.zeros(N_COUNTERS, np.int64)
        self.heap = np.full((node_capacity, 4), NONE, np.int32)
        self.keys = np.zeros(node_capacity, np.uint64)
        self._node_handles = np.zeros(node_capacity, np.int64)
        self._edge_handles = np.zeros(edge_capacity, np.int64)
        self.table = np.full(64, NONE, np.int32)
        self.stack = np.zeros(node_capacity, np.int32)
        self.raised = np.zeros(node_capacity, np.int32)
        self.path_buffer = np.zeros(1024, np.int32)

    @classmethod
    def plant(cls, roots: Roots, seed: int = 0, tree_seeds: np.ndarray | None = None, capacity: int = 1024) -> Self:
        """A store with one root a tree.

        Args:
            seed: run seed.
            tree_seeds: uint64 [T], identity of each tree's randomness. Default: the root's key, or the position in the
                batch where there is no key; equal identities draw equal noise.
            capacity: nodes and edges to make room for at the start; results do not depend on it.
        """
        n_trees = len(roots.handles)
        store = cls(0, max(capacity, n_trees, 1), max(capacity, 1))
        store.add(roots, seed, tree_seeds)
        return store

    def add(self, roots: Roots, seed: int = 0, tree_seeds: np.ndarray | None = None) -> None:
        """More trees behind those that are there, which stay as they are, bit for bit. Arguments as in `plant`.

        Raises:
            ValueError: int32 ids would run out.
        """
        first, new = len(self.tree_planes), len(roots.handles)
        keys = owned(roots.keys, np.uint64)
        if tree_seeds is None:
            tree_seeds = np.where(keys != 0, keys, np.arange(first + 1, first + new + 1, dtype=np.uint64))
        self.reserve(new)
        planes = np.zeros((first + new, TREE.itemsize // 8), np.int64)
        planes[:first] = self.tree_planes
        self.tree_planes = planes
        trees = self.trees[first:]
        trees["seed"] = splitmix64(splitmix64([seed % 2**64]) ^ splitmix64(tree_seeds)).view(np.int64)
        trees["first_solution"] = NEVER
        trees["queue"] = NONE
        trees["simulation_limit"] = NO_LIMIT
        insertion.plant(
            self.node_planes, self.keys, self._node_handles, self.counters, self.tree_planes, self.table,
            keys, owned(roots.handles, np.int64), owned(roots.raw_values, np.float32),
        )  # fmt: skip

    @property
    def n_nodes(self) -> int:
        return int(self.counters[0])

    @property
    def n_edges(self) -> int:
        return int(self.counters[1])

    @property
    def nodes(self) -> np.ndarray:
        return self.node_planes.view(NODE)[: self.n_nodes, 0]

    @property
    def edges(self) -> np.ndarray:
        return self.edge_planes.view(EDGE)[: self.n_edges, 0]

    @property
    def trees(self) -> np.ndarray:
        return self.tree_planes.view(TREE)[:, 0]

    @property
    def node_handles(self) -> np.ndarray:
        return self._node_handles[: self.n_nodes]

    @property
    def edge_handles(self) -> np.ndarray:
        return self._edge_handles[: self.n_edges]

    def settle(self, nodes: np.ndarray, rewards: np.ndarray) -> None:
        """Rewards float32 [M] of terminal `nodes` int [M] that were judged after the search. What was backed up before stays.

        Raises:
            ValueError: a node that is not terminal.
        """
        record = self.nodes
        if not (record["flags"][nodes] & Flag.TERMINAL).all():
            raise ValueError("only terminal nodes have a reward")
        record["value"][nodes] = record["raw_value"][nodes] = rewards
        solved = np.where(np.asarray(rewards) >= 1.0, Flag.SOLVED, 0)
        record["flags"][nodes] = record["flags"][nodes] & ~int(Flag.SOLVED) | solved

    def edges_of(self, node: int) -> np.ndarray:
        """Edge ids int32 [K] of a node's candidates, in the order in which the evaluator handed them out."""
        return insertion.edges_of(self.node_planes, self.edge_planes, node)

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """All edges grouped by parent: (offsets int64 [n_nodes+1], edge ids int64 [n_edges]), in `edges_of` order."""
        parents = self.edges["parent"]
        offsets = np.zeros(self.n_nodes + 1, np.int64)
        np.cumsum(np.bincount(parents, minlength=self.n_nodes), out=offsets[1:])
        return offsets, np.argsort(parents, kind="stable")

    def leaves(self, nodes: np.ndarray, offsets: np.ndarray, path: np.ndarray, found: int) -> Leaves:
        """A wave out of a kernel's buffers; the buffers are copied."""
        chosen, ends = nodes[:found].copy(), offsets[: found + 1].copy()
        return Leaves(chosen, self._node_handles[chosen], ends, path[: ends[-1]].copy())

    def insert(self, leaves: Leaves, expansion: Expansion) -> int:
        """Enter the candidates of a wave; returns the id of the first new edge.

        Raises:
            ValueError: see `types.check_expansion`, or int32 ids would run out. Nothing has changed.
        """
        check_expansion(expansion, len(leaves))
        offsets = owned(expansion.offsets, np.int64)
        self.reserve(int(offsets[-1]))
        first = self.n_edges
        insertion.insert(
            self.node_planes, self.keys, self._node_handles, self.edge_planes, self._edge_handles, self.tree_planes,
            self.counters, self.table, self.stack, self.raised, leaves.nodes, offsets,
            owned(expansion.handles, np.int64), owned(expansion.keys, np.uint64),
            owned(expansion.logprobs, np.float32), owned(expansion.raw_values, np.float32),
            owned(expansion.rewards, np.float32), owned(expansion.terminal, np.bool_),
            owned(expansion.legal, np.bool_), owned(expansion.tokens, np.int32),
            owned(expansion.leaf_tokens, np.int32), owned(expansion.unseen_logmass, np.float32),
            owned(expansion.best_unseen_logprob, np.float32),
        )  # fmt: skip
        return first

    def reserve(self, fresh: int) -> None:
        """Make room for `fresh` more nodes and edges.

        Raises:
            ValueError: int32 ids would run out; `search` stops before that.
        """
        if max(self.n_nodes, self.n_edges) + fresh > MAX_NODES:
            raise ValueError(f"{self.n_nodes} nodes and {self.n_edges} edges: no int32 ids left for {fresh} more")
        nodes = _doubled(len(self.node_planes), self.n_nodes + fresh)
        if nodes > len(self.node_planes):
            for name in ("node_planes", "heap", "keys", "_node_handles", "stack", "raised"):
                setattr(self, name, _resized(getattr(self, name), nodes))
        edges = _doubled(len(self.edge_planes), self.n_edges + fresh)
        if edges > len(self.edge_planes):
            self.edge_planes = _resized(self.edge_planes, edges)
            self._edge_handles = _resized(self._edge_handles, edges)
        self._grow_table(int(self.counters[3]) + fresh)

    def _grow_table(self, keyed: int) -> None:
        slots = _doubled(len(self.table), 2 * keyed)
        if slots > len(self.table):
            self.table = np.full(slots, NONE, np.int32)
            insertion.rehash(self.table, self.keys, self.node_planes, self.n_nodes)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `from_state` goes on identically. Plain dtypes, fit for safetensors.

        Raises:
            ValueError: leaves are in flight.
        """
        if self.trees["in_flight"].any():
            raise ValueError(f"{self.trees['in_flight'].sum()} leaves are in flight: tell or cancel them first")
        return {
            "node_planes": self.node_planes[: self.n_nodes].copy(),
            "edge_planes": self.edge_planes[: self.n_edges].copy(),
            "tree_planes": self.tree_planes[:, :SAVED_TREE_WORDS].copy(),
            "counters": self.counters.copy(),
            "heap": self.heap[: self.n_nodes].copy(),
            "keys": self.keys[: self.n_nodes].view(np.int64).copy(),
            "node_handles": self.node_handles.copy(),
            "edge_handles": self.edge_handles.copy(),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Store:
        """Inverse of `state`.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        try:
            n_nodes, n_edges = (int(x) for x in state["counters"][:2])
            store = cls(len(state["tree_planes"]), max(n_nodes, 1), max(n_edges, 1))
            store.counters[:] = state["counters"]
            store.tree_planes[:, :SAVED_TREE_WORDS] = state["tree_planes"]
            store.node_planes[:n_nodes] = state["node_planes"]
            store.edge_planes[:n_edges] = state["edge_planes"]
            store.heap[:n_nodes] = state["heap"]
            store.keys[:n_nodes] = np.ascontiguousarray(state["keys"]).view(np.uint64)
            store._node_handles[:n_nodes] = state["node_handles"]
            store._edge_handles[:n_edges] = state["edge_handles"]
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"not the state of a Store: {error}") from error
        slots = _doubled(len(store.table), 2 * int(store.counters[3]))
        store.table = np.full(slots, NONE, np.int32)
        insertion.rehash(store.table, store.keys, store.node_planes, n_nodes)
        return store


def _doubled(have: int, need: int) -> int:
    while have < need:
        have *= 2
    return have


def _resized(array: np.ndarray, rows: int) -> np.ndarray:
    grown = np.full((rows, *array.shape[1:]), NONE if array.dtype == np.int32 else 0, array.dtype)
    grown[: len(array)] = array
    return grown

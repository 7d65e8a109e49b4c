"""Tree reuse: after a step is taken, keep what was searched below it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcts.rules import Rule
from mcts.store.records import NEVER, NONE, Flag
from mcts.store.store import Leaves, Store
from mcts.types import Expansion, Roots

CARRIED = ("visits", "value", "failures", "unseen_logmass", "best_unseen_logprob")  # what a search has learnt of a node


@dataclass(frozen=True, slots=True)
class Rerooted:
    """A store of what lies below the new roots, and where the old ids went."""

    store: Store
    nodes: np.ndarray  # int32 [nodes before], new ids, NONE for what is gone
    edges: np.ndarray  # int32 [edges before]


def reroot(store: Store, rule: Rule, nodes: npt.ArrayLike) -> Rerooted:
    """Keep of tree t what can be reached from `nodes[t]`, which becomes its root. Call between waves; `store` stays as it is.

    Every kept expansion is entered again, in the order of the search and never before its state is known, by the same code
    that entered it first: depths, path probabilities and what is closed come out as of a search that began at the new root.
    Visits and values are carried over. Simulations and tokens count from what is kept: the new root's visits, and the tokens of
    the kept steps. Handles stay valid; the evaluator is not asked. The rule's frontier is rebuilt (`BestFirst`); rollouts that
    `Proportional` had begun are not gone on with.

    Raises:
        ValueError: not one expanded or open node a tree, in that tree.
    """
    chosen = np.asarray(nodes, np.int64)
    old, trees = store.nodes, store.trees
    if chosen.shape != (len(trees),) or (len(chosen) and not (chosen.min() >= 0 and chosen.max() < store.n_nodes)):
        raise ValueError(f"reroot needs one node of each of the {len(trees)} trees")
    for tree, node in enumerate(chosen.tolist()):
        if old["tree"][node] != tree:
            raise ValueError(f"node {node} is in tree {old['tree'][node]}, not {tree}")
        if old["flags"][node] & Flag.TERMINAL:
            raise ValueError(f"node {node} is terminal: tree {tree} has ended")
    fresh = Store.plant(Roots(store.node_handles[chosen], store.keys[chosen], old["raw_value"][chosen]))
    fresh.trees["seed"], fresh.trees["simulation_limit"] = trees["seed"], trees["simulation_limit"]
    node_map, edge_map = np.full(store.n_nodes, NONE, np.int32), np.full(store.n_edges, NONE, np.int32)
    node_map[chosen] = fresh.trees["root"]
    offsets, grouped = store.candidates()
    waiting = {int(node) for node in chosen if old["flags"][node] & Flag.EXPANDED}
    while waiting:
        wave = sorted(waiting, key=lambda node: _order(offsets, grouped, node))
        kept = np.concatenate([grouped[offsets[node] : offsets[node + 1]] for node in wave]).astype(np.int64)
        first = fresh.n_edges
        _enter(fresh, node_map[wave], _expansion(store, wave, offsets, kept))
        edge_map[kept] = np.arange(first, first + len(kept), dtype=np.int32)
        children = store.edges["child"][kept]
        news = children[node_map[children] == NONE]
        node_map[children] = fresh.edges["child"][edge_map[kept]]
        waiting = {int(node) for node in news if old["flags"][node] & Flag.EXPANDED}
    _carry(store, fresh, node_map, edge_map)
    rule.adopt(fresh)
    return Rerooted(fresh, node_map, edge_map)


def _order(offsets: np.ndarray, grouped: np.ndarray, node: int) -> tuple[int, int]:
    """When a node was first expanded; those that never had a candidate last."""
    start, end = offsets[node], offsets[node + 1]
    return (int(grouped[start]), node) if end > start else (int(NEVER), node)


def _expansion(store: Store, wave: list[int], offsets: np.ndarray, kept: np.ndarray) -> Expansion:
    """What the evaluator answered at the nodes of `wave`, all expansions of a node as one."""
    edges, nodes = store.edges[kept], store.nodes
    children, parents = nodes[edges["child"]], nodes[wave]
    terminal = (children["flags"] & Flag.TERMINAL) != 0
    counts = [offsets[node + 1] - offsets[node] for node in wave]
    exhausted = (parents["flags"] & Flag.EXHAUSTED) != 0
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    tokens = np.add.reduceat(np.append(edges["tokens"], 0), starts[:-1]) * (np.diff(starts) > 0)
    return Expansion(
        starts, store.edge_handles[kept], store.keys[edges["child"]], edges["logprob"], children["raw_value"],
        np.where(terminal, children["raw_value"], 0.0), terminal, np.ones(len(kept), np.bool_), edges["tokens"],
        tokens, np.where(exhausted, -np.inf, parents["unseen_logmass"]), parents["best_unseen_logprob"],
    )  # fmt: skip


def _enter(fresh: Store, wave: np.ndarray, expansion: Expansion) -> None:
    """One wave without paths: what it finds is entered, nothing is carried up."""
    none = np.zeros(len(wave) + 1, np.int64)
    fresh.insert(Leaves(wave, fresh.node_handles[wave], none, np.zeros(0, np.int32)), expansion)


def _carry(store: Store, fresh: Store, node_map: np.ndarray, edge_map: np.ndarray) -> None:
    """Visits, values and scratch of what was kept."""
    kept, kept_edges = np.flatnonzero(node_map != NONE), np.flatnonzero(edge_map != NONE)
    for name in CARRIED:
        fresh.nodes[name][node_map[kept]] = store.nodes[name][kept]
    fresh.nodes["flags"][node_map[kept]] |= store.nodes["flags"][kept] & Flag.WON
    fresh.nodes["flags"] &= ~Flag.RAISED
    fresh.counters[2] = 0  # of those
    fresh.heap[node_map[kept]] = store.heap[kept]
    fresh.node_handles[node_map[kept]] = store.node_handles[kept]  # whose steps the evaluator has handed out
    fresh.edges["visits"][edge_map[kept_edges]] = store.edges["visits"][kept_edges]
    fresh.trees["simulations"] = fresh.nodes["visits"][fresh.trees["root"]]

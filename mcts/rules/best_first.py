"""Best-first search over (node, next unseen step): Levin tree search, with a value PHS*-like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mcts.rules.base import backup_wave, cancel_wave, first_new_edges, most_visited, wave_buffers
from mcts.store import frontier
from mcts.store.graph import solution_edges
from mcts.store.store import Leaves, Store
from mcts.types import Draw, Expansion

COSTS = {
    "depth": frontier.COST_DEPTH,
    "tokens": frontier.COST_TOKENS,
    "none": frontier.COST_NONE,
}


@dataclass(frozen=True, slots=True)
class BestFirst:
    """Expand the node with the highest value_weight * log V(n) + lam * (log pi(path to n) + log b(n) - log cost(n)).

    b(n): probability bound of the best step of n not yet handed out, 1 before the first expansion. cost: edges from the
    root + 1 ("depth"), generated tokens along the path + 1 ("tokens"), or 1 ("none").

    value_weight = 0 is Levin's order d(n) / pi(n) (Orseau, Lelis, Lattimore, Weber 2018, section 4): at most d / pi(n*)
    expansions before a state n* is expanded, if an expansion hands out all steps. Deviation from PHS* (Orseau and Lelis
    2021): V is a probability of success and enters as a factor on path mass, not as a heuristic cost.

    rollout: after a new step the same tree goes on at the new state, until a terminal or a state it knows; then the order
    decides again. Levin's bound then holds up to a factor of the longest chain. It pays where many chains are solutions: under
    a flat policy, order alone tries every first step before any second one.

    park: a rollout does not go on where the raw value falls below `park` times that of the state before; the state waits for
    its turn in the order. A likelihood ratio: it takes a value head that ranks well. While the tree is one chain, the most
    probable of all under draw="best", it takes twice the evidence: `park` squared.

    The value is the node's raw value, not its Q: the order is by what is known of the state. One pairing heap a tree.
    A state reached again on a more probable path takes that path's probability, and so do its descendants, eagerly; its
    depth stays that of the path that reached it first. Every state is expanded at most as often as it has unseen steps.
    """

    n_candidates: int = 1
    root_candidates: int | None = None
    draw: Draw = "best"
    discount: float = 1.0
    value_weight: float = 1.0
    lam: float = 0.3
    cost: Literal["depth", "tokens", "none"] = "depth"
    rollout: bool = False
    park: float = 0.0

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise ValueError(f"cost={self.cost!r}: use one of {', '.join(COSTS)}")
        for name in ("value_weight", "lam"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: at least 0")
        if not 0 <= self.park <= 1:
            raise ValueError(f"park={self.park}: 0, which parks nothing, to 1")

    def _parameters(self) -> np.ndarray:
        return np.array([self.value_weight, self.lam, COSTS[self.cost], 0.0, self.park], np.float64)

    def select(self, store: Store, wave_size: int, trees: np.ndarray) -> Leaves:
        nodes, offsets = wave_buffers(wave_size, trees)
        found, store.path_buffer = frontier.best_first_select(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, trees, wave_size,
            nodes, offsets, store.path_buffer,
        )  # fmt: skip
        return store.leaves(nodes, offsets, store.path_buffer, found)

    def backup(self, store: Store, leaves: Leaves, expansion: Expansion) -> None:
        first = store.insert(leaves, expansion)
        frontier.best_first_backup(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, store.counters, store.raised,
            leaves.nodes, first_new_edges(expansion, first), self._parameters(), self.rollout,
        )  # fmt: skip
        backup_wave(store, leaves, self.discount)

    def cancel(self, store: Store, leaves: Leaves) -> None:
        cancel_wave(store, leaves)
        frontier.best_first_cancel(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, leaves.nodes, self._parameters()
        )

    def adopt(self, store: Store) -> None:
        """Queue every state that has unseen steps."""
        frontier.best_first_adopt(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, store.n_nodes, self._parameters()
        )

    def action(self, store: Store, tree: int) -> int:
        """First edge towards the most probable solution; without one, the most visited edge of the root."""
        path = solution_edges(store, tree)
        return int(path[0]) if len(path) else most_visited(store, int(store.trees["root"][tree]))

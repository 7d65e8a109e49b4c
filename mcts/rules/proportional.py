"""Sampling whole solutions in proportion to the policy, without replacement (Shi, Bieber, Sutton 2020, *Incremental
sampling without replacement for sequence models*: UniqueRandomizer), on a graph of merged states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcts.rules.base import backup_wave, cancel_wave, first_new_edges, most_visited, wave_buffers
from mcts.store import frontier, rollout
from mcts.store.records import NONE, Flag
from mcts.store.store import Leaves, Store
from mcts.types import Draw, Expansion


@dataclass(frozen=True, slots=True)
class Proportional:
    """At a node: a new step with probability ~ its unseen mass, or child c with probability ~ pi(c) * open mass of c.

    open(n) = unseen(n) + sum over candidates of pi(e) * open(child(e)), 1 before the first expansion, 0 once closed:
    terminal, illegal and exhausted subtrees give their mass back, in all ancestors, at once. Only edges that lead
    deeper carry mass, so that cycles do not count twice; each state lies on at least one such path.

    rollout: after a new step the same tree goes on from the new state until a terminal, so that with n_candidates = 1
    and draw = "sample" the k-th finished rollout is distributed as the policy given that it is none of those before.
    With more candidates a rollout goes on at the first of them.
    Randomness is a function of (seed, tree seed, draw, level) alone.
    """

    n_candidates: int = 1
    root_candidates: int | None = None
    draw: Draw = "sample"
    discount: float = 1.0
    rollout: bool = True

    def select(self, store: Store, wave_size: int, trees: np.ndarray) -> Leaves:
        nodes, offsets = wave_buffers(wave_size, trees)
        found, store.path_buffer = frontier.proportional_select(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, trees, wave_size,
            nodes, offsets, store.path_buffer,
        )  # fmt: skip
        return store.leaves(nodes, offsets, store.path_buffer, found)

    def backup(self, store: Store, leaves: Leaves, expansion: Expansion) -> None:
        first = store.insert(leaves, expansion)
        frontier.proportional_backup(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, store.stack,
            leaves.nodes, first_new_edges(expansion, first), self.rollout,
        )  # fmt: skip
        backup_wave(store, leaves, self.discount)

    def cancel(self, store: Store, leaves: Leaves) -> None:
        cancel_wave(store, leaves)
        rollout.rollout_cancel(store.node_planes, store.heap, store.tree_planes, leaves.nodes)

    def adopt(self, store: Store) -> None:
        """Open masses from the bottom up; rollouts under way are not gone on with."""
        store.trees["queue"] = NONE
        store.nodes["flags"] &= ~Flag.QUEUED
        open_ = (store.nodes["flags"] & Flag.CLOSED) == 0
        store.nodes["open_mass"] = open_
        expanded = np.flatnonzero(store.nodes["flags"] & Flag.EXPANDED)
        nodes = expanded[np.argsort(-store.nodes["depth"][expanded], kind="stable")].astype(np.int32)
        frontier.proportional_backup(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, store.stack,
            nodes, np.full(len(nodes) + 1, NONE, np.int64), False,
        )  # fmt: skip

    def action(self, store: Store, tree: int) -> int:
        """The most visited edge of the root."""
        return most_visited(store, int(store.trees["root"][tree]))

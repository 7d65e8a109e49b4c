"""What a rule is: select, backup, and which candidates it wants. It holds settings only; all state is the store's."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mcts.store import descent, frontier
from mcts.store.records import NONE, Flag
from mcts.store.store import Leaves, Store
from mcts.types import Draw, Expansion


class Rule(Protocol):
    """Order in which a search visits and expands. Frozen; two searches may share one."""

    @property
    def n_candidates(self) -> int:
        """Unseen steps asked for at one expansion."""

    @property
    def root_candidates(self) -> int | None:
        """The same at the first expansion of a root; None: n_candidates."""

    @property
    def draw(self) -> Draw:
        """How unseen steps are chosen."""

    @property
    def discount(self) -> float:
        """Q through an edge = discount * Q(child)."""

    def select(self, store: Store, wave_size: int, trees: np.ndarray) -> Leaves:
        """Up to `wave_size` leaves of each running tree among `trees` (int64 [S], rising), distinct and none of them in flight.

        Marks them and their paths as in flight, whatever is in flight already. A tree gives no more leaves than its limit in
        simulations has left, those in flight counted.
        """

    def backup(self, store: Store, leaves: Leaves, expansion: Expansion) -> None:
        """Enter the candidates of leaves in flight into the store and carry visits and values up to the roots.

        Raises:
            ValueError: see `Store.insert`, which comes first: nothing has changed.
        """

    def cancel(self, store: Store, leaves: Leaves) -> None:
        """Take leaves in flight back, whose candidates never came. Simulations that met known terminals meanwhile stay."""

    def adopt(self, store: Store) -> None:
        """Build what the rule keeps of the frontier for a store that it did not grow."""

    def action(self, store: Store, tree: int) -> int:
        """Edge of the root that the rule acts on, or NONE."""


def wave_buffers(wave_size: int, trees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Room for a wave of S trees: nodes int32 [S * wave_size], offsets int64 [S * wave_size + 1]."""
    size = len(trees) * wave_size
    return np.empty(size, np.int32), np.zeros(size + 1, np.int64)


def descend(
    store: Store, wave_size: int, trees: np.ndarray, kind: int, parameters: np.ndarray, table: np.ndarray, noise: np.ndarray
) -> Leaves:  # fmt: skip
    """One wave by the descent kernel (PUCT and Gumbel)."""
    nodes, offsets = wave_buffers(wave_size, trees)
    found, store.path_buffer = descent.select(
        kind, store.node_planes, store.edge_planes, store.heap, store.tree_planes, trees, wave_size, parameters, table,
        noise, nodes, offsets, store.path_buffer,
    )  # fmt: skip
    return store.leaves(nodes, offsets, store.path_buffer, found)


def backup_wave(store: Store, leaves: Leaves, discount: float, *, max_share: float = 0.0, how: int = 0) -> None:
    """Visits and values of a wave whose candidates are in the store; see `kernels.refresh`."""
    descent.backup(
        store.node_planes, store.edge_planes, store.heap, store.tree_planes, store.counters, store.raised,
        leaves.nodes, leaves.offsets, leaves.path, np.array([discount, max_share, how], np.float64),
    )  # fmt: skip


def cancel_wave(store: Store, leaves: Leaves) -> None:
    """Marks of a wave off; the same for every rule."""
    frontier.cancel(store.node_planes, store.edge_planes, store.tree_planes, leaves.nodes, leaves.offsets, leaves.path)


def joined(parts: list[Leaves]) -> Leaves:
    """Waves of different trees as one."""
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int32)
    starts = np.cumsum([0, *(len(part.path) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
    return Leaves(
        np.concatenate([none, *(part.nodes for part in parts)]),
        np.concatenate([none.astype(np.int64), *(part.handles for part in parts)]),
        np.concatenate([np.zeros(1, np.int64), *offsets]),
        np.concatenate([none, *(part.path for part in parts)]),
    )


def first_new_edges(expansion: Expansion, first: int) -> np.ndarray:
    """int64 [L + 1]: each leaf's first new edge, NONE if it has none; then `first`, that of the wave."""
    starts = np.where(np.diff(expansion.offsets) > 0, first + np.asarray(expansion.offsets[:-1]), NONE)
    return np.append(starts, first).astype(np.int64)


def most_visited(store: Store, node: int) -> int:
    """Live edge of `node` with most visits, ties to higher child value, then to the earlier candidate; NONE if no edge.

    Dead children count only where there is nothing else.
    """
    ids = store.edges_of(node)
    if not len(ids):
        return NONE
    edges, children = store.edges[ids], store.nodes[store.edges["child"][ids]]
    alive = (children["flags"] & Flag.DEAD) == 0
    order = np.lexsort((np.arange(len(ids)), -children["value"], -edges["visits"], ~alive))
    return int(ids[order[0]])

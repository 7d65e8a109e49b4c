"""Gumbel AlphaZero / MuZero with sequential halving at the root (Danihelka et al. 2022, *Policy improvement by planning
with Gumbel*). Root visits equal `mctx.gumbel_muzero_policy`'s where there are no terminals and no merged states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcts.gumbel_formulas import completed_q, halving_table
from mcts.rules.base import backup_wave, cancel_wave, descend
from mcts.store import descent
from mcts.store.records import NO_LIMIT, NONE, Flag
from mcts.store.store import Leaves, Store
from mcts.types import Draw, Expansion


@dataclass(frozen=True, slots=True)
class Gumbel:
    """Root: argmax g + logit + sigma(completed Q) among the candidates with the visit count that halving considers now.
    Below: argmax pi'(a) - N(a) / (1 + sum_b N(b)), pi' = softmax(logits + sigma(completed Q)) (section 5, Appendix D).

    sigma(q) = (maxvisit_init + max_b N(b)) * value_scale * q, q rescaled to [0, 1] over the candidates, as in mctx.
    Logits are log pi(step). A tree needs a limit in simulations: of n, the first expands the root and n - 1 are halved.
    Live candidates fewer than `max_considered` are all considered; if none with the considered count can be entered
    (dead, or in flight), the nearest count is taken. No Dirichlet noise on top; another `seed` draws another g.
    """

    n_candidates: int = 8
    root_candidates: int | None = 16
    draw: Draw = "sample"
    discount: float = 1.0
    max_considered: int = 16
    value_scale: float = 0.1
    maxvisit_init: float = 50.0
    gumbel_scale: float = 1.0
    root_noise: np.ndarray | None = None  # float64 [T, C], g in the order of the root's candidates; None: from the seed

    def select(self, store: Store, wave_size: int, trees: np.ndarray) -> Leaves:
        """Raises ValueError unless all running trees have one limit in simulations."""
        limits = store.trees["simulation_limit"][store.trees["status"] == 0]
        if not len(limits):
            return store.leaves(np.empty(0, np.int32), np.zeros(1, np.int64), store.path_buffer, 0)
        if limits.max() == NO_LIMIT or limits.min() != limits.max():
            raise ValueError(
                "Gumbel halves a fixed number of simulations: give Budget(simulations=...), one number for all"
            )
        table = halving_table(self.max_considered, max(int(limits.max()) - 1, 1))
        parameters = np.array(
            [self.discount, 0.0, 0.0, self.value_scale, self.maxvisit_init, self.max_considered, self.gumbel_scale],
            np.float64,
        )
        return descend(store, wave_size, trees, descent.KIND_GUMBEL, parameters, table, self._noise(len(store.trees)))

    def backup(self, store: Store, leaves: Leaves, expansion: Expansion) -> None:
        store.insert(leaves, expansion)
        backup_wave(store, leaves, self.discount)

    def cancel(self, store: Store, leaves: Leaves) -> None:
        cancel_wave(store, leaves)

    def adopt(self, store: Store) -> None:
        """Nothing: a descent needs no frontier."""

    def action(self, store: Store, tree: int) -> int:
        """The halving winner: g + logit + sigma(completed Q) is highest among the most visited live candidates."""
        record = store.trees[tree]
        root = int(record["root"])
        ids = store.edges_of(root)
        children = store.nodes[store.edges["child"][ids]]
        live = (children["flags"] & Flag.DEAD) == 0
        if not live.any():
            return int(ids[0]) if len(ids) else NONE
        visits = store.edges["visits"][ids][live]
        logits = store.edges["logprob"][ids][live]
        q = completed_q(
            logits, visits, self.discount * children["value"][live], float(store.nodes["raw_value"][root]),
            value_scale=self.value_scale, maxvisit_init=self.maxvisit_init,
        )  # fmt: skip
        noise = self._noise(len(store.trees))
        given = noise[tree] if noise.shape[1] else np.empty(0)
        g = np.array(
            [given[i] if i < len(given) else descent.gumbel(record["seed"], i) for i in np.flatnonzero(live)],
            np.float64,
        )
        score = np.where(visits == visits.max(), self.gumbel_scale * g + logits + q, -np.inf)
        return int(ids[live][np.argmax(score)])

    def _noise(self, n_trees: int) -> np.ndarray:
        if self.root_noise is None:
            return np.zeros((n_trees, 0))
        return np.array(self.root_noise, np.float64, order="C", ndmin=2)

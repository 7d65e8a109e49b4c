"""PUCT, the reference rule (AlphaZero: Silver et al. 2018, Science 362, supplementary, *Search*)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcts import kernels
from mcts.rules.base import backup_wave, descend, most_visited
from mcts.store import Leaves, Store
from mcts.types import Draw, Expansion

NO_TABLE = np.zeros((1, 1), np.int32)
NO_NOISE = np.zeros((1, 0))


@dataclass(frozen=True, slots=True)
class PUCT:
    """argmax_e Q(e) + c(N) P(e) sqrt(N) / (1 + N(e)), c(N) = log((1 + N + c_base) / c_base) + c_init.

    N(e) counts visits of the *edge*, N = 1 + failures + sum_e N(e) (monotone graph search, KataGo GraphSearch.md),
    in-flight visits included. Q(e) = discount * Q(child); a child not yet visited is valued by its own raw
    value (AlphaZero: 0).

    P: candidates are drawn without replacement, so each is known at most once and its exact probability is known too.
    Sampled MuZero's correction (Hubert et al. 2021, section 5.1) of a sample with frequencies beta_hat is
    P ~ (beta_hat / beta) pi; without replacement the inclusion is certain for what is known, which leaves P ~ pi(a),
    renormalised over the known candidates that are not dead. Deviation: the mass not seen yet gets no arm of its own
    ("a new step" as one more arm solved fewer problems in prototypes); widening looks after it.

    Widening (Coulom 2007; Couetoux et al. 2011): a node asks for n_candidates more when its live candidates are fewer
    than widen_c * N ** widen_alpha and the evaluator has unseen steps, and always when no child can be entered.

    Waves: an edge with w visits in flight counts N(e) + w visits, and its Q is multiplied by
    (1 + N(e)) / (1 + N(e) + virtual_loss * w), i.e. virtual visits of value 0 (Chaslot et al. 2008).

    Dead children (closed without a reward) and states on the path are not entered. Root noise (off by default) is
    Dirichlet(noise_alpha) over the root's live candidates, mixed in with weight noise_fraction.
    """

    n_candidates: int = 8
    root_candidates: int | None = None
    draw: Draw = "sample"
    discount: float = 1.0
    c_init: float = 1.25
    c_base: float = 19652.0
    virtual_loss: float = 1.0
    widen_c: float = 0.0  # 0: only where no child can be entered
    widen_alpha: float = 0.5
    noise_alpha: float = 0.3
    noise_fraction: float = 0.0

    def select(self, store: Store, wave_size: int) -> Leaves:
        parameters = np.array(
            [self.discount, self.c_init, self.c_base, self.virtual_loss,
             self.widen_c, self.widen_alpha, self.noise_alpha, self.noise_fraction],
            np.float64,
        )  # fmt: skip
        return descend(store, wave_size, kernels.KIND_PUCT, parameters, NO_TABLE, NO_NOISE)

    def backup(self, store: Store, leaves: Leaves, expansion: Expansion) -> None:
        store.insert(leaves, expansion)
        backup_wave(store, leaves, self.discount)

    def action(self, store: Store, tree: int) -> int:
        """The most visited edge of the root."""
        return most_visited(store, int(store.trees["root"][tree]))

"""PUCT, the reference rule (AlphaZero: Silver et al. 2018, Science 362, supplementary, *Search*)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcts.rules.base import (
    backup_wave,
    cancel_wave,
    descend,
    first_new_edges,
    joined,
    most_visited,
    wave_buffers,
)
from mcts.store import descent, rollout
from mcts.store.graph import visit_policy
from mcts.store.records import NONE, Flag
from mcts.store.store import Leaves, Store
from mcts.types import Draw, Expansion

NO_TABLE = np.zeros((1, 1), np.int32)
NO_NOISE = np.zeros((1, 0))


@dataclass(frozen=True, slots=True)
class PUCT:
    """argmax_e Q(e) + c(N) P(e) sqrt(N) / (1 + N(e)), c(N) = c_log log((1 + N + c_base) / c_base) + c_init.

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

    KataGo's additions (Wu 2019, *Accelerating self-play learning in Go*; KataGoMethods.md), off by default:
    `stdev_scale` s > 0 multiplies c(N) by 1 + s (stdev / stdev_prior - 1), stdev of the values below the node with a prior of
    `stdev_weight` visits; its settings in this scale of values are c_init=1, c_log=.45, c_base=500, s=.85, prior=.2.
    `forced` k > 0: a root candidate that was visited at all is visited until N(e) >= sqrt(k P(e) sum N) (k = 2 there);
    `policy` takes these visits back out of the target.

    `max_share`: share of the best visited candidate's Q in a node's value, the mean has the rest (0: AlphaZero's mean, 1: max).
    `rollout`: after an expansion the same tree goes on at the first new state, a simulation a step, until a terminal or a state
    that it knows; then it descends again (the original playout, by the policy itself, every token of which lands in the tree).

    `solve`: a node with a solved candidate is won and has that Q, its parents likewise (MCTS-Solver: Winands, Bjornsson, Saito
    2008, for one player).
    """

    n_candidates: int = 8
    root_candidates: int | None = None
    draw: Draw = "sample"
    discount: float = 1.0
    c_init: float = 1.25
    c_log: float = 1.0
    c_base: float = 19652.0
    virtual_loss: float = 1.0
    widen_c: float = 0.0  # 0: only where no child can be entered
    widen_alpha: float = 0.5
    noise_alpha: float = 0.3
    noise_fraction: float = 0.0
    forced: float = 0.0
    stdev_scale: float = 0.0
    stdev_prior: float = 0.2
    stdev_weight: float = 2.0
    max_share: float = 0.0
    solve: bool = False
    rollout: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("discount", 0.0, 1.0),
            ("stdev_scale", 0.0, 1.0),
            ("max_share", 0.0, 1.0),
            ("noise_fraction", 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)}: must lie in {low:g}..{high:g}")
        if not (self.stdev_prior > 0 and self.stdev_weight >= 0 and self.forced >= 0):
            raise ValueError(f"stdev_prior={self.stdev_prior} must be above 0, stdev_weight and forced at least 0")

    @property
    def _how(self) -> int:
        return descent.MOMENTS * (self.stdev_scale > 0) + descent.SOLVE * self.solve

    def _parameters(self) -> np.ndarray:
        return np.array(
            [self.discount, self.max_share, self._how, self.c_init, self.c_log, self.c_base, self.virtual_loss,
             self.widen_c, self.widen_alpha, self.noise_alpha, self.noise_fraction,
             self.forced, self.stdev_scale, self.stdev_prior, self.stdev_weight],
            np.float64,
        )  # fmt: skip

    def select(self, store: Store, wave_size: int, trees: np.ndarray) -> Leaves:
        if not self.rollout:
            return self._descend(store, wave_size, trees)
        nodes, offsets = wave_buffers(wave_size, trees)
        found, store.path_buffer = rollout.rollout_select(
            store.node_planes, store.edge_planes, store.heap, store.tree_planes, trees, wave_size,
            nodes, offsets, store.path_buffer,
        )  # fmt: skip
        going_on = store.leaves(nodes, offsets, store.path_buffer, found)
        idle = np.ones(len(store.tree_planes), np.bool_)
        idle[store.nodes["tree"][going_on.nodes]] = False
        fresh = self._descend(store, wave_size, trees[idle[trees]])
        return joined([part for part in (going_on, fresh) if len(part)])

    def _descend(self, store: Store, wave_size: int, trees: np.ndarray) -> Leaves:
        return descend(store, wave_size, trees, descent.KIND_PUCT, self._parameters(), NO_TABLE, NO_NOISE)

    def backup(self, store: Store, leaves: Leaves, expansion: Expansion) -> None:
        first = store.insert(leaves, expansion)
        backup_wave(store, leaves, self.discount, max_share=self.max_share, how=self._how)
        if self.rollout:
            rollout.rollout_push(
                store.node_planes, store.edge_planes, store.heap, store.tree_planes,
                leaves.nodes, first_new_edges(expansion, first),
            )  # fmt: skip

    def cancel(self, store: Store, leaves: Leaves) -> None:
        cancel_wave(store, leaves)
        if self.rollout:
            rollout.rollout_cancel(store.node_planes, store.heap, store.tree_planes, leaves.nodes)

    def adopt(self, store: Store) -> None:
        """A descent needs no frontier; rollouts under way are not gone on with."""
        if self.rollout:
            store.trees["queue"] = NONE
            store.nodes["flags"] &= ~Flag.QUEUED

    def action(self, store: Store, tree: int) -> int:
        """The most visited edge of the root."""
        return most_visited(store, int(store.trees["root"][tree]))

    def policy(self, store: Store, tree: int) -> np.ndarray:
        """Target of the root, float64 [K] over `store.edges_of(root)`: visits, without those that `forced` added (Wu 2019,
        section 3.2); zeros where nothing was visited, and for dead candidates beside live ones.

        From every candidate but the most visited one, up to sqrt(k P(e) sum N) visits are taken as long as its score, at the
        end of the search, stays below the most visited one's; what keeps a single visit loses it.
        """
        root = int(store.trees["root"][tree])
        ids = store.edges_of(root)
        edges, children = store.edges[ids], store.nodes[store.edges["child"][ids]]
        live = (children["flags"] & Flag.DEAD) == 0
        visits = np.where(live | ~live.any(), edges["visits"], 0).astype(np.int64)
        if self.forced > 0 and visits.sum() > 0:
            prior = np.where(live, np.exp(edges["logprob"].astype(np.float64)), 0.0)
            prior /= max(prior.sum(), 1e-300)
            n = float(store.nodes["visits"][root])
            explore = (self.c_log * np.log((1 + n + self.c_base) / self.c_base) + self.c_init) * np.sqrt(n)
            if self.stdev_scale > 0:
                explore *= descent.spread_factor(store.node_planes, store.heap, root, self._parameters())
            q = self.discount * children["value"].astype(np.float64)
            visits = unforced_visits(prior, visits, q, explore, self.forced)
        return visit_policy(visits)


def unforced_visits(prior: np.ndarray, visits: np.ndarray, q: np.ndarray, explore: float, forced: float) -> np.ndarray:
    """int64 [K]: `visits` less what forced playouts added; see `PUCT.policy`. `explore`: c(N) sqrt(N) of the node."""
    best = int(np.argmax(visits))
    bar = q[best] + explore * prior[best] / (1 + visits[best])
    kept = visits.astype(np.int64).copy()
    for k in range(len(visits)):
        if k == best:
            continue
        least = visits[k] - int(np.sqrt(forced * prior[k] * visits.sum()))
        while (
            kept[k] > max(least, 0) and q[k] + explore * prior[k] / kept[k] < bar
        ):  # N - 1 visits: 1 + N - 1 below the line
            kept[k] -= 1
        if kept[k] == 1:
            kept[k] = 0
    return kept

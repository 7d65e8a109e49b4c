"""Early stops: a tree ends when more search would hardly change what it does. For inference; off in self-play, whose
targets want all their visits (lc0, `src/mcts/stoppers/stoppers.cc`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mcts.store.records import NO_LIMIT, Flag
from mcts.store.store import Store
from mcts.types import Budget

Watch = Callable[[], np.ndarray]


class Stop(Protocol):
    """A reason to end a tree early. Frozen settings; what it remembers of a search is in its watch."""

    def watch(self, store: Store, budget: Budget) -> Watch:
        """What to ask between waves: bool [T], True for a tree that may end. Asked of every tree, running or not."""


def playout_caps(
    n_trees: int, *, full: int, cheap: int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Playout cap randomisation (Wu 2019, section 3.1): (limits int64 [T] for a `Budget`, whether a search is full bool [T]).

    Value targets want many short searches, policy targets deep ones: each search is full with probability `share` and gives
    policy targets then; the others get `cheap` and teach the value only. (KataGo: 600 and 100 simulations, .25.)

    Args:
        full, cheap: in simulations or in generated tokens, whichever the budget counts.
        rng: one draw a tree is taken, `rng.random(n_trees)`.

    Raises:
        ValueError: a limit below 1, a share outside 0..1, or cheap above full where both are drawn.
    """
    if not (min(full, cheap) > 0 and 0.0 <= share <= 1.0):
        raise ValueError(f"full={full}, cheap={cheap}, share={share}: use limits above 0 and a share in 0..1")
    if cheap > full and 0.0 < share < 1.0:
        raise ValueError(f"cheap={cheap} is above full={full}: lower it, or give share=1 or 0 to use one of them alone")
    is_full = rng.random(n_trees) < share
    return np.where(is_full, full, cheap), is_full


@dataclass(frozen=True, slots=True)
class SmartPruning:
    """The runner-up can no longer win: R < N_1 - N_2, visits of the two most visited live root edges, with R = simulations
    left / factor; or the root has one live candidate and no unseen step.

    lc0's rule with its factor (1.33 in play, 0 = off in self-play). R is of the budget in simulations, and in tokens at the
    tree's own tokens a simulation, the smaller of the two; without either no tree is stopped. Deviation: lc0 also estimates R
    from the clock, which would make a tree depend on the machine.
    """

    factor: float = 1.33

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"factor={self.factor}: above 0; leave the rule out to turn it off")

    def watch(self, store: Store, budget: Budget) -> Watch:
        def decided() -> np.ndarray:
            first, second, alone = _leaders(store)
            return alone | (simulations_left(store, budget) / self.factor < first - second)

        return decided


@dataclass(frozen=True, slots=True)
class KLDGain:
    """The root's visits have settled: KL(before || now) of their distribution, taken every `interval` simulations, divided by
    the simulations in between, is below `least` (lc0's KldGainStopper; its interval is 100, its gain in match play 5e-5).
    """

    least: float = 5e-5
    interval: int = 100

    def __post_init__(self) -> None:
        if not self.least > 0 or self.interval < 1:
            raise ValueError(f"least={self.least}, interval={self.interval}: both must be above 0")

    def watch(self, store: Store, budget: Budget) -> Watch:
        before: dict[int, np.ndarray] = {}

        def settled() -> np.ndarray:
            found = np.zeros(len(store.trees), np.bool_)
            for tree, root in enumerate(store.trees["root"].tolist()):
                visits = store.edges["visits"][store.edges_of(root)].astype(np.float64)
                old = before.get(tree, np.zeros(0))
                grown = visits.sum() - old.sum()
                if grown < self.interval:
                    continue
                if old.sum() > 0:
                    share, now = old / old.sum(), visits[: len(old)] / visits.sum()
                    seen = old > 0
                    gain = float(share[seen] @ np.log(share[seen] / now[seen]))
                    found[tree] = gain / grown < self.least
                before[tree] = visits
            return found

        return settled


def simulations_left(store: Store, budget: Budget) -> np.ndarray:
    """float64 [T]: simulations that the budget still pays for; inf without a limit in simulations or tokens."""
    trees = store.trees
    left = np.where(
        trees["simulation_limit"] == NO_LIMIT,
        np.inf,
        (trees["simulation_limit"] - trees["simulations"]).astype(np.float64),
    )
    if budget.tokens is not None:
        each = trees["tokens"] / np.maximum(trees["simulations"], 1)
        unspent = np.maximum(budget.tokens - trees["tokens"], 0)
        left = np.minimum(left, np.where(each > 0, unspent / np.maximum(each, 1e-9), np.inf))
    return left


def _leaders(store: Store) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Visits of the two most visited live root edges, int64 [T]; and whether the root has one and no more to come."""
    n_trees = len(store.trees)
    first, second = np.zeros(n_trees, np.int64), np.zeros(n_trees, np.int64)
    alone = np.zeros(n_trees, np.bool_)
    for tree, root in enumerate(store.trees["root"].tolist()):
        edges = store.edges[store.edges_of(root)]
        live = edges[(store.nodes["flags"][edges["child"]] & Flag.DEAD) == 0]
        order = np.sort(live["visits"])[::-1]
        first[tree] = order[0] if len(order) else 0
        second[tree] = order[1] if len(order) > 1 else 0
        alone[tree] = len(order) == 1 and bool(store.nodes["flags"][root] & Flag.EXHAUSTED)
    return first, second, alone

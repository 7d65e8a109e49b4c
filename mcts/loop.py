"""The search loop: select, expand, backup, over many trees at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mcts.driver import Driver, SearchResult
from mcts.rules import Rule
from mcts.stops import Stop
from mcts.store.store import Leaves, Store
from mcts.types import Budget, Evaluator, Expansion, Roots

OnWave = Callable[[Store, Leaves, Expansion], None]


def search(
    roots: Roots,
    evaluator: Evaluator,
    rule: Rule,
    budget: Budget,
    *,
    wave_size: int = 1,
    seed: int = 0,
    tree_seeds: np.ndarray | None = None,
    stop_on_solution: bool = False,
    node_limit: int | None = None,
    slots: int | None = None,
    stops: Sequence[Stop] = (),
    on_wave: OnWave | None = None,
) -> SearchResult:
    """Search one tree a root until each has stopped.

    Args:
        roots: what `evaluator.begin` returned.
        budget: limits per tree (`simulations` exact; `tokens`: no wave starts once reached) and in seconds over all.
            A simulation is one leaf given to the model, or one visit of a known terminal; the first expands the root.
        wave_size: leaves *per tree* in one model call, so that a tree does not depend on how many others there are.
            1 is the textbook's sequential search in each tree.
        seed, tree_seeds: see `Store.plant`.
        stop_on_solution: a tree stops at its first terminal with reward >= 1; else it goes on.
        node_limit: nodes per tree; a tree that could pass it with the next wave stops. The best so far is the result.
        slots: most leaves in one model call, over all trees; None: all trees' waves. With fewer, trees take turns.
        stops: early stops, asked between waves.
        on_wave: called after each wave, with what was selected and what came back. Must not change anything.

    Raises:
        ValueError: wave_size < 1, slots < wave_size, or an expansion that cannot be entered (`types.check_expansion`).

    An evaluator that raises takes its wave back out of the store; who holds the store (`Store.plant`, `resume`) can go on.
    """
    store = Store.plant(roots, seed, tree_seeds)
    return resume(
        store, evaluator, rule, budget, wave_size=wave_size, stop_on_solution=stop_on_solution,
        node_limit=node_limit, slots=slots, stops=stops, on_wave=on_wave,
    )  # fmt: skip


def resume(
    store: Store,
    evaluator: Evaluator,
    rule: Rule,
    budget: Budget,
    *,
    wave_size: int = 1,
    stop_on_solution: bool = False,
    node_limit: int | None = None,
    slots: int | None = None,
    stops: Sequence[Stop] = (),
    on_wave: OnWave | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Go on with a store as `search` does; limits count what was spent before, except seconds. See `search`.

    `paused`: asked before each wave; once it says so, the trees stay as they are, RUNNING. Gone on with, they become those of a
    search that was not paused.
    """
    driver = Driver(
        store, rule, budget, wave_size=wave_size, stop_on_solution=stop_on_solution,
        node_limit=node_limit, slots=slots, stops=stops,
    )  # fmt: skip
    while not paused() and len(leaves := driver.ask()):
        try:
            expansion = evaluator.expand(leaves.handles, driver.wanted(leaves), rule.draw)
        except BaseException:
            driver.cancel(leaves)
            raise
        try:
            driver.tell(leaves, expansion)
        except Exception:  # it was refused whole; an interrupt may come when it is half entered
            driver.cancel(leaves)
            raise
        if on_wave is not None:
            on_wave(store, leaves, expansion)
    return driver.result()

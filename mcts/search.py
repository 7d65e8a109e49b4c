"""The search loop: select, expand, backup, over many trees at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mcts.graph import solution_edges
from mcts.rules import Rule
from mcts.rules.base import most_visited
from mcts.stops import Stop
from mcts.store import MAX_NODES, NEVER, NO_LIMIT, NONE, Flag, Leaves, Status, Store
from mcts.types import Budget, Evaluator, Expansion, Roots, check_expansion
from mcts.waves import Turns

OnWave = Callable[[Store, Leaves, Expansion], None]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What one search leaves behind. T trees; node and edge ids are those of `store`."""

    store: Store
    rule: Rule
    roots: np.ndarray  # int32 [T], root nodes
    simulations: np.ndarray  # int64 [T]
    tokens: np.ndarray  # int64 [T], generated tokens, all of `Expansion.leaf_tokens`
    tokens_at_first_solution: np.ndarray  # int64 [T], spent up to and with the expansion that found it; NEVER
    solved: np.ndarray  # bool [T], a terminal with reward >= 1 was found
    status: np.ndarray  # int64 [T], `Status`: why the tree stopped; RUNNING: the time limit stopped the search
    seconds: float  # wall clock

    def action(self, tree: int) -> int:
        """Root edge that the rule acts on (Gumbel: the halving winner), NONE if the root has no candidate."""
        return self.rule.action(self.store, tree)

    def best_path(self, tree: int) -> np.ndarray:
        """Edge ids int32 from the root: the rule's action, then the most visited live edge of each node.

        Ends at a terminal, at a node without visited edges, or before a state would come again.
        """
        edges, nodes = self.store.edges, self.store.nodes
        path: list[int] = []
        seen = {int(self.roots[tree])}
        edge = self.action(tree)
        while edge != NONE and int(edges["child"][edge]) not in seen:
            path.append(edge)
            node = int(edges["child"][edge])
            seen.add(node)
            if nodes["flags"][node] & Flag.TERMINAL:
                break
            edge = most_visited(self.store, node)
            if edge != NONE and edges["visits"][edge] == 0 and not nodes["flags"][edges["child"][edge]] & Flag.SOLVED:
                break
        return np.array(path, np.int32)

    def solution_path(self, tree: int) -> np.ndarray:
        """Edge ids int32 from the root to the most probable solved terminal; empty if the tree has none."""
        return solution_edges(self.store, tree)

    def children(self, node: int) -> np.ndarray:
        """EDGE records [K] of a node's candidates, a copy; ids: `store.edges_of(node)`."""
        return self.store.edges[self.store.edges_of(node)]

    def edges(self, tree: int) -> np.ndarray:
        """Edge ids int64 of all candidates of one tree, in order of discovery."""
        return np.flatnonzero(self.store.nodes["tree"][self.store.edges["parent"]] == tree)


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
) -> SearchResult:
    """Go on with a store as `search` does; limits count what was spent before, except seconds. See `search`."""
    turns = Turns(slots, wave_size)
    start = time.monotonic()
    trees = store.trees
    trees["simulation_limit"] = NO_LIMIT if budget.simulations is None else budget.simulations
    reopened = (trees["status"] != Status.CLOSED) & (trees["status"] != Status.RUNNING)
    trees["status"][reopened] = Status.RUNNING
    trees["free_run"][reopened] = 0
    watches = [stop.watch(store, budget) for stop in stops]
    while True:
        stop_trees(store, rule, budget, wave_size, stop_on_solution, node_limit)
        for watch in watches:
            trees["status"][watch() & (trees["status"] == Status.RUNNING)] = Status.DECIDED
        if budget.seconds is not None and time.monotonic() - start >= budget.seconds:
            break
        leaves = turns.select(store, rule)
        if not len(leaves):
            break
        try:
            expansion = evaluator.expand(leaves.handles, candidates_wanted(store, rule, leaves), rule.draw)
            check_expansion(expansion, len(leaves))
        except BaseException:
            rule.cancel(store, leaves)
            raise
        rule.backup(store, leaves, expansion)
        if on_wave is not None:
            on_wave(store, leaves, expansion)
    stop_trees(store, rule, budget, wave_size, stop_on_solution, node_limit)
    return result_of(store, rule, time.monotonic() - start)


def stop_trees(
    store: Store, rule: Rule, budget: Budget, wave_size: int, stop_on_solution: bool, node_limit: int | None
) -> None:
    """Mark the trees that have reached an end; the others stay RUNNING. Called between waves."""
    trees = store.trees
    room = wave_size * max(rule.n_candidates, rule.root_candidates or 0)
    limit = MAX_NODES if node_limit is None else node_limit
    full = trees["n_nodes"] + room > limit
    running = int((trees["status"] == Status.RUNNING).sum())
    if max(store.n_nodes, store.n_edges) + running * room > MAX_NODES:
        full[:] = True
    ends = [
        ((store.nodes["flags"][trees["root"]] & Flag.CLOSED) != 0, Status.CLOSED),
        (stop_on_solution & (trees["first_solution"] != NEVER), Status.SOLVED),
        (trees["simulations"] >= trees["simulation_limit"], Status.BUDGET),
        (trees["tokens"] >= (NO_LIMIT if budget.tokens is None else budget.tokens), Status.BUDGET),
        (full, Status.FULL),
    ]
    for reached, status in ends:
        trees["status"][reached & (trees["status"] == Status.RUNNING)] = status


def candidates_wanted(store: Store, rule: Rule, leaves: Leaves) -> int:
    """Steps to ask for: the rule's root figure in a wave of roots that were never expanded; a wave has either all or none."""
    at_roots = store.trees["root"][store.nodes["tree"][leaves.nodes]] == leaves.nodes
    fresh = (store.nodes["flags"][leaves.nodes] & Flag.EXPANDED) == 0
    if rule.root_candidates is not None and (at_roots & fresh).all():
        return rule.root_candidates
    return rule.n_candidates


def result_of(store: Store, rule: Rule, seconds: float) -> SearchResult:
    """Freeze the figures of a store's trees."""
    trees = store.trees
    return SearchResult(
        store=store,
        rule=rule,
        roots=trees["root"].astype(np.int32),
        simulations=trees["simulations"].copy(),
        tokens=trees["tokens"].copy(),
        tokens_at_first_solution=trees["first_solution"].copy(),
        solved=trees["first_solution"] != NEVER,
        status=trees["status"].copy(),
        seconds=seconds,
    )

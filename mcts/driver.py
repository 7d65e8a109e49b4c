"""Ask, tell, cancel: a search whose caller makes the model calls, one or many at a time; answers come late and in any order.

The shape is that of TreeQuest (Sakana AI, Inoue et al. 2025), without its copy of the tree at every step. In an async server
that keeps four waves in flight:

    store = mcts.Store.plant(evaluator.begin(problems), seed=0)
    driver = mcts.Driver(store, rule, mcts.Budget(simulations=400), wave_size=8)
    under_way = {}
    while not driver.done:
        while len(under_way) < 4 and len(leaves := driver.ask()):
            call = expand(leaves.handles, driver.wanted(leaves), rule.draw)  # a coroutine that returns an `Expansion`
            under_way[asyncio.ensure_future(call)] = leaves
        if under_way:
            answered, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for call in answered:
                driver.tell(under_way.pop(call), call.result())  # a call that failed: driver.cancel(its leaves)
    result = driver.result()

`search.resume` is the shortest loop: each wave is told before the next is asked.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mcts.rules import Rule
from mcts.rules.base import joined, most_visited
from mcts.stops import Stop
from mcts.store.graph import solution_edges
from mcts.store.records import MAX_NODES, NEVER, NO_LIMIT, NONE, Flag, Status
from mcts.store.store import Leaves, Store
from mcts.types import Budget, Expansion
from mcts.waves import Turns

_questions = itertools.count()  # one of its own for every `Driver.ask` of the process


class NotInFlight(ValueError):
    """Leaves that wait for no answer: told or cancelled before, or asked by another driver. Nothing has changed."""


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
    status: np.ndarray  # int64 [T], `Status`: why a tree stopped; RUNNING: the time limit stopped it, or nothing has
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


class Driver:
    """Grows the trees of one store. Each leaf that `ask` gives is told or cancelled once, alone or with others of its wave.

    One order of asks, tells and cancels makes one tree, bit for bit. Call it from one thread at a time.

    Several waves in flight spread over a tree as the leaves of one larger wave do. No rule needs whole rounds: `Gumbel` halves
    by visits, those in flight counted, so that a late answer is missing where a round is judged, as in a large wave.

    Limits are those of `search.search`. In simulations they stay exact, since what is in flight is counted. In tokens they
    count what was told: a tree that has spent its tokens asks for nothing more, but what is in flight comes on top, so that
    more waves in flight overshoot further. Near its node limit a tree waits for what is in flight before it asks on or stops.

    A tree that has stopped (solved, out of budget, decided) takes the answers that are under way: they are paid for, and may
    still solve or close it; its status stays.

    Attributes:
        store, rule, budget: as they were handed in. `store` may be read at any time and changed by nobody else.
        in_flight: leaves that were asked and neither told nor cancelled.
    """

    def __init__(
        self,
        store: Store,
        rule: Rule,
        budget: Budget,
        *,
        wave_size: int = 1,
        stop_on_solution: bool = False,
        node_limit: int | None = None,
        slots: int | None = None,
        stops: Sequence[Stop] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        """Open the store's stopped trees anew, except the closed ones. Arguments as in `search.search`.

        `clock` counts seconds, for `budget.seconds` and the result; it starts here, and once they are over nothing is asked.

        Raises:
            ValueError: wave_size < 1, slots < wave_size, or leaves of the store are in flight.
        """
        self.store, self.rule, self.budget, self.in_flight = store, rule, budget, 0
        self._turns = Turns(slots, wave_size)
        self._wave_size, self._stop_on_solution = wave_size, stop_on_solution
        self._node_limit = MAX_NODES if node_limit is None else node_limit
        self._candidates = max(rule.n_candidates, rule.root_candidates or 0)
        self._clock, self._start = clock, clock()
        trees = store.trees
        if trees["in_flight"].any():
            raise ValueError(f"{trees['in_flight'].sum()} leaves of the store are in flight: tell or cancel them first")
        trees["simulation_limit"] = NO_LIMIT if budget.simulations is None else budget.simulations
        reopened = (trees["status"] != Status.CLOSED) & (trees["status"] != Status.RUNNING)
        trees["status"][reopened] = Status.RUNNING
        trees["free_run"][reopened] = 0
        self._watches = [stop.watch(store, budget) for stop in stops]
        self._open: dict[int, np.ndarray] = {}  # by question: bool [L], leaves in flight
        self._runs: dict[int, np.ndarray] = {}  # by question: int64 [T], the trees' free runs when it was asked
        self._latest = NONE  # question of the last selection, were it empty
        self._spent = False  # a selection was empty though nothing was in flight
        self._changed, self._askable = True, np.empty(0, np.int64)

    def ask(self) -> Leaves:
        """The next wave: distinct leaves that were not in flight, and are now.

        Ask the evaluator with `leaves.handles`, `wanted(leaves)` and `rule.draw`. An empty wave says that there is nothing to
        ask until an answer comes, or ever (`done`); to ask again before that changes nothing.

        Raises:
            ValueError: the rule cannot work with this budget (`Gumbel`).
        """
        trees = self._running()
        if not len(trees):
            return joined([])
        leaves = self._turns.select(self.store, self.rule, trees)
        self._latest, self._changed = next(_questions), True
        self._spent = not len(leaves) and not self._open
        if len(leaves):
            self._open[self._latest] = np.ones(len(leaves), np.bool_)
            self._runs[self._latest] = self.store.trees["free_run"].copy()
            self.in_flight += len(leaves)
        return Leaves(leaves.nodes, leaves.handles, leaves.offsets, leaves.path, self._latest)

    def tell(self, leaves: Leaves, expansion: Expansion) -> None:
        """Enter the candidates of a wave and carry visits and values up to the roots. No leaves are no work.

        Args:
            leaves: what `ask` gave, or a `Leaves.part` of it; waves and parts in any order.
            expansion: the evaluator's answer, its rows in the order of `leaves`.

        Raises:
            NotInFlight: one of the leaves waits for no answer, or was cancelled and asked anew: that is another question.
            ValueError: the expansion cannot be entered (`types.check_expansion`). Nothing has changed, and the leaves are still
                in flight: tell another one, or cancel.
        """
        if len(leaves):
            open_ = self._in_flight(leaves)
            self.rule.backup(self.store, leaves, expansion)
            self._close(leaves, open_)

    def cancel(self, leaves: Leaves) -> None:
        """Take back a wave, or a part of one, whose answer will not come or is not wanted. Its leaves may be asked again.

        Steps that the evaluator has drawn for them are lost, since it hands out none twice: cancel before it has answered.
        Visits of known terminals stay.

        Raises:
            NotInFlight: as in `tell`.
        """
        if len(leaves):
            open_ = self._in_flight(leaves)
            self.rule.cancel(self.store, leaves)
            self._close(leaves, open_)

    @property
    def done(self) -> bool:
        """Whether nothing is in flight and nothing is left to ask: each tree has stopped, or the time is over."""
        return not self._open and (self._spent or not len(self._running()))

    def wanted(self, leaves: Leaves) -> int:
        """Candidates to ask the evaluator for, before `leaves` are told: the rule's own figure for roots never expanded.

        A wave holds such roots or none.
        """
        if self.rule.root_candidates is not None and len(leaves):
            first = leaves.nodes[0]
            at_root = self.store.trees["root"][self.store.nodes["tree"][first]] == first
            if at_root and not self.store.nodes["flags"][first] & Flag.EXPANDED:
                return self.rule.root_candidates
        return self.rule.n_candidates

    def result(self) -> SearchResult:
        """The trees as they are now; figures are frozen, the store is not."""
        self._mark_ends()
        trees = self.store.trees
        return SearchResult(
            store=self.store,
            rule=self.rule,
            roots=trees["root"].astype(np.int32),
            simulations=trees["simulations"].copy(),
            tokens=trees["tokens"].copy(),
            tokens_at_first_solution=trees["first_solution"].copy(),
            solved=trees["first_solution"] != NEVER,
            status=trees["status"].copy(),
            seconds=self._clock() - self._start,
        )

    def _in_flight(self, leaves: Leaves) -> np.ndarray:
        """bool, one for each leaf of the wave that `leaves` belong to: whether it is in flight. All of `leaves` are."""
        open_ = self._open.get(leaves.question)
        if open_ is None or not (open_ if leaves.rows is None else open_[leaves.rows]).all():
            raise NotInFlight("these leaves are not in flight (told, cancelled, another driver's): drop their answer")
        return open_

    def _close(self, leaves: Leaves, open_: np.ndarray) -> None:
        if leaves.question != self._latest:
            # Known terminals that a tree has met since it was asked do not saturate it: it has news.
            runs, trees = self.store.trees["free_run"], self.store.nodes["tree"][leaves.nodes]
            runs[trees[runs[trees] != self._runs[leaves.question][trees]]] = 0
        open_[slice(None) if leaves.rows is None else leaves.rows] = False
        if not open_.any():
            del self._open[leaves.question], self._runs[leaves.question]
        self.in_flight -= len(leaves)
        self._changed = True

    def _running(self) -> np.ndarray:
        """int64 [S], rising: trees that may get leaves now. Marks those that have reached an end since the last look."""
        status = self.store.trees["status"]
        if self._changed:
            self._mark_ends()
            for watch in self._watches:
                status[watch() & (status == Status.RUNNING)] = Status.DECIDED
            running = status == Status.RUNNING
            if self._open:
                running &= ~self._crowded(self.store.trees["in_flight"])
            self._askable, self._changed = np.flatnonzero(running), False
        if self.budget.seconds is not None and self._clock() - self._start >= self.budget.seconds:
            return self._askable[:0]
        return self._askable

    def _mark_ends(self) -> None:
        """Mark the trees that have reached an end; the others stay RUNNING."""
        trees, tokens = self.store.trees, self.budget.tokens
        status = trees["status"]
        running = status == Status.RUNNING
        ends = [  # the last one that holds is the reason
            (self._crowded(0), Status.FULL),
            (trees["tokens"] >= (NO_LIMIT if tokens is None else tokens), Status.BUDGET),
            (trees["simulations"] >= trees["simulation_limit"], Status.BUDGET),
            (self._stop_on_solution & (trees["first_solution"] != NEVER), Status.SOLVED),
            ((self.store.nodes["flags"][trees["root"]] & Flag.CLOSED) != 0, Status.CLOSED),
        ]
        for reached, end in ends:
            status[reached & running] = end

    def _crowded(self, in_flight: np.ndarray | int) -> np.ndarray:
        """bool [T]: another wave and all of `in_flight` (int64 [T] or 0) could pass a tree's node limit, or all int32 ids."""
        trees, store = self.store.trees, self.store
        crowded = trees["n_nodes"] + (self._wave_size + in_flight) * self._candidates > self._node_limit
        leaves = int((trees["status"] == Status.RUNNING).sum()) * self._wave_size + int(np.sum(in_flight))
        if max(store.n_nodes, store.n_edges) + leaves * self._candidates > MAX_NODES:
            crowded[:] = True
        return crowded

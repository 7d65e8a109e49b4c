"""Tree search under any rule of `mcts`, as a search that goes on where it stopped and tells which chains it has found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import mcts
from models.steps.history import digest
from solve.search.wall import Curtained
from solve.types import COLDEST, Chain, Workbench
from tasks.base import Problem


@dataclass(frozen=True, slots=True)
class Tree:
    """A search under `rule`.

    `blind`: the rule where the value head is not trusted; None: `rule`, to which every state then looks alike.
    `merge`: equal states are one node. `go_on`: after the first accepted chain, too. `wave`: leaves of one tree in flight.
    `temperature`: of drawing steps by `sample`.
    """

    rule: mcts.Rule
    blind: mcts.Rule | None = None
    merge: bool = True
    go_on: bool = False
    wave: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not COLDEST <= self.temperature < math.inf:
            raise ValueError(f"a temperature to draw distinct steps at is {COLDEST} or more")
        if self.wave < 1:
            raise ValueError("at least 1")

    @property
    def sized(self) -> bool:
        """Sequential halving divides a fixed number of simulations."""
        return isinstance(self.rule, mcts.Gumbel)

    def start(self, bench: Workbench, problems: Sequence[Problem], limit: int | None = None) -> TreeSearch:
        return TreeSearch(self, bench, problems, limit)


class TreeSearch:
    """See `solve.types.Search`. `store`, `rule` and `evaluator` are for who draws, saves or measures the trees."""

    def __init__(self, settings: Tree, bench: Workbench, problems: Sequence[Problem], limit: int | None = None):
        self._settings, self._bench, self._problems = settings, bench, list(problems)
        self.rule = settings.rule if bench.trust_value or settings.blind is None else settings.blind
        self.evaluator = bench.policy.evaluator(
            bench.task, temperature=settings.temperature, seed=bench.seed, most=bench.most_tokens
        )
        self._seen = Curtained(self.evaluator, values=bench.trust_value, merge=settings.merge)
        self.store = mcts.Store.plant(self._seen.begin(problems), bench.seed, _identities(problems))
        self._halved = None if limit is None or not settings.sized else self._simulations_in(limit)
        self._ends = np.empty(0, np.int64)  # edges into terminals
        self._paid = np.empty(0, np.int64)  # tokens paid on their problem when they were found
        self._known_edges = 0
        self._result: mcts.SearchResult | None = None
        self._answers: dict[int, tuple[tuple[str, ...], str | None, float | None]] = {}  # by edge

    @property
    def result(self) -> mcts.SearchResult:
        """What the search has come to, once it was advanced."""
        assert self._result is not None, "a search that was never advanced has no result"
        return self._result

    @property
    def tokens(self) -> np.ndarray:
        return self.store.trees["tokens"].copy()

    @property
    def simulations(self) -> np.ndarray:
        return self.store.trees["simulations"].copy()

    @property
    def solved_at(self) -> np.ndarray:
        return self.store.trees["first_solution"].copy()

    @property
    def prefilled_tokens(self) -> int:
        return self.evaluator.prefilled_tokens

    @property
    def exhausted(self) -> np.ndarray:
        return np.isin(self.store.trees["status"], (mcts.Status.CLOSED, mcts.Status.SATURATED))

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        """See `Search.advance`. A tree that has paid its limit is not looked at: nothing starts once a limit is reached."""
        self._result = mcts.resume(
            self.store,
            self._seen,
            self.rule,
            mcts.Budget(self._halved if simulations is None else simulations, np.asarray(limits, np.int64), seconds),
            wave_size=self._settings.wave,
            stop_on_solution=self._bench.verify == "task" and not self._settings.go_on,
            on_wave=self._note,
            paused=self._bench.interrupted,
        )

    def join(self, problems: Sequence[Problem]) -> None:
        """See `solve.types.Joinable`."""
        self.store.add(self._seen.join(problems), self._bench.seed, _identities(problems))
        self._problems.extend(problems)

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        return [chain for _, chain in self.ended(problem, within)]

    def ended(self, problem: int, within: int | None = None) -> list[tuple[int, Chain]]:
        """As `chains`, each with the edge that ends it."""
        edges, nodes = self.store.edges, self.store.nodes
        mine = nodes["tree"][edges["parent"][self._ends]] == problem
        if within is not None:
            mine &= self._paid <= within
        ends, paid = self._ends[mine], self._paid[mine]
        mass = self._mass(problem)
        found = []
        for edge, tokens in zip(ends.tolist(), paid.tolist(), strict=True):
            parent = int(edges["parent"][edge])
            steps, answer, reward = self._told(problem, edge)
            logprob = float(edges["logprob"][edge])
            votes = float(mass[parent] * np.exp(logprob))
            visits = max(int(edges["visits"][edge]), 1)
            before, ended = (float(nodes["raw_value"][node]) for node in (parent, edges["child"][edge]))
            value = self._bench.chain_value(before, logprob, ended)
            found.append((edge, Chain(steps, answer, tokens, votes, visits, value, reward)))
        return found

    def best_path(self, problem: int) -> list[int]:
        """Edges from the root, the most visited one at each state: a choice that no verdict takes part in.

        Visits are those of the search, which a verifier in the loop has led.
        """
        node, path, passed = int(self.store.trees["root"][problem]), [], set()
        while node not in passed:
            passed.add(node)
            edges = self.store.edges_of(node)
            if not len(edges) or not self.store.edges["visits"][edges].any():
                break
            path.append(int(edges[np.argmax(self.store.edges["visits"][edges])]))
            node = int(self.store.edges["child"][path[-1]])
        return path

    def _note(self, store: mcts.Store, leaves: mcts.Leaves, expansion: mcts.Expansion) -> None:
        new = np.arange(self._known_edges, store.n_edges)
        self._known_edges = store.n_edges
        children = store.nodes[store.edges["child"][new]]
        ended = (children["flags"] & mcts.Flag.TERMINAL) != 0
        if ended.any():
            self._ends = np.concatenate((self._ends, new[ended]))
            self._paid = np.concatenate((self._paid, store.trees["tokens"][children["tree"][ended]]))

    def _told(self, problem: int, edge: int) -> tuple[tuple[str, ...], str | None, float | None]:
        """(steps, answer, reward) of the chain that ends with an edge."""
        if edge not in self._answers:
            handle = int(self.store.edge_handles[edge])
            steps, verdict = tuple(self.evaluator.steps(handle)), self.evaluator.verdict(handle)
            self._answers[edge] = (steps, *self._bench.outcome(self._problems[problem], steps, verdict))
        return self._answers[edge]

    def _mass(self, problem: int) -> np.ndarray:
        """float64 [N]: the policy's mass of all known ways to a state of one tree, by ever deeper edges."""
        nodes, edges = self.store.nodes, self.store.edges
        mass = np.zeros(self.store.n_nodes)
        mass[self.store.trees["root"][problem]] = 1.0
        edges = edges[nodes["tree"][edges["parent"]] == problem]
        depth_from, depth_to = nodes["depth"][edges["parent"]], nodes["depth"][edges["child"]]
        prior = np.exp(edges["logprob"].astype(np.float64))
        deeper = depth_to > depth_from
        for depth in range(int(depth_from.max(initial=-1)) + 1):
            level = np.flatnonzero(deeper & (depth_from == depth))
            np.add.at(mass, edges["child"][level], mass[edges["parent"][level]] * prior[level])
        return mass

    def _simulations_in(self, limit: int) -> int:
        """Simulations that a limit in tokens pays for, if every candidate is as long as the longest."""
        each = self.rule.n_candidates * self._bench.task.max_step_tokens
        return max(2, limit // each)


def _identities(problems: Sequence[Problem]) -> np.ndarray:
    """uint64 [P]: what a tree's randomness hangs on, whatever other trees there are."""
    return np.array([digest(problem.id.encode()) for problem in problems], np.uint64)

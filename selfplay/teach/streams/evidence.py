"""What searches and streams have seen below the states of one problem: labels without a solver.

*Alive*: a solution was found below the state, in the graph of all that was tried, merged states included. *Presumed dead*: none
was, and at least a share of what the policy would do from there has been done, to the end. Otherwise nothing is known, and
nothing is taught. No exact label, no list of legal steps is asked for.

A share of the policy's mass and no number of tokens: below a state with one step to go a search has soon done all that the
policy thinks of, at a price that says nothing of a state with three. docs/results/reflect.md has both, beside exact labels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import mcts
from models.abilities import Step, StepEvaluator
from tasks.base import Problem, Task

Label = Literal["alive", "dead"]


@dataclass(slots=True)
class Tried:
    """A step that was taken in a state."""

    step: Step
    after: bytes | None  # key of the state that it leads to; None: the chain is over
    solved: bool  # and right
    mass: float  # pi(step | state), as the search drew it; 0: only a stream took it


class Evidence:
    """The explored graph of one problem. States are keys, see `key_of`."""

    def __init__(self, dead_share: float, root: bytes = b""):
        """`root`: key of the problem itself.

        `dead_share`: of the policy's mass below a state, tried without a solution, from which on it is presumed dead.
        """
        self._dead_share, self.root = dead_share, root
        self._tried: dict[bytes, dict[str, Tried]] = {}
        self._distance: dict[bytes, int] | None = None  # steps to the nearest solution, of states that have one
        self._share: dict[bytes, float] = {}

    def add(self, state: bytes, step: Step, after: bytes | None, *, solved: bool = False, mass: float = 0.0) -> None:
        """A step taken in `state`. What was known of it before stays."""
        self._tried.setdefault(state, {}).setdefault(step.text, Tried(step, after, solved, mass))
        self._distance, self._share = None, {}

    def label(self, state: bytes) -> Label | None:
        """What is known of a state."""
        if state in self._distances():
            return "alive"
        return "dead" if self.tried_share(state) >= self._dead_share else None

    def nearer(self, before: bytes, after: bytes) -> bool | None:
        """Whether a step brought the state nearer to a solution, as far as the graph knows; None: it does not."""
        distance = self._distances()
        if before not in distance:
            return None
        if after in distance:
            return distance[after] < distance[before]
        return False if self.label(after) == "dead" else None

    def edges(self) -> list[tuple[bytes, Tried]]:
        """Every step that was taken, with the state that it was taken in."""
        return [(state, tried) for state, steps in self._tried.items() for tried in steps.values()]

    def winning(self, state: bytes) -> list[Tried]:
        """Steps of a state that shorten its way to a solution, in the order of their text."""
        distance = self._distances()
        here = distance.get(state, 0)
        steps = [
            tried
            for tried in self._tried.get(state, {}).values()
            if tried.solved or (tried.after in distance and distance[tried.after] < here)
        ]
        return sorted(steps, key=lambda tried: tried.step.text)

    def tried_share(self, state: bytes) -> float:
        """Share in [0, 1] of what the policy would do from a state that has been done to the end; a way round is never done."""
        if state not in self._share:
            self._share[state] = 0.0
            self._share[state] = sum(
                tried.mass * (1.0 if tried.after is None else self.tried_share(tried.after))
                for tried in self._tried.get(state, {}).values()
                if tried.mass
            )
        return self._share[state]

    def _distances(self) -> dict[bytes, int]:
        """Graph backup: breadth first from the solutions, against the steps."""
        if self._distance is None:
            parents: dict[bytes, list[bytes]] = {}
            for state, steps in self._tried.items():
                for tried in steps.values():
                    if tried.after is not None:
                        parents.setdefault(tried.after, []).append(state)
            solved = [state for state, steps in self._tried.items() if any(tried.solved for tried in steps.values())]
            self._distance, queue = dict.fromkeys(solved, 1), deque(solved)
            while queue:
                state = queue.popleft()
                for parent in parents.get(state, ()):
                    if parent not in self._distance:
                        self._distance[parent] = self._distance[state] + 1
                        queue.append(parent)
        return self._distance


def key_of(task: Task, problem: Problem, state: tuple, steps: Sequence[str]) -> bytes:
    """What equal states share; of a task that merges none, the steps that led there."""
    key = task.state_key(problem, state)
    return "".join(steps).encode() if key is None else key


def of_searches(
    result: mcts.SearchResult, evaluator: StepEvaluator, problems: Sequence[Problem], dead_share: float
) -> list[Evidence]:
    """What a search over `problems` has seen of each; its answers are scored."""
    store, task = result.store, evaluator.task
    nodes, edges = store.nodes, store.edges
    roots = [key_of(task, problem, task.initial_state(problem), ()) for problem in problems]
    found, keys = [Evidence(dead_share, root) for root in roots], {}

    def key(node: int) -> bytes:
        if node not in keys:
            handle = int(store.node_handles[node])
            state = evaluator.state(handle)
            assert state is not None, "a state that is over has no key"
            keys[node] = key_of(task, problems[nodes["tree"][node]], state, evaluator.steps(handle))
        return keys[node]

    for edge in range(store.n_edges):
        parent, child = int(edges["parent"][edge]), int(edges["child"][edge])
        flags = int(nodes["flags"][child])
        found[nodes["tree"][parent]].add(
            key(parent),
            evaluator.step(int(store.edge_handles[edge])),
            None if flags & mcts.Flag.TERMINAL else key(child),
            solved=bool(flags & mcts.Flag.SOLVED),
            mass=math.exp(edges["logprob"][edge]),
        )
    return found


def solution(known: Evidence, state: bytes, tried: frozenset[str], rng: np.random.Generator) -> list[Step]:
    """A shortest known way to a solution, drawn uniformly step by step, that begins with none of `tried`; empty: none."""
    steps: list[Step] = []
    ways = [way for way in known.winning(state) if way.step.text not in tried]
    while ways:
        way = ways[int(rng.integers(len(ways)))]
        steps.append(way.step)
        if way.solved:
            return steps
        assert way.after is not None, "a step that is over and not right wins nothing"
        ways = known.winning(way.after)
    return []

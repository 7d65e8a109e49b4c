"""What a search looks like while it goes on: what is new in its tree since it was last looked at.

An update is plain data for JSON. Nodes and edges have the places in which they came, node 0 is the root; an edge into a node
that is there already is a merged state. Only who may see the chain gets the text of steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import mcts
from solve.search.primed import PrimedSearch
from solve.search.tree import TreeSearch
from solve.types import Search

EVERY = 0.1  # seconds between updates
MOST_EDGES = 50_000  # that are told; the search goes on
MARKS = int(mcts.Flag.TERMINAL | mcts.Flag.SOLVED | mcts.Flag.DEAD)
Send = Callable[[dict[str, Any]], object]


class TreeWatch:
    """One problem's tree, told to `send` piece by piece."""

    def __init__(self, send: Send, *, with_text: bool):
        self._send, self._with_text = send, with_text
        self._began = self._last = time.monotonic()
        self._seen = 0  # edges of the whole store that were looked at
        self._nodes: list[int] = []  # of the store, by place
        self._edges: list[int] = []
        self._places: dict[int, int] = {}
        self._known = (
            np.empty(0),
            np.empty(0),
            np.empty(0),
        )  # visits of edges, values and marks of nodes, as they were told

    def look(self, search: Search, problem: int, limit: int, *, last: bool = False) -> None:
        """Tell what has changed, if it is time or the `last` time. `limit`: tokens that the search may spend."""
        now = time.monotonic()
        if not last and now - self._last < EVERY:
            return
        self._last = now
        update: dict[str, Any] = {
            "seconds": round(now - self._began, 3), "tokens": int(search.tokens[problem]),
            "simulations": int(search.simulations[problem]), "limit": limit,
        }  # fmt: skip
        tree = search.inner if isinstance(search, PrimedSearch) else search
        if isinstance(tree, TreeSearch):
            update |= self._grown(tree, problem)
        self._send(update)

    def _grown(self, search: TreeSearch, problem: int) -> dict[str, Any]:
        store = search.store
        nodes, edges = store.nodes, store.edges
        new_nodes: list[list[Any]] = []
        if not self._places:
            new_nodes.append(self._node(nodes, int(store.trees["root"][problem])))
        fresh = np.arange(self._seen, store.n_edges)
        fresh = fresh[nodes["tree"][edges["parent"][fresh]] == problem][: max(0, MOST_EDGES - len(self._edges))]
        self._seen = store.n_edges
        new_edges = []
        for edge in fresh.tolist():
            child = int(edges["child"][edge])
            if child not in self._places:
                new_nodes.append(self._node(nodes, child))
            prior = math.exp(min(float(edges["logprob"][edge]), 0.0))
            text = search.evaluator.step(int(store.edge_handles[edge])).text.strip() if self._with_text else ""
            new_edges.append([self._places[int(edges["parent"][edge])], self._places[child], round(prior, 4), text])
        self._edges += fresh.tolist()
        now = (
            edges["visits"][self._edges].astype(np.float64),
            np.round(nodes["value"][self._nodes].astype(np.float64), 3),
            (nodes["flags"][self._nodes] & MARKS).astype(np.float64),
        )
        changed = [np.flatnonzero(_differs(new, old)).tolist() for new, old in zip(now, self._known, strict=True)]
        self._known = now
        visits, values, marks = now
        return {
            "nodes": new_nodes, "edges": new_edges, "visits": [[k, int(visits[k])] for k in changed[0]],
            "values": [[k, float(values[k])] for k in changed[1]], "marks": [[k, *_marks(int(marks[k]))] for k in changed[2]],
        }  # fmt: skip

    def _node(self, nodes: np.ndarray, node: int) -> list[int]:
        """[depth] of a node that gets the next place."""
        self._places[node] = len(self._nodes)
        self._nodes.append(node)
        return [int(nodes["depth"][node])]


def _marks(flags: int) -> list[bool]:
    """Whether a node ends a chain, solves the problem, leads nowhere."""
    return [bool(flags & mark) for mark in (mcts.Flag.TERMINAL, mcts.Flag.SOLVED, mcts.Flag.DEAD)]


def _differs(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """bool [N]: what is not as it was, or was not there."""
    changed = np.ones(len(new), np.bool_)
    changed[: len(old)] = new[: len(old)] != old
    return changed

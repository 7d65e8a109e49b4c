"""A search tree as JSON, for viewers and for people with a text editor."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mcts
from kit.files import write_whole
from solve.search.tree import Tree, TreeSearch
from solve.types import Search, SolveError

VERSION = 1
MOST_NODES = 200_000


def tree_json(search: TreeSearch, problem: int = 0) -> dict[str, Any]:
    """Nodes and edges of one problem's graph. Ids are positions in `nodes`; node 0 is the root.

    A node: depth, visits, value (after backup) and raw_value (of the value head), both P(solved); whether it is terminal,
    solved, dead (no reward below). An edge: from, to, the step's text, its prior (probability under the policy), visits, tokens
    that it newly cost. Edges of merged states share their target.
    """
    store, evaluator = search.store, search.evaluator
    mine = store.nodes["tree"] == problem
    ids = [int(n) for n in mine.nonzero()[0]]
    if len(ids) > MOST_NODES:
        raise SolveError(f"the tree has {len(ids)} nodes, more than {MOST_NODES}: save one of a smaller budget")
    root = int(store.trees["root"][problem])
    ids.sort(key=lambda n: n != root)
    place = {node: k for k, node in enumerate(ids)}
    nodes = [_node(store.nodes[node]) for node in ids]
    edges = [
        {
            "from": place[int(edge["parent"])],
            "to": place[int(edge["child"])],
            "step": evaluator.step(int(handle)).text.rstrip("\n"),
            "prior": round(math.exp(min(float(edge["logprob"]), 0.0)), 6),
            "visits": int(edge["visits"]),
            "tokens": int(edge["tokens"]),
        }
        for edge, handle in zip(store.edges, store.edge_handles, strict=True)
        if int(edge["parent"]) in place
    ]
    return {
        "version": VERSION,
        "rule": type(search.rule).__name__,
        "generated_tokens": int(search.tokens[problem]),
        "simulations": int(search.simulations[problem]),
        "nodes": nodes,
        "edges": edges,
    }


def check_grown(search: Any) -> None:
    """Before or after a search, by its strategy or itself: does it grow a tree?

    Raises:
        SolveError: it does not. One line.
    """
    if not isinstance(search, Tree | TreeSearch):
        raise SolveError("this strategy grows no tree: use one such as best_first, puct or levin, or leave tree= out")


def save_tree(path: Path, search: Search, problem: int = 0, **facts: Any) -> None:
    """Write the tree of a search, whole or not at all; `facts` are put on top.

    Raises:
        SolveError: the strategy grows no tree, or the file cannot be written.
    """
    check_grown(search)
    assert isinstance(search, TreeSearch)
    text = json.dumps(facts | tree_json(search, problem), allow_nan=False)
    try:
        write_whole(path, text + "\n")
    except OSError as error:
        raise SolveError(f"tree={path} cannot be written ({error.strerror}): choose another place") from None


def _node(node) -> dict[str, Any]:
    flags = int(node["flags"])
    return {
        "depth": int(node["depth"]),
        "visits": int(node["visits"]),
        "value": round(float(node["value"]), 6),
        "raw_value": round(float(node["raw_value"]), 6),
        "terminal": bool(flags & mcts.Flag.TERMINAL),
        "solved": bool(flags & mcts.Flag.SOLVED),
        "dead": bool(flags & mcts.Flag.DEAD),
    }

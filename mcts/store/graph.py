"""Graph backup: what the explored graph proves, and policy targets out of it.

Exact distances flow from solved terminals over *all* explored edges, merged ones included, which is more than the
search's own visits saw. K candidates of a node; N nodes of the store.
"""

from __future__ import annotations

import numpy as np

from mcts.store import sweeps
from mcts.store.records import NONE, Flag
from mcts.store.store import Store

UNREACHED = sweeps.UNREACHED  # distance of a node from which no solution is known


def distances(store: Store) -> np.ndarray:
    """int32 [N]: least number of steps to a solved terminal (reward >= 1) in the explored graph, or UNREACHED.

    Exact for the graph that was explored; a shorter way outside of it may exist.
    """
    return sweeps.solution_distances(store.node_planes, store.edge_planes, store.n_nodes)


def proven_lost(store: Store) -> np.ndarray:
    """bool [N]: neither a solution nor an unseen step can be reached from the node, on any edge, cycles included."""
    hope = sweeps.hope_distances(store.node_planes, store.edge_planes, store.n_nodes)
    return hope == UNREACHED


def graph_values(store: Store, discount: float) -> np.ndarray:
    """float32 [N]: discount ** distance where a solution is known, 0 where lost, else the search's value."""
    steps = distances(store)
    values = store.nodes["value"].copy()
    reached = steps != UNREACHED
    values[reached] = np.float32(discount) ** steps[reached]
    values[proven_lost(store)] = 0.0
    return values


def visit_policy(visits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """pi(a) ~ N(a) ** (1 / temperature), float64 [K] (AlphaZero); temperature 0: all on the most visited.

    All zeros where no candidate was visited. Ties at temperature 0 go to the first.
    """
    visits = np.asarray(visits, np.float64)
    if not len(visits) or visits.max() <= 0:
        return np.zeros(len(visits))
    if temperature == 0.0:
        policy = np.zeros(len(visits))
        policy[np.argmax(visits)] = 1.0
        return policy
    weight = (visits / visits.max()) ** (1.0 / temperature)
    return weight / weight.sum()


def path_edges(store: Store, node: int) -> np.ndarray:
    """Edge ids int32 from the root to `node` on the most probable known path."""
    path_edge, parent = store.nodes["path_edge"], store.edges["parent"]
    path = []
    edge = int(path_edge[node])
    while edge != NONE:
        path.append(edge)
        edge = int(path_edge[parent[edge]])
    return np.array(path[::-1], np.int32)


def solution_edges(store: Store, tree: int) -> np.ndarray:
    """Edge ids int32 from the root to the most probable solved terminal of a tree; empty if there is none."""
    nodes = store.nodes
    solved = np.flatnonzero(((nodes["flags"] & Flag.SOLVED) != 0) & (nodes["tree"] == tree))
    if not len(solved):
        return np.empty(0, np.int32)
    return path_edges(store, int(solved[np.argmax(nodes["path_logprob"][solved])]))

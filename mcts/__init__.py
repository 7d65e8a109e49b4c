"""Search over a graph of states, with a model behind one call. numpy and numba only; no torch, no text.

`search(roots, evaluator, rule, budget)` is the loop; `PUCT`, `Gumbel`, `BestFirst` and `Proportional` are the rules;
`distances` and its neighbours turn what was explored into targets.
"""

from mcts.graph import (
    UNREACHED,
    completed_q,
    distances,
    graph_values,
    improved_policy,
    path_edges,
    proven_lost,
    solution_edges,
    visit_policy,
)
from mcts.reroot import Rerooted, reroot
from mcts.rules import PHS, PUCT, BestFirst, Gumbel, Proportional, Rule
from mcts.search import SearchResult, resume, search
from mcts.stops import KLDGain, SmartPruning, Stop
from mcts.store import EDGE, NEVER, NODE, NONE, TREE, Flag, Leaves, Status, Store
from mcts.types import NO_KEY, Budget, Draw, Evaluator, Expansion, Roots

__all__ = [
    "EDGE", "NEVER", "NODE", "NONE", "NO_KEY", "PHS", "PUCT", "TREE", "UNREACHED",
    "BestFirst", "Budget", "Draw", "Evaluator", "Expansion", "Flag", "Gumbel", "KLDGain", "Leaves", "Proportional",
    "Rerooted", "Roots", "Rule", "SearchResult", "SmartPruning", "Status", "Stop", "Store",
    "completed_q", "distances", "graph_values", "improved_policy", "path_edges", "proven_lost", "reroot", "resume", "search",
    "solution_edges", "visit_policy",
]  # fmt: skip

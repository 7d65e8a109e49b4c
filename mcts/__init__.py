"""Search over a graph of states, with a model behind one call. numpy and numba only; no torch, no text.

`search(roots, evaluator, rule, budget)` is the loop; `Driver` is what it loops over, ask / tell / cancel, for a caller that
makes the model calls itself, many at once (`mcts/driver.py` begins with an example). `PUCT`, `Gumbel`, `BestFirst`, `PHS` and
`Proportional` are the rules; `distances` and its neighbours turn what was explored into targets. `Forest` is the other engine,
for evaluators that answer in microseconds. Names are imported when they are first asked for: each engine starts without the
other.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcts.driver import Driver, NotInFlight, SearchResult
    from mcts.files import TreeFileError, load, save
    from mcts.forest import Forest, ForestError
    from mcts.forest_rules import TreeGumbel, TreePUCT
    from mcts.graph import (
        UNREACHED,
        distances,
        graph_values,
        path_edges,
        proven_lost,
        solution_edges,
        visit_policy,
    )
    from mcts.gumbel_formulas import completed_q, improved_policy
    from mcts.reroot import Rerooted, reroot
    from mcts.rules import PHS, PUCT, BestFirst, Gumbel, Proportional, Rule
    from mcts.search import resume, search
    from mcts.stops import KLDGain, SmartPruning, Stop, playout_caps
    from mcts.store import EDGE, NEVER, NODE, NONE, TREE, Flag, Leaves, Status, Store
    from mcts.types import NO_KEY, Budget, Draw, Evaluator, Expansion, Roots

_HOMES = {
    "driver": ("Driver", "NotInFlight", "SearchResult"),
    "files": ("TreeFileError", "load", "save"),
    "forest": ("Forest", "ForestError"),
    "forest_rules": ("TreeGumbel", "TreePUCT"),
    "graph": ("UNREACHED", "distances", "graph_values", "path_edges", "proven_lost", "solution_edges", "visit_policy"),
    "gumbel_formulas": ("completed_q", "improved_policy"),
    "reroot": ("Rerooted", "reroot"),
    "rules": ("PHS", "PUCT", "BestFirst", "Gumbel", "Proportional", "Rule"),
    "search": ("resume", "search"),
    "stops": ("KLDGain", "SmartPruning", "Stop", "playout_caps"),
    "store": ("EDGE", "NEVER", "NODE", "NONE", "TREE", "Flag", "Leaves", "Status", "Store"),
    "types": ("NO_KEY", "Budget", "Draw", "Evaluator", "Expansion", "Roots"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "EDGE", "NEVER", "NODE", "NONE", "NO_KEY", "PHS", "PUCT", "TREE", "UNREACHED",
    "BestFirst", "Budget", "Draw", "Driver", "Evaluator", "Expansion", "Flag", "Forest", "ForestError", "Gumbel", "KLDGain",
    "Leaves", "NotInFlight", "Proportional", "Rerooted", "Roots", "Rule", "SearchResult", "SmartPruning", "Status", "Stop",
    "Store", "TreeFileError", "TreeGumbel", "TreePUCT", "completed_q", "distances", "graph_values", "improved_policy", "load",
    "path_edges", "playout_caps", "proven_lost", "reroot", "resume", "save", "search", "solution_edges", "visit_policy",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"mcts.{_MODULE_OF[name]}"), name)
    return found


class _Package(ModuleType):
    """`mcts.search` and `mcts.reroot` are the functions, though modules of these names are imported into the package too."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

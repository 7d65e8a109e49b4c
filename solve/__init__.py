"""Answer problems within a budget: `from solve import solve`.

Names are imported when they are first asked for, so that a help text does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solve.cost import Cost
    from solve.solver import Solution, Solver, solve
    from solve.types import Chain, SolveError

_HOMES = {
    "Chain": "types",
    "Cost": "cost",
    "Solution": "solver",
    "SolveError": "types",
    "Solver": "solver",
    "solve": "solver",
}

__all__ = ["Chain", "Cost", "Solution", "SolveError", "Solver", "solve"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"solve.{_HOMES[name]}"), name)
    return found

"""PHS*: policy-guided heuristic search (Orseau and Lelis 2021, AAAI, arXiv 2103.11505)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mcts.rules.best_first import COSTS, BestFirst


@dataclass(frozen=True, slots=True)
class PHS(BestFirst):
    """Expand the state with the least phi(n) = (g(n) + h(n)) / pi(n) ** (1 + h(n) / g(n)), their equation of PHS*.

    g: cost of the path and the expansion to come ("depth": edges from the root + 1; "tokens": generated tokens + 1; "none": 1).
    h: predicted cost from here. The value head learns discount ** (steps to go), so that h = log V / log discount, in steps:
    use it with cost="depth". pi: as in `BestFirst`, path probability times the bound of the best unseen step. h = 0 is Levin's
    order. `value_weight` and `lam` are not used.
    """

    discount: float = 0.95

    def __post_init__(self) -> None:
        BestFirst.__post_init__(self)
        if not 0 < self.discount < 1:
            raise ValueError(
                f"discount={self.discount}: PHS* reads steps to go off values discounted by less than 1 a step"
            )

    def _parameters(self) -> np.ndarray:
        return np.array([0.0, 1.0, COSTS[self.cost], math.log(self.discount), self.park], np.float64)

"""The two rules of a forest: settings and formulas. `forest_pick` computes them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from mcts.forest import layout

_FIRST_PLAYS = {"mean": layout.FIRST_PLAY_MEAN, "parent": layout.FIRST_PLAY_PARENT, "given": layout.FIRST_PLAY_GIVEN}


def _check_finite(rule: TreePUCT | TreeGumbel) -> None:
    """A rule computes in float32: what is no number there, or nearly infinite, would spoil every comparison."""
    for field in fields(rule):
        value = getattr(rule, field.name)
        if not isinstance(value, str) and not abs(value) <= 1e9:
            raise ValueError(f"{field.name}={value} must be a number of at most 1e9")


@dataclass(frozen=True, slots=True)
class TreePUCT:
    """argmax_a Q(a) + c(N) P(a) sqrt(N) / (1 + N(a)), c(N) = log((1 + N + c_base) / c_base) + c_init.

    AlphaZero (Silver et al. 2018, supplementary, *Search*), for one agent: Q is the mean of the values carried up, in [0, 1].
    N counts the visits of the node before the present one. Ties go to the lower action. Arithmetic is float32.

    first_play: Q of a child without a visit: a number; "mean": the mean of the values carried up to its parent so far, as in
    ELF OpenGo and Leela Chess Zero; "parent": its parent's own value; both less `first_play_reduction`, at least 0; "given":
    what `Forest.answer` is told.
    pending_value: a visit under way counts as one of this value; 0 is a virtual loss (Chaslot et al. 2008).
    """

    c_init: float = 1.25
    c_base: float = 19652.0
    first_play: float | str = "mean"
    first_play_reduction: float = 0.0
    pending_value: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self)
        if not (self.c_init >= 0 and self.c_base > 0):
            raise ValueError(f"c_init={self.c_init}, c_base={self.c_base}: use c_init >= 0 and c_base > 0")
        if isinstance(self.first_play, str) and self.first_play not in _FIRST_PLAYS:
            raise ValueError(f"first_play={self.first_play!r}: use a number in [0, 1], 'mean', 'parent' or 'given'")

    def write(self, work: np.ndarray) -> None:
        """Set the words of `work` that the kernels read."""
        numbers, kind = work.view(np.float32), str(self.first_play)
        numbers[layout.PENDING_VALUE] = self.pending_value
        work[layout.FIRST_PLAY_KIND] = _FIRST_PLAYS.get(kind, layout.FIRST_PLAY_CONSTANT)
        numbers[layout.FIRST_PLAY] = self.first_play_reduction if kind in _FIRST_PLAYS else self.first_play
        numbers[layout.C_INIT], numbers[layout.C_BASE] = self.c_init, self.c_base
        numbers[layout.HEAD : layout.HEAD + layout.TABLE] = _factors(self.c_init, self.c_base)


@lru_cache(maxsize=16)
def _factors(c_init: float, c_base: float) -> np.ndarray:
    """c(N) sqrt(N) of the visits N that have a place in the table."""
    n = np.arange(layout.TABLE, dtype=np.float64)
    return (np.log((1.0 + n + c_base) / c_base) + c_init) * np.sqrt(n)


@dataclass(frozen=True, slots=True)
class TreeGumbel:
    """Gumbel MuZero (Danihelka et al. 2022): sequential halving at the root, below it argmax pi'(a) - N(a) / (1 + sum_b N(b)).

    Root: argmax g(a) + log P(a) + sigma(Q(a)) among the children with the visit count that halving considers now. pi' is
    proportional to P exp(sigma(Q)); sigma(q) = (maxvisit_init + max_b N(b)) * value_scale * q, with q completed by the mixed
    value and rescaled to [0, 1] over the children, as in mctx's `gumbel_muzero_policy`, whose visits it repeats.
    Deviation: P must sum to 1 over the children where their log-probabilities are to mean what they do there.
    """

    max_considered: int = 16
    value_scale: float = 0.1
    maxvisit_init: float = 50.0
    gumbel_scale: float = 1.0
    pending_value: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self)
        if self.max_considered < 1:
            raise ValueError(f"max_considered={self.max_considered} must be at least 1")

    def write(self, work: np.ndarray) -> None:
        """Set the words of `work` that the kernels read."""
        numbers = work.view(np.float32)
        numbers[layout.PENDING_VALUE] = self.pending_value
        numbers[layout.VALUE_SCALE], numbers[layout.VISIT_OFFSET] = self.value_scale, self.maxvisit_init
        work[layout.CONSIDERED] = self.max_considered

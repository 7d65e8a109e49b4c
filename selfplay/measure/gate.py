"""The gate: a worse net is not promoted.

Both nets answer the same dev problems; only those on which they differ count (McNemar 1947, exact binomial form).

`not_worse` (default): promote unless the candidate is *significantly worse*. A learner that improves a little at every
iteration is then never held back by noise, and a collapse is stopped.
`better`: promote only if the candidate is *significantly better*, as AlphaGo Zero's evaluator did (Silver et al. 2017,
"Evaluator"; there 55 % of 400 games instead of a test). Slow with few dev problems: 5 gained and 0 lost is the least
that passes at alpha = 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kit.statistics import binomial_tail, paired_difference

GateMode = Literal["not_worse", "better"]


@dataclass(frozen=True, slots=True)
class GateDecision:
    promote: bool
    difference: float  # solve rate after - before, in [-1, 1]
    p_value: float  # exact, one-sided: of "worse" in mode not_worse, of "better" in mode better
    reason: str  # one short line for a person


def decide(before: np.ndarray, after: np.ndarray, alpha: float = 0.05, mode: GateMode = "not_worse") -> GateDecision:
    """Whether the candidate replaces the net that plays.

    Args:
        before, after: bool [P], solved by the playing net and by the candidate, same dev problems in the same order.
        alpha: level of the one-sided test.
        mode: see the module.

    Raises:
        ValueError: no problems, other shapes, an unknown mode, or alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"gate alpha must lie in (0, 1), got {alpha}")
    before_P, after_P = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    paired = paired_difference(after_P, before_P)
    discordant = paired.wins + paired.losses
    if mode == "not_worse":
        p_value = binomial_tail(paired.losses, discordant)
        promote, verdict = p_value >= alpha, "not worse" if p_value >= alpha else "worse"
    elif mode == "better":
        p_value = binomial_tail(paired.wins, discordant)
        promote, verdict = p_value < alpha, "better" if p_value < alpha else "not better"
    else:
        raise ValueError(f"unknown gate mode {mode!r}; choose not_worse or better")
    reason = (
        f"{verdict}: {100 * before_P.mean():.1f} % -> {100 * after_P.mean():.1f} % of {paired.n} dev problems, "
        f"{paired.wins} gained, {paired.losses} lost, p = {p_value:.2g}"
    )
    return GateDecision(promote, paired.mean, p_value, reason)

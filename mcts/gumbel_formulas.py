"""Formulas of Gumbel AlphaZero / MuZero (Danihelka et al. 2022) that both engines use: numpy alone."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def halving_visits(n_considered: int, simulations: int) -> list[int]:
    """Visit count that a root candidate must have to be considered, a simulation (Karnin et al. 2013)."""
    if n_considered <= 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(n_considered))
    sequence: list[int] = []
    visits = [0] * n_considered
    kept = n_considered
    while len(sequence) < simulations:
        for _ in range(max(1, simulations // (rounds * kept))):
            sequence += visits[:kept]
            for i in range(kept):
                visits[i] += 1
        kept = max(2, kept // 2)
    return sequence[:simulations]


@lru_cache(maxsize=64)
def halving_table(max_considered: int, simulations: int) -> np.ndarray:
    """int32 [max_considered + 1, simulations]: `halving_visits` for every number of candidates."""
    rows = [halving_visits(m, simulations) for m in range(max_considered + 1)]
    return np.array(rows, np.int32)


def completed_q(
    logprobs: np.ndarray,
    visits: np.ndarray,
    q: np.ndarray,
    raw_value: float,
    *,
    known: np.ndarray | None = None,
    value_scale: float = 0.1,
    maxvisit_init: float = 50.0,
) -> np.ndarray:
    """sigma(completed Q) of one node, float64 [K] (Gumbel MuZero, Danihelka et al. 2022, section 3 and Appendix D).

    Candidates without a Q get the mixed value v_mix = (v + sum N * (sum_visited p q / sum_visited p)) / (1 + sum N).
    sigma(q) = (maxvisit_init + max N) * value_scale * q after rescaling q to [0, 1] over the candidates (mctx).

    Args:
        logprobs: float [K], log pi of the candidates.
        visits: int [K], edge visits.
        q: float [K], Q through each edge; read only where `known`.
        raw_value: value head at the node.
        known: bool [K], candidates whose q counts; default visits > 0. Proven ones may be added: their q is exact.
    """
    logprobs, q = np.asarray(logprobs, np.float64), np.asarray(q, np.float64)
    visits = np.asarray(visits, np.float64)
    known = visits > 0 if known is None else np.asarray(known, bool)
    if not len(logprobs):
        return np.zeros(0)
    mixed = float(raw_value)
    if known.any():
        # max(N, 1): a proven candidate without visits weighs as one.
        weight = np.maximum(np.exp(logprobs - logprobs.max()), 1e-300)[known]
        total = np.maximum(visits[known], 1.0).sum()
        mixed = (mixed + total * (weight @ q[known]) / weight.sum()) / (1.0 + total)
    completed = np.where(known, q, mixed)
    span = max(completed.max() - completed.min(), 1e-8)
    return (maxvisit_init + visits.max()) * value_scale * (completed - completed.min()) / span


def improved_policy(logprobs: np.ndarray, sigma_q: np.ndarray) -> np.ndarray:
    """pi' = softmax(logits + sigma(completed Q)), float64 [K] (Gumbel MuZero, section 4, equation 11)."""
    logits = np.asarray(logprobs, np.float64) + np.asarray(sigma_q, np.float64)
    if not len(logits):
        return logits
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()

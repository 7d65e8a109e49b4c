"""Ratios of speeds that were measured in turn."""

from __future__ import annotations

import math

import numpy as np

T_95 = {
    1: 12.71,
    2: 4.30,
    3: 3.18,
    4: 2.78,
    5: 2.57,
    6: 2.45,
    7: 2.36,
    8: 2.31,
    9: 2.26,
}  # Student's t by degrees of freedom


def paired_ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Geometric mean of ours / theirs over rounds, and its 95 % interval."""
    logs = np.log(np.array(ours) / np.array(theirs))
    n = len(logs)
    half = T_95[min(n - 1, max(T_95))] * logs.std(ddof=1) / math.sqrt(n) if n > 1 else math.inf
    mean = float(logs.mean())
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half) if half < math.inf else math.inf

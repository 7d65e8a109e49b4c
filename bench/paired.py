"""Means and ratios over few pairs, with Student's t."""

from __future__ import annotations

import math

import numpy as np

T_975 = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by degrees of freedom


def mean_and_half_width(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval: Student's t, from ten values on that of ten, which is wider."""
    k = len(values)
    if k == 1:
        return values[0], math.inf
    quantile = T_975[min(k, len(T_975)) - 1]
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(k)


def paired_ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Geometric mean of ours / theirs over rounds, and its 95 % interval."""
    mean, half = mean_and_half_width([math.log(a / b) for a, b in zip(ours, theirs, strict=True)])
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half) if half < math.inf else math.inf

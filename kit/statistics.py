"""Figures with their uncertainty, as pure functions: intervals, paired tests and ratios, ranking and calibration.

Legend: P problems (paired samples), S scored states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.96  # two-sided 95 % quantile of the standard normal
T_975 = (
    math.inf,
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
)  # of Student's t, by degrees of freedom


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of its confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """a minus b over the same problems."""

    n: int
    mean: float  # mean of a - b
    half_width: float  # of the normal 95 % interval around `mean`; inf for n = 1
    wins: int  # problems with a > b
    losses: int  # problems with a < b
    p_value: float  # exact two-sided sign test on wins against losses; McNemar's exact test when a and b are 0/1


def wilson(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval (low, high) of a proportion; stays inside [0, 1] and is honest at 0 and n successes.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference". No trials: (0, 1).

    Raises:
        ValueError: not 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials is not a proportion")
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    shrink = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half_width = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    high = 1.0 if successes == n else min(1.0, centre + half_width)
    return low, high


def binomial_tail(successes: int, n: int) -> float:
    """P(X >= successes) for X ~ Binomial(n, 1/2), exact: integers until the last division."""
    if successes <= 0:
        return 1.0
    coefficient = total = 1  # C(n, n), the term of X = n; C(n, k - 1) = C(n, k) * k / (n - k + 1)
    for k in range(n, successes, -1):
        coefficient = coefficient * k // (n - k + 1)
        total += coefficient
    return total / 2**n if successes <= n else 0.0


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value of `wins` against `losses` under a fair coin; ties are left out beforehand."""
    return min(1.0, 2 * binomial_tail(max(wins, losses), wins + losses))


def paired_difference(a: np.ndarray, b: np.ndarray) -> PairedDifference:
    """Mean of a - b over the same problems, its 95 % half width, and the exact sign test.

    Args:
        a, b: bool or float [P], result of two methods on problem p.

    Raises:
        ValueError: no problems, other shapes, or values that are not finite.
    """
    difference_P = _paired(a, b)
    n = len(difference_P)
    wins, losses = int((difference_P > 0).sum()), int((difference_P < 0).sum())
    half_width = Z_95 * float(difference_P.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return PairedDifference(n, float(difference_P.mean()), half_width, wins, losses, sign_test(wins, losses))


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval: Student's t, from ten values on that of ten, which is wider.

    One value: its half width is inf.

    Raises:
        ValueError: no values.
    """
    k = len(values)
    if k == 0:
        raise ValueError("no values have no mean")
    if k == 1:
        return values[0], math.inf
    quantile = T_975[min(k, len(T_975)) - 1]
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(k)


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ours / theirs over rounds, and its 95 % interval: Student's t over the logarithms. All are positive."""
    mean, half = mean_and_half_width([math.log(a / b) for a, b in zip(ours, theirs, strict=True)])
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half) if half < math.inf else math.inf


def bootstrap_difference(
    a: np.ndarray,
    b: np.ndarray,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of the mean of a - b; problems are resampled, pairs stay together.

    Efron & Tibshirani 1993, chapter 13. Use it where differences are skewed or few; `paired_difference` elsewhere.

    Args:
        a, b: bool or float [P].
        rng: the only source of randomness.

    Raises:
        ValueError: as `paired_difference`.
    """
    difference_P = _paired(a, b)
    n = len(difference_P)
    means = [difference_P[rng.integers(n, size=n)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(difference_P.mean()), float(low), float(high))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """P(score of a positive > score of a negative), ties count one half; NaN if one class is missing.

    Mann-Whitney U by average ranks: O(S log S).

    Args:
        scores: float [S], any monotone scale.
        labels: bool or 0/1 [S].

    Raises:
        ValueError: other shapes, NaN scores, labels other than 0 and 1.
    """
    scores_S, labels_S = _scored(scores, labels)
    if not np.isin(labels_S, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    positive_S = labels_S == 1
    positives = int(positive_S.sum())
    negatives = len(labels_S) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, group_S, counts = np.unique(scores_S, return_inverse=True, return_counts=True)
    average_rank = np.cumsum(counts) - (counts - 1) / 2  # 1-based, shared by a group of equal scores
    rank_sum = float(average_rank[group_S][positive_S].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def auc_within(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """AUC over the pairs of one group alone: what telling groups apart by their base rates adds to `auc` is left out.

    NaN if no group holds both classes.

    Args:
        scores: float [S]. labels: bool or 0/1 [S]. groups: int [S].

    Raises:
        ValueError: as `auc`.
    """
    right = pairs = 0.0
    for group in np.unique(groups):
        mine = groups == group
        count = float(np.sum(labels[mine])) * float(np.sum(1 - np.asarray(labels[mine], np.float64)))
        if count:
            right, pairs = right + count * auc(scores[mine], labels[mine]), pairs + count
    return right / pairs if pairs else math.nan


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared error of P(solved) against outcomes, in [0, 1]; NaN for no states.

    Raises:
        ValueError: as `ece`.
    """
    probabilities_S, labels_S = _probabilities(probabilities, labels)
    return float(np.mean((probabilities_S - labels_S) ** 2)) if len(labels_S) else math.nan


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean over states of |mean probability - mean label| of their bin; NaN for no states.

    Guo et al. 2017, section 2, on P(solved) itself; `bins` of equal width, [k/bins, (k+1)/bins), the last one closed.

    Args:
        probabilities: float [S] in [0, 1].
        labels: [S], 0/1 outcomes, or exact values in [0, 1] where a task is discounted by distance.

    Raises:
        ValueError: other shapes, probabilities or labels outside [0, 1] or NaN.
    """
    probabilities_S, labels_S = _probabilities(probabilities, labels)
    if not len(labels_S):
        return math.nan
    edges = (
        np.arange(1, bins) / bins
    )  # as written, so that 0.3 falls into [0.3, 0.4) and 3 * 0.1 does not move the edge
    bin_S = np.searchsorted(edges, probabilities_S, side="right")
    gap = np.bincount(
        bin_S, weights=probabilities_S - labels_S, minlength=bins
    )  # count * (mean probability - mean label)
    return float(np.abs(gap).sum() / len(labels_S))


def _paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b as float64 [P], checked."""
    a_P, b_P = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a_P.ndim != 1 or a_P.shape != b_P.shape or not len(a_P):
        raise ValueError(f"paired results need one entry a problem in both, got shapes {a_P.shape} and {b_P.shape}")
    if not (np.isfinite(a_P).all() and np.isfinite(b_P).all()):
        raise ValueError("paired results must be finite")
    return a_P - b_P


def _scored(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [S], checked for shape and NaN."""
    scores_S, labels_S = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if scores_S.ndim != 1 or scores_S.shape != labels_S.shape:
        raise ValueError(f"scores and labels need one entry a state, got {scores_S.shape} and {labels_S.shape}")
    if np.isnan(scores_S).any() or np.isnan(labels_S).any():
        raise ValueError("scores and labels must not be NaN")
    return scores_S, labels_S


def _probabilities(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities_S, labels_S = _scored(probabilities, labels)
    for values_S in (probabilities_S, labels_S):
        if ((values_S < 0) | (values_S > 1)).any():
            raise ValueError("probabilities and their labels must lie in [0, 1]")
    return probabilities_S, labels_S

"""Fits of being right, on chains that nobody judged while they were searched for: of a chain, and of the answer that is chosen.

Chains: how far the value before the last step, the policy's probability of it and the value of the finished chain tell right
chains from wrong ones (`models.files.calibration.ChainFit`). Confidence: what a strategy knows of its answer (the chain's
P(right),
or the answer's share) against whether it is right; a logistic fit (Platt 1999). Errors of a fit are cross-fitted: each half of
the problems is told by a fit to the other half. The fit of chains beneath a confidence has seen both.

Legend: C chains, P problems, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from kit.statistics import auc, ece
from models.files.calibration import LEAST, ChainFit, ConfidenceFit
from solve.answers import chosen, sureness
from solve.calibrate.ground import Ground
from solve.search.tree import TreeSearch
from solve.strategies import way

Fit = TypeVar("Fit", ChainFit, ConfidenceFit)
TOLERANCE = 1e-7
RIDGE = 1e-2
FITTED_ON = ("best_first", "unique_merged")  # what a led and an unled search find
CALIBRATED = (  # strategies whose share gets a meaning
    "best_first",
    "best_of_n",
    "self_consistency",
    "weighted_vote",
    "unique_merged",
    "beam",
    "puct_rollout",
)


def logistic(x: np.ndarray, right: np.ndarray, weights: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """float64 [F]: logistic regression of `right` bool [S] on `x` float64 [S, F] under weights float64 [S].

    Newton steps, halved until the loss falls, with a little ridge towards `prior` float64 [F].
    """

    def loss(b: np.ndarray) -> float:
        z = x @ b
        return float(weights @ (np.logaddexp(0.0, z) - z * right) + 0.5 * RIDGE * ((b - prior) ** 2).sum())

    fit = prior.astype(np.float64)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ fit, -30, 30)))
        gradient = x.T @ (weights * (p - right)) + RIDGE * (fit - prior)
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(prior))
        step, before = np.linalg.solve(hessian, gradient), loss(fit)
        while np.abs(step).max() > TOLERANCE and not loss(fit - step) < before:
            step = step / 2
        if np.abs(step).max() <= TOLERANCE:
            break
        fit = fit - step
    return fit


def _crossed(even: np.ndarray, fit_on: Callable[[np.ndarray], Fit], told: Callable[[Fit, int], float]) -> np.ndarray:
    """float64 [S]: what is told of each half of the rows by a fit to the other half. `even`: bool [S], the first half."""
    crossed = np.empty(len(even))
    for half in (even, ~even):
        fit = fit_on(half)
        crossed[~half] = [told(fit, row) for row in np.flatnonzero(~half)]
    return crossed


# ---------------------------------------------------------------------------------------------- of a chain


@dataclass(frozen=True)
class Ended:
    """C chains that have ended with an answer."""

    values: np.ndarray  # float64 [C], of the state before the last step
    logprobs: np.ndarray  # float64 [C], of the last step
    ends: np.ndarray  # float64 [C], of the finished chain
    right: np.ndarray  # bool [C]
    weights: np.ndarray  # float64 [C], 1 for all chains of a problem together in one search
    problems: np.ndarray  # int64 [C]

    def at(self, which: np.ndarray) -> Ended:
        return Ended(*(array[which] for array in vars(self).values()))


def ended(ground: Ground) -> Ended:
    """Chains of the searches FITTED_ON within the limit, scored when the searches are over."""
    rows: list[tuple[float, float, float, bool, float, int]] = []
    for strategy in FITTED_ON:
        for start, part in ground.parts():
            search = way(strategy, ground.task).search.start(ground.bench("none", chain_fit=None), part, None)
            search.advance(np.full(len(part), ground.limit))
            assert isinstance(search, TreeSearch)
            nodes, edges = search.store.nodes, search.store.edges
            for i, problem in enumerate(part):
                answered = [(edge, chain) for edge, chain in search.ended(i) if chain.answer is not None]
                verdicts = ground.scorer.score([problem] * len(answered), [chain.steps for _, chain in answered])
                for (edge, chain), verdict in zip(answered, verdicts, strict=True):
                    right, share = verdict.reward >= 1, 1 / len(answered)
                    logprob, end = edges["logprob"][edge], nodes["raw_value"][edges["child"][edge]]
                    rows.append((chain.value, float(logprob), float(end), right, share, start + i))
    values, logprobs, ends, right, weights, problems = np.array(rows, np.float64).reshape(-1, 6).T
    return Ended(values, logprobs, ends, right.astype(bool), weights, problems.astype(np.int64))


def fitted_chains(chains: Ended) -> ChainFit:
    """Logistic fit; what nothing speaks for stays at the value alone."""
    features = [ChainFit.features(*told) for told in zip(chains.values, chains.logprobs, chains.ends, strict=True)]
    x = np.column_stack((np.array(features).reshape(-1, 3), np.ones(len(features))))
    value, step, ended, offset = map(float, logistic(x, chains.right, chains.weights, np.array([1.0, 0.0, 0.0, 0.0])))
    return ChainFit(value, step, offset, ended)


def chain_fit(ground: Ground) -> dict[str, Any] | None:
    """The fit of one model and what it is worth; None: no chain has ended."""
    chains = ended(ground)
    if not len(chains.values):
        return None
    crossed = _crossed(
        chains.problems % 2 == 0,
        lambda half: fitted_chains(chains.at(half)),
        lambda fit, c: fit.right(float(chains.values[c]), float(chains.logprobs[c]), float(chains.ends[c])),
    )
    right = chains.right.astype(float)
    return {
        "fit": asdict(fitted_chains(chains)),
        "n": len(right),
        "right": float(np.average(right, weights=chains.weights)),
        "auc_value": auc(chains.values, chains.right),
        "auc_ended": auc(chains.ends, chains.right),
        "auc": auc(crossed, chains.right),
        "ece": ece(crossed, right),
    }


# ---------------------------------------------------------------------------------------------- of the chosen answer


def fitted(shares: np.ndarray, right: np.ndarray) -> ConfidenceFit:
    """Logistic fit of `right` bool [P] on logit(share). The slope is not let below 0: a larger share never means less."""
    clipped = np.clip(shares, LEAST, 1 - LEAST)
    x = np.stack([np.log(clipped / (1 - clipped)), np.ones(len(clipped))], axis=1)
    slope, offset = logistic(x, right, np.ones(len(right)), np.array([1.0, 0.0]))
    return ConfidenceFit(max(float(slope), 0.0), float(offset))


def confidences(ground: Ground, strategy: str) -> dict[str, Any]:
    """Fit and its error for one strategy without a verifier, within the limit; n = 0: no answer was given."""
    shares, right = [], []
    chosen_way, bench = way(strategy, ground.task), ground.bench("none")
    for _, part in ground.parts():
        search = chosen_way.search.start(bench, part, ground.limit)
        search.advance(np.full(len(part), ground.limit))
        picks = [chosen(search.chains(i), chosen_way.chooses(ground.trust_value)) for i in range(len(part))]
        answered = [(problem, pick, pick.chain) for problem, pick in zip(part, picks, strict=True) if pick.chain]
        verdicts = ground.scorer.score([problem for problem, *_ in answered], [chain.steps for *_, chain in answered])
        shares += [sureness(pick, bench) for _, pick, _ in answered]
        right += [verdict.reward >= 1 for verdict in verdicts]
    if not right:
        return {"n": 0}
    share, is_right = np.array(shares), np.array(right, bool)
    crossed = _crossed(
        np.arange(len(share)) % 2 == 0,
        lambda half: fitted(share[half], is_right[half]),
        lambda fit, i: fit.confidence(share[i]),
    )
    return {
        **asdict(fitted(share, is_right)),
        "n": len(share),
        "right": float(is_right.mean()),
        "auc": auc(share, is_right),
        "ece_before": ece(share, is_right.astype(float)),
        "ece": ece(crossed, is_right.astype(float)),
    }

"""The calibration of one net within a limit of seconds: the last act of every self-play run; `bench calibration` prints it.

In this order, each on the first dev problems as far as its share of the time goes: tokens of a greedy chain, the value on
states of a search, P(right) of a finished chain, the confidence of each strategy, and of a net that thinks the threshold of
its verdict. What too few problems would speak for is not measured, and `solve` then does without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.files.calibration import Calibration, ChainFit, ConfidenceFit, trustworthy
from models.policy import Policy
from solve.calibrate.fits import CALIBRATED, chain_fit, confidences
from solve.calibrate.ground import Ground, greedy_tokens
from solve.calibrate.states import NO_STATES, States, searched_states
from solve.calibrate.thresholds import threshold_fit
from tasks.base import Problem, Scorer, Task

CHAINS = 16  # greedy chains' tokens that a search is given
PROBLEMS = 300
SECONDS = 60.0  # at the end of a run
PART = 25  # problems between two looks at the clock
LEAST = 20  # problems, states or answers that a figure is worth
GREEDY, STATES, CHAIN, CONFIDENCE = 2, 3, 4, 1  # shares of the time; the last one is each strategy's


@dataclass(frozen=True)
class Measured:
    """A calibration, and the figures behind it."""

    calibration: Calibration
    figures: dict[str, Any]  # for people; NaN where one class is missing
    states: States


def calibrate(
    policy: Policy,
    task: Task,
    scorer: Scorer,
    problems: Sequence[Problem],
    *,
    split: str = "dev",
    chains: int = CHAINS,
    seconds: float | None = SECONDS,
    seed: int = 0,
    known: Calibration | None = None,
) -> Measured:
    """Measure a policy on problems that nothing was learned on.

    `seconds`: None for all problems whatever it takes; else each measurement takes as many of the first problems as its share
    of the time pays for at the speed of the greedy chains. `known`: of the value, from elsewhere on dev, for a policy so slow
    that no search fits in.
    """
    strategies = () if task.reversible else CALIBRATED
    stages = [GREEDY, STATES, *([CHAIN] if strategies else []), *[CONFIDENCE] * len(strategies)]
    ends = _deadlines(stages, seconds)
    started = time.monotonic()
    unit, counted = greedy_tokens(policy, task, problems, next(ends), PART if seconds is not None else 100)
    pace, each = (time.monotonic() - started) / counted, math.ceil(unit)  # pace: seconds of a greedy chain

    def ground(**changes: Any) -> Ground | None:
        """As many problems as the next stage's time pays for; None: too few to be worth a figure."""
        until = next(ends)
        share = len(problems) if until is None else int(max(0.0, until - time.monotonic()) / (chains * pace))
        if until is not None and share < min(LEAST, len(problems)):
            return None
        whole = Ground(policy, task, scorer, problems[:share], each, chains * each, trust_value=True, seed=seed)
        return replace(whole, part=100 if until is None else PART, until=until, **changes)

    on = ground()
    states = NO_STATES if on is None else searched_states(on)
    value = states.figures()
    told = len(states.values) >= LEAST and not math.isnan(value["auc"])
    if told:
        interval = states.auc_interval(np.random.default_rng(0))
        within = None if math.isnan(value["auc_within"]) else value["auc_within"]
        facts: dict[str, Any] = {"n": value["n"], "positive": value["positive"], "auc_ci95": list(interval)}
        facts |= {"problems": len(np.unique(states.problems)), "chains": chains, "split": split}
        made = Calibration(value["auc"], within, measured=facts)
    else:
        made, interval = known or Calibration(), (math.nan, math.nan)
    figures: dict[str, Any] = {
        "split": split,
        "problems": len(np.unique(states.problems)),
        "chains": chains,
        "greedy_tokens": unit,
        "labels": "exact" if task.exact else "what its chains earned",
        "value": value | {"auc_ci95": list(interval)},
        "by_depth": {int(depth): states.at(states.depths == depth).figures() for depth in np.unique(states.depths)},
    }
    trusted = policy.can.values and made.value_auc is not None and trustworthy(made.value_auc, made.value_within)
    fit, fits = None, {}
    if strategies:
        on = ground(trust_value=trusted)
        chain = chain_fit(on) if trusted and on is not None else None
        figures["chain"] = chain if chain is not None and chain["n"] >= LEAST else None
        fit = figures["chain"] and ChainFit(**figures["chain"]["fit"])
        figures["confidence"] = {}
        for strategy in strategies:
            on = ground(trust_value=trusted, chain_fit=fit)
            answers = {"n": 0} if on is None else confidences(on, strategy)
            if answers["n"] >= LEAST:
                figures["confidence"][strategy] = answers
                fits[strategy] = ConfidenceFit(answers["slope"], answers["offset"])
    made = replace(made, chain=fit, confidence=fits, greedy_tokens=unit)
    if task.stream_words and policy.can.streams and len(problems) >= LEAST:  # a few seconds, which no clock waits for
        figures["verdict"] = threshold_fit(policy, task, scorer, problems)
        made = replace(made, verdict_threshold=figures["verdict"]["best"])
    return Measured(made, figures, states)


def _deadlines(shares: Sequence[int], seconds: float | None) -> Iterator[float | None]:
    """On the monotonic clock, when each stage is to end: what an early one leaves goes to the later ones."""
    end = None if seconds is None else time.monotonic() + seconds
    for k, share in enumerate(shares):
        now = time.monotonic()
        yield None if end is None else now + max(0.0, end - now) * share / sum(shares[k:])

"""What a number of a search means as a probability of being right: fits that `bench calibration` writes into a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST = 1e-6  # shares are kept this far from 0 and 1
LEAST_VALUE = 1e-5  # so are values of a head
LEAST_DOUBT = 1e-4  # and the policy's probability of a step from 1
LEAST_LOGPROB = -50.0


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(right) of an answer = sigmoid(slope * logit(share) + offset) (Platt 1999), fitted on dev problems."""

    slope: float = 1.0
    offset: float = 0.0

    def confidence(self, share: float) -> float:
        return _sigmoid(self.slope * _logit(min(max(share, LEAST), 1.0 - LEAST)) + self.offset)


@dataclass(frozen=True, slots=True)
class ChainFit:
    """P(right) of an ended chain = sigmoid(value * logit(V) + step * logit(p) + offset), fitted on dev problems.

    V is the head's value of the state before the last step, p the policy's probability of that step: a value is told
    before the last step is taken, and a policy that hesitates at it is often wrong. docs/LOG.md says what this is worth.
    """

    value: float
    step: float
    offset: float

    @staticmethod
    def features(value: float, logprob: float) -> tuple[float, float]:
        """(logit(V), logit(p)) of a value in [0, 1] and a log-probability; both finite."""
        logprob = min(max(logprob, LEAST_LOGPROB), 0.0)
        doubt = max(-math.expm1(logprob), LEAST_DOUBT)
        return _logit(min(max(value, LEAST_VALUE), 1.0 - LEAST_VALUE)), logprob - math.log(doubt)

    def right(self, value: float, logprob: float) -> float:
        """P(right) in [0, 1]."""
        of_value, of_step = self.features(value, logprob)
        return _sigmoid(self.value * of_value + self.step * of_step + self.offset)

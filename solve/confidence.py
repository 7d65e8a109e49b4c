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
    """P(right) of an ended chain = sigmoid(value * logit(V) + step * logit(p) + ended * logit(E) + offset).

    Fitted on dev problems. V is the head's value of the state before the last step, p the policy's probability of that step, E
    the head's value of the finished chain. V is told before the last step is taken, a policy that hesitates at it is often
    wrong, and E is worth what the head has learned of finished chains: the fit finds out. docs/LOG.md says what each adds.
    """

    value: float
    step: float
    offset: float
    ended: float = 0.0

    @staticmethod
    def features(value: float, logprob: float, ended: float) -> tuple[float, float, float]:
        """(logit(V), logit(p), logit(E)) of values in [0, 1] and a log-probability; all finite."""
        logprob = min(max(logprob, LEAST_LOGPROB), 0.0)
        doubt = max(-math.expm1(logprob), LEAST_DOUBT)
        of_value, of_end = (_logit(min(max(v, LEAST_VALUE), 1.0 - LEAST_VALUE)) for v in (value, ended))
        return of_value, logprob - math.log(doubt), of_end

    def right(self, value: float, logprob: float, ended: float) -> float:
        """P(right) in [0, 1]."""
        of_value, of_step, of_end = self.features(value, logprob, ended)
        return _sigmoid(self.value * of_value + self.step * of_step + self.ended * of_end + self.offset)

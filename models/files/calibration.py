"""What a run has measured of its own net, and what a number of a search means as a probability of being right.

`calibration.json` lies beside a checkpoint's manifest and outside it. It is replaced by one rename, carries its own digest and
that of the weights that it measured; `models.files.manifest.verify_checkpoint` checks both. `solve.calibrate` makes the
figures.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kit.files import sync
from models.files.manifest import (
    CALIBRATION,
    CALIBRATION_VERSION,
    EXTRA,
    CheckpointError,
    calibration_digest,
    verify_checkpoint,
    weights_digest,
    writing,
)

TRUSTED_AUC = 0.7  # a value head below this, or never measured, is not looked at; docs/results/budget.md says why
TRUSTED_WITHIN = 0.55  # nor one below this among states of one problem

LONGEST_CHAIN = 1 << 20  # tokens of a greedy chain: beyond any model's context

LEAST = 1e-6  # shares are kept this far from 0 and 1
LEAST_VALUE = 1e-5  # so are values of a head
LEAST_DOUBT = 1e-4  # and the policy's probability of a step from 1
LEAST_LOGPROB = -50.0


def trustworthy(auc: float, within: float | None) -> bool:
    """Whether a value is worth a look, in self-play and at inference alike.

    `auc`: over all states that were measured; `within`: over pairs of states of one problem, None where no problem had both
    kinds. NaN is not trusted.
    """
    return auc >= TRUSTED_AUC and (within is None or within >= TRUSTED_WITHIN)


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


@dataclass(frozen=True, slots=True)
class ConfidenceFit:
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


@dataclass(frozen=True)
class Calibration:
    """One measurement of one net on dev problems of its task."""

    value_auc: float | None = None  # of the value head over states of a search; None: it could not be told
    value_within: float | None = None  # the same over pairs of states of one problem; None: no problem had both kinds
    chain: ChainFit | None = None  # None: never fitted, or a value that is not to be trusted
    confidence: Mapping[str, ConfidenceFit] = field(default_factory=dict)  # by name of the strategy, without a judge
    greedy_tokens: float | None = None  # of a greedy chain on average: the unit of efforts
    verdict_threshold: float | None = None  # how sure a stream must be of its verdict; None: not measured
    measured: Mapping[str, Any] = field(
        default_factory=dict
    )  # for people: how many problems and states, intervals, split

    @property
    def trusted(self) -> bool:
        """Whether the value head was measured, and well enough to be looked at."""
        return self.value_auc is not None and trustworthy(self.value_auc, self.value_within)


def read_calibration(folder: Path) -> Calibration | None:
    """What was measured of the checkpoint in `folder`, which is verified; None: nothing.

    Checkpoints of version 0.1 tell the same facts in extra.json, where they are read too.

    Raises:
        CheckpointError: facts that are not what a calibration writes.
    """
    file = folder / CALIBRATION
    source = file if file.exists() else folder / EXTRA
    facts = json.loads(source.read_text()) if source.exists() else {}
    try:
        value, chain = facts.get("value") or {}, facts.get("chain")
        made = Calibration(
            value_auc=_share(value["auc"]) if value else None,
            value_within=_share(value.get("auc_within")),
            chain=ChainFit(**_finite(chain)) if chain else None,
            confidence={name: ConfidenceFit(**_finite(fit)) for name, fit in (facts.get("confidence") or {}).items()},
            greedy_tokens=_number(facts.get("greedy_tokens")),
            verdict_threshold=_number(facts.get("verdict_threshold")),
            measured={name: fact for name, fact in value.items() if name not in ("auc", "auc_within")},
        )
        if made.greedy_tokens is not None and not 0 < made.greedy_tokens <= LONGEST_CHAIN:
            raise ValueError("no length of a chain")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError(
            f"{source}: what it says of value and confidence is not what a calibration writes: "
            f"write it anew with python -m bench calibration policy={folder} write=yes"
        ) from None
    return None if made == Calibration() else made


def write_calibration(folder: Path | str, made: Calibration) -> None:
    """Put what was measured beside the weights that it was measured on, whole or not at all.

    Raises:
        CheckpointError: the checkpoint is damaged, or the disk is full or not writable.
    """
    folder = Path(folder)
    verify_checkpoint(folder, calibration=False)  # one that is there may be of other weights: it is replaced
    facts: dict[str, Any] = {
        "format": "reverse-o1 calibration",
        "version": CALIBRATION_VERSION,
        "weights": weights_digest(folder),
        "value": {"auc": made.value_auc, "auc_within": made.value_within, **made.measured},
        "chain": made.chain and asdict(made.chain),
        "confidence": {name: asdict(fit) for name, fit in made.confidence.items()},
        "greedy_tokens": made.greedy_tokens,
        "verdict_threshold": made.verdict_threshold,
    }
    text = json.dumps(facts | {"digest": calibration_digest(facts)}, indent=1, sort_keys=True, allow_nan=False)
    new = folder / f".{CALIBRATION}.new"
    with writing(folder / CALIBRATION):
        new.write_text(text + "\n")
        sync(new)
        os.replace(new, folder / CALIBRATION)
        sync(folder)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError("not a finite number")
    return number


def _share(value: Any) -> float | None:
    if (number := _number(value)) is not None and not 0.0 <= number <= 1.0:
        raise ValueError("not in 0..1")
    return number


def _finite(weights: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: _number(number) for name, number in weights.items()}
    if None in numbers.values():
        raise ValueError("a weight that lacks")
    return {name: number for name, number in numbers.items() if number is not None}

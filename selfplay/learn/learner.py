"""The learner: weighted token cross-entropy plus value BCE, clipped, guarded against NaN.

Data-parallel over the team: every rank takes its share of the rows, gradients are averaged in one flat buffer.
"""

from __future__ import annotations

import numpy as np
import torch

from models.net.losses import accumulate_gradients
from models.net.policy_value import PolicyValueLM
from selfplay.config import LearnerConfig
from selfplay.learn.optimizer import Optimizer
from selfplay.team import Team
from tasks.base import PAD_ID, Rows

MAX_BAD_STEPS = 20


class DivergedError(RuntimeError):
    """Training produced NaN or infinity again and again. The message names the mend."""


class Learner:
    """Owns the optimiser and the step counter of one model."""

    def __init__(self, model: PolicyValueLM, config: LearnerConfig, team: Team):
        self.model, self.config, self.team = model, config, team
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = Optimizer(model, config)
        self.steps = 0
        self.trained_tokens = 0  # of all ranks, padding not counted
        self.skipped = 0  # steps left out because a gradient was not finite
        self._bad_in_a_row = 0

    def step(self, rows: Rows, rate: float) -> dict[str, float]:
        """One update on this rank's `rows` at `rate` times the peak learning rates; returns this rank's mean losses.

        Raises:
            DivergedError: gradients were not finite for MAX_BAD_STEPS steps in a row.
        """
        rows = trim(rows)
        self.optimizer.zero_grad()
        parts = accumulate_gradients(
            self.model,
            torch.from_numpy(rows.tokens.astype(np.int64)),
            torch.from_numpy(rows.weight),
            torch.from_numpy(smoothed(rows.value, self.config.value_smoothing)),
            self.config.value_coefficient,
        )
        used = torch.tensor([float(rows.used.sum())])  # rides along, so that ranks agree on the total
        gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters]
        flat = self.team.sum_(torch.cat([*gradients, used]))
        self.steps += 1
        self.trained_tokens += int(flat[-1])
        flat = flat[:-1].div_(self.team.size)
        norm = float(flat.norm())
        if not np.isfinite([norm, *map(float, parts.values())]).all():
            self._note_bad_step()
            return {}
        self._bad_in_a_row = 0
        flat.mul_(min(1.0, self.config.gradient_norm / (norm + 1e-6)))
        offset = 0
        for p in self.parameters:
            p.grad = flat[offset : offset + p.numel()].view_as(p)
            offset += p.numel()
        self.optimizer.step(rate)
        return {name: float(value) for name, value in parts.items()} | {"gradient_norm": norm}

    def _note_bad_step(self) -> None:
        self.skipped += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_BAD_STEPS:
            raise DivergedError(
                f"gradients were not finite in {MAX_BAD_STEPS} steps in a row: start a new run with a lower "
                f"learner.learning_rate (now {self.config.learning_rate}), from checkpoint= one of this run's checkpoints"
            )

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors that bring the optimiser back exactly."""
        counters = torch.tensor([self.steps, self.trained_tokens, self.skipped], dtype=torch.int64)
        return {"counters": counters, **self.optimizer.state()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        self.steps, self.trained_tokens, self.skipped = (int(x) for x in tensors["counters"])
        self.optimizer.load_state(tensors)


def smoothed(value: np.ndarray, share: float) -> np.ndarray:
    """Value targets drawn towards 1/2: share + (1 - 2 share) value (label smoothing, Szegedy et al. 2016, section 7).

    A policy goes where its value is too high, so a net that is right on what it learned from is too sure of the states it
    steps into; targets that stop short of 0 and 1 take that back.
    """
    return (share + (1.0 - 2.0 * share) * value).astype(np.float32)


def trim(rows: Rows) -> Rows:
    """Cut the padding that all rows share."""
    used = np.flatnonzero(rows.used.any(0))
    length = int(used[-1]) + 1 if len(used) else 1
    if length == rows.tokens.shape[1]:
        return rows
    return Rows(*(np.ascontiguousarray(array[:, :length]) for array in (rows.tokens, rows.weight, rows.value)))


NO_ROWS = Rows(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))


def stack(parts: list[Rows]) -> Rows:
    """Rows of several sources as one batch, padded to the longest."""
    parts = [part for part in parts if len(part)] or [NO_ROWS]
    if len(parts) == 1:
        return parts[0]
    length = max(part.tokens.shape[1] for part in parts)

    def padded(array: np.ndarray, fill: float) -> np.ndarray:
        return np.pad(array, ((0, 0), (0, length - array.shape[1])), constant_values=fill)

    return Rows(
        np.concatenate([padded(part.tokens, PAD_ID) for part in parts]),
        np.concatenate([padded(part.weight, 0.0) for part in parts]),
        np.concatenate([padded(part.value, np.nan) for part in parts]),
    )


def select(rows: Rows, index: np.ndarray) -> Rows:
    return Rows(rows.tokens[index], rows.weight[index], rows.value[index])

"""The learner: weighted token cross-entropy plus value BCE, clipped, guarded against NaN.

Data-parallel over the team: every rank takes its share of the rows, gradients are averaged in one flat buffer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from models.cpu.products import fast
from models.device import repeatable
from models.net.adapters import Adapted, layers_of
from models.net.losses import CHUNK_TOKENS, accumulate_gradients, has_kernels
from models.net.policy_value import PolicyValueLM
from selfplay.config import LearnerConfig
from selfplay.learn.optimizer import Optimizer
from selfplay.team import Team
from tasks.base import PAD_ID, Rows

if TYPE_CHECKING:
    from models.forward.packed_rows import WholeRows

MAX_BAD_STEPS = 20
GPU_CHUNK_TOKENS = 16384
SLOW = (
    "this CPU has no instructions for bfloat16, and some gradients in it take hundreds of times as long as in float32: "
    "set learner.dtype and model.dtype to float32, where memory allows"
)
log = logging.getLogger("reverse_o1.selfplay")


class DivergedError(RuntimeError):
    """Training produced NaN or infinity again and again. The message names the mend."""


class Learner:
    """Owns the optimiser and the step counter of one model: what of it requires gradients learns."""

    def __init__(self, model: PolicyValueLM, config: LearnerConfig, team: Team, lora_rank: int | None = None):
        """`lora_rank`: of adapters that learn in the place of the trunk's own weights; seed torch first, equally on all ranks.

        Raises:
            TrainError: a model that takes no adapters, or has no layers to compute anew.
        """
        self.model, self.config, self.team = model, config, team
        self._adapted = None if lora_rank is None else Adapted(model, lora_rank)
        learns = model if self._adapted is None else self._adapted
        self.parameters = [p for p in learns.parameters() if p.requires_grad]
        self.device = next(model.parameters()).device
        repeatable(self.device.type)
        self.optimizer = Optimizer(
            learns, config, f"trunk.{layers_of(model.trunk)}." if config.optimizer == "muon" else ""
        )
        self._reader = self._opened()
        self.steps = 0
        self.trained_tokens = 0  # of all ranks, padding not counted
        self.skipped = 0  # steps left out because a gradient was not finite
        self._bad_in_a_row = 0

    def _opened(self) -> PolicyValueLM | WholeRows:
        """What reads rows: the small net itself, which has kernels of its own, or a reader of packed rows."""
        if self._adapted is None and has_kernels(self.model):
            return self.model
        from models.forward.packed_rows import rows_reader  # with transformers' attention

        trunk = self.model.trunk if self._adapted is None else self._adapted.trunk
        quick = self.config.dtype == "bfloat16" or (self.config.dtype == "auto" and self.device.type == "cuda")
        autocast = torch.bfloat16 if quick and self.model.trunk.dtype == torch.float32 else None
        if self.device.type == "cpu" and torch.bfloat16 in (autocast, self.model.trunk.dtype) and not fast(pairs=True):
            log.warning(SLOW)
        return rows_reader(self.model, trunk, autocast, layers_of(trunk) if self.config.checkpointing else None)

    def step(self, rows: Rows, rate: float) -> dict[str, float]:
        """One update on this rank's `rows` at `rate` times the peak learning rates; returns this rank's mean losses.

        Raises:
            DivergedError: gradients were not finite for MAX_BAD_STEPS steps in a row.
        """
        rows = trim(rows)
        self.optimizer.zero_grad()
        arrays = rows.tokens.astype(np.int64), rows.weight, smoothed(rows.value, self.config.value_smoothing)
        parts = accumulate_gradients(
            self._reader,
            *(torch.from_numpy(array).to(self.device) for array in arrays),
            value_coefficient=self.config.value_coefficient,
            chunk_tokens=self.config.chunk_tokens or (CHUNK_TOKENS if self.device.type == "cpu" else GPU_CHUNK_TOKENS),
        )
        self._average(int(rows.used.sum()))
        self.steps += 1
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if not np.isfinite([float(norm), *map(float, parts.values())]).all():
            self._note_bad_step()
            return {}
        self._bad_in_a_row = 0
        torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_norm, norm)
        self.optimizer.step(rate)
        return {name: float(value) for name, value in parts.items()} | {"gradient_norm": float(norm)}

    def goes_on(self, before: Learner) -> Learner:
        """This learner, its counts those of the one before it; steps begin anew, since the optimiser warms up."""
        self.trained_tokens, self.skipped = before.trained_tokens, before.skipped
        return self

    def merge(self) -> None:
        """Bring what adapters have learned into the model; without adapters it is there."""
        if self._adapted is not None:
            self._adapted.merge()

    def _average(self, tokens: int) -> None:
        """Make gradients their mean over ranks, 0 for what no row reached; add up the tokens of all ranks."""
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        if self.team.size > 1:  # the tokens ride along, so that ranks agree on the total
            gradients = [cast("torch.Tensor", p.grad) for p in self.parameters]
            told = torch.tensor([float(tokens)], device=self.device)
            flat = self.team.sum_(torch.cat([*(gradient.reshape(-1).float() for gradient in gradients), told]))
            tokens = int(flat[-1])
            means = flat[:-1].div_(self.team.size).split([gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, means, strict=True):
                gradient.copy_(mean.view_as(gradient))
        self.trained_tokens += tokens

    def _note_bad_step(self) -> None:
        self.skipped += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_BAD_STEPS:
            raise DivergedError(
                f"gradients were not finite in {MAX_BAD_STEPS} steps in a row: start a new run with a lower "
                f"learner.learning_rate (now {self.config.learning_rate}), from checkpoint= one of this run's checkpoints"
            )

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors that bring optimiser and adapters back exactly, on the CPU."""
        counters = torch.tensor([self.steps, self.trained_tokens, self.skipped], dtype=torch.int64)
        adapters = {} if self._adapted is None else self._adapted.state()
        return {"counters": counters} | {
            name: tensor.cpu() for name, tensor in (self.optimizer.state() | adapters).items()
        }

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `state`, for a learner of the model as it was then."""
        self.steps, self.trained_tokens, self.skipped = (int(x) for x in tensors["counters"])
        self.optimizer.load_state(tensors)
        if self._adapted is not None:
            self._adapted.load_state(tensors)


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


def within(rows: Rows, tokens: int, rng: np.random.Generator) -> Rows:
    """As many of the rows, drawn at random, as have `tokens` tokens together; one row at least."""
    order = rng.permutation(len(rows))
    kept = int((rows.used.sum(1)[order].cumsum() <= tokens).sum())
    return rows if kept == len(rows) else select(rows, order[: max(1, kept)])


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

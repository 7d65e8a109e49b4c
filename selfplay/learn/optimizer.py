"""The optimiser: Muon for the matrices inside the trunk's layers, AdamW for all else; or AdamW for everything.

Weights of 16 bits would lose most updates to rounding: they are copies of float32 masters, which are what is updated.

Muon orthogonalises the momentum of a matrix by Newton-Schulz steps (Jordan et al. 2024, torch.optim.Muon). On Countdown the
loss after equal tokens was .097 against .106 with AdamW alone, for 7 % more time a step (one seed, docs/LOG.md).
"""

from __future__ import annotations

import torch
from torch import nn

from selfplay.config import LearnerConfig

MASTER = "master"  # kind of a float32 master in `Optimizer.state`


class Optimizer:
    """Both optimisers behind one step; `rate` is the share of the peak learning rates."""

    def __init__(self, model: nn.Module, config: LearnerConfig, inside: str = ""):
        """`inside`: how the names of parameters in the trunk's layers begin."""
        self._config = config
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._parameters = {
            name: p if p.dtype == torch.float32 else nn.Parameter(p.detach().float())
            for name, p in self._weights.items()
        }
        matrices = {
            name
            for name, p in self._parameters.items()
            if p.ndim == 2 and inside and name.startswith(inside) and config.optimizer == "muon"
        }
        self._adamw = torch.optim.AdamW(
            [p for name, p in self._parameters.items() if name not in matrices],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._muon = None
        if matrices:
            self._muon = torch.optim.Muon(
                [p for name, p in self._parameters.items() if name in matrices],
                lr=config.muon_learning_rate, momentum=0.95, weight_decay=config.muon_weight_decay,
            )  # fmt: skip

    def zero_grad(self) -> None:
        for name, p in self._weights.items():
            p.grad = self._parameters[name].grad = None

    def step(self, rate: float) -> None:
        """One update at `rate` times the peak learning rates."""
        masters = [(p, self._weights[name]) for name, p in self._parameters.items() if p is not self._weights[name]]
        for master, weight in masters:
            master.grad = None if weight.grad is None else weight.grad.float()
        for optimizer, peak in self._peaks():
            for group in optimizer.param_groups:
                group["lr"] = rate * peak
            optimizer.step()
        with torch.no_grad():
            for master, weight in masters:
                weight.copy_(master)

    def state(self) -> dict[str, torch.Tensor]:
        """Moments by parameter and kind, e.g. `trunk.lm_head.weight:exp_avg`, and masters."""
        moments = {
            f"{name}:{kind}": tensor.reshape(1) if tensor.ndim == 0 else tensor
            for optimizer, _ in self._peaks()
            for name, p in self._parameters.items()
            for kind, tensor in optimizer.state.get(p, {}).items()
        }
        masters = {name: p.detach() for name, p in self._parameters.items() if p is not self._weights[name]}
        return {**moments, **{f"{name}:{MASTER}": p for name, p in masters.items()}}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `state`; other tensors are left alone."""
        told: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self._parameters}
        for key, tensor in tensors.items():
            name, _, kind = key.rpartition(":")
            if name in told:
                told[name][kind] = tensor.to(self._parameters[name].device, copy=True)
        for optimizer, _ in self._peaks():
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, p in self._parameters.items():
                if told[name] and id(p) in held:
                    p.data.copy_(told[name].pop(MASTER, p.data))
                    optimizer.state[p] = {
                        kind: t.reshape(()) if kind == "step" else t for kind, t in told[name].items()
                    }

    def _peaks(self) -> list[tuple[torch.optim.Optimizer, float]]:
        pairs = [(self._adamw, self._config.learning_rate)]
        return pairs if self._muon is None else [*pairs, (self._muon, self._config.muon_learning_rate)]

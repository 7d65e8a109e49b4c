"""How a causal LM makes its logits of what its output layer gives: a factor (Cohere, Granite, Falcon-H1), a soft cap (Gemma 2).

Families name the factor in their own ways, and one divides by what another multiplies with, so it is found by a trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CAPS = ("final_logit_softcapping", "logits_soft_cap")  # what configs call it
PROBE = 6  # tokens of the trial
CLOSE = 0.02  # of the spread of the logits: what 16-bit weights may round away
NEAR = 0.02  # a measured factor so near to one that the config names is that one


class TrainError(ValueError):
    """A model that cannot be trained as asked. The message is one line and names the mend."""


@dataclass(frozen=True)
class OutputRule:
    """logits = cap * tanh(scale * z / cap) of an output layer's z; cap 0 for none."""

    scale: float = 1.0
    cap: float = 0.0

    def __call__(self, z: Tensor) -> Tensor:
        z = z if self.scale == 1.0 else self.scale * z
        return self.cap * torch.tanh(z / self.cap) if self.cap else z


def base_of(trunk: Any) -> Any:
    """The model below the output layer: transformers' `base_model`, or where that names nothing (Llama 4) its `model`."""
    return trunk.base_model if trunk.base_model is not trunk else trunk.model


@torch.no_grad()
def output_rule(trunk: Any) -> OutputRule:
    """The rule of a trunk, whose own logits it gives back on a few tokens.

    Raises:
        TrainError: there is none, so that its rows cannot be learned from.
    """
    config = trunk.config.get_text_config()
    cap = next((cap for name in CAPS if (cap := getattr(config, name, None))), 0.0)
    weight = trunk.get_output_embeddings().weight
    tokens = torch.arange(PROBE, device=weight.device)[None] % config.vocab_size
    refusal = TrainError(
        f"{type(trunk).__name__} makes its logits otherwise than by its output layer: it can be searched, not trained; use "
        "another model"
    )
    training = trunk.training
    trunk.eval()
    try:
        said = trunk(input_ids=tokens, use_cache=False).logits.double()
        hidden = base_of(trunk)(input_ids=tokens, use_cache=False).last_hidden_state
        if hidden.shape[-1] != weight.shape[-1]:
            raise refusal
        z = trunk.get_output_embeddings()(hidden).double()
    finally:
        trunk.train(training)
    if not z.any() and not said.any():
        return OutputRule(cap=float(cap))  # an output layer of zeros, before its first step, shows no factor
    bare = cap * torch.atanh((said / cap).clamp(-0.999, 0.999)) if cap else said
    inside = said.abs() < 0.99 * cap if cap else torch.ones_like(said, dtype=torch.bool)
    scale = float((z * bare)[inside].sum() / (z * z)[inside].sum())
    named = [v for name, v in config.to_dict().items() if "logit" in name or "multiplier" in name]
    known = [1.0, *(k for v in named if isinstance(v, int | float) and v for k in (float(v), 1.0 / v))]
    nearest = min(known, key=lambda k: abs(k - scale))
    rule = OutputRule(nearest if abs(nearest - scale) <= NEAR * abs(scale) else scale, float(cap))
    if not float((rule(z) - said).abs().max()) <= CLOSE * float(said.std()):
        raise refusal
    return rule

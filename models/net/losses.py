"""The loss of the policy-and-value model: weighted token cross-entropy and BCE on P(solved).

Legend: B rows, L tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.net.fast_training import fast_forward, supports
from models.net.policy_value import PolicyValueLM


class Reader(Protocol):
    """What a loss asks of a model. The fast path for plain Llamas is taken for a `PolicyValueLM` alone."""

    @property
    def value_head(self) -> Callable[[Tensor], Tensor]:
        """Value logits [N] of hidden states [N, D]."""
        ...

    def hidden(self, tokens_BL: Tensor, /) -> Tensor:
        """Final hidden states [B, L, D]."""
        ...

    def logits(self, hidden: Tensor, /) -> Tensor:
        """Policy logits [..., V]."""
        ...


CHUNK_TOKENS = 2048  # forward and backward of so many at once stay near the cache: 10 % faster than 8192 on two cores


def policy_value_loss(
    model: Reader, tokens_BL: Tensor, weight_BL: Tensor, value_BL: Tensor, value_coefficient: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch of rows as in `tasks.base.Rows`, right-padded if at all (a causal model never sees the padding).

    Policy: sum over t of weight[t] * -log pi(token[t] | tokens before t), over the sum of weights; the logits are those of
    position t-1. Value: mean BCE between sigmoid(value logit at t) and value[t], over the t where value[t] is not NaN.

    Args:
        tokens_BL: int64. weight_BL: float32, >= 0, column 0 is not read. value_BL: float32 in [0, 1], or NaN.

    Returns:
        loss = policy + value_coefficient * value (scalar, differentiable), and detached scalars `policy_loss`,
        `value_loss`, `policy_weight` (sum of weights), `value_count` (number of targets).
    """
    parts = _normalisers(weight_BL, value_BL)
    nll, bce = _sums(model, tokens_BL, weight_BL, value_BL)
    return _combine(nll, bce, parts, value_coefficient), _report(nll, bce, parts)


def accumulate_gradients(
    model: Reader,
    tokens_BL: Tensor,
    weight_BL: Tensor,
    value_BL: Tensor,
    value_coefficient: float,
    chunk_tokens: int = CHUNK_TOKENS,
) -> dict[str, Tensor]:
    """Add the gradient of `policy_value_loss` to the parameters' `.grad`, a few rows at a time; returns its scalars.

    The same sum as one backward over the whole batch, up to rounding, in a fraction of the memory traffic.
    """
    parts = _normalisers(weight_BL, value_BL)
    total_nll = total_bce = tokens_BL.new_zeros((), dtype=torch.float32)
    chunk = max(1, chunk_tokens // tokens_BL.shape[1])
    for rows in zip(tokens_BL.split(chunk), weight_BL.split(chunk), value_BL.split(chunk), strict=True):
        nll, bce = _sums(model, *rows)
        loss = _combine(nll, bce, parts, value_coefficient)
        if loss.requires_grad:
            loss.backward()
        total_nll, total_bce = total_nll + nll.detach(), total_bce + bce.detach()
    return _report(total_nll, total_bce, parts)


def _sums(model: Reader, tokens_BL: Tensor, weight_BL: Tensor, value_BL: Tensor) -> tuple[Tensor, Tensor]:
    """(weighted sum of -log pi, sum of BCE); the policy head runs from the first to the last column in use."""
    nll = bce = tokens_BL.new_zeros((), dtype=torch.float32)
    predicted = _span((weight_BL[:, 1:] > 0).any(0))  # columns of the logits that are read: token t is predicted at t-1
    known_BL = ~value_BL.isnan()
    valued = _span(known_BL.any(0))
    used = [span for span in (predicted, valued) if span]
    if not used:
        return nll, bce
    first, last = min(span.start for span in used), max(span.stop for span in used)
    hidden_BLD = _hidden(model, tokens_BL[:, :last], first)
    if predicted:
        target = slice(predicted.start + 1, predicted.stop + 1)
        logits_NV = model.logits(hidden_BLD[:, predicted.start - first : predicted.stop - first]).flatten(0, 1)
        nll_N = F.cross_entropy(logits_NV, tokens_BL[:, target].flatten(), reduction="none")
        nll = (nll_N * weight_BL[:, target].flatten()).sum()
    if valued:
        known_N = known_BL[:, first:last].flatten().nonzero().squeeze(1)
        logit_N = model.value_head(hidden_BLD.flatten(0, 1).index_select(0, known_N))
        target_N = value_BL[:, first:last].flatten().index_select(0, known_N)
        bce = F.binary_cross_entropy_with_logits(logit_N, target_N, reduction="sum")
    return nll, bce


def _hidden(model: Reader, tokens_BL: Tensor, first: int) -> Tensor:
    """Final hidden states of the positions from `first` on."""
    if isinstance(model, PolicyValueLM) and supports(model):
        return fast_forward(model, tokens_BL, first)
    return model.hidden(tokens_BL)[:, first:]


def _span(used_L: Tensor) -> slice | None:
    """From the first to the last column in use; None if none is."""
    columns = used_L.nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else None


def _normalisers(weight_BL: Tensor, value_BL: Tensor) -> tuple[Tensor, Tensor]:
    return weight_BL[:, 1:].sum(), (~value_BL.isnan()).sum().float()


def _combine(nll: Tensor, bce: Tensor, normalisers: tuple[Tensor, Tensor], value_coefficient: float) -> Tensor:
    weight, count = normalisers
    return nll / weight.clamp(min=1e-12) + value_coefficient * bce / count.clamp(min=1.0)


def _report(nll: Tensor, bce: Tensor, normalisers: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    weight, count = normalisers
    losses = {"policy_loss": nll.detach() / weight.clamp(min=1e-12), "value_loss": bce.detach() / count.clamp(min=1.0)}
    return losses | {"policy_weight": weight, "value_count": count}

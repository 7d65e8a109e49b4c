"""The loss of the policy-and-value model: weighted token cross-entropy and BCE on P(solved).

Legend: B rows, L tokens, M positions that are read, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from models.net.fast_training import fast_forward, supports
from models.net.policy_value import PolicyValueLM


class Reader(Protocol):
    """What a loss asks of a model that it does not run itself."""

    @property
    def value_head(self) -> Callable[[Tensor], Tensor]:
        """Value logits [M] of hidden states [M, D]."""
        ...

    def hidden(self, tokens_BL: Tensor, length_B: Tensor, /) -> Tensor:
        """Final hidden states [B, L, D]; what stands after a row's length is not read."""
        ...

    def logits(self, hidden: Tensor, /) -> Tensor:
        """Policy logits [..., V]."""
        ...

    def chunks(self, tokens_BL: Tensor, length_B: Tensor, tokens: int, /) -> list[Tensor]:
        """Indices of the rows of each forward, in which about `tokens` tokens are computed; see `by_length`."""
        ...


CHUNK_TOKENS = 2048  # forward and backward of so many at once stay near the cache: 10 % faster than 8192 on two cores
HEAD_TOKENS = 1024  # logits of so many positions are held at once: 200 MB where the vocabulary is 49,152


def policy_value_loss(
    model: PolicyValueLM | Reader, tokens_BL: Tensor, weight_BL: Tensor, value_BL: Tensor, value_coefficient: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch of rows as in `tasks.base.Rows`, right-padded if at all (a causal model never sees the padding).

    Policy: sum over t of weight[t] * -log pi(token[t] | tokens before t), over the sum of |weight|; the logits are those of
    position t-1. A weight below 0 makes its token less probable: with advantages as weights this is the policy gradient
    (Williams 1992; GRPO without clipping, Shao et al. 2024, section 4.1). Value: mean BCE between sigmoid(value logit at t) and
    value[t], over the t where value[t] is not NaN.

    Args:
        tokens_BL: int64. weight_BL: float32, column 0 is not read. value_BL: float32 in [0, 1], or NaN.

    Returns:
        loss = policy + value_coefficient * value (scalar, differentiable), and detached scalars `policy_loss`,
        `value_loss`, `policy_weight` (sum of |weight|), `value_count` (number of targets).
    """
    rows = _by_position(tokens_BL, weight_BL, value_BL)
    nll, bce = _sums(model, *_read(model, rows))
    scale = _scale(weight_BL, value_BL)
    return nll / scale[0] + value_coefficient * bce / scale[1], _report(nll, bce, weight_BL, value_BL)


def accumulate_gradients(
    model: PolicyValueLM | Reader,
    tokens_BL: Tensor,
    weight_BL: Tensor,
    value_BL: Tensor,
    value_coefficient: float,
    chunk_tokens: int = CHUNK_TOKENS,
) -> dict[str, Tensor]:
    """Add the gradient of `policy_value_loss` to the parameters' `.grad`, a few rows at a time; returns its scalars.

    The same sum as one backward over the whole batch, up to rounding, in a fraction of the memory traffic: the rows of a chunk
    are of nearly one length, and only as many logits are there at once as HEAD_TOKENS positions have.
    """
    weight, count = _scale(weight_BL, value_BL)
    total_nll = total_bce = weight_BL.new_zeros(())
    rows = _by_position(tokens_BL, weight_BL, value_BL)
    length_B = _lengths(rows)
    chunks = by_length if isinstance(model, PolicyValueLM) else model.chunks
    for index in chunks(tokens_BL, length_B, chunk_tokens):
        hidden_MD, *taught = _read(model, tuple(part[index, : int(length_B[index].max())] for part in rows))
        pieces = [piece.detach().requires_grad_(hidden_MD.requires_grad) for piece in hidden_MD.split(HEAD_TOKENS)]
        for piece_MD, *told in zip(pieces, *(part.split(HEAD_TOKENS) for part in taught), strict=True):
            nll, bce = _sums(model, piece_MD, *told)
            loss = nll / weight + value_coefficient * bce / count
            if loss.requires_grad:
                loss.backward()
            total_nll, total_bce = total_nll + nll.detach(), total_bce + bce.detach()
        if hidden_MD.requires_grad:
            hidden_MD.backward(torch.cat([cast("Tensor", piece.grad) for piece in pieces]))
    return _report(total_nll, total_bce, weight_BL, value_BL)


def has_kernels(model: PolicyValueLM) -> bool:
    """Whether kernels of its own read rows for a model: for a small net from scratch, without adapters."""
    return supports(model)


def by_length(tokens_BL: Tensor, length_B: Tensor, tokens: int) -> list[Tensor]:
    """Chunks of rows of nearly one length, the longest first: indices, with at most `tokens` tokens a chunk, padding included.

    Rows of length 0 teach nothing and are in none.
    """
    order = length_B.argsort(descending=True, stable=True)
    lengths = length_B[order].tolist()
    chunks, first = [], 0
    while first < len(order) and lengths[first]:
        rows = max(1, tokens // lengths[first])
        chunks.append(order[first : first + rows])
        first += rows
    return chunks


def _by_position(tokens_BL: Tensor, weight_BL: Tensor, value_BL: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(tokens, token after each, weight of predicting that one, value after each), all [B, L]."""
    return tokens_BL, F.pad(tokens_BL[:, 1:], (0, 1)), F.pad(weight_BL[:, 1:], (0, 1)), value_BL


def _taught(rows: tuple[Tensor, ...]) -> Tensor:
    """bool [B, L]: positions whose hidden state something is read from."""
    *_, weight_BL, value_BL = rows
    return (weight_BL != 0) | ~value_BL.isnan()


def _lengths(rows: tuple[Tensor, ...]) -> Tensor:
    """int64 [B]: tokens of each row up to the last position that is read."""
    taught_BL = _taught(rows)
    return (taught_BL * torch.arange(1, taught_BL.shape[1] + 1, device=taught_BL.device)).amax(1)


def _read(model: PolicyValueLM | Reader, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(hidden states [M, D], next tokens, their weights, values [M]) at the positions that are read, row by row."""
    tokens_BL, *others = rows
    taught_BL = _taught(rows)
    if not isinstance(model, PolicyValueLM):
        hidden_BLD, first = model.hidden(tokens_BL, _lengths(rows)), 0
    elif supports(model):
        first = int(taught_BL.any(0).long().argmax())
        hidden_BLD = fast_forward(model, tokens_BL, first)
    else:
        hidden_BLD, first = model.hidden(tokens_BL), 0
    return hidden_BLD[taught_BL[:, first:]], *(part[taught_BL] for part in others)


def _sums(
    model: PolicyValueLM | Reader, hidden_MD: Tensor, next_M: Tensor, weight_M: Tensor, value_M: Tensor
) -> tuple[Tensor, Tensor]:
    """(weighted sum of -log pi, sum of BCE) of positions."""
    nll = bce = weight_M.new_zeros(())
    predicts, valued = (weight_M != 0).nonzero()[:, 0], (~value_M.isnan()).nonzero()[:, 0]
    if len(predicts):
        logits = model.logits(hidden_MD.index_select(0, predicts)).float()
        nll = (F.cross_entropy(logits, next_M[predicts], reduction="none") * weight_M[predicts]).sum()
    if len(valued):
        logit = model.value_head(hidden_MD.index_select(0, valued)).float()
        bce = F.binary_cross_entropy_with_logits(logit, value_M[valued], reduction="sum")
    return nll, bce


def _scale(weight_BL: Tensor, value_BL: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of |weight|, number of values), neither of them 0."""
    return weight_BL[:, 1:].abs().sum().clamp(min=1e-12), (~value_BL.isnan()).sum().clamp(min=1).float()


def _report(nll: Tensor, bce: Tensor, weight_BL: Tensor, value_BL: Tensor) -> dict[str, Tensor]:
    weight, count = _scale(weight_BL, value_BL)
    losses = {"policy_loss": nll.detach() / weight, "value_loss": bce.detach() / count}
    return losses | {"policy_weight": weight_BL[:, 1:].abs().sum(), "value_count": (~value_BL.isnan()).sum().float()}

"""Rows read for a learner: what they begin with in common is computed once, and no padding is.

A trunk reads one flat sequence of the rows' distinct tokens, a node each, at their own positions. Only attention looks at
rows: in the place of a model's own implementation, through transformers' `AttentionInterface`, queries, keys and values are
gathered along each row. So the solved examples that all rows open with, and the question that rows of a problem share, are
paid once, gradients included. A model for which that is not the same, as a trial tells, reads whole rows.

Legend: B rows, L tokens, N nodes, D hidden size, H query heads, G key-value heads, E head size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from models.forward.attention import refuse_bias
from models.forward.trial import attends_outside, max_positions, own_state, short_of, turning_point
from models.net.losses import by_length
from models.net.output_rule import base_of
from models.net.policy_value import PolicyValueLM

NAME = "rows"
TOKENS = 16  # of a row on trial
RECTANGLE = 4  # times the tokens of a chunk: most positions that its attention is computed at
MISFITS = (AttributeError, TypeError, KeyError, IndexError, RuntimeError, ValueError)  # of layers that want whole rows
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}  # relative differences that are none, and those in 16 bits:
_ROUNDING_16 = 3e-2


@dataclass(frozen=True)
class Nodes:
    """The distinct tokens of rows that begin alike."""

    tokens: Tensor  # int64 [1, N]
    positions: Tensor  # int64 [1, N], in their rows
    path: Tensor  # int64 [B, L], the node of every token; beyond a row's end any
    first: Tensor  # int64 [N], where in the flattened [B, L] a node stands first
    windows: dict[int, int] = field(default_factory=dict)  # by layer that has attended: positions it sees, 0 for all

    @staticmethod
    def of(tokens_BL: Tensor, length_B: Tensor) -> Nodes:
        order, new_BL = _new(tokens_BL, length_B)
        row, position = new_BL.nonzero()
        path_BL = np.zeros(new_BL.shape, np.int64)
        path_BL[row, position] = np.arange(len(row))
        path_BL[order] = np.maximum.accumulate(path_BL, 0)  # a token that is not new is the last new one above it
        first = order[row] * new_BL.shape[1] + position
        index, at, path = (torch.from_numpy(part).to(tokens_BL.device) for part in (first, position, path_BL))
        return Nodes(tokens_BL.flatten()[index][None], at[None], path, index)


def _new(tokens_BL: Tensor, length_B: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(rows in alphabetical order, bool [B, L] of the sorted rows: tokens that do not go on what the row before has)."""
    tokens, inside = tokens_BL.cpu().numpy(), np.arange(tokens_BL.shape[1]) < length_B.cpu().numpy()[:, None]
    tokens = np.where(inside, tokens, -1)
    order = np.lexsort(tokens.T[::-1])
    tokens, inside = tokens[order], inside[order]
    alike = np.zeros_like(inside)
    alike[1:] = np.logical_and.accumulate(tokens[1:] == tokens[:-1], axis=1)
    return order, inside & ~alike


_NODES: ContextVar[Nodes] = ContextVar("nodes")


@contextmanager
def _reading(nodes: Nodes):
    token = _NODES.set(nodes)
    try:
        yield
    finally:
        _NODES.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **ignored,
) -> tuple[Tensor, None]:
    """query [1, H, N, E], key and value [1, G, N, E] of the nodes -> [1, N, H, E]: causal attention along every row.

    Raises:
        ValueError: attention sinks, or a mask or bias of the model's own.
    """
    if s_aux is not None:
        raise ValueError("its attention has sinks")
    refuse_bias(attention_mask, ignored)
    nodes = _NODES.get()
    nodes.windows[cast("int", module.layer_idx)] = sliding_window or 0
    shape, groups = nodes.path.shape, query.shape[1] // key.shape[1]
    q, k, v = (
        part[0].transpose(0, 1).index_select(0, nodes.path.flatten()).unflatten(0, shape).transpose(1, 2)
        for part in (query, key, value)
    )  # [B, heads, L, E]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    seen = torch.ones(shape[1], shape[1], dtype=torch.bool, device=q.device).tril()
    if sliding_window:
        seen = seen.triu(1 - sliding_window)
    if softcap:
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
        scores = (softcap * torch.tanh(scores / softcap)).float().masked_fill(~seen, -torch.inf)
        mixed = scores.softmax(-1).to(v.dtype) @ v
    else:
        mask = seen if sliding_window else None
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling)
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, nodes.first)[None], None


AttentionInterface.register(NAME, attend)


class WholeRows:
    """A `models.net.losses.Reader` for any causal LM: padded rows through the trunk's own forward."""

    def __init__(self, model: PolicyValueLM, trunk: Any, autocast: torch.dtype | None, recomputed: str | None):
        """See `rows_reader`."""
        self._model, self._trunk, self._autocast = model, trunk, autocast
        self._recomputed: list[Any] = [] if recomputed is None else [*trunk.get_submodule(recomputed)]
        weight = trunk.get_input_embeddings().weight
        self._device, self._dtype = weight.device.type, next(model.value_head.parameters()).dtype

    @property
    def value_head(self) -> nn.Module:
        return self._model.value_head

    def hidden(self, tokens_BL: Tensor, length_B: Tensor) -> Tensor:
        """Final hidden states [B, L, D]."""
        return self._run(lambda forward: forward, input_ids=tokens_BL)

    def logits(self, hidden: Tensor) -> Tensor:
        """Policy logits [..., V]."""
        with self._cast():
            return self._model.logits(hidden)

    def chunks(self, tokens_BL: Tensor, length_B: Tensor, tokens: int) -> list[Tensor]:
        """Rows of nearly one length."""
        return by_length(tokens_BL, length_B, tokens)

    def _run(self, within: Callable[[Callable], Callable], **inputs: Tensor) -> Tensor:
        """The trunk's final hidden states; `within` brings back what a layer needs when it is computed anew."""
        with ExitStack() as stack:
            stack.enter_context(self._cast())
            for layer in self._recomputed:
                layer.forward = partial(checkpoint, within(layer.forward), use_reentrant=False)
                stack.callback(delattr, layer, "forward")
            hidden = base_of(self._trunk)(use_cache=False, **inputs).last_hidden_state
        return hidden.to(self._dtype)

    def _cast(self):
        return torch.autocast(self._device, self._autocast, enabled=self._autocast is not None)


class PackedRows(WholeRows):
    """The same for a trunk that passes the trial: distinct tokens only."""

    def __init__(self, model: PolicyValueLM, trunk: Any, autocast: torch.dtype | None, recomputed: str | None):
        super().__init__(model, trunk, autocast, recomputed)
        self.windows: dict[int, int] = {}  # of the last forward, by layer
        for module in trunk.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = NAME

    def hidden(self, tokens_BL: Tensor, length_B: Tensor) -> Tensor:
        """Final hidden states [B, L, D]."""
        nodes = Nodes.of(tokens_BL, length_B)
        self.windows = nodes.windows

        def within(forward: Callable) -> Callable:
            def run(*arguments, **keywords):
                with _reading(nodes):
                    return forward(*arguments, **keywords)

            return run

        with _reading(nodes):
            hidden_ND = self._run(within, input_ids=nodes.tokens, position_ids=nodes.positions)[0]
        return hidden_ND.index_select(0, nodes.path.flatten()).unflatten(0, nodes.path.shape)

    def chunks(self, tokens_BL: Tensor, length_B: Tensor, tokens: int) -> list[Tensor]:
        """Rows in alphabetical order, so that those that begin alike stand together: at most `tokens` nodes a chunk."""
        order, new_BL = _new(tokens_BL, length_B)
        lengths, chunks = length_B.cpu().numpy()[order], []
        nodes = longest = tokens + 1  # full: the first row opens a chunk
        for row, new, length in zip(order.tolist(), new_BL.sum(1).tolist(), lengths.tolist(), strict=True):
            if not length:
                continue
            longest = max(longest, length)
            if nodes + new > tokens or (len(chunks[-1]) + 1) * longest > RECTANGLE * tokens:
                chunks.append([])
                nodes, longest, new = 0, length, length
            chunks[-1].append(row)
            nodes += new
        return [torch.tensor(chunk, device=tokens_BL.device) for chunk in chunks]


def rows_reader(
    model: PolicyValueLM, trunk: Any, autocast: torch.dtype | None = None, recomputed: str | None = None
) -> WholeRows:
    """The fastest exact reader of rows for a model.

    Args:
        trunk: computes hidden states: the model's own, or one with adapters in it.
        autocast: type of the matrix products, where it is not the weights' own.
        recomputed: name of the trunk's layers, if they are to be computed again in the backward pass instead of kept (Chen et
            al. 2016): less memory for a third more time.
    """
    config = trunk.config.get_text_config()
    whole = WholeRows(model, _twin(trunk), autocast, recomputed)
    packed = PackedRows(model, _twin(trunk), autocast, recomputed)
    steady = own_state(trunk) is None and turning_point(config) == max_positions(config)
    return packed if attends_outside(trunk) and steady and _same(whole, packed, config) else whole


def _twin(trunk: Any) -> Any:
    """A copy of the modules and configs over the same parameters."""
    return copy.deepcopy(trunk, memo={id(parameter): parameter for parameter in trunk.parameters()}).eval()


@torch.no_grad()
def _same(whole: WholeRows, packed: PackedRows, config: Any) -> bool:
    """The trial: rows that part early, late and never, of several lengths."""
    rng, length = np.random.default_rng(0), min(TOKENS, max_positions(config))
    tokens = rng.integers(0, config.vocab_size, (6, length))
    for row, fork in enumerate((length, 3, 7, 11, length), start=1):
        tokens[row, :fork] = tokens[0, :fork]
    weight = packed._trunk.get_input_embeddings().weight
    tokens_BL, length_B = (
        torch.from_numpy(part).to(weight.device) for part in (tokens, np.array([16, 16, 9, 16, 14, 5]))
    )
    length_B = length_B.clamp(max=length)
    inside_BL = torch.arange(length, device=weight.device) < length_B[:, None]
    try:
        found = packed.hidden(tokens_BL, length_B)[inside_BL].float()
    except MISFITS:
        return False
    expected = whole.hidden(tokens_BL, length_B)[inside_BL].float()
    exact = packed._autocast is None and weight.dtype in _ROUNDING
    bound = _ROUNDING[weight.dtype] if exact else _ROUNDING_16
    return bool((found - expected).norm() <= bound * expected.norm()) and short_of(config, packed.windows) is None

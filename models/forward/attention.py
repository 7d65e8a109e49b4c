"""Attention over trie paths inside any transformers model, through its `AttentionInterface`.

A model whose attention implementation is `NAME` computes one flat row of nodes: every node attends to its own path in the
key-value arena, into which its own key and value are written first. Nothing is padded but what a GPU needs. Sliding windows,
soft caps and scales come from the model's own call.

On a CPU the work is done by `models.cpu.long_attention` and `models.cpu.long_attention_bf16`; elsewhere, and for types that
they lack, the paths of a group are gathered into one padded batch for torch's scaled-dot-product attention.

Legend: N nodes of one batch, T longest path, H query heads, G key-value heads, E head size, R groups, Q nodes of a group at
most, L slots of a group at most.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from models.cpu import long_attention as kernels
from models.cpu import long_attention_bf16
from models.cpu.products import seen

NAME = "trie"
_HARMLESS = ("position_ids", "cache_position")  # tensors beside query, key and value that change nothing here


@dataclass(slots=True)
class Wave:
    """One batch of nodes on its way through a model."""

    kv: Tensor  # [layers, S, 2, G E]
    slots: np.ndarray  # int32 [N]
    paths: np.ndarray  # int32 [N, T]
    lengths: np.ndarray  # int32 [N]
    groups: np.ndarray  # int32 [R, 3]
    padded: _Padded | None  # for torch's attention
    windows: dict[int, int] = field(
        default_factory=dict
    )  # by layer that has attended: latest positions it sees, 0 for all

    @staticmethod
    def of(kv: Tensor, slots: np.ndarray, paths: np.ndarray, lengths: np.ndarray, compiled: bool) -> Wave:
        """`compiled`: use the CPU kernels."""
        first, count, shared = (np.empty(len(lengths), np.int32) for _ in range(3))
        n = kernels.group_rows(paths, lengths, first, count, shared)
        groups = np.stack((first[:n], count[:n], shared[:n]), axis=1)
        return Wave(
            kv, slots, paths, lengths, groups, None if compiled else _Padded.of(slots, paths, lengths, groups, kv)
        )


@dataclass(slots=True)
class _Padded:
    """Groups as rectangles."""

    slots: Tensor  # int64 [N]
    keys: Tensor  # int64 [R, L], slots; shared ones first, then the tails
    seen: Tensor  # bool [R, Q, L]
    positions: Tensor  # int64 [R, L], of the keys in their paths
    lengths: Tensor  # int64 [R, Q]
    rows: Tensor  # int64 [N], where a node lies in the flattened [R, Q]

    @staticmethod
    def of(slots, paths, lengths, groups, kv) -> _Padded:
        tails = [sum(int(lengths[i]) - s for i in range(f, f + c)) for f, c, s in groups.tolist()]
        width, height = max(int(g[2]) + t for g, t in zip(groups, tails, strict=True)), int(groups[:, 1].max())
        keys, positions = np.zeros((len(groups), width), np.int64), np.zeros((len(groups), width), np.int64)
        seen = np.zeros((len(groups), height, width), np.bool_)
        seen[:, :, 0] = True  # rows of padding see something, so that nothing is NaN
        line, rows = np.ones((len(groups), height), np.int64), np.empty(len(slots), np.int64)
        for g, (first, count, shared) in enumerate(groups.tolist()):
            keys[g, :shared], positions[g, :shared] = paths[first, :shared], np.arange(shared)
            seen[g, :count, 0] = shared > 0
            seen[g, :count, :shared] = True
            at = shared
            for i in range(count):
                end = at + int(lengths[first + i]) - shared
                keys[g, at:end] = paths[first + i, shared : lengths[first + i]]
                positions[g, at:end] = np.arange(shared, lengths[first + i])
                seen[g, i, at:end] = True
                line[g, i], rows[first + i] = lengths[first + i], g * height + i
                at = end
        parts = (np.asarray(slots, np.int64), keys, seen, positions, line, rows)
        return _Padded(*(torch.from_numpy(part).to(kv.device) for part in parts))


_WAVE: ContextVar[Wave] = ContextVar("wave")


@contextmanager
def attending(wave: Wave):
    """Inside, models with the implementation `NAME` compute this wave."""
    token = _WAVE.set(wave)
    try:
        yield
    finally:
        _WAVE.reset(token)


def refuse_bias(attention_mask: Tensor | None, given: dict[str, Any]) -> None:
    """Refuse a layer that adds to its scores; `given`: keywords that an implementation is called with beyond those it knows.

    Raises:
        ValueError: a mask or bias of the model's own.
    """
    biases = [name for name, part in given.items() if isinstance(part, Tensor) and name not in _HARMLESS]
    if attention_mask is not None or biases:
        raise ValueError(f"its attention adds {' and '.join(biases) or 'a mask'} of its own")


def attend(
    module: torch.nn.Module,
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
    """query [1, H, N, E], key and value [1, G, N, E] of the nodes of the wave -> [1, N, H, E].

    Raises:
        ValueError: attention sinks, keys and values of different size, a mask or bias of the model's own, or a layer that
            attends twice: the arena has no place for them.
    """
    wave, layer = _WAVE.get(), cast("int", module.layer_idx)
    (_, n_heads, n, size), n_kv_heads = query.shape, key.shape[1]
    room = (len(wave.kv), n, wave.kv.shape[-1])  # compiled code does not look at bounds
    fits = value.shape == key.shape and layer < room[0] and (key.shape[2], n_kv_heads * key.shape[3]) == room[1:]
    if s_aux is not None or not fits or layer in wave.windows:
        raise ValueError("this attention does not fit the key-value arena")
    refuse_bias(attention_mask, ignored)
    wave.windows[layer] = sliding_window or 0
    kv = wave.kv[layer]
    scale = size**-0.5 if scaling is None else scaling
    q, k, v = (part[0].transpose(0, 1).reshape(n, -1).to(kv.dtype) for part in (query, key, value))
    if wave.padded is None:
        kernels.store(seen(k), seen(v), wave.slots, seen(kv))
        out, heads = torch.empty_like(q), (n_heads, n_kv_heads, size)
        compiled_attention(seen(q), seen(kv), wave, heads, scale, softcap or 0.0, sliding_window or 0, seen(out))
    else:
        kv[wave.padded.slots, 0], kv[wave.padded.slots, 1] = k, v
        out = _padded_attention(q.view(n, n_heads, size), kv, wave.padded, scale, softcap, sliding_window)
    return out.view(1, n, n_heads, size).to(query.dtype), None


def compiled_attention(
    q: np.ndarray,
    kv: np.ndarray,
    wave: Wave,
    heads: tuple[int, int, int],
    scale: float,
    softcap: float,
    window: int,
    out: np.ndarray,
) -> None:
    """out [N, H E]: attention of q [N, H E] over the wave's paths in one layer's kv, as `packed_linear.seen` shows them; heads
    (H, G, E), see `attend` there."""
    size = heads[2]
    numbers = np.float32(scale), np.float32(softcap), window
    arguments = (q, kv, wave.paths, wave.lengths, wave.groups, heads, *numbers)
    if long_attention_bf16.AVAILABLE and kv.dtype == np.uint16 and size % long_attention_bf16.PAIRS == 0:
        together = long_attention_bf16.queries_at_once(heads[0] // heads[1])
        long_attention_bf16.attend(*arguments, (0,) * (size // long_attention_bf16.PAIRS), (0,) * together, out)
    else:
        kernels.attend(*arguments, (0,) * -(-size // kernels.BLOCK), out)


def _padded_attention(
    q: Tensor, kv: Tensor, wave: _Padded, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    """q [N, H, E] -> [N, H E]."""
    _, n_heads, size = q.shape
    groups, height, width = wave.seen.shape
    n_kv_heads = kv.shape[-1] // size
    ratio = n_heads // n_kv_heads
    k, v = kv[wave.keys].view(groups, width, 2, n_kv_heads, size).permute(2, 0, 3, 1, 4)  # [R, G, L, E] each
    block = q.new_zeros(groups * height, n_heads, size)
    block[wave.rows] = q
    block = block.view(groups, height, n_kv_heads, ratio, size).permute(0, 2, 3, 1, 4)  # [R, G, H/G, Q, E]
    block = block.reshape(groups, n_kv_heads, ratio * height, size)
    seen = wave.seen
    if window:
        seen = seen & (wave.positions[:, None, :] >= (wave.lengths - window)[:, :, None])
        seen[:, :, 0] |= ~seen.any(-1)
    seen = seen[:, None].repeat(1, 1, ratio, 1)  # [R, 1, H/G Q, L]
    if softcap:
        scores = softcap * torch.tanh((block @ k.transpose(-1, -2)).float() * scale / softcap)
        mixed = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(v.dtype) @ v
    else:
        mixed = F.scaled_dot_product_attention(block, k, v, attn_mask=seen, scale=scale)
    mixed = mixed.view(groups, n_kv_heads, ratio, height, size).permute(0, 3, 1, 2, 4)
    return mixed.reshape(groups * height, n_heads * size)[wave.rows]


AttentionInterface.register(NAME, attend)

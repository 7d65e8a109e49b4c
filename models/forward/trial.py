"""Whether a trunk computes the same node by node as whole: what its config and its modules say, then a small tree on trial.

Legend: L tokens of one path, P paths, V vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TOKENS = 16  # of each path on trial
FAR = 4096  # position of the last token in the second round, where the model has as many
# Paths part from the first one here; waves begin here: a prefill, one node a path, several.
_FORKS, _WAVES = (16, 3, 7, 11), (0, 5, 6, 11, 16)
NODES = TOKENS * len(_FORKS)  # slots of keys and values that the trial takes
EXACT = 1e-3  # difference that is none: float32 keeps below 1.5e-4, its angles at far positions included
# Of a worst row's difference to that of the model with shaken embeddings, in bfloat16 and float16. Random nets of 20 families
# and SmolLM2: 0.2 to 1.0; mixtures of experts, where a rounding chooses another expert, up to 2.4, but not with all tokens.
# Falcon-H1, Bamba, LFM2 and Qwen3-Next, trained for 15 s and not known by `own_state`: 7 to 130.
ROUNDING, TRIES = 2.0, 3

_ATTENTION = frozenset({"full_attention", "sliding_attention", "attention", "global", "local"})
_WINDOWED = ("sliding_attention", "local")
_KINDS_OF_LAYERS = ("layer_types", "layers_block_type", "block_types")
_FEW_ATTEND = ("attn_layer_indices", "attn_layer_period", "full_attn_idxs")
_NAMES = re.compile(
    r"mamba|mixer|linear_attn|short_conv|recurrent|rg_lru|rwkv|lstm|delta_net"
    r"|(^|[._])(ssm|A_log|dt_bias|conv1d?|time_decay)([._]|$)"
)

Run = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], Tensor]
Whole = Callable[[Tensor, Tensor, bool], Tensor]


class UnservedError(RuntimeError):
    """A model that cannot be run node by node. The message is one line."""


def max_positions(config: Any) -> int:
    """Longest path that a model of this config has positions for; 2^20 where it sets no limit."""
    return getattr(config, "max_position_embeddings", None) or 1 << 20


def turning_point(config: Any) -> int:
    """Length of a text beyond which a model turns all its positions by other angles (longrope); else `max_positions`.

    Keys of a trie were turned when their nodes were made, so a longer path cannot go on from them. Angles of the type
    "dynamic" change beyond the last position only.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    ropes = [parameters, *(part for part in parameters.values() if isinstance(part, dict))]
    limits = [rope["original_max_position_embeddings"] for rope in ropes if rope.get("rope_type") == "longrope"]
    return min([*limits, max_positions(config)])


def attends_outside(trunk: Any) -> bool:
    """True for a model whose attention goes through transformers' `AttentionInterface`, as far as it says so."""
    return bool(getattr(trunk, "_supports_attention_backend", False))


def own_state(trunk: Any) -> str | None:
    """What shows that layers keep a state beside keys and values, or choose what they see otherwise; None: nothing does.

    Such layers mix the nodes of a row, which are no sequence; rounding in 16 bits may hide that for a few tokens.
    """
    config = trunk.config.get_text_config()
    for name in _KINDS_OF_LAYERS:
        others = sorted({*map(str, getattr(config, name, None) or ())} - _ATTENTION)
        if others:
            return f"{name}: {', '.join(others)}"
    for name in _FEW_ATTEND:
        if getattr(config, name, None) is not None:
            return name
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv1d | nn.RNNBase) or _NAMES.search(name):
            return name
    return next((name for name, _ in trunk.named_parameters() if _NAMES.search(name)), None)


def on_trial(run: Run, whole: Whole, vocabulary_size: int, max_positions: int) -> str | None:
    """How the logits of single nodes differ from those of whole paths; None: with some tokens by rounding alone.

    `run(tokens, positions, slots, paths, lengths)` computes the nodes of one wave -> [nodes, V]; `whole(tokens [P, L],
    positions [P, L], shaken)` is the trunk's own forward -> [P, L, V], `shaken`: with embeddings moved by as much as rounding
    may. A tree of four paths grows in four waves, at the first positions and again at far ones.
    """
    length, worst, rounding = min(TOKENS, max_positions), 0.0, 0.0
    for seed in range(TRIES):
        tokens, slots = _tree(length, vocabulary_size, seed)
        worst = 0.0
        for first in (max(0, min(max_positions, FAR) - length), 0):
            asked = torch.from_numpy(tokens).long(), torch.arange(first, first + length).expand(len(tokens), -1)
            expected = whole(*asked, False)[..., :vocabulary_size]
            worst = max(worst, _worst_row(run, tokens, slots, first, expected))
        if worst <= EXACT:
            return None
        rounding = _difference(whole(*asked, True)[..., :vocabulary_size], expected)
        if math.isfinite(worst) and worst <= ROUNDING * rounding:
            return None
    return f"its logits are off by {worst:.2g} of their spread, where rounding explains {rounding:.2g}"


def _tree(length: int, vocabulary_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens int32 [P, L], slots int32 [P, L]) of paths that part from the first one."""
    tokens = np.random.default_rng(seed).integers(0, vocabulary_size, (len(_FORKS), length)).astype(np.int32)
    slots = np.arange(len(_FORKS) * length, dtype=np.int32).reshape(len(_FORKS), length)
    for path, fork in enumerate(_FORKS[1:], start=1):
        tokens[path, :fork], slots[path, :fork] = tokens[0, :fork], slots[0, :fork]
    return tokens, slots


def _worst_row(run: Run, tokens: np.ndarray, slots: np.ndarray, first: int, expected: Tensor) -> float:
    """Largest difference of one node's logits to those `expected` [P, L, V]. `first`: position of the roots."""
    worst, length = 0.0, tokens.shape[1]
    for start, stop in pairwise(_WAVES):
        new = np.zeros(slots.shape, np.bool_)
        new.flat[np.unique(slots[:, start : min(stop, length)])] = True  # each node once
        paths, at = np.nonzero(new)
        if len(at):
            depths = at.astype(np.int32)
            seen = np.where(np.arange(length) <= at[:, None], slots[paths], 0).astype(np.int32)
            found = run(tokens[paths, at], depths + np.int32(first), slots[paths, at], seen, depths + 1)
            worst = max(worst, _difference(found[:, : expected.shape[-1]], expected[paths, at]))
    return worst


def shake(dtype: torch.dtype) -> Callable[..., Tensor]:
    """A forward hook that moves what a module gives by up to one unit in the last place of `dtype`."""

    def hook(module, arguments, output: Tensor) -> Tensor:
        draws = torch.rand(output.shape, generator=torch.Generator().manual_seed(0)).to(output.device)
        return (output.float() * (1 + (2 * draws - 1) * torch.finfo(dtype).eps)).to(output.dtype)

    return hook


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest of the rows' [..., V] differences: root mean square, in units of the row's spread.

    Where the model itself computes NaN there is nothing to compare with, and `models.trie` says so in time.
    """
    found, expected = found.float(), expected.float().to(found.device)
    told = ~expected.isnan().any(-1)
    if not told.any():
        return 0.0
    found, expected = found[told], expected[told]
    rows = (found - expected).pow(2).mean(-1).sqrt() / (expected.std(-1) + 1e-6)
    return rows.max().item() if rows.isfinite().all() else math.inf


def short_of(config: Any, windows: dict[int, int]) -> str | None:
    """What the attention of a model lacks, seen from the windows of its layers; None: nothing.

    A window longer than the paths on trial shows in no number, so the layers must have asked for it.
    """
    config = config.get_text_config()
    if lacking := config.num_hidden_layers - len(windows):
        return f"{lacking} of {config.num_hidden_layers} layers compute attention in code of their own"
    kinds = getattr(config, "layer_types", None) or ()
    told = kinds or not getattr(config, "sliding_window", None) or getattr(config, "use_sliding_window", True) is False
    if (not told and not any(windows.values())) or any(
        kind in _WINDOWED and not windows[layer] for layer, kind in enumerate(kinds)
    ):
        return "its layers do not tell attention of their window"
    return None

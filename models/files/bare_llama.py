"""The small Llama of a checkpoint, read without transformers: for a search in a process that has just started.

Importing transformers takes longer than answering a problem with a small net. `models.forward.choose.LlamaForward` computes
from the weights alone, so a checkpoint whose config is `plain` is read from its JSON and safetensors right away. The modules
have transformers' names and no forward: what trains, or runs otherwise, loads with `models.files.checkpoint`.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from kit.files import one_line
from models.files.digests import refuse_not_finite
from models.files.manifest import (
    EXTRA,
    FEW_SHOT,
    READ_ERRORS,
    VALUE_HEAD,
    CheckpointError,
    refuse_code,
    verify_checkpoint,
)
from models.net.value_head import ValueHead

WEIGHTS = "model.safetensors"
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "vocab_size",
)


def plain(config: Any) -> bool:
    """True for the fields of a Llama with default rotary embedding, silu and no biases."""
    return (
        config.rope_parameters["rope_type"] == "default"
        and config.rope_parameters.get("partial_rotary_factor", 1.0) == 1.0
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and config.head_dim % 2 == 0
        and config.num_key_value_heads > 0
        and config.num_attention_heads % config.num_key_value_heads == 0  # compiled code does not look at bounds
    )


class PlainLlama(nn.Module):
    """Weights of a Llama under transformers' names."""

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.config = config
        self.model = _Body(config)
        self.lm_head = _Weight(config.vocab_size, config.hidden_size)

    def get_input_embeddings(self) -> _Weight:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> _Weight:
        return self.lm_head


class PlainPolicy(nn.Module):
    """`PlainLlama` with its value head: what a search asks of a `models.net.policy_value.PolicyValueLM`."""

    tokenizer = None
    inference_dtype = None

    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.trunk = PlainLlama(config)
        self.value_head = ValueHead(config.hidden_size)


class _Weight(nn.Module):
    def __init__(self, *shape: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))


class _Body(nn.Module):
    def __init__(self, config: SimpleNamespace):
        super().__init__()
        self.embed_tokens = _Weight(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_hidden_layers))
        self.norm = _Weight(config.hidden_size)


def _layer(config: SimpleNamespace) -> nn.Module:
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    return _modules(
        self_attn=_modules(
            q_proj=_Weight(queries, width),
            k_proj=_Weight(keys, width),
            v_proj=_Weight(keys, width),
            o_proj=_Weight(width, queries),
        ),
        mlp=_modules(gate_proj=_Weight(inner, width), up_proj=_Weight(inner, width), down_proj=_Weight(width, inner)),
        input_layernorm=_Weight(width),
        post_attention_layernorm=_Weight(width),
    )


def _modules(**children: nn.Module) -> nn.Module:
    parent = nn.Module()
    for name, child in children.items():
        parent.add_module(name, child)
    return parent


def load_plain(folder: Path | str, *, calibration: bool = True) -> tuple[PlainPolicy, dict[str, int], dict] | None:
    """(policy, token ids by word, extra) of a checkpoint, or None if it is no plain float32 Llama of a task's own words.

    `calibration`: see `models.files.manifest.verify_checkpoint`.

    Raises:
        CheckpointError: a file is missing, damaged or not in the manifest, or would run code of its own.
    """
    folder = Path(folder)
    if (
        config := _config(folder)
    ) is None:  # before the files are compared, which `models.files.checkpoint` would do again
        return None
    verify_checkpoint(folder, calibration=calibration)
    for name in ("config.json", "tokenizer_config.json"):
        refuse_code(folder / name)
    try:
        extra = json.loads((folder / EXTRA).read_text())
        words = json.loads((folder / "tokenizer.json").read_text())
        token_ids = words["model"]["vocab"] | {added["content"]: added["id"] for added in words["added_tokens"]}
        with torch.device("meta"):
            policy = PlainPolicy(config)
        lacking = _fill(policy.trunk, folder / WEIGHTS)
        policy.value_head.load_state_dict(load_file(folder / VALUE_HEAD), assign=True)
    except READ_ERRORS as error:
        raise CheckpointError(f"{folder}: cannot be loaded ({one_line(error)}); use another checkpoint") from error
    if lacking:
        raise CheckpointError(f"{folder / WEIGHTS}: lacks {min(lacking)}; use another checkpoint")
    for parameter in policy.parameters():
        parameter.data = parameter.data.to(torch.float32, copy=True)  # aligned as in `models.files.checkpoint`
    refuse_not_finite(folder, policy.state_dict(), "use another checkpoint")
    return policy.requires_grad_(False).eval(), token_ids, extra


def _config(folder: Path) -> SimpleNamespace | None:
    """The config where it says all that `LlamaForward` needs and is plain; None also of what cannot be read."""
    try:
        config = SimpleNamespace(**json.loads((folder / "config.json").read_text()))
        whole = all(isinstance(getattr(config, name), int) for name in _SIZES)
        stated = isinstance(config.rms_norm_eps, float) and config.rope_parameters["rope_theta"] > 0
        own_words = FEW_SHOT not in json.loads((folder / EXTRA).read_text()) and (folder / WEIGHTS).is_file()
        small = config.model_type == "llama" and config.dtype == "float32"
        return config if whole and stated and own_words and small and plain(config) else None
    except READ_ERRORS:
        return None


def _fill(trunk: PlainLlama, file: Path) -> list[str]:
    """Put the tensors of a file in their places; names of those that it lacks."""
    lacking = trunk.load_state_dict(load_file(file), strict=False, assign=True).missing_keys
    if trunk.config.tie_word_embeddings and lacking == ["lm_head.weight"]:
        trunk.lm_head.weight = trunk.model.embed_tokens.weight
        return []
    return lacking

"""Forward and backward of a Llama trunk over the same weights as transformers' own, several times as fast on a CPU.

For rows of equal length, which need no attention mask; padding on the right does no harm, as a causal model never looks
there. Small models are bound by elementwise passes over memory, not by matrix products, so the whole trunk is one
autograd function: torch does the products, `models.net.fast_training_kernels` the rest, with a backward written by hand.

Legend: B rows, L tokens, N = B * L, D hidden size, H heads, E head size, F feed-forward size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from models.net import fast_training_kernels as kernels

LAYER_WEIGHTS = 9  # per layer, in the order of `_weights`


def supports(model: nn.Module) -> bool:
    """True if `fast_forward` computes what the trunk of this model computes. `model`: a causal LM, or one with `.trunk`."""
    trunk = getattr(model, "trunk", model)
    if type(trunk) is not LlamaForCausalLM:
        return False
    config: Any = trunk.config  # its fields are declared optional, and filled in when it is made
    weight = trunk.lm_head.weight
    first: Any = trunk.model.layers[0]
    return (
        type(first.self_attn.q_proj) is nn.Linear  # adapters would be passed by
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and config.rope_parameters["rope_type"] == "default"
        and config.rope_parameters.get("partial_rotary_factor", 1.0) == 1.0
        and config.num_key_value_heads == config.num_attention_heads
        and config.head_dim * config.num_attention_heads == config.hidden_size
        and (config.head_dim == kernels.LANES or config.head_dim % (2 * kernels.LANES) == 0)
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias)
        and config.attention_dropout == 0.0
    )


@lru_cache(maxsize=64)
def rope_tables(theta: float, head_size: int, positions: int) -> tuple[Tensor, Tensor]:
    """cos and sin, [positions, E] (RoFormer, section 3.2.2, in Llama's half-split layout)."""
    inverse_frequency = 1.0 / (theta ** (torch.arange(0, head_size, 2, dtype=torch.float) / head_size))
    angle_LE = torch.outer(torch.arange(positions, dtype=torch.float), inverse_frequency).repeat(1, 2)
    return angle_LE.cos(), angle_LE.sin()


def fast_forward(model: nn.Module, tokens_BL: Tensor, first: int = 0) -> Tensor:
    """Final hidden states [B, L - first, D] at positions `first` and later, of a model that `supports` accepts.

    Differentiable once with respect to the weights. Positions before `first` (a prompt whose logits nobody reads) still
    are attended to, but skip the last layer's output projection and feed-forward.
    """
    trunk = cast("LlamaForCausalLM", getattr(model, "trunk", model))
    config: Any = trunk.config
    theta = config.rope_parameters["rope_theta"]
    shape = (
        config.num_attention_heads,
        config.head_dim,
        theta,
        config.rms_norm_eps,
        trunk.model.embed_tokens.padding_idx,
    )
    return _Trunk.apply(tokens_BL, first, shape, *_weights(trunk))


def _weights(trunk: LlamaForCausalLM) -> list[Tensor]:
    base = trunk.model
    weights = [base.embed_tokens.weight]
    for layer in cast("Iterable[LlamaDecoderLayer]", base.layers):
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        weights += [layer.input_layernorm.weight, *(p.weight for p in projections)]
        weights += [
            layer.post_attention_layernorm.weight,
            mlp.gate_proj.weight,
            mlp.up_proj.weight,
            mlp.down_proj.weight,
        ]
    return [*weights, base.norm.weight]


@lru_cache(maxsize=64)
def _kernel_tables(theta: float, size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat cos and sin for the kernels, the first half of each sin row negated."""
    cos, sin = (table.clone() for table in rope_tables(theta, size, length))
    sin[:, : size // 2] *= -1
    return cos.numpy().ravel(), sin.numpy().ravel()


_MASK = np.triu(np.full((kernels.LANES, kernels.LANES), kernels.MASKED, np.float32), 1).ravel()


def _rms(x_ND: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    normed_ND, inverse_N = torch.empty_like(x_ND), x_ND.new_empty(len(x_ND))
    kernels.rms_forward(x_ND.numpy(), np.float32(epsilon), normed_ND.numpy(), inverse_N.numpy())
    return normed_ND, inverse_N


def _add_rms_gradient(dx_ND: Tensor, d_normed_ND: Tensor, normed_ND: Tensor, inverse_N: Tensor) -> None:
    kernels.rms_backward(d_normed_ND.numpy(), normed_ND.numpy(), inverse_N.numpy(), dx_ND.numpy())


def _flat(x: Tensor) -> np.ndarray:
    return x.view(-1).numpy()


class _Trunk(torch.autograd.Function):
    """A gain before a product is folded into its matrix: W (g * x) = (W * g) x, so no pass over tokens is spent on it."""

    @staticmethod
    def forward(ctx, tokens_BL: Tensor, first: int, shape: tuple, *weights: Tensor) -> Tensor:
        heads, size, theta, epsilon, _ = shape
        rows, length = tokens_BL.shape
        width, padded = heads * size, -(-length // kernels.LANES) * kernels.LANES
        tables = _kernel_tables(theta, size, length)
        training = any(ctx.needs_input_grad)
        layers = (len(weights) - 2) // LAYER_WEIGHTS
        x = weights[0][tokens_BL.reshape(-1)]
        kept = []
        for n in range(layers):
            gain1, q, k, v, out, gain2, gate, up, down = weights[1 + n * LAYER_WEIGHTS : 1 + (n + 1) * LAYER_WEIGHTS]
            normed1, inverse1 = _rms(x, epsilon)
            qkv = normed1 @ (torch.cat((q, k, v)) * gain1).t()
            prob, mixed = x.new_empty(rows * heads * length * padded), torch.empty_like(x)
            sizes = (rows, heads, length, (0,) * (size // kernels.LANES))
            kernels.attention_forward(_flat(qkv), *tables, _MASK, _flat(prob), _flat(mixed), *sizes)
            if n == layers - 1 and first:
                x, mixed = (t.view(rows, length, width)[:, first:].reshape(-1, width) for t in (x, mixed))
            x.addmm_(mixed, out.t())
            normed2, inverse2 = _rms(x, epsilon)
            gate_up = normed2 @ (torch.cat((gate, up)) * gain2).t()
            act = x.new_empty(len(x), len(gate))
            kernels.swiglu_forward(gate_up.numpy(), act.numpy())
            x.addmm_(act, down.t())
            if training:
                kept.append((normed1, inverse1, qkv, prob, mixed, normed2, inverse2, gate_up, act))
        normed, inverse = _rms(x, epsilon)
        if training:
            ctx.save_for_backward(tokens_BL, *weights)
            ctx.first, ctx.shape, ctx.kept, ctx.last = first, shape, kept, (normed, inverse)
        return (normed * weights[-1]).view(rows, length - first, width)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_hidden_BLD: Tensor) -> tuple:
        if ctx.kept is None:
            raise RuntimeError("the activations of this forward are used up; run fast_forward again")
        kept, ctx.kept, first = ctx.kept, None, ctx.first
        heads, size, theta, _, padding_id = ctx.shape
        tokens_BL, *weights = ctx.saved_tensors
        rows, length = tokens_BL.shape
        width = heads * size
        tables = _kernel_tables(theta, size, length)
        normed, inverse = ctx.last
        d_hidden = d_hidden_BLD.reshape(-1, width)
        gradients: list[Tensor] = [(d_hidden * normed).sum(0)]
        dx = torch.zeros_like(normed)
        _add_rms_gradient(dx, d_hidden * weights[-1], normed, inverse)
        for n in reversed(range(len(kept))):
            gain1, q, k, v, out, gain2, gate, up, down = weights[1 + n * LAYER_WEIGHTS : 1 + (n + 1) * LAYER_WEIGHTS]
            normed1, inverse1, qkv, prob, mixed, normed2, inverse2, gate_up, act = kept.pop()
            d_down = dx.t() @ act
            kernels.swiglu_backward(torch.mm(dx, down, out=act).numpy(), gate_up.numpy())
            d_gain2, d_gate, d_up = _unfold(gate_up.t() @ normed2, gain2, gate, up)
            _add_rms_gradient(dx, gate_up @ (torch.cat((gate, up)) * gain2), normed2, inverse2)
            d_out = dx.t() @ mixed
            d_mixed = torch.mm(dx, out, out=mixed)
            if n == len(kept) and first and len(dx) < rows * length:
                dx, d_mixed = (_pad_front(t, rows, first) for t in (dx, d_mixed))
            sizes = (rows, heads, length, (0,) * (size // kernels.LANES))
            kernels.attention_backward(_flat(d_mixed), _flat(qkv), *tables, _flat(prob), *sizes)
            d_gain1, d_q, d_k, d_v = _unfold(qkv.t() @ normed1, gain1, q, k, v)
            _add_rms_gradient(dx, qkv @ (torch.cat((q, k, v)) * gain1), normed1, inverse1)
            gradients += [d_down, d_up, d_gate, d_gain2, d_out, d_v, d_k, d_q, d_gain1]
        padding_id = -1 if padding_id is None else padding_id
        gradients.append(
            torch.ops.aten.embedding_dense_backward(dx, tokens_BL.reshape(-1), len(weights[0]), padding_id, False)
        )
        return None, None, None, *reversed(gradients)


def _unfold(d_folded: Tensor, gain: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the gain and of each weight from that of cat(weights) * gain."""
    d_gain = (d_folded * torch.cat(weights)).sum(0)
    return d_gain, *(d_folded * gain).split([len(weight) for weight in weights])


def _pad_front(x: Tensor, rows: int, first: int) -> Tensor:
    """Zeros for the `first` positions of each row that the last layer left out."""
    x_BLD = x.view(rows, -1, x.shape[-1])
    return nn.functional.pad(x_BLD, (0, 0, first, 0)).view(-1, x.shape[-1])

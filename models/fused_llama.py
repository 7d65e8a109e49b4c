"""The layers of a Llama, Mistral or Qwen2 on a CPU, for one flat row of nodes, in few passes over memory.

transformers' own modules take a dozen calls a layer beside the matrix products, a fifth of the time of a 135 M model and more
where few tokens are decoded. Here a layer is four packed products, attention, and three compiled passes. The residual stream
is float32 whatever the type of the products.

Legend: N nodes of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

from models.attention_kernels import put, to_float
from models.kernels import FAST, fast_exp
from models.packed_linear import DTYPES, PackedLinear
from models.tree_attention import Wave, compiled_attention, seen_by_numpy

_TRUNKS = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_ROPES = ("default", "llama3", "linear")  # whose tables do not depend on the length of a text


def supports(trunk: nn.Module) -> bool:
    """True for plain layers of these families in float32 or bfloat16 on the CPU."""
    if not isinstance(trunk, _TRUNKS) or type(trunk) not in _TRUNKS:
        return False
    config: Any = trunk.config
    weight = trunk.get_output_embeddings().weight
    return (
        weight.device.type == "cpu"
        and weight.dtype in DTYPES
        and config.rope_parameters["rope_type"] in _ROPES
        and config.rope_parameters.get("partial_rotary_factor", 1.0) == 1.0
        and config.hidden_act == "silu"
        and not getattr(config, "mlp_bias", False)
    )


class FusedLlama:
    """A frozen copy of a trunk that `supports` accepts."""

    @torch.no_grad()
    def __init__(self, trunk: Any, dtype: torch.dtype, vocabulary_size: int):
        """`dtype`: of the products and of keys and values. Logits are of the first `vocabulary_size` tokens."""
        config = trunk.config
        self._dtype, self._epsilon = dtype, np.float32(config.rms_norm_eps)
        self._heads = (config.num_attention_heads, config.num_key_value_heads, trunk.model.layers[0].self_attn.head_dim)
        self._embedding = trunk.get_input_embeddings().weight.detach().clone()
        rotary, positions = trunk.model.rotary_emb, config.max_position_embeddings
        angles = np.outer(np.arange(positions), rotary.inv_freq.double().numpy())
        scaling = rotary.attention_scaling
        self._cos, self._sin = ((f(angles) * scaling).astype(np.float32) for f in (np.cos, np.sin))
        self._layers = [_Layer(layer, dtype) for layer in trunk.model.layers]
        self._gain = _gain(trunk.model.norm)
        head = trunk.get_output_embeddings()
        bias = None if head.bias is None else head.bias[:vocabulary_size]
        self._output = PackedLinear(head.weight[:vocabulary_size], bias, dtype)

    @torch.inference_mode()
    def __call__(
        self, tokens: np.ndarray, positions: np.ndarray, asked: np.ndarray, wave: Wave
    ) -> tuple[Tensor, Tensor]:
        """(logits, final normed hidden states) at the rows `asked` of nodes `tokens` [N] at `positions` [N]."""
        n, (n_heads, n_kv_heads, size) = len(tokens), self._heads
        stream = self._embedding[torch.from_numpy(tokens.astype(np.int64))].float()
        normed = torch.empty(stream.shape, dtype=self._dtype)
        query = torch.empty(n, n_heads * size, dtype=self._dtype)
        mixed, gated = torch.empty_like(query), torch.empty(n, self._layers[0].width, dtype=self._dtype)
        stream_, normed_, query_, gated_ = stream.numpy(), *map(seen_by_numpy, (normed, query, gated))
        delta: Tensor | None = None
        for i, layer in enumerate(self._layers):
            add_and_normalise(stream_, _or_nothing(delta, normed), layer.first_gain, self._epsilon, normed_)
            qkv, kv = seen_by_numpy(layer.qkv(normed)), wave.kv[i]
            rotate_and_store(
                qkv, positions, self._cos, self._sin, wave.slots, seen_by_numpy(kv), n_heads, n_kv_heads, size, query_
            )
            compiled_attention(query, kv, wave, self._heads, size**-0.5, 0.0, layer.window, mixed)
            add_and_normalise(stream_, seen_by_numpy(layer.output(mixed)), layer.second_gain, self._epsilon, normed_)
            gate(seen_by_numpy(layer.gate_up(normed)), gated_)
            delta = layer.down(gated)
        rows = torch.from_numpy(asked.astype(np.int64))
        last, final = stream[rows], normed[: len(asked)]
        add_and_normalise(
            last.numpy(), _or_nothing(None if delta is None else delta[rows], final), self._gain, self._epsilon,
            seen_by_numpy(final),
        )  # fmt: skip
        return self._output(final), final


class _Layer:
    def __init__(self, layer: Any, dtype: torch.dtype):
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = _joined((attention.q_proj, attention.k_proj, attention.v_proj), dtype)
        self.output = _joined((attention.o_proj,), dtype)
        self.gate_up = _joined((mlp.gate_proj, mlp.up_proj), dtype)
        self.down = _joined((mlp.down_proj,), dtype)
        self.first_gain, self.second_gain = _gain(layer.input_layernorm), _gain(layer.post_attention_layernorm)
        self.window = _window(attention)
        self.width = mlp.down_proj.in_features


def _window(attention: Any) -> int:
    """Latest positions that a layer sees, 0 for all. Qwen2 says so layer by layer, Mistral for the model, Llama never."""
    if type(attention) is LlamaAttention:
        return 0
    own = attention.sliding_window if hasattr(attention, "sliding_window") else attention.config.sliding_window
    return own or 0


def _joined(layers: tuple[nn.Linear, ...], dtype: torch.dtype) -> PackedLinear:
    biases = [layer.bias for layer in layers]
    bias = None if biases[0] is None else torch.cat([b for b in biases if b is not None])
    return PackedLinear(torch.cat([layer.weight for layer in layers]), bias, dtype)


def _gain(norm: Any) -> np.ndarray:
    return norm.weight.detach().float().clone().numpy()


def _or_nothing(delta: Tensor | None, like: Tensor) -> np.ndarray:
    return seen_by_numpy(like[:0] if delta is None else delta)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def add_and_normalise(stream, delta, gain, epsilon, out):
    """stream [N, D] += delta [N, D], unless that is empty; out = stream / rms(stream) * gain, row by row."""
    for b in range(stream.shape[0]):
        row = stream[b]
        if delta.shape[0]:
            change = delta[b]
            for j in range(row.size):
                row[j] += to_float(change[j])
        total = np.float32(0.0)
        for j in range(row.size):
            total += row[j] * row[j]
        scale = np.float32(1.0 / math.sqrt(total / row.size + epsilon))
        target = out[b]
        for j in range(row.size):
            put(target, j, row[j] * scale * gain[j])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def rotate_and_store(qkv, positions, cos, sin, slots, kv, n_heads, n_kv_heads, size, query):
    """Rotary embedding of q into query [N, H E] and of k into kv [S, 2, G E] at `slots` [N], v beside it.

    qkv [N, (H + 2G) E]; cos, sin [positions, E / 2].
    """
    half = size // 2
    for b in range(qkv.shape[0]):
        c, s = cos[positions[b]], sin[positions[b]]
        for h in range(n_heads + n_kv_heads):
            source = qkv[b, h * size : (h + 1) * size]
            first, second = source[:half], source[half:]
            g = (h - n_heads) * size
            target = query[b, h * size : (h + 1) * size] if h < n_heads else kv[slots[b], 0, g : g + size]
            low, high = target[:half], target[half:]
            for j in range(half):
                x, y = to_float(first[j]), to_float(second[j])
                put(low, j, x * c[j] - y * s[j])
                put(high, j, y * c[j] + x * s[j])
        values = qkv[b, (n_heads + n_kv_heads) * size :]
        target = kv[slots[b], 1]
        for j in range(values.size):
            target[j] = values[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def gate(gate_up, out):
    """out [N, F] = silu(gate) * up, for gate_up [N, 2F] = (gate, up)."""
    width = out.shape[1]
    line = np.empty(width, np.float32)
    for b in range(out.shape[0]):
        gates, ups, target = gate_up[b, :width], gate_up[b, width:], out[b]
        for j in range(width):  # three short loops vectorise, one long one does not
            line[j] = to_float(gates[j])
        for j in range(width):
            g = line[j]
            e = fast_exp(-abs(g))
            line[j] = g * max(e, np.float32(1.0) if g >= np.float32(0.0) else e) / (np.float32(1.0) + e)
        for j in range(width):
            put(target, j, line[j] * to_float(ups[j]))

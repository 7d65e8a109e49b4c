"""The layers of a Llama, Mistral or Qwen2 on a CPU, for one flat row of nodes, in few passes over memory.

transformers' own modules take a dozen calls a layer beside the matrix products, a fifth of the time of a 135 M model and more
where few tokens are decoded. Here a layer is four packed products, attention, and three compiled passes. The residual stream
is float32 whatever the type of the products.

Legend: N nodes of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

from models.cpu.packed_linear import DTYPES, PackedLinear
from models.cpu.products import add_and_normalise, gate, seen
from models.cpu.short_attention import turn_and_store
from models.forward.attention import Wave, compiled_attention

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
        stream = self._embedding[torch.from_numpy(tokens.astype(np.int64))].float().numpy()
        kind = np.dtype(np.uint16 if self._dtype == torch.bfloat16 else np.float32)
        first = self._layers[0]
        normed, change = np.empty((n, stream.shape[1]), kind), np.empty((n, first.down.columns), kind)
        qkv, gates = np.empty((n, first.qkv.columns), kind), np.empty((n, first.gate_up.columns), kind)
        query, gated = np.empty((n, n_heads * size), kind), np.empty((n, first.width), kind)
        mixed, lanes = np.empty_like(query), (0,) * size
        add_and_normalise(stream, change[:0], first.first_gain, self._epsilon, normed)
        for i, layer in enumerate(self._layers):
            layer.qkv.into(normed, qkv)
            kv = seen(wave.kv[i])
            turn_and_store(
                qkv, wave.slots, positions, self._cos, self._sin, kv, n_heads, n_kv_heads, lanes, query
            )  # fmt: skip
            compiled_attention(query, kv, wave, self._heads, size**-0.5, 0.0, layer.window, mixed)
            layer.output.into(mixed, change)
            add_and_normalise(stream, change, layer.second_gain, self._epsilon, normed)
            layer.gate_up.into(normed, gates)
            gate(gates, gated)
            layer.down.into(gated, change)
            if i + 1 < len(self._layers):
                add_and_normalise(stream, change, self._layers[i + 1].first_gain, self._epsilon, normed)
        last, final = stream[asked], np.empty((len(asked), stream.shape[1]), kind)
        add_and_normalise(last, change[asked], self._gain, self._epsilon, final)
        hidden = torch.from_numpy(final).view(self._dtype)
        return self._output(hidden), hidden


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

"""The forward of a small Llama: all layers of a batch of trie nodes in one compiled call.

Keys and values of ancestors are read where they lie in the trie's arena, so that a wave of nodes of any depths is one batch
without padding. Legend: B nodes of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward
size, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from models.cpu import long_attention_bf16, products, small_llama
from models.cpu.products import seen
from models.cpu.short_attention import head_block
from models.trie.batch import NEVER_SAMPLED, NodeBatch, NodeRows


class LlamaForward:
    """A Llama forward for trie nodes; equal to the trunk's own on every path up to rounding, and to itself bit for bit whatever
    nodes are computed beside."""

    keeps_some = False
    device = torch.device("cpu")

    def __init__(
        self,
        model,
        vocabulary_size: int,
        masked: tuple[int, ...] = NEVER_SAMPLED,
        batch_rows: int = 512,
        autocast: torch.dtype | None = None,
    ):
        """`autocast`: torch.bfloat16 multiplies, and keeps keys and values, in bfloat16 where the CPU multiplies pairs of it;
        sums, norms, softmax and what goes on from layer to layer stay float32."""
        config = model.trunk.config
        self.vocabulary_size = self.row_width = vocabulary_size
        self.kv_shape = (config.num_hidden_layers, config.num_key_value_heads * config.head_dim)
        self.batch_rows = batch_rows
        self.max_positions = config.max_position_embeddings
        self._model = model
        self._mask = np.zeros(vocabulary_size, np.float32)
        self._mask[[token for token in masked if token < vocabulary_size]] = -np.inf
        heads, even = config.num_attention_heads, (config.hidden_size, config.intermediate_size)
        wanted = autocast == torch.bfloat16 and long_attention_bf16.AVAILABLE
        self._pairs = wanted and not any(size % 2 for size in even)
        self.kv_dtype = torch.bfloat16 if self._pairs else torch.float32
        self._sizes = (heads, config.num_key_value_heads, config.intermediate_size)
        self._lanes = (0,) * head_block(heads), (0,) * config.head_dim
        self._epsilon = np.float32(config.rms_norm_eps)
        pairs = torch.arange(0, config.head_dim, 2).float() / config.head_dim  # in float32, as transformers does
        inverse_frequency = (1.0 / config.rope_parameters["rope_theta"] ** pairs).double().numpy()
        angles = np.outer(np.arange(self.max_positions), inverse_frequency)
        self._angles = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Pack the weights: gains of the norms and the scale of q are folded into the matrices, q, k and v are one."""
        trunk = self._model.trunk
        scale = trunk.config.head_dim**-0.5
        self._embedding = trunk.get_input_embeddings().weight.detach().clone().numpy()
        matrices = []
        for layer in trunk.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = torch.cat((attention.q_proj.weight * scale, attention.k_proj.weight, attention.v_proj.weight))
            gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * layer.post_attention_layernorm.weight
            matrices += [qkv * layer.input_layernorm.weight, attention.o_proj.weight, gate_up, mlp.down_proj.weight]
        gain = trunk.model.norm.weight
        self._gain = gain.numpy().copy()
        matrices.append(trunk.get_output_embeddings().weight[: self.vocabulary_size] * gain)
        blocks = [products.packed(matrix.numpy(), self._pairs) for matrix in matrices]
        starts = np.cumsum([0, *map(len, blocks), 0, 0])
        self._starts = starts.reshape(-1, 4)  # [layers + 1, 4]; the logits' is the first of the last row
        self._weights = np.concatenate(blocks)
        inner, outer = self._model.value_head.inner, self._model.value_head.outer
        bias = np.zeros(products.whole(len(inner.bias)), np.float32)
        bias[: len(inner.bias)] = inner.bias.numpy()
        self._value_head = (
            products.packed(inner.weight.numpy(), False), bias, outer.weight[0].numpy().copy(), np.float32(outer.bias.item())
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, batch: NodeBatch) -> NodeRows:
        count = len(batch.nodes)
        final = np.empty((count, self._embedding.shape[1]), np.float32)
        logprobs = np.empty((count, self.vocabulary_size), np.float32)
        tokens = batch.tokens.clip(0, len(self._embedding) - 1)  # compiled code does not look at bounds
        small_llama.forward(
            tokens, np.arange(count, dtype=np.int32), batch.slots, batch.positions, batch.paths, self._embedding,
            self._weights, self._starts, self._sizes, *self._lanes, *self._angles, self._epsilon, self._mask,
            seen(batch.kv), final, logprobs,
        )  # fmt: skip
        values = None
        if batch.with_values:
            values = np.empty(count, np.float32)
            small_llama.value_of(final, self._gain, *self._value_head, values)
        return NodeRows(slice(None), logprobs, None, values)

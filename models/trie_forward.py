"""How new nodes of a token trie get their log-probabilities and values: three forwards behind one contract.

`LlamaForward` computes a small Llama node by node: keys and values of ancestors are read where they lie in the trie's
arena, so that a wave of nodes of any depths is one batch without padding. `CausalForward` (`models.causal_forward`) does so for
any causal LM through transformers' own layers. `PrefixForward` runs what neither serves over whole prefixes: slow and correct.

A forward holds a *snapshot*: `refresh()` copies the weights, and until the next one training does not show. Legend: B nodes
of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward size, V vocabulary.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from models import attention_bf16, block_kernels, tile_kernels
from models.causal_forward import CausalForward, UnservedError, final_hidden
from models.choices import WHOLE, RowFiller
from models.packed_linear import seen
from models.short_attention import head_block
from tasks.base import BOS_ID, PAD_ID, UNK_ID

if TYPE_CHECKING:
    from models.trie import TokenTrie

NEVER_SAMPLED = (PAD_ID, BOS_ID, UNK_ID)
_WARNED: set[str] = set()


class TrieForward(Protocol):
    """Fills the rows and values of trie nodes."""

    vocabulary_size: int  # V
    row_width: int  # W, next tokens that a row keeps
    keeps_some: bool  # False: W = V and a row holds every token in order; True: the W most probable, in `trie.choices`
    kv_shape: tuple[int, int]  # (layers, G E) of keys, and as many of values, that a node keeps; zeros: none
    kv_dtype: torch.dtype
    device: torch.device  # of keys and values
    max_positions: int  # longest path, in tokens
    batch_rows: int  # nodes that it likes to get at once

    def refresh(self) -> None:
        """Take the weights as they now are. The nodes computed before no longer fit: the trie is cleared with it."""

    def __call__(
        self, trie: TokenTrie, nodes: np.ndarray, paths: np.ndarray, wanted: np.ndarray, with_values: bool
    ) -> None:
        """Compute `nodes` int32 [B], ascending, whose ancestors are computed or among them.

        `paths` int32 [B, T]: slots of keys and values along each path. Fills `logprobs`, `has_row` (and `choices`) at least
        where `wanted` bool [B], and there the values unless `with_values` is False.
        """


def forward_for(
    model, vocabulary_size: int | None = None, masked: tuple[int, ...] = NEVER_SAMPLED, **settings
) -> TrieForward:
    """The fastest forward that is exact for `model` (a `PolicyValueLM`: `trunk` and `value_head`).

    `vocabulary_size`: tokens that may be sampled; ids above it are padding of the embedding. None: all of the trunk's.
    The policy is pi(token | path, token not in `masked`): masked logits are dropped *before* normalising. `settings` go to
    `CausalForward`, but for `autocast` (the type of the products, else the model's `inference_dtype`), which both know. A trunk
    that neither can serve is run over whole prefixes, which is slow, and a warning says so once.
    """
    size = vocabulary_size or model.trunk.config.get_text_config().vocab_size
    if getattr(model, "inference_dtype", None) is not None:
        settings = {"autocast": model.inference_dtype} | settings
    if is_plain_llama(model.trunk) and size <= WHOLE and settings.keys() <= {"autocast"}:
        return LlamaForward(model, size, masked, **settings)
    key = (size, masked, *sorted(settings.items()))
    made = vars(model).setdefault("_forwards", {})
    if key in made:
        made[key].refresh()
        return made[key]
    try:
        made[key] = CausalForward(model, size, masked, **settings)
        return made[key]
    except UnservedError as error:
        kind = type(model.trunk).__name__
        if kind not in _WARNED:
            _WARNED.add(kind)
            warnings.warn(f"{error}: every step reads its whole prefix anew, which is slow", UserWarning, stacklevel=2)
        return PrefixForward(model, size, masked)


def is_plain_llama(trunk: torch.nn.Module) -> bool:
    """True for a float32 Llama on the CPU with default rotary embedding, silu and no biases."""
    if type(trunk) is not LlamaForCausalLM:
        return False
    config: Any = trunk.config  # its fields are declared optional, and filled in when it is made
    weights = trunk.get_output_embeddings().weight
    return (
        config.rope_parameters["rope_type"] == "default"
        and config.rope_parameters.get("partial_rotary_factor", 1.0) == 1.0
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
        and config.head_dim % 2 == 0
        and weights.dtype == torch.float32
        and weights.device.type == "cpu"
    )


class LlamaForward:
    """A Llama forward for trie nodes; equal to the trunk's own on every path up to rounding."""

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
        wanted = autocast == torch.bfloat16 and attention_bf16.AVAILABLE
        self._pairs = wanted and not any(size % 2 for size in even)
        self.kv_dtype = torch.bfloat16 if self._pairs else torch.float32
        self._sizes = (heads, config.num_key_value_heads, config.intermediate_size)
        self._lanes = (0,) * head_block(heads), (0,) * config.head_dim
        self._epsilon = np.float32(config.rms_norm_eps)
        inverse_frequency = model.trunk.model.rotary_emb.inv_freq.double().numpy()
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
        self._gain = trunk.model.norm.weight.detach().clone()
        matrices.append(trunk.get_output_embeddings().weight[: self.vocabulary_size] * self._gain)
        blocks = [block_kernels.packed(matrix.numpy(), self._pairs) for matrix in matrices]
        starts = np.cumsum([0, *map(len, blocks), 0, 0])
        self._starts = starts.reshape(-1, 4)  # [layers + 1, 4]; the logits' is the first of the last row
        self._weights = np.concatenate(blocks)
        self._value_head = copy.deepcopy(self._model.value_head)

    @torch.no_grad()
    def __call__(
        self, trie: TokenTrie, nodes: np.ndarray, paths: np.ndarray, wanted: np.ndarray, with_values: bool
    ) -> None:
        final = np.empty((len(nodes), self._embedding.shape[1]), np.float32)
        tokens = trie.tokens[nodes].clip(0, len(self._embedding) - 1)  # compiled code does not look at bounds
        tile_kernels.forward(
            tokens, nodes, trie.kv.slot_of[nodes], trie.depths[nodes], paths, self._embedding, self._weights,
            self._starts, self._sizes, *self._lanes, *self._angles, self._epsilon, self._mask, seen(trie.kv.kv),
            final, trie.logprobs,
        )  # fmt: skip
        trie.has_row[nodes] = True
        if with_values:
            value_logits = self._value_head(torch.from_numpy(final) * self._gain)
            trie.values[nodes] = torch.sigmoid(value_logits).reshape(-1).numpy()


class PrefixForward:
    """Any causal LM: each new path is run from its first token, once for all the new nodes on it."""

    kv_shape = (0, 0)
    kv_dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, model, vocabulary_size: int, masked: tuple[int, ...] = NEVER_SAMPLED, batch_rows: int = 64):
        config = model.trunk.config.get_text_config()
        self.vocabulary_size = vocabulary_size
        self._filler = RowFiller(vocabulary_size, masked)
        self.row_width, self.keeps_some = self._filler.width, self._filler.keeps_some
        self.max_positions = getattr(config, "max_position_embeddings", None) or 1 << 20
        self.batch_rows = batch_rows
        self._source = model
        self.refresh()

    def refresh(self) -> None:
        self._model = copy.deepcopy(self._source).eval()

    @torch.no_grad()
    def __call__(
        self, trie: TokenTrie, nodes: np.ndarray, paths: np.ndarray, wanted: np.ndarray, with_values: bool
    ) -> None:
        is_new = np.zeros(trie.n_nodes, np.bool_)
        is_new[nodes] = True
        inner = trie.parents[nodes]
        has_heir = np.zeros(trie.n_nodes, np.bool_)
        has_heir[inner[inner >= 0]] = True
        lines = [trie.path(int(end)) for end in nodes[~has_heir[nodes]]]  # every node is one of these or an ancestor
        tokens_BL = torch.full((len(lines), max(map(len, lines))), PAD_ID)
        for row, line in zip(tokens_BL, lines, strict=True):
            row[: len(line)] = torch.from_numpy(trie.tokens[line].astype(np.int64))
        device = next(self._model.parameters()).device
        mask_BL = torch.arange(tokens_BL.shape[1]) < torch.tensor([[len(line)] for line in lines])
        logits_BLV, hidden_BLD = self._run(tokens_BL.to(device), mask_BL.long().to(device))
        places = [(i, t, node) for i, line in enumerate(lines) for t, node in enumerate(line) if is_new[node]]
        row, column, found = (np.array(part) for part in zip(*places, strict=True))
        at = torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)
        self._filler.fill(trie, found, logits_BLV[at])
        if with_values:
            hidden = hidden_BLD[at]
            trie.values[found] = torch.sigmoid(self._model.value_head(hidden).float()).reshape(-1).cpu().numpy()

    def _run(self, tokens_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, L, V] and final normed hidden states [B, L, D]; padding is on the right and hidden by the mask."""
        with final_hidden(self._model.trunk) as seen:
            logits = self._model.trunk(input_ids=tokens_BL, attention_mask=mask_BL, use_cache=False).logits
        return logits, seen[0]

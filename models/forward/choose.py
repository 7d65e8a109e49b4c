"""How new nodes of a token trie get their log-probabilities and values: three forwards behind one contract.

`LlamaForward` computes a small Llama node by node: keys and values of ancestors are read where they lie in the trie's
arena, so that a wave of nodes of any depths is one batch without padding. `CausalForward` (`models.forward.causal`) does so for
any causal LM through transformers' own layers. `PrefixForward` (`models.forward.prefix`) runs what neither serves over whole
prefixes: slow and correct. transformers is imported only where a model needs it: that takes seconds.

A forward holds a *snapshot*: `refresh()` copies the weights, and until the next one training does not show. Legend: B nodes
of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward size, V vocabulary.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from models.cpu import long_attention_bf16, products, small_llama
from models.cpu.packed_linear import seen
from models.cpu.short_attention import head_block
from models.files.bare_llama import PlainLlama, plain
from models.trie.rows import WHOLE
from tasks.base import BOS_ID, PAD_ID, UNK_ID

if TYPE_CHECKING:
    from models.trie.trie import TokenTrie

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
    size = vocabulary_size or len(model.trunk.get_input_embeddings().weight)
    if getattr(model, "inference_dtype", None) is not None:
        settings = {"autocast": model.inference_dtype} | settings
    if is_plain_llama(model.trunk) and size <= WHOLE and settings.keys() <= {"autocast"}:
        return LlamaForward(model, size, masked, **settings)
    from models.forward.causal import CausalForward, UnservedError

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
        from models.forward.prefix import PrefixForward

        return PrefixForward(model, size, masked)


def is_plain_llama(trunk: Any) -> bool:
    """True for a float32 Llama on the CPU whose config is `plain`."""
    if not isinstance(trunk, PlainLlama) and not _of_transformers(trunk):
        return False
    weights = trunk.get_output_embeddings().weight
    return plain(trunk.config) and weights.dtype == torch.float32 and weights.device.type == "cpu"


def _of_transformers(trunk: torch.nn.Module) -> bool:
    from transformers import LlamaForCausalLM

    return type(trunk) is LlamaForCausalLM


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
        self._gain = trunk.model.norm.weight.detach().clone()
        matrices.append(trunk.get_output_embeddings().weight[: self.vocabulary_size] * self._gain)
        blocks = [products.packed(matrix.numpy(), self._pairs) for matrix in matrices]
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
        small_llama.forward(
            tokens, nodes, trie.kv.slot_of[nodes], trie.depths[nodes], paths, self._embedding, self._weights,
            self._starts, self._sizes, *self._lanes, *self._angles, self._epsilon, self._mask, seen(trie.kv.kv),
            final, trie.logprobs,
        )  # fmt: skip
        trie.has_row[nodes] = True
        if with_values:
            value_logits = self._value_head(torch.from_numpy(final) * self._gain)
            trie.values[nodes] = torch.sigmoid(value_logits).reshape(-1).numpy()

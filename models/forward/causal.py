"""Trie nodes of any transformers causal LM: its own layers, run on one flat row of nodes, over the arena of the trie.

The model's modules compute as they stand; only attention (`models.forward.attention`) and, on a CPU, linear layers
(`models.cpu.packed_linear`) are put in their place. So every architecture whose attention goes through transformers'
`AttentionInterface` is served, with its norms, rotations, windows, soft caps and scales. What is not is told apart by a trial.

Legend: B nodes of one batch, V vocabulary.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.cpu import packed_linear
from models.forward import fused_llama
from models.forward.attention import NAME, Wave, attending
from models.trie.batch import NodeBatch, NodeRows
from models.trie.rows import KEPT, RowMaker

BATCH_ROWS = {"cpu": 64, "cuda": 512}  # nodes a batch; a CPU gains nothing beyond
TRIAL_TOLERANCE, TRIAL_TOLERANCE_LOW = 1e-3, 0.3  # root mean square, of the logits' spread: float32, types of 16 bits
_TRIAL_TOKENS = 12


class UnservedError(RuntimeError):
    """A model that cannot be run node by node. The message is one line."""


class CausalForward:
    """Implements `models.trie.batch.TrieForward` for a policy-and-value model over any trunk that passes the trial.

    On a CPU the weights are those of the last `refresh()`. On a GPU they are read in place: do not train between a `refresh()`
    and the end of what is computed after it.
    """

    def __init__(
        self,
        model,
        vocabulary_size: int | None = None,
        masked: tuple[int, ...] = (),
        *,
        batch_rows: int | None = None,
        kept: int = KEPT,
        top_p: float = 1.0,
        autocast: torch.dtype | None = None,
        compiled: bool | None = None,
        fused: bool = True,
    ):
        """`model`: a `PolicyValueLM` (`trunk` and `value_head`).

        `masked`: tokens never sampled. `kept`, `top_p`: see `models.trie.rows`. `autocast`: type of the matrix products,
        where it is not the weights' own. `compiled`: attention by the CPU kernels; None: where they can. `fused`: False runs
        transformers' own layers where `models.forward.fused_llama` could.

        Raises:
            UnservedError: the trunk does not compute the same node by node (recurrent layers, say).
        """
        self._model = model
        config: Any = model.trunk.config.get_text_config()
        self.vocabulary_size = vocabulary_size or config.vocab_size
        self._maker = RowMaker(self.vocabulary_size, masked, kept=kept, top_p=top_p)
        self.row_width, self.keeps_some = self._maker.width, self._maker.keeps_some
        self.kv_shape = _kv_shape(config)
        self.max_positions = getattr(config, "max_position_embeddings", None) or 1 << 20
        weight = model.trunk.get_input_embeddings().weight
        self.device, self.kv_dtype = weight.device, autocast or weight.dtype
        self.batch_rows = batch_rows or BATCH_ROWS.get(self.device.type, BATCH_ROWS["cuda"])
        self._autocast, self._fuses = autocast, fused
        can_compile = self.device.type == "cpu" and self.kv_dtype in packed_linear.DTYPES
        self._compiled = can_compile if compiled is None else compiled and can_compile
        self._weights: list[int] = []
        self._packs = self.device.type == "cpu" and packed_linear.can_pack()
        self.refresh()
        self._try()

    def refresh(self) -> None:
        """Take the weights as they now are; nothing to do where none has changed."""
        trunk = self._model.trunk
        if self._packs and (weights := _checksums(self._model)) == self._weights:
            return
        self._weights = weights if self._packs else []
        self._fused = None
        if self._packs and self._compiled and self._fuses and fused_llama.supports(trunk):
            self._fused = fused_llama.FusedLlama(trunk, self.kv_dtype, self.vocabulary_size)
        else:
            self._trunk = packed_linear.packed_copy(trunk, self._autocast) if self._packs else trunk
        head = self._model.value_head
        self._value_head = packed_linear.packed_copy(head) if self._packs else copy.deepcopy(head).eval()
        self._value_dtype = head.outer.weight.dtype

    @torch.inference_mode()
    def __call__(self, batch: NodeBatch) -> NodeRows:
        wave = Wave.of(batch.kv, batch.slots, batch.paths, batch.positions + 1, self._compiled)
        wanted = np.flatnonzero(batch.wanted)
        logits, hidden = self._run(batch.tokens, batch.positions, wanted, wave)
        values = None
        if batch.with_values:
            values = torch.sigmoid(self._value_head(hidden.to(self._value_dtype)).float()).cpu().numpy()
        return NodeRows(wanted, *self._maker.rows(logits), values)

    def _run(self, tokens: np.ndarray, positions: np.ndarray, asked: np.ndarray, wave: Wave) -> tuple[Tensor, Tensor]:
        """(logits, final hidden states) at the rows `asked`."""
        if self._fused is not None:
            return self._fused(tokens, positions, asked, wave)
        rows = torch.from_numpy(asked.astype(np.int64)).to(self.device)
        mixed = self._autocast is not None and not self._packs
        cast = torch.autocast(self.device.type, self._autocast) if mixed else nullcontext()
        with attending(wave), _attention(self._trunk, NAME), final_hidden(self._trunk) as seen, cast:
            out = self._trunk(
                input_ids=torch.from_numpy(tokens.astype(np.int64))[None].to(self.device),
                position_ids=torch.from_numpy(positions.astype(np.int64))[None].to(self.device),
                use_cache=False,
                logits_to_keep=rows,
            )
        return out.logits[0], seen[0][0, rows]

    @torch.inference_mode()
    def _try(self) -> None:
        """Compare a small tree with the model's own forward, once."""
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, self.vocabulary_size, _TRIAL_TOKENS).astype(np.int32)
        at = np.arange(_TRIAL_TOKENS, dtype=np.int32)
        try:
            kv = torch.zeros(
                (*self.kv_shape[:1], _TRIAL_TOKENS, 2, self.kv_shape[1]), dtype=self.kv_dtype, device=self.device
            )
            rows = np.arange(_TRIAL_TOKENS, dtype=np.int64)
            paths = np.where(at[:, None] >= at, at, 0).astype(np.int32)
            found = []
            for part in (slice(0, 8), slice(8, None)):
                wave = Wave.of(kv, at[part], paths[part], at[part] + 1, self._compiled)
                found.append(self._run(tokens[part], at[part], rows[: len(tokens[part])], wave)[0])
        except (AttributeError, TypeError, KeyError, IndexError, RuntimeError, ValueError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnservedError(f"{type(self._model.trunk).__name__} cannot run node by node ({line[:120]})") from error
        trunk = self._model.trunk
        was_training = trunk.training
        expected = trunk.eval()(input_ids=torch.from_numpy(tokens.astype(np.int64))[None].to(self.device)).logits[0]
        trunk.train(was_training)
        found, expected = (part[:, : self.vocabulary_size].float() for part in (torch.cat(found), expected))
        difference = ((found - expected).pow(2).mean().sqrt() / (expected.std() + 1e-6)).item()
        if not difference <= (TRIAL_TOLERANCE_LOW if self.kv_dtype.itemsize < 4 else TRIAL_TOLERANCE):
            raise UnservedError(
                f"{type(trunk).__name__} differs node by node: logits are off by {difference:.2g} of their spread"
            )


def _checksums(model: torch.nn.Module) -> list[int]:
    """One word a parameter, that a training step changes; 30 ms for 135 M parameters, where packing takes 600."""
    sums = []
    for parameter in model.parameters():
        data = parameter.detach().contiguous().view(-1).view(torch.uint8)
        whole = len(data) // 8 * 8
        sums.append(int(data[:whole].view(torch.int64).sum()) ^ int(data[whole:].sum()))
    return sums


def _kv_shape(config: Any) -> tuple[int, int]:
    """(layers, width) of a node's keys; (0, 0) of a model that has no attention heads."""
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 0)
    if not heads:
        return 0, 0
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, heads * size


@contextmanager
def final_hidden(trunk):
    """Yields a list to which each forward of `trunk` appends its final hidden states (after the last norm), [B, L, D]."""
    seen: list[Tensor] = []

    def keep(module, arguments, output) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    hook = trunk.base_model.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _attention(trunk, name: str):
    """Inside, `trunk` uses the attention implementation `name`."""
    configs = list({id(m.config): m.config for m in trunk.modules() if hasattr(m, "config")}.values())
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation

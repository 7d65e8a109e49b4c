"""Trie nodes of any transformers causal LM: its own layers, run on one flat row of nodes, over the arena of the trie.

The model's modules compute as they stand; only attention (`models.forward.attention`) and, on a CPU, linear layers
(`models.cpu.packed_linear`) are put in their place. So every architecture whose attention goes through transformers'
`AttentionInterface` is served, with its norms, rotations, windows, soft caps and scales. What is not is told apart by a trial.

Legend: B nodes of one batch, V vocabulary.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.cpu import packed_linear
from models.forward import fused_llama
from models.forward.attention import NAME, Wave, attending
from models.forward.trial import (
    NODES,
    UnservedError,
    attends_outside,
    max_positions,
    on_trial,
    own_state,
    shake,
    short_of,
    turning_point,
)
from models.net.output_rule import base_of
from models.trie.batch import NodeBatch, NodeRows
from models.trie.rows import KEPT, RowMaker

BATCH_ROWS = {"cpu": 64, "cuda": 512}  # nodes a batch; a CPU gains nothing beyond
_MISFITS = (
    AttributeError,
    TypeError,
    KeyError,
    IndexError,
    RuntimeError,
    ValueError,
)  # of layers that expect a sequence
_HIDDEN: ContextVar[list[Tensor]] = ContextVar("hidden")  # of the forward under way in this thread


class CausalForward:
    """Implements `models.trie.batch.TrieForward` for a policy-and-value model over any trunk that passes the trial.

    Threads may share one. On a CPU the weights are those of the last `refresh()`. On a GPU they are read in place: do not train
    between a `refresh()` and the end of what is computed after it.
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
        trunk = model.trunk
        if (state := own_state(trunk)) is not None:
            raise UnservedError(f"{type(trunk).__name__} has layers that are no plain attention ({state})")
        self._model = model
        config: Any = trunk.config.get_text_config()
        self.vocabulary_size = vocabulary_size or config.vocab_size
        self._maker = RowMaker(self.vocabulary_size, masked, kept=kept, top_p=top_p)
        self.row_width, self.keeps_some = self._maker.width, self._maker.keeps_some
        self.kv_shape = _kv_shape(config)
        self.max_positions = min(max_positions(config), turning_point(config))
        weight = trunk.get_input_embeddings().weight
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
        trunk, head, weights = self._model.trunk, self._model.value_head, []
        if self._packs and (weights := _checksums(self._model)) == self._weights:
            return
        if self._packs and self._compiled and self._fuses and fused_llama.supports(trunk):
            served = fused_llama.FusedLlama(trunk, self.kv_dtype, self.vocabulary_size)
        else:
            served = watched(packed_linear.packed_copy(trunk, self._autocast) if self._packs else _twin(trunk))
            _attend_by(served, NAME)
        value_head = packed_linear.packed_copy(head) if self._packs else copy.deepcopy(head).eval()
        self._served, self._weights = (served, value_head), weights  # at once: other threads may be computing
        self._value_dtype = head.outer.weight.dtype

    @torch.inference_mode()
    def __call__(self, batch: NodeBatch) -> NodeRows:
        wave = Wave.of(batch.kv, batch.slots, batch.paths, batch.positions + 1, self._compiled)
        wanted = np.flatnonzero(batch.wanted)
        served, value_head = self._served
        logits, hidden = self._run(served, batch.tokens, batch.positions, wanted, wave)
        values = None
        if batch.with_values:
            values = torch.sigmoid(value_head(hidden.to(self._value_dtype)).float()).cpu().numpy()
        return NodeRows(wanted, *self._maker.rows(logits), values)

    def _run(self, served, tokens: np.ndarray, positions: np.ndarray, asked: np.ndarray, wave: Wave):
        """(logits, final hidden states) at the rows `asked`."""
        if isinstance(served, fused_llama.FusedLlama):
            return served(tokens, positions, asked, wave)
        rows = torch.from_numpy(asked.astype(np.int64)).to(self.device)
        with attending(wave), self._cast(self._autocast is not None and not self._packs):
            parts = logits_and_hidden(
                served,
                input_ids=torch.from_numpy(tokens.astype(np.int64))[None].to(self.device),
                position_ids=torch.from_numpy(positions.astype(np.int64))[None].to(self.device),
                logits_to_keep=rows,
            )
        return [part[0] if part.shape[1] == len(rows) else part[0, rows] for part in parts]  # some keep all

    def _cast(self, wanted: bool):
        return torch.autocast(self.device.type, self._autocast) if wanted else nullcontext()

    @torch.inference_mode()
    def _try(self) -> None:
        """Put the model on trial, once."""
        twin, (served, _), windows = _twin(self._model.trunk), self._served, {}
        kv = torch.zeros((self.kv_shape[0], NODES, 2, self.kv_shape[1]), dtype=self.kv_dtype, device=self.device)
        embedding = twin.get_input_embeddings()

        def run(tokens, positions, slots, paths, lengths) -> Tensor:
            wave = Wave.of(kv, slots, paths, lengths, self._compiled)
            logits, _ = self._run(served, tokens, positions, np.arange(len(tokens)), wave)
            windows.update(wave.windows)
            return logits

        def whole(tokens: Tensor, positions: Tensor, shaken: bool) -> Tensor:
            inputs = {"input_ids": tokens.to(self.device), "position_ids": positions.to(self.device)}
            hook = embedding.register_forward_hook(shake(self.kv_dtype)) if shaken else None
            with self._cast(self._autocast is not None):
                logits = twin(**inputs, use_cache=False).logits
            if hook is not None:
                hook.remove()
            return logits

        try:
            found = on_trial(run, whole, self.vocabulary_size, self.max_positions)
        except _MISFITS as error:
            said = str(error).splitlines() if isinstance(error, ValueError) else ()
            reason = said[0][:120] if said else f"its code fails on a row of nodes ({type(error).__name__})"
            if not attends_outside(twin):
                reason = "its layers compute attention in code of their own"
            raise UnservedError(f"{type(twin).__name__} cannot run node by node: {reason}") from error
        if not isinstance(served, fused_llama.FusedLlama):
            found = short_of(twin.config, windows) or found
        if found is not None:
            raise UnservedError(f"{type(twin).__name__} cannot run node by node: {found}")


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


def watched(trunk: Any) -> Any:
    """`trunk`, which `logits_and_hidden` can run from now on. Safe for threads."""

    def after_base(module, arguments, output) -> None:
        hidden = output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", None)
        if hidden is not None:
            _HIDDEN.get([]).append(hidden)

    def before_head(module, arguments) -> None:
        _HIDDEN.get([]).append(arguments[0])

    base_of(trunk).register_forward_hook(after_base)
    trunk.get_output_embeddings().register_forward_pre_hook(before_head)
    return trunk


def logits_and_hidden(trunk: Any, **inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, L, V] and final hidden states (after the last norm) [B, L, D] of a `watched` trunk.

    Hidden states are those of the base model, or what the output layer reads where a trunk never calls its base (OPT, BART).
    """
    token = _HIDDEN.set(seen := [])
    try:
        logits = trunk(use_cache=False, **inputs).logits
    finally:
        _HIDDEN.reset(token)
    return logits, seen[0]


def _twin(trunk: Any) -> Any:
    """A copy of the modules and configs over the same parameters, in eval mode."""
    return copy.deepcopy(trunk, memo={id(parameter): parameter for parameter in trunk.parameters()}).eval()


def _attend_by(trunk: Any, name: str) -> None:
    """From now on `trunk` uses the attention implementation `name`."""
    for module in trunk.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = name

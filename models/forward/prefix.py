"""Trie nodes of any causal LM over whole prefixes: slow and correct."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from models.forward.causal import final_hidden
from models.trie.batch import NEVER_SAMPLED, NodeBatch, NodeRows
from models.trie.rows import RowMaker
from tasks.base import PAD_ID


class PrefixForward:
    """Any causal LM: each new path is run from its first token, once for all the new nodes on it."""

    kv_shape = (0, 0)
    kv_dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, model, vocabulary_size: int, masked: tuple[int, ...] = NEVER_SAMPLED, batch_rows: int = 64):
        config = model.trunk.config.get_text_config()
        self.vocabulary_size = vocabulary_size
        self._maker = RowMaker(vocabulary_size, masked)
        self.row_width, self.keeps_some = self._maker.width, self._maker.keeps_some
        self.max_positions = getattr(config, "max_position_embeddings", None) or 1 << 20
        self.batch_rows = batch_rows
        self._source = model
        self.refresh()

    def refresh(self) -> None:
        self._model = copy.deepcopy(self._source).eval()

    @torch.no_grad()
    def __call__(self, batch: NodeBatch) -> NodeRows:
        assert batch.prefixes is not None
        rows = np.arange(len(batch.nodes))
        inner = batch.paths[rows, np.maximum(batch.positions - 1, 0)]
        ends = np.flatnonzero(
            ~np.isin(batch.nodes, inner[batch.positions > 0])
        )  # every node is one of these or an ancestor
        lengths = batch.positions[ends] + 1
        tokens_BL = torch.full((len(ends), int(lengths.max())), PAD_ID)
        for row, end, length in zip(tokens_BL, ends, lengths, strict=True):
            row[:length] = torch.from_numpy(batch.prefixes[end, :length].astype(np.int64))
        device = next(self._model.parameters()).device
        mask_BL = torch.arange(tokens_BL.shape[1]) < torch.from_numpy(lengths)[:, None]
        logits_BLV, hidden_BLD = self._run(tokens_BL.to(device), mask_BL.long().to(device))
        row_of = dict(zip(batch.nodes.tolist(), rows, strict=True))
        places = {
            row_of[node]: (i, t)
            for i, (end, length) in enumerate(zip(ends, lengths, strict=True))
            for t, node in enumerate(batch.paths[end, :length].tolist())
            if node in row_of
        }
        line, position = (torch.tensor(part, device=device) for part in zip(*places.values(), strict=True))
        values = None
        if batch.with_values:
            hidden = hidden_BLD[line, position]
            values = torch.sigmoid(self._model.value_head(hidden).float()).reshape(-1).cpu().numpy()
        return NodeRows(np.array(list(places)), *self._maker.rows(logits_BLV[line, position]), values)

    def _run(self, tokens_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, L, V] and final normed hidden states [B, L, D]; padding is on the right and hidden by the mask."""
        with final_hidden(self._model.trunk) as seen:
            logits = self._model.trunk(input_ids=tokens_BL, attention_mask=mask_BL, use_cache=False).logits
        return logits, seen[0]

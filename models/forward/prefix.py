"""Trie nodes of any causal LM over whole prefixes: slow and correct."""

from __future__ import annotations

import copy
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from models.forward.causal import logits_and_hidden, watched
from models.forward.trial import max_positions, turning_point
from models.trie.batch import NEVER_SAMPLED, NodeBatch, NodeRows
from models.trie.rows import RowMaker
from tasks.base import PAD_ID


class PrefixForward:
    """Any causal LM: each new path is run from its first token, once for all the new nodes on it. Threads take turns."""

    kv_shape = (0, 0)
    kv_dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, model, vocabulary_size: int, masked: tuple[int, ...] = NEVER_SAMPLED, batch_rows: int = 64):
        config = model.trunk.config.get_text_config()
        self.vocabulary_size = vocabulary_size
        self._maker = RowMaker(vocabulary_size, masked)
        self.row_width, self.keeps_some = self._maker.width, self._maker.keeps_some
        self.max_positions, self._turning_point = max_positions(config), turning_point(config)
        self.batch_rows = batch_rows
        self._source, self._turn = model, Lock()
        self.refresh()

    def refresh(self) -> None:
        model = copy.deepcopy(self._source).eval()
        watched(model.trunk)
        self._model = model

    @torch.no_grad()
    def __call__(self, batch: NodeBatch) -> NodeRows:
        far = batch.positions >= self._turning_point  # run apart: the longest text of a run sets the angles of all
        with self._turn:
            parts = [self._computed(batch, np.flatnonzero(side)) for side in (~far, far) if side.any()]
        at, logits, hidden = zip(*parts, strict=True)
        values = None
        if batch.with_values:
            values = torch.sigmoid(self._model.value_head(torch.cat(hidden)).float()).reshape(-1).cpu().numpy()
        return NodeRows(np.concatenate(at), *self._maker.rows(torch.cat(logits)), values)

    def _computed(self, batch: NodeBatch, rows: np.ndarray) -> tuple[np.ndarray, Tensor, Tensor]:
        """(`rows` [R] of the batch in some order, their logits [R, V], their hidden states [R, D])."""
        assert batch.prefixes is not None
        nodes, positions = batch.nodes[rows], batch.positions[rows]
        inner = batch.paths[rows, np.maximum(positions - 1, 0)]
        ends = rows[~np.isin(nodes, inner[positions > 0])]  # every node is one of these or an ancestor
        lengths = batch.positions[ends] + 1
        tokens_BL = torch.full((len(ends), int(lengths.max())), PAD_ID)
        for row, end, length in zip(tokens_BL, ends, lengths, strict=True):
            row[:length] = torch.from_numpy(batch.prefixes[end, :length].astype(np.int64))
        device = next(self._model.parameters()).device
        mask_BL = torch.arange(tokens_BL.shape[1]) < torch.from_numpy(lengths)[:, None]
        logits_BLV, hidden_BLD = logits_and_hidden(
            self._model.trunk, input_ids=tokens_BL.to(device), attention_mask=mask_BL.long().to(device)
        )
        row_of = dict(zip(nodes.tolist(), rows.tolist(), strict=True))
        places = {
            row_of[node]: (i, t)
            for i, (end, length) in enumerate(zip(ends, lengths, strict=True))
            for t, node in enumerate(batch.paths[end, :length].tolist())
            if node in row_of
        }
        line, position = (torch.tensor(part, device=device) for part in zip(*places.values(), strict=True))
        return np.array(list(places)), logits_BLV[line, position], hidden_BLD[line, position]

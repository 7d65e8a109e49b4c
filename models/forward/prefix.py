"""Trie nodes of any causal LM over whole prefixes: slow and correct."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.forward.causal import final_hidden
from models.forward.choose import NEVER_SAMPLED
from models.trie.rows import RowFiller
from tasks.base import PAD_ID

if TYPE_CHECKING:
    from models.trie.trie import TokenTrie


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

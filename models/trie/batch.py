"""What goes between a trie and the model: a batch of nodes in, their rows of next tokens and values back.

A forward never sees the trie. Legend: B nodes of one batch, T tokens of its longest path, R nodes that get a row, V vocabulary,
W tokens that a row keeps, G key-value heads, E head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from tasks.base import BOS_ID, PAD_ID, UNK_ID

NEVER_SAMPLED = (PAD_ID, BOS_ID, UNK_ID)


@dataclass(frozen=True, slots=True)
class NodeBatch:
    """Nodes in topological order whose ancestors are computed or among them."""

    nodes: np.ndarray  # int32 [B], ascending
    tokens: np.ndarray  # int32 [B]
    positions: np.ndarray  # int32 [B], of the token, 0 at a root
    slots: np.ndarray  # int32 [B], where in `kv` the node's keys and values go; its own id where none are kept
    paths: np.ndarray  # int32 [B, T], slots of each path from its root up to the node's position
    prefixes: np.ndarray | None  # int32 [B, T], tokens of each path, for a forward that keeps no keys and values
    kv: torch.Tensor  # keys and values of the trie's arena, read and written in place
    wanted: np.ndarray  # bool [B], nodes that must get a row
    with_values: bool  # and a value


@dataclass(frozen=True, slots=True)
class NodeRows:
    """What a forward gives back, at least of the nodes that were wanted."""

    at: np.ndarray | slice  # int64 [R], which of the batch
    logprobs: np.ndarray  # float32 [R, W], log pi(next token | path); -inf: never sampled
    choices: np.ndarray | None  # int32 [R, W], the tokens that `logprobs` are of; None: all of V in order
    values: np.ndarray | None  # float32 [R], P(solved) after the node's token; None: nobody asked


class TrieForward(Protocol):
    """Computes rows and values of trie nodes from a snapshot of the weights."""

    vocabulary_size: int  # V
    row_width: int  # W, next tokens that a row keeps
    keeps_some: bool  # False: W = V and a row holds every token in order; True: the W most probable
    kv_shape: tuple[int, int]  # (layers, G E) of keys, and as many of values, that a node keeps; zeros: none
    kv_dtype: torch.dtype
    device: torch.device  # of keys and values
    max_positions: int  # longest path, in tokens
    batch_rows: int  # nodes that it likes to get at once

    def refresh(self) -> None:
        """Take the weights as they now are. The nodes computed before no longer fit: the trie is cleared with it."""

    def __call__(self, batch: NodeBatch) -> NodeRows:
        """Compute the nodes of a batch; their keys and values are left in `batch.kv`."""

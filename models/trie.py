"""The token trie: every token prefix that was ever computed, with its keys and values, log-probabilities and value.

No prefix is computed twice: a node that exists is returned for nothing, and all missing nodes of a call are one forward.
Paths share what they have in common, so prompts that open alike are prefilled once and siblings attend to one prefix.

Node ids are int32 and grow in topological order; `NO_NODE` is the parent of a root. Legend: B nodes of one call, S tokens
of a span, V vocabulary, cap nodes that the arena holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models import kernels
from models.kernels import NO_NODE
from models.trie_forward import TrieForward


class TrieError(ValueError):
    """A path that the model cannot hold. The message is one line and names the mend."""


class TokenTrie:
    """An arena of token prefixes. Doubles when full; `clear` keeps the memory and forgets the rest."""

    parents: np.ndarray  # int32 [cap]
    tokens: np.ndarray  # int32 [cap]
    depths: np.ndarray  # int32 [cap], position of the node's token, 0 at a root
    kv: np.ndarray  # float32 [layers, cap, 2, G * E], rotated keys and values of the node's token
    logprobs: (
        np.ndarray
    )  # float32 [cap, V], log pi(next token | path); never sampled tokens are -inf, the rest sums to 1
    values: np.ndarray  # float32 [cap], P(solved) after the node's token; NaN where nobody asked for it

    def __init__(self, forward: TrieForward, *, capacity: int | None = None):
        """`capacity`: nodes to hold at first. None: what fits 256 MiB, at most 2**17; memory is touched only when used."""
        self.forward = forward
        self.generated_tokens = 0  # nodes computed by `extend` since the trie was made
        self.prefilled_tokens = 0  # nodes computed by `prefill`
        self.n_nodes = 0
        bytes_per_node = 8 * forward.kv_shape[0] * forward.kv_shape[1] + 4 * forward.vocabulary_size + 16
        self._allocate(capacity or max(1, min(1 << 17, (1 << 28) // bytes_per_node)))

    def clear(self) -> None:
        """Forget every node and take the model's weights as they now are. Counters go on."""
        self.n_nodes = 0
        self._table[:] = NO_NODE
        self.forward.refresh()

    def extend(self, parents: np.ndarray, tokens: np.ndarray, *, with_values: bool = True) -> np.ndarray:
        """Nodes of children (parents [B], tokens [B]), int32 [B]; the missing ones are computed in one forward.

        `with_values`: False inside a step, where no value is read.

        Raises:
            TrieError: a path would be longer than the model's positions.
        """
        before = self.n_nodes
        ends = self._walk(parents, np.asarray(tokens, np.int32)[:, None], np.ones(len(tokens), np.int32), with_values)
        self.generated_tokens += self.n_nodes - before
        return ends

    def prefill(self, spans: Sequence[Sequence[int]], parents: np.ndarray | None = None) -> np.ndarray:
        """Last nodes of token `spans` (B, ragged) read on from `parents` [B], or from the top if None. int32 [B].

        One forward for all; a prefix that spans share with each other or with the trie is computed once.

        Raises:
            TrieError: a path would be longer than the model's positions.
        """
        if parents is None:
            parents = np.full(len(spans), NO_NODE, np.int32)
        lengths = np.array([len(span) for span in spans], np.int32)
        padded = np.zeros((len(spans), max(lengths, default=0)), np.int32)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.fromiter(
            (token for span in spans for token in span), np.int32, count=int(lengths.sum())
        )
        before = self.n_nodes
        ends = self._walk(parents, padded, lengths)
        self.prefilled_tokens += self.n_nodes - before
        return ends

    def path(self, node: int) -> np.ndarray:
        """Nodes from the root to `node`, int64 [depth + 1]."""
        out = np.empty((1, int(self.depths[node]) + 1), np.int32)
        kernels.ancestors(self.parents, self.depths, node, out)
        return out[0].astype(np.int64)

    def _walk(
        self, parents: np.ndarray, spans: np.ndarray, lengths: np.ndarray, with_values: bool = True
    ) -> np.ndarray:
        self._reserve(self.n_nodes + int(lengths.sum()))
        first = self.n_nodes
        ends = np.empty(len(spans), np.int32)
        parents = np.ascontiguousarray(parents, np.int32)
        last = kernels.insert_spans(
            self._table, self.parents, self.tokens, self.depths, first, parents, spans, lengths, ends
        )
        if last > first:
            longest = int(self.depths[first:last].max()) + 1
            if longest > self.forward.max_positions:
                self._rebuild_table()  # the new nodes were never computed: drop them
                raise TrieError(
                    f"a path of {longest} tokens does not fit the model's {self.forward.max_positions} positions: "
                    "give the model more positions or the task fewer steps"
                )
            self.n_nodes = last
            self.forward(self, first, last, with_values)
        if with_values:
            for node in np.unique(ends[np.isnan(self.values[ends])]).tolist():  # met before as the inside of a step
                self.forward(self, node, node + 1, True)
        return ends

    def _reserve(self, nodes: int) -> None:
        """Grow by doubling until `nodes` fit."""
        if nodes <= len(self.parents):
            return
        kept = (self.parents, self.tokens, self.depths, self.logprobs, self.values, *self.kv)
        capacity = len(self.parents)
        while capacity < nodes:
            capacity *= 2
        self._allocate(capacity)
        grown = (self.parents, self.tokens, self.depths, self.logprobs, self.values, *self.kv)
        for new, old in zip(grown, kept, strict=True):
            new[: self.n_nodes] = old[: self.n_nodes]
        self._rebuild_table()

    def _allocate(self, capacity: int) -> None:
        layers, width = self.forward.kv_shape
        self.parents, self.tokens, self.depths = (np.empty(capacity, np.int32) for _ in range(3))
        self.kv = np.empty((layers, capacity, 2, width), np.float32)
        self.logprobs = np.empty((capacity, self.forward.vocabulary_size), np.float32)
        self.values = np.empty(capacity, np.float32)
        self._table = np.full(1 << (2 * capacity - 1).bit_length(), NO_NODE, np.int32)  # at most half full

    def _rebuild_table(self) -> None:
        self._table[:] = NO_NODE
        kernels.rehash(self._table, self.parents, self.tokens, self.n_nodes)

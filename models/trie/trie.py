"""The token trie: every token prefix that was ever computed, with its keys and values, log-probabilities and value.

No prefix is computed twice: a node that exists is returned for nothing, and all missing nodes of a call are one forward.
Paths share what they have in common, so prompts that open alike are prefilled once and siblings attend to one prefix.

Node ids are int32 and grow in topological order; `NO_NODE` is the parent of a root. Legend: B nodes of one call, S tokens
of a span, V vocabulary, cap nodes that the arena holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.trie import kernels
from models.trie.arena import KVArena
from models.trie.batch import NodeBatch, TrieForward
from models.trie.kernels import NO_NODE


class NotFiniteError(RuntimeError):
    """A policy whose numbers are none. One line."""


class TrieError(ValueError):
    """A path that the model cannot hold. The message is one line and names the mend."""


class TokenTrie:
    """An arena of token prefixes. Doubles when full; `clear` keeps the memory and forgets the rest."""

    parents: np.ndarray  # int32 [cap]
    tokens: np.ndarray  # int32 [cap]
    depths: np.ndarray  # int32 [cap], position of the node's token, 0 at a root
    logprobs: np.ndarray  # float32 [cap, W], log pi(next token | path); -inf: never sampled
    choices: np.ndarray  # int32 [cap, W], the tokens that `logprobs` are of; [1, V] in order where all of them are kept
    has_row: np.ndarray  # bool [cap], `logprobs` of the node are known
    values: np.ndarray  # float32 [cap], P(solved) after the node's token; NaN where nobody asked for it

    def __init__(self, forward: TrieForward, *, capacity: int | None = None, kv_bytes: int | None = None):
        """`capacity`: nodes to hold at first. None: what fits 256 MiB, at most 2**17; memory is touched only when used.
        `kv_bytes`: budget of keys and values; beyond it those used longest ago are evicted, and computed again when needed.
        """
        self.forward = forward
        self.generated_tokens = 0  # nodes computed by `extend` since the trie was made
        self.prefilled_tokens = 0  # nodes computed by `prefill`
        self.recomputed_tokens = 0  # nodes computed again after an eviction
        self.n_nodes = 0
        self.kv = KVArena(forward.kv_shape, dtype=forward.kv_dtype, device=forward.device, budget=kv_bytes)
        bytes_per_node = self.kv.bytes_per_node + 8 * forward.row_width + 32
        self._first_capacity = capacity or max(1, min(1 << 17, (1 << 28) // bytes_per_node))
        self._allocate(self._first_capacity)
        self.kv.reserve(len(self.parents))

    @property
    def has_first_size(self) -> bool:
        """Whether it holds the memory that it was made with, and no more."""
        return len(self.parents) == self._first_capacity

    def clear(self) -> None:
        """Forget every node and take the model's weights as they now are. Counters go on."""
        self.n_nodes = 0
        self._table[:] = NO_NODE
        self.kv.clear()
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
        out = np.empty(int(self.depths[node]) + 1, np.int32)
        kernels.ancestors(self.parents, self.depths, node, out)
        return out.astype(np.int64)

    def logprobs_of(self, nodes: np.ndarray | Sequence[int], tokens: np.ndarray) -> np.ndarray:
        """float32 [B, K]: log pi of `tokens` int [B, K], or [K] for all alike, after each of `nodes` [B]; -inf where a row does
        not hold one.
        """
        at = np.asarray(nodes)
        tokens = np.broadcast_to(tokens, (len(at), np.shape(tokens)[-1]))
        if not self.forward.keeps_some:
            return self.logprobs[at[:, None], tokens]
        held = self.choices[at][:, None] == tokens[:, :, None]
        return np.where(held, self.logprobs[at][:, None], np.float32(-np.inf)).max(2)

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
            if longest > min(self.forward.max_positions, self.kv.room):
                self._rebuild_table()  # the new nodes were never computed: drop them
                raise TrieError(self._too_long(longest))
            self.n_nodes = last
            self.has_row[first:last] = False
            self.values[first:last] = np.nan
            wanted = np.zeros(last - first, np.bool_)
            wanted[ends[ends >= first] - first] = True
            self._compute(np.arange(first, last, dtype=np.int32), wanted, with_values)
        lacking = ~self.has_row[ends]  # met before as the inside of a span
        if with_values:
            lacking |= np.isnan(self.values[ends])  # or of a step
        if lacking.any():
            nodes = np.unique(ends[lacking])
            self._compute(nodes, np.ones(len(nodes), np.bool_), with_values)
        return ends

    def _compute(self, nodes: np.ndarray, wanted: np.ndarray, with_values: bool) -> None:
        """Run the forward over `nodes` int32 [N], ascending, a batch at a time; rows of logits only where `wanted`.

        Ancestors that were evicted are computed again in the same batches.
        """
        rows = self.forward.batch_rows
        if self.kv.limit is None:
            self.kv.place(nodes, self._marks, 0)
            for i in range(0, len(nodes), rows):
                self._batch(nodes[i : i + rows], wanted[i : i + rows], with_values)
            return
        at = 0
        while at < len(nodes):
            stamp = self.kv.tick()
            part = nodes[at : at + rows]
            todo = np.empty(self.n_nodes, np.int32)
            taken, count = kernels.needed(self.parents, self.kv.slot_of, part, self._marks, stamp, self.kv.limit, todo)
            todo = np.sort(todo[:count])
            self.kv.place(todo, self._marks, stamp)
            is_new = np.isin(todo, part[:taken], assume_unique=True)
            rows_wanted = np.zeros(count, np.bool_)
            rows_wanted[is_new] = wanted[at : at + taken]
            self.recomputed_tokens += count - taken
            for i in range(0, count, rows):
                self._batch(todo[i : i + rows], rows_wanted[i : i + rows], with_values)
            at += taken

    def _batch(self, nodes: np.ndarray, wanted: np.ndarray, with_values: bool) -> None:
        positions = self.depths[nodes]
        paths = np.zeros((len(nodes), int(positions.max()) + 1), np.int32)
        keeps = bool(self.kv.bytes_per_node)
        slot_of = self.kv.slot_of if keeps else np.arange(self.n_nodes, dtype=np.int32)
        uses = self.kv.uses if keeps else np.zeros(self.n_nodes, self.kv.uses.dtype)
        kernels.slots_of_paths(self.parents, self.depths, slot_of, nodes, uses, self.kv.clock, paths)
        prefixes = None if keeps else self.tokens[paths]
        rows = self.forward(
            NodeBatch(
                nodes, self.tokens[nodes], positions, slot_of[nodes], paths, prefixes, self.kv.kv, wanted, with_values
            )
        )
        if np.isnan(rows.logprobs).any() or (with_values and rows.values is not None and np.isnan(rows.values).any()):
            raise NotFiniteError(
                "the policy computed NaN in place of a probability or a value: its weights are damaged, or its numbers are too "
                "large for float16 (take dtype=float32 or bfloat16)"
            )
        at = nodes[rows.at]
        self.logprobs[at] = rows.logprobs
        if rows.choices is not None:
            self.choices[at] = rows.choices
        if rows.values is not None:
            self.values[at] = rows.values
        self.has_row[at] = True

    def _too_long(self, length: int) -> str:
        if length > self.forward.max_positions:
            return (
                f"a path of {length} tokens does not fit the model's {self.forward.max_positions} positions: "
                "give the model more positions or the task fewer steps"
            )
        return (
            f"a path of {length} tokens does not fit the budget of {self.kv.limit} tokens of keys and values: "
            f"raise kv_bytes to at least {length * self.kv.bytes_per_node}"
        )

    def _reserve(self, nodes: int) -> None:
        """Grow by doubling until `nodes` fit."""
        if nodes <= len(self.parents):
            return
        names = ("parents", "tokens", "depths", "logprobs", "has_row", "values")
        names += ("choices",) if self.forward.keeps_some else ()
        kept = [getattr(self, name) for name in names]
        capacity = len(self.parents)
        while capacity < nodes:
            capacity *= 2
        self._allocate(capacity)
        for name, old in zip(names, kept, strict=True):
            getattr(self, name)[: self.n_nodes] = old[: self.n_nodes]
        self.kv.reserve(capacity)
        self._rebuild_table()

    def _allocate(self, capacity: int) -> None:
        width = self.forward.row_width
        self.parents, self.tokens, self.depths = (np.empty(capacity, np.int32) for _ in range(3))
        self.logprobs = np.empty((capacity, width), np.float32)
        self.choices = (
            np.empty((capacity, width), np.int32) if self.forward.keeps_some else np.arange(width, dtype=np.int32)[None]
        )
        self.has_row, self.values = np.empty(capacity, np.bool_), np.empty(capacity, np.float32)
        self._marks = np.zeros(capacity, np.int64)
        self._table = np.full(1 << (2 * capacity - 1).bit_length(), NO_NODE, np.int32)  # at most half full

    def _rebuild_table(self) -> None:
        self._table[:] = NO_NODE
        kernels.rehash(self._table, self.parents, self.tokens, self.n_nodes)

"""Where keys and values of trie nodes lie: one block of memory, a slot a token, with a byte budget and LRU eviction.

A node keeps its place in the trie when its slot is taken away; the trie computes it anew when a path through it is needed
again. Slots go in the order of their last use, and of equal use the deepest first, so that a node that has a slot has all its
ancestors' slots.
"""

from __future__ import annotations

import numpy as np
import torch

NO_SLOT = -1


class KVArena:
    """Slots of keys and values. `kv` is a tensor [layers, slots, 2, width]; `slot_of` int32 [node capacity]."""

    kv: torch.Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        budget: int | None = None,
    ):
        """`shape`: (layers, width) of a node's keys, and as many values. `budget`: bytes that `kv` may take; None: no limit.
        `device`: None for the CPU.
        """
        self.shape, self.dtype, self.device = shape, dtype, device
        self.bytes_per_node = 2 * shape[0] * shape[1] * dtype.itemsize
        self.limit = None if budget is None or not self.bytes_per_node else max(1, budget // self.bytes_per_node)
        self.evicted = 0  # slots taken away since the arena was made
        self.clock = 0
        self._used = 0
        self._free: list[int] = []
        self._allocate(1)
        self.slot_of = np.full(1, NO_SLOT, np.int32)

    def clear(self) -> None:
        """Give every slot back."""
        self.slot_of[:] = NO_SLOT
        self._used = 0
        self._free.clear()

    @property
    def room(self) -> int:
        """Slots that can be held at once."""
        return 1 << 62 if self.limit is None else self.limit

    def reserve(self, nodes: int) -> None:
        """Have `slot_of` cover node ids below `nodes`, and slots for as many as the budget allows."""
        if nodes > len(self.slot_of):
            grown = np.full(nodes, NO_SLOT, np.int32)
            grown[: len(self.slot_of)] = self.slot_of
            self.slot_of = grown
        if nodes > self._used:
            self._space_at_the_end(nodes - self._used)

    def tick(self) -> int:
        """A new moment: what is used from now on outlives what was used before."""
        self.clock += 1
        return self.clock

    def place(self, nodes: np.ndarray, marks: np.ndarray, stamp: int) -> None:
        """Give a slot to each of `nodes` int32 [N] that has none, evicting what was used longest ago.

        Slots of nodes with `stamp` in `marks` [node capacity] stay. The caller sees to it that they and N fit the budget.
        """
        nodes = nodes[self.slot_of[nodes] == NO_SLOT]
        recycled = min(len(nodes), len(self._free))
        fresh = min(len(nodes) - recycled, self._space_at_the_end(len(nodes) - recycled))
        if missing := len(nodes) - recycled - fresh:
            self._evict(missing, marks, stamp)
        again = self._free[len(self._free) - recycled - missing :]
        del self._free[len(self._free) - recycled - missing :]
        slots = np.concatenate((np.array(again, np.int64), np.arange(self._used, self._used + fresh)))
        self._used += fresh
        self.slot_of[nodes] = slots
        self._node_of[slots] = nodes

    def _space_at_the_end(self, wanted: int) -> int:
        """Slots never used so far, after growth by doubling where `wanted` of them are not there."""
        have = self.kv.shape[1]
        if self._used + wanted > have and (self.limit is None or have < self.limit):
            size = max(2 * have, self._used + wanted)
            kv, uses, node_of, used = self.kv, self.uses, self._node_of, self._used
            self._allocate(size if self.limit is None else min(size, self.limit))
            self.kv[:, :used], self.uses[:used], self._node_of[:used] = kv[:, :used], uses[:used], node_of[:used]
        return self.kv.shape[1] - self._used

    def _allocate(self, slots: int) -> None:
        layers, width = self.shape
        self.kv = torch.empty((layers, slots, 2, width), dtype=self.dtype, device=self.device)
        self.uses = np.zeros(slots, np.int64)  # written by kernels.slots_of_paths
        self._node_of = np.empty(slots, np.int32)

    def _evict(self, count: int, marks: np.ndarray, stamp: int) -> None:
        uses = self.uses[: self._used].copy()
        uses[self._free] = uses[marks[self._node_of[: self._used]] == stamp] = np.iinfo(np.int64).max
        slots = np.argpartition(uses, count - 1)[:count]
        self.slot_of[self._node_of[slots]] = NO_SLOT
        self._free += slots.tolist()
        self.evicted += count

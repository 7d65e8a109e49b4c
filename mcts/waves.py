"""Whose turn it is: a fixed number of leaf slots filled over many trees of uneven depth."""

from __future__ import annotations

import numpy as np

from mcts.rules import Rule
from mcts.rules.base import joined
from mcts.store.records import Flag
from mcts.store.store import Leaves, Store


class Turns:
    """Selects waves of at most `slots` leaves over all trees; trees take turns, each with a whole wave of its own.

    A tree that has fewer leaves to give leaves its slots to the trees after it. A round starts where the last one ended, so
    every running tree is served once in ceil(T * wave_size / slots) rounds, and no tree depends on its batch mates.
    """

    def __init__(self, slots: int | None, wave_size: int):
        """`slots`: None for as many as all trees can fill.

        Raises:
            ValueError: fewer slots than one tree's wave.
        """
        if wave_size < 1:
            raise ValueError(f"wave_size={wave_size}: at least one leaf a tree")
        if slots is not None and slots < wave_size:
            raise ValueError(f"slots={slots}: at least wave_size={wave_size}, so that a tree fits in")
        self._slots, self._wave, self._next = slots, wave_size, 0

    def select(self, store: Store, rule: Rule, trees: np.ndarray) -> Leaves:
        """The next wave, distinct leaves of `trees` (int64 [S], running, rising); empty when none of them has one to give."""
        most = self._wave
        if self._slots is not None or rule.root_candidates is not None:
            root_flags = store.nodes["flags"][store.trees["root"][trees]]
            unopened = trees[(root_flags & (Flag.EXPANDED | Flag.PENDING)) == 0]
            if len(unopened):  # they come apart: a rule may want more candidates there
                trees, most = unopened, 1
        if self._slots is None:
            return rule.select(store, self._wave, trees)
        order = np.concatenate((trees[trees >= self._next], trees[trees < self._next]))
        parts, room, after = [], self._slots, self._next
        while len(order) and room >= most:
            served, order = np.split(order, [room // most])
            parts.append(rule.select(store, self._wave, np.sort(served)))
            room -= len(parts[-1])
            after = int(served[-1]) + 1
        wave = joined(parts)
        self._next = after if len(wave) else self._next
        return wave

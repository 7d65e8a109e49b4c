"""Whose turn it is: a fixed number of leaf slots filled over many trees of uneven depth."""

from __future__ import annotations

import numpy as np

from mcts.rules import Rule
from mcts.rules.base import joined
from mcts.store import Flag, Leaves, Status, Store


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

    def select(self, store: Store, rule: Rule) -> Leaves:
        """The next wave, distinct leaves; empty when no running tree has one to give."""
        if self._slots is None:
            return rule.select(store, self._wave)
        status = store.trees["status"]
        running = np.flatnonzero(status == Status.RUNNING)
        status[running] = Status.WAITING
        unopened = (store.nodes["flags"][store.trees["root"][running]] & Flag.EXPANDED) == 0
        roots = bool(unopened.any())  # they come apart: a rule may want more candidates there
        order, most = (running[unopened], 1) if roots else (running, self._wave)
        order = np.concatenate((order[order >= self._next], order[order < self._next]))
        parts, room = [], self._slots
        while len(order) and room >= most:
            served, order = np.split(order, [room // most])
            status[served] = Status.RUNNING
            parts.append(rule.select(store, self._wave))
            status[served[status[served] == Status.RUNNING]] = Status.WAITING
            room -= len(parts[-1])
            self._next = int(served[-1]) + 1
        status[running[status[running] == Status.WAITING]] = Status.RUNNING
        return joined(parts)

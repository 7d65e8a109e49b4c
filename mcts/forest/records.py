"""The records of a forest, seen from Python: room for them, and what they say of a node. See `forest_layout`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcts.forest import moves
from mcts.forest.layout import LINE
from mcts.forest.pick import NEVER_CHOSEN
from mcts.store.memory import Pages

NO_NODE = -1  # parent of a root
_PARENT = 2  # words a line beside it: the node whose children are there, and that node's own value


@dataclass(frozen=True, slots=True)
class Block:
    """A node's children, [K]. Totals of those without a visit mean nothing, unless first plays are given."""

    ids: np.ndarray  # int32
    visits: np.ndarray  # int32
    totals: np.ndarray  # float32
    priors: np.ndarray  # float32
    raw: np.float32  # the node's own value
    mean: np.float32  # of the values carried up to it


class Records:
    """Room for `n_lines` lines, of which the first are the roots of T trees. They hold anything beyond what was entered."""

    def __init__(self, n_trees: int, n_lines: int, *, touch: bool = False):
        self._pages, self._n_trees = Pages((LINE + _PARENT) * n_lines, touch=touch), n_trees
        self.n_lines = n_lines
        self.lines, self.parents = np.split(self._pages.words, [LINE * n_lines])
        roots = self.lines[: n_trees * LINE].reshape(-1, LINE)
        roots[:] = 0
        roots.view(np.float32)[:, 5:8] = roots.view(np.float32)[:, 9:12] = NEVER_CHOSEN
        self.parents[: _PARENT * n_trees : _PARENT] = NO_NODE

    def larger(self, n_lines: int, top: int) -> Records:
        """A copy with more room, of the first `top` lines."""
        new = Records(self._n_trees, n_lines)
        new.lines[: LINE * top] = self.lines[: LINE * top]
        new.parents[: _PARENT * top] = self.parents[: _PARENT * top]
        return new

    def below(self, roots: np.ndarray, top: int) -> tuple[Records, np.ndarray, int]:
        """A copy of the subtrees of `roots` int32 [T]: (it, int32 [4 * top] new ids or NO_NODE, its own top)."""
        new = Records(self._n_trees, self.n_lines)
        moved = np.full(4 * top, NO_NODE, np.int32)
        new_top = int(moves.transplant(self.lines, self.parents, roots, new.lines, new.parents, top, moved))
        return new, moved, new_top

    def block(self, node: int, top: int) -> Block | None:
        """The children of a node; None for a leaf."""
        word, lanes, owner = self._find(node, top)
        numbers, link = self.lines.view(np.float32), int(self.lines[word + 3 * lanes])
        if link <= 0 or (owner != NO_NODE and not self._is_laid_out(owner, top)):
            return None
        first, wide = link >> 6, (link & 63) * 4
        planes = self.lines[first * LINE : first * LINE + 4 * wide].reshape(4, wide)
        visits, totals, priors, _ = planes.view(np.float32)
        used = priors != NEVER_CHOSEN
        visits = planes[0][used] if self._is_laid_out(node, top) else np.zeros(used.sum(), np.int32)
        return Block(
            np.flatnonzero(used).astype(np.int32) + 4 * first,
            visits.copy(),
            totals[used],
            priors[used],
            self.parents.view(np.float32)[_PARENT * first + 1],
            numbers[word + lanes] / np.float32(self.lines[word]),
        )

    def tree_of(self, node: int, top: int) -> int:
        while node >= 4 * self._n_trees:
            node = self._find(node, top)[2]
        return node >> 2

    def _find(self, node: int, top: int) -> tuple[int, int, int]:
        """(word of its visits, lanes of its block, the node whose children these are)."""
        found = int(moves.block_of(self.parents, top, node >> 2))
        block, lanes = (found >> 6) * LINE, (found & 63) * 4
        return block + node - block // 4, lanes, int(self.parents[_PARENT * (found >> 6)])

    def _is_laid_out(self, node: int, top: int) -> bool:
        """Whether the planes of its children hold something: a descent has gone through it."""
        return int(self.lines[self._find(node, top)[0]]) > 1

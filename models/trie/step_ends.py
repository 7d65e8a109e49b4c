"""Where a step ends: a finite automaton over tokens, read by the sampler and by whole chains.

The mode of a step is 0 before its first token. A kind stands for all tokens that are alike in where they end a step, e.g. those
that end in a newline, so that the table has a handful of columns and not a vocabulary of them.

Legend: V vocabulary, M modes, K kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ENDS = -1  # in place of a mode: the token was the last one of its step


@dataclass(frozen=True, eq=False)
class StepEnds:
    """`cut`: a step that has come to its most tokens is whole; False: it is broken off, and no task reads it."""

    kinds: np.ndarray  # uint8 [V], kind of each token
    after: np.ndarray  # int8 [M, K], mode after a token of a kind, or ENDS
    cut: bool = False

    @classmethod
    def at(cls, tokens: np.ndarray) -> StepEnds:
        """A step ends with the first of `tokens`, bool [V], whatever stands before it."""
        return cls(tokens.astype(np.uint8), np.array([[0, ENDS]], np.int8))

    def __getitem__(self, tokens: np.ndarray | int) -> np.ndarray:
        """bool: whether each of `tokens` ends a step whatever stands before it."""
        return (self.after[:, self.kinds[tokens]] == ENDS).all(0)

"""Which random plays of Countdown hindsight keeps, so that its identities come out close to uniform.

Legend: M multisets, T targets in range.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tasks.base import Split
from tasks.numbers import countdown_play as play
from tasks.numbers.countdown_space import CountdownSpace
from tasks.splits import split_code

ACCEPT_QUANTILE = 0.1  # share of identities that hindsight keeps whenever it meets them
PREPASS_PLAYS = 4_000_000  # random plays, all multisets together, that estimate how often identities come up
PREPASS_SEED = 20_240_229


@lru_cache(maxsize=8)
def acceptance_table(space: CountdownSpace, split: Split) -> np.ndarray:
    """float32 [M, T]: see `acceptance`; a pure function of the space, from a pre-pass of random play and no solver."""
    return acceptance(_reached_counts(space), space.splits == split_code(split), ACCEPT_QUANTILE)


def acceptance(counts: np.ndarray, member: np.ndarray, quantile: float) -> np.ndarray:
    """float32 [M, T]: probability to keep a random play that reached an identity, so that identities become uniform.

    `counts` int [M, T]: how often random play reached each identity in a pre-pass with equally many plays a multiset.
    `member` bool [M, T]: the split. Plays draw their numbers from a uniform member, so an identity comes up in
    proportion to (members of its multiset) x (its count); the acceptance is the inverse of that, cut at 1. Identities
    rarer than the given quantile are always kept and stay under-represented in proportion to their rarity; all others
    come out equally frequent.
    """
    frequency = (counts + 1.0) * member.sum(1, keepdims=True)
    if not member.any():
        return np.zeros(member.shape, np.float32)
    keep = np.quantile(frequency[member], quantile) / frequency.clip(min=1)
    return np.where(member, keep.clip(max=1), 0).astype(np.float32)


@lru_cache(maxsize=8)
def _reached_counts(space: CountdownSpace) -> np.ndarray:
    ranges = space.ranges
    plays = max(100, PREPASS_PLAYS // len(space.multisets))
    rng = np.random.default_rng(PREPASS_SEED)
    return play.count_reached(rng, space.multisets, plays, ranges.target_min, ranges.target_max, ranges.cap)

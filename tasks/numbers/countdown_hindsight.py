"""Which random plays of Countdown hindsight keeps, so that identities come out close to uniform, and what a stream says of one.

Legend: M multisets, T targets in range, B rows, L tokens of a row.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tasks.base import Rows, Split
from tasks.numbers import countdown_play as play
from tasks.numbers.countdown_space import CountdownSpace
from tasks.splits import split_code
from tasks.streams import EFFORT, EFFORTS, NO, YES

ACCEPT_QUANTILE = 0.1  # share of identities that hindsight keeps whenever it meets them
PREPASS_PLAYS = 4_000_000  # random plays, all multisets together, that estimate how often identities come up
PREPASS_SEED = 20_240_229
VERDICT_WEIGHT = 4.0  # of what a stream says, beside a word that follows in a step


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


def verdict_rows(chains: Rows, numbers: int, ids: dict[str, int], rng: np.random.Generator) -> Rows:
    """Finished chains, value 1 or 0 at their last token, as streams of random efforts that end with `yes` or `no`.

    In every fourth a proposal comes to a number of another row: there it ends, with `no`. Policy weight on the verdict, and of
    a right chain on what follows in its steps.
    """
    size, width = chains.tokens.shape
    tokens, weight = np.zeros((size, width + 1), np.int32), np.zeros((size, width + 1), np.float32)
    tokens[:, :-1] = chains.tokens
    tokens[:, numbers + 1] = np.array([ids[f"{EFFORT}{k}"] for k in range(1, len(EFFORTS))])[
        rng.integers(len(EFFORTS) - 1, size=size)
    ]
    right = chains.value[:, -1] >= 1.0
    follows = np.arange(width) >= play.prompt_tokens(numbers)
    follows[play.choice_columns(numbers)] = False
    weight[:, :-1] = right[:, None] * follows
    tokens[:, -1], weight[:, -1] = np.where(right, ids[YES], ids[NO]), VERDICT_WEIGHT
    ends = play.state_ends(numbers)
    for row in np.flatnonzero(np.arange(size) % 4 == 3) if numbers > 2 else ():
        step = int(rng.integers(numbers - 2))
        result, end = ends[step] + 5, ends[step + 1]
        other = int(chains.tokens[rng.integers(size), result])
        if other != tokens[row, result]:
            tokens[row, [result, end - 1]] = other  # the number that it left, too, stands last
            tokens[row, end + 1 :], weight[row] = 0, 0.0
            tokens[row, end + 1], weight[row, end + 1] = ids[NO], VERDICT_WEIGHT
    return Rows(tokens, weight, np.full(tokens.shape, np.nan, np.float32))

"""How problems are dealt to train, dev and test, and drawn from them; the checks on options that both tasks share.

A problem's split is a pure function of its identity: a keyed blake2b of the identity, read as a number in [0, 1). It
does not depend on the ranges of the task, on the order of enumeration or on a seed, so widening a range never moves a
test problem into train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from tasks.base import SPLITS, Split, TaskError

SPLIT_KEY = b"reverse-o1 split 1"
ORDER_KEY = b"reverse-o1 order 1"
NO_SPLIT = 0  # in a table of splits: not a problem at all; a split's own code is 1 + its position in SPLITS
BARREN_BATCHES = 16  # so many without a new problem: there are too few
SHUFFLE_LIMIT = 16_000_000  # problems: up to here a split is shuffled whole, beyond it drawn and deduplicated


def unit_hashes(identities: Iterable[bytes]) -> np.ndarray:
    """float64 [N] in [0, 1): one keyed hash an identity."""
    digests = b"".join(blake2b(identity, key=SPLIT_KEY, digest_size=8).digest() for identity in identities)
    return np.frombuffer(digests, dtype="<u8") / 2.0**64


def split_codes(units: np.ndarray, train_fraction: float, dev_fraction: float) -> np.ndarray:
    """uint8 [N]: 1 + position in SPLITS, by where each hash falls in [0, 1)."""
    cuts = np.array([train_fraction, train_fraction + dev_fraction])
    return (1 + np.searchsorted(cuts, units, side="right")).astype(np.uint8)


def split_code(split: str) -> int:
    """Code of a split in a table of splits.

    Raises:
        TaskError: no such split.
    """
    if split not in SPLITS:
        raise TaskError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    return 1 + SPLITS.index(split)


@dataclass(frozen=True, eq=False)
class GoalSplits:
    """Every goal belongs to exactly one split. Read-only arrays."""

    codes: np.ndarray  # uint8 [G]: the split's code
    goals: dict[Split, np.ndarray]  # int64 by split, ascending


def deal_goals(identities: Iterable[bytes], train_fraction: float, dev_fraction: float) -> GoalSplits:
    """Deal goals to the splits by keyed hash of their identities."""
    codes = split_codes(unit_hashes(identities), train_fraction, dev_fraction)
    goals = {split: np.flatnonzero(codes == split_code(split)) for split in SPLITS}
    for array in (codes, *goals.values()):
        array.setflags(write=False)
    return GoalSplits(codes, goals)


def keyed_permutation(identity: bytes, size: int) -> list[int]:
    """A permutation of 0..size-1 (size <= 8) fixed by an identity."""
    digest = blake2b(identity, key=ORDER_KEY, digest_size=64).digest()
    return sorted(range(size), key=lambda i: digest[8 * i : 8 * i + 8])


def draw_distinct(total: int, n: int | None, split: Split, seed: int) -> np.ndarray:
    """int64 [n]: positions 0..total-1, uniform without replacement, in an order fixed by (split, seed).

    A smaller `n` gives a prefix of a larger one. All of them if `n` is None.

    Raises:
        TaskError: the split holds fewer than `n`, or too many to be listed whole.
    """
    check_int("seed", seed, 0, 2**63 - 1)
    rng = np.random.default_rng([split_code(split), seed])
    if n is None and total > SHUFFLE_LIMIT:
        raise TaskError(f"the {split} split holds {total} problems, too many to list: give n")
    n = total if n is None else check_int("n", n, 0, 2**63 - 1)
    if n > total:
        raise TaskError(f"the {split} split holds {total} problems, not {n}: ask for fewer or widen the ranges")
    if total <= SHUFFLE_LIMIT:
        return rng.permutation(total)[:n]
    drawn: dict[int, None] = {}  # keeps the order of first appearance
    while len(drawn) < n:
        drawn.update(dict.fromkeys(rng.integers(total, size=1024).tolist()))
    return np.fromiter(drawn, np.int64, len(drawn))[:n]


def drawn_distinct(
    draw: Callable[[], Sequence[str]], n: int, split: Split, split_shares: tuple[float, float], mend: str
) -> list[str]:
    """The first `n` distinct texts of a split among those that `draw` makes, a batch a call.

    Raises:
        TaskError: so many batches held nothing new that there seem to be fewer; `mend`: what to do then.
    """
    found: dict[str, None] = {}  # keeps the order of first appearance
    barren = 0
    while len(found) < n:
        texts = draw()
        codes = split_codes(unit_hashes(map(str.encode, texts)), *split_shares)
        before = len(found)
        found.update((texts[i], None) for i in np.flatnonzero(codes == split_code(split)).tolist())
        barren = barren + 1 if len(found) == before else 0
        if barren == BARREN_BATCHES:
            raise TaskError(f"the {split} split holds about {before} problems, not {n}: {mend}")
    return list(found)[:n]


def check_int(name: str, value: object, low: int, high: int) -> int:
    """`value` if it is an integer in low..high.

    Raises:
        TaskError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise TaskError(f"{name} is {value!r}: it must be an integer in {low}..{high}")
    return int(value)


def check_fraction(name: str, value: object, low: float = 0.0, high: float = 1.0) -> float:
    """`value` as a float if it is a number in low..high (bounds included).

    Raises:
        TaskError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise TaskError(f"{name} is {value!r}: it must be a number in {low:g}..{high:g}")
    return float(value)

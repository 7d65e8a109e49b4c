"""Every Countdown problem of a range, its split, and the exact solver behind both.

The solver serves splits, labels and reference figures only. Nothing here is held by a `Problem`; `reachable` keeps its
cache in this module, out of reach of a search.

Cost of enumeration: one dynamic program over the 2^n subsets of each multiset, so memory is one row a multiset. n=3
1..15 (680 multisets) takes milliseconds, n=6 1..15 (38,760) seconds; ranges with more than MAX_IDENTITIES (multiset,
target) pairs are refused.

Legend: M multisets, n numbers, T targets in range, S problems of one split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from kit.jit import jit
from tasks.base import SPLITS, Split, TaskError
from tasks.splits import NO_SPLIT, check_int, split_code, split_codes, unit_hashes

MAX_IDENTITIES = 8_000_000


@dataclass(frozen=True)
class Ranges:
    """What a Countdown problem may hold. All bounds are inclusive."""

    numbers: int  # operands of a problem
    number_min: int
    number_max: int
    target_min: int
    target_max: int
    cap: int  # largest intermediate result

    @property
    def multisets(self) -> int:
        return comb(self.number_max - self.number_min + self.numbers, self.numbers)

    @property
    def pairs(self) -> int:
        """Of numbers and target, solvable or not."""
        return self.multisets * (self.target_max - self.target_min + 1)


@dataclass(frozen=True, eq=False)
class CountdownSpace:
    """The solvable identities of some ranges and how they are dealt out. Read-only arrays."""

    ranges: Ranges
    multisets: np.ndarray  # int32 [M, n], each row ascending
    splits: np.ndarray  # uint8 [M, T], NO_SPLIT where the target cannot be reached, else the split's code
    members: dict[Split, np.ndarray]  # int32 [S, 2] by split: (row of `multisets`, target)


def identity(numbers: tuple[int, ...], target: int) -> str:
    """The text that names a problem: sorted numbers and the target, "3,7,12=24"."""
    return f"{','.join(map(str, sorted(numbers)))}={target}"


def wide_ranges(ranges: Ranges, number_max: int | None) -> Ranges | None:
    """Wider numbers, any target. `number_max` None: a third above that of `ranges`, or as near as can be enumerated; None
    where nothing wider than the task itself can.

    Raises:
        TaskError: a `number_max` out of range, or too many pairs.
    """
    wide = replace(ranges, target_min=0, target_max=ranges.cap)
    if number_max is not None:
        highest = check_int("wide_number_max", number_max, ranges.number_max, ranges.cap)
        wide = replace(wide, number_max=highest)
        if wide.pairs > MAX_IDENTITIES:
            raise TaskError(
                f"wide_number_max={highest} makes {wide.pairs} pairs of numbers and target, over {MAX_IDENTITIES}: lower it,"
                " or leave it out"
            )
        return wide
    for highest in range(min(ranges.cap, ranges.number_max + (ranges.number_max + 2) // 3), ranges.number_max - 1, -1):
        if replace(wide, number_max=highest).pairs <= MAX_IDENTITIES:
            return replace(wide, number_max=highest)
    return None


def check_pairs(ranges: Ranges) -> None:
    """Whether so many pairs of numbers and target can be enumerated.

    Raises:
        TaskError: more than MAX_IDENTITIES.
    """
    if ranges.pairs > MAX_IDENTITIES:
        raise TaskError(
            f"{ranges.numbers} numbers in {ranges.number_min}..{ranges.number_max} make {ranges.pairs}"
            f" pairs of numbers and target, over {MAX_IDENTITIES}: lower number_max or narrow the target range"
        )


@lru_cache(maxsize=4)
def build_space(ranges: Ranges, train_fraction: float, dev_fraction: float) -> CountdownSpace:
    """Enumerate the solvable (multiset, target) identities and split them by keyed hash.

    Raises:
        TaskError: more than MAX_IDENTITIES candidates, or none that can be solved.
    """
    check_pairs(ranges)
    values = range(ranges.number_min, ranges.number_max + 1)
    multisets = np.array(list(combinations_with_replacement(values, ranges.numbers)), np.int32)
    solvable = _reach_table(multisets, ranges.target_min, ranges.target_max, ranges.cap)  # [M, T]
    if not solvable.any():
        raise TaskError(
            f"target range {ranges.target_min}..{ranges.target_max} cannot be reached with {ranges.numbers} numbers"
            f" up to {ranges.number_max}: {_mend(ranges, multisets)}"
        )
    splits = np.full(solvable.shape, NO_SPLIT, np.uint8)
    splits[solvable] = split_codes(unit_hashes(_identities(multisets, solvable, ranges)), train_fraction, dev_fraction)
    members = {}
    for split in SPLITS:
        rows, columns = np.nonzero(splits == split_code(split))
        members[split] = np.stack([rows, columns + ranges.target_min], 1).astype(np.int32)
    for array in (multisets, splits, *members.values()):
        array.setflags(write=False)
    return CountdownSpace(ranges, multisets, splits, members)


@lru_cache(maxsize=1 << 16)
def reachable(numbers: tuple[int, ...], cap: int) -> bytes:
    """Exact solver: byte v is 1 if `numbers` (each in 0..cap), all used once, make v with no result above `cap`.

    Pass the numbers sorted, so that equal states share one entry of the cache.
    """
    return _reach_table(np.array([numbers], np.int32), 0, cap, cap).tobytes()


def _identities(multisets: np.ndarray, solvable: np.ndarray, ranges: Ranges) -> Iterator[bytes]:
    """`identity` of every solvable pair, row by row."""
    for row, columns in zip(multisets.tolist(), solvable, strict=True):
        stem = ",".join(map(str, row))
        for column in np.flatnonzero(columns).tolist():
            yield f"{stem}={column + ranges.target_min}".encode()


def _mend(ranges: Ranges, multisets: np.ndarray) -> str:
    """What to change in ranges that hold no solvable problem."""
    reached = np.flatnonzero(_reach_table(multisets, 0, ranges.cap, ranges.cap).any(0))
    if len(reached) == 0:
        return "raise cap"
    if reached[-1] < ranges.target_min:
        return f"lower target_min to {reached[-1]} or less"
    if reached[0] > ranges.target_max:
        return f"raise target_max to {reached[0]} or more"
    return f"widen it, e.g. to hold {reached[np.searchsorted(reached, ranges.target_min)]}"


@jit
def _reach_table(multisets, target_min, target_max, cap):  # int32 [M, n] -> bool [M, T]
    """Which targets each multiset makes. Dynamic program over subsets: values(S) = all a op b over S = A + B."""
    n_multisets, n = multisets.shape
    table = np.zeros((n_multisets, target_max - target_min + 1), np.bool_)
    full = (1 << n) - 1
    values = np.zeros((full + 1, cap + 1), np.int32)  # distinct values of each subset
    sizes = np.zeros(full + 1, np.int64)
    seen = np.zeros(cap + 1, np.bool_)
    for row in range(n_multisets):
        for subset in range(1, full + 1):
            size = 0
            if subset & (subset - 1) == 0:  # one number
                i = 0
                while subset >> i != 1:
                    i += 1
                values[subset, 0] = multisets[row, i]
                sizes[subset] = 1
                continue
            left = (subset - 1) & subset
            while left > subset ^ left:  # each division in two once
                right = subset ^ left
                for i in range(sizes[left]):
                    for j in range(sizes[right]):
                        a, b = values[left, i], values[right, j]
                        if a < b:
                            a, b = b, a
                        seen[a - b] = True
                        if a + b <= cap:
                            seen[a + b] = True
                        if a * b <= cap:
                            seen[a * b] = True
                        if b > 0 and a % b == 0:
                            seen[a // b] = True
                left = (left - 1) & subset
            for value in range(cap + 1):
                if seen[value]:
                    values[subset, size] = value
                    size += 1
                    seen[value] = False
            sizes[subset] = size
        for i in range(sizes[full]):
            if target_min <= values[full, i] <= target_max:
                table[row, values[full, i] - target_min] = True
    return table

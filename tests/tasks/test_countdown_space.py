"""Enumeration and splits of Countdown problems against a brute-force solver of a few obvious lines."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement, permutations

import numpy as np
import pytest

from tasks import SPLITS, TaskError, make_task
from tasks.numbers.countdown_space import MAX_IDENTITIES, Ranges, reachable, wide_ranges
from tasks.splits import unit_hashes


@cache
def made(numbers: tuple[int, ...], cap: int) -> frozenset[int]:
    """All that sorted `numbers` make, by trying every pair and going on."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found = set()
    for i, j in permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        results = [a + b, a * b, *([a - b] if a >= b else []), *([a // b] if b and a % b == 0 else [])]
        rest = [x for k, x in enumerate(numbers) if k not in (i, j)]
        for result in results:
            if result <= cap:
                found |= made(tuple(sorted([*rest, result])), cap)
    return frozenset(found)


@pytest.mark.parametrize(
    "options",
    [
        {"numbers": 2, "number_max": 12},
        {"numbers": 3, "number_max": 8},
        {"numbers": 3, "number_min": 0, "number_max": 6, "target_min": 0, "target_max": 30, "cap": 30},
        {"numbers": 4, "number_min": 2, "number_max": 6, "target_min": 5, "target_max": 80},
        {"numbers": 5, "number_max": 3},
    ],
)
def test_the_identities_are_those_of_brute_force(options):
    task = make_task("countdown", **options)
    r = task.space.ranges
    expected = {
        (numbers, target)
        for numbers in combinations_with_replacement(range(r.number_min, r.number_max + 1), r.numbers)
        for target in made(numbers, r.cap)
        if r.target_min <= target <= r.target_max
    }
    found = [(tuple(sorted(p.data[0])), p.data[1]) for split in SPLITS for p in task.problems(split)]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_the_solver_agrees_with_brute_force_on_states(rng):
    for _ in range(60):
        state = tuple(sorted(rng.integers(0, 100, size=rng.integers(1, 5)).tolist()))
        assert {v for v, hit in enumerate(reachable(state, 99)) if hit} == made(state, 99)


def test_the_number_of_default_problems_is_known():
    assert sum(len(make_task("countdown").problems(split)) for split in SPLITS) == 4173  # brute force, 1..15, 10..50


def test_splits_share_no_identity_and_have_their_sizes():
    for options in ({}, {"numbers": 4, "number_max": 9}, {"train_fraction": 0.7, "dev_fraction": 0.1}):
        task = make_task("countdown", **options)
        ids = {split: {p.id for p in task.problems(split)} for split in SPLITS}
        total = sum(map(len, ids.values()))
        assert len(set.union(*ids.values())) == total
        train = options.get("train_fraction", 0.75)
        for split, share in zip(SPLITS, (train, 0.1, 0.9 - train), strict=True):
            assert abs(len(ids[split]) - share * total) < 4 * (share * (1 - share) * total) ** 0.5


def test_splits_are_uniform_over_targets_and_numbers():
    """Chi-square of split against target, and against largest number, within 5 sigma of its expectation."""
    task = make_task("countdown", numbers=4, number_max=9)
    for feature in (lambda p: p.data[1], lambda p: max(p.data[0])):
        values = [[feature(p) for p in task.problems(split)] for split in SPLITS]
        observed = np.array([np.bincount(v, minlength=51) for v in values], float)
        observed = observed[:, observed.sum(0) > 50]
        expected = observed.sum(1, keepdims=True) * observed.sum(0) / observed.sum()
        freedom = (len(SPLITS) - 1) * (observed.shape[1] - 1)
        assert abs(((observed - expected) ** 2 / expected).sum() - freedom) < 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(
    ("ranges", "highest"),
    [
        (Ranges(3, 1, 15, 10, 50, 99), 20),  # a third more
        (Ranges(6, 1, 15, 10, 50, 99), 17),  # 20 would make 17.7 million pairs
        (Ranges(3, 1, 90, 10, 50, 99), None),  # nor does the task's own range fit with every target
    ],
)
def test_wide_play_goes_as_far_as_can_be_enumerated(ranges, highest):
    wide = wide_ranges(ranges, None)
    assert (wide and wide.number_max) == highest
    assert wide is None or wide.pairs <= MAX_IDENTITIES
    if wide and highest < 20:
        assert replace(wide, number_max=highest + 1).pairs > MAX_IDENTITIES


def test_a_wide_range_that_was_asked_for_and_is_too_wide_is_named():
    with pytest.raises(TaskError, match="wide_number_max=20 makes 17710000 pairs"):
        wide_ranges(Ranges(6, 1, 15, 10, 50, 99), 20)


def test_wider_ranges_never_move_a_test_problem_into_train():
    narrow = {p.id for p in make_task("countdown", number_max=10).problems("test")}
    wide = make_task("countdown", number_max=20, target_min=5, target_max=80)
    assert narrow <= {p.id for p in wide.problems("test")}


def test_the_hash_is_pinned():
    assert unit_hashes([b"3,7,12=24"])[0] == pytest.approx(0.8275889748402528, abs=1e-12)


def test_numbers_are_shown_in_an_order_fixed_by_the_identity_and_not_sorted():
    task = make_task("countdown")
    assert task.parse_problem("12 3 7 = 24") == task.parse_problem(" 3 7 12  = 24\n")
    problems = task.problems("train")
    ascending = np.mean([p.data[0] == tuple(sorted(p.data[0])) for p in problems if len(set(p.data[0])) == 3])
    assert 0.12 < ascending < 0.22  # one of six orders


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("3 7 12", "write numbers, a blank, = and a target"),
        ("3 7 12 = 24 = 1", "as in '3 7 12 = 24'"),
        ("3 7 = 24", "build it with numbers=2"),
        ("3 7 x = 24", "write plain digits"),
        ("3 7 100 = 24", "raise cap"),
        ("3 7 ٣ = 24", "write plain digits"),
        ("3 7 07 = 24", "write plain digits"),
        ("9" * 100_000, "write numbers"),
    ],
)
def test_a_bad_problem_text_names_the_mend(text, mend):
    with pytest.raises(TaskError) as error:
        make_task("countdown").parse_problem(text)
    assert mend in str(error.value)
    assert len(str(error.value)) < 200
    assert str(error.value).isascii()


def test_a_problem_need_not_be_solvable_to_be_asked():
    task = make_task("countdown", numbers=4)
    problem = task.parse_problem("1 1 1 1 = 99")
    assert not task.solvable(problem, task.initial_state(problem))
    assert task.distance(problem, task.initial_state(problem)) is None


def test_every_listed_problem_is_solvable_and_its_distance_counts_the_steps():
    task = make_task("countdown", numbers=4, number_max=9)
    for problem in task.problems("test", 200):
        state = task.initial_state(problem)
        assert task.solvable(problem, state)
        assert task.distance(problem, state) == 3 == task.max_steps

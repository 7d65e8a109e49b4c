from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kit.statistics import (
    auc,
    auc_within,
    binomial_tail,
    bootstrap_difference,
    brier,
    ece,
    mean_and_half_width,
    paired_difference,
    paired_ratio,
    sign_test,
    wilson,
)

finite = st.floats(-1e3, 1e3)


def test_wilson_matches_a_hand_computed_value():
    # 8 of 10, z = 1.96: centre (0.8 + 0.19208) / 1.38416 = 0.716738, half width 0.226582
    assert wilson(8, 10) == pytest.approx((0.490157, 0.943320), abs=2e-6)


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_solve_the_score_equation_and_hold_the_rate(case):
    successes, n = case
    low, high = wilson(successes, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= successes / n <= high
        for bound in (low, high):
            if 0 < bound < 1:  # (rate - p)^2 = z^2 p (1 - p) / n, Wilson 1927
                assert (successes / n - bound) ** 2 == pytest.approx(1.96**2 * bound * (1 - bound) / n, rel=1e-6)


def test_wilson_covers_95_percent_of_repeated_experiments(rng):
    n, rate = 200, 0.7
    bounds = [wilson(int(successes), n) for successes in rng.binomial(n, rate, size=2000)]
    assert 0.93 < np.mean([low <= rate <= high for low, high in bounds]) < 0.97


def test_wilson_of_no_trials_knows_nothing_and_of_impossible_counts_raises():
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError):
        wilson(3, 2)


@given(st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(-1, n + 1), st.just(n))))
def test_binomial_tail_equals_the_sum_of_its_terms(case):
    successes, n = case
    terms = sum(Fraction(math.comb(n, k), 2**n) for k in range(max(successes, 0), n + 1))
    assert binomial_tail(successes, n) == float(terms)


def test_binomial_tail_survives_thousands_of_trials():
    assert binomial_tail(2500, 5000) == pytest.approx(0.5, abs=0.01)
    assert 1e-50 < binomial_tail(3000, 5000) < 1e-40  # 14 standard deviations


def test_sign_test_matches_tabled_values():
    assert sign_test(0, 0) == 1
    assert sign_test(5, 5) == 1
    assert sign_test(8, 2) == pytest.approx(0.109375)  # 2 (1 + 10 + 45) / 1024
    assert sign_test(2, 8) == sign_test(8, 2)
    assert sign_test(6, 0) == pytest.approx(0.03125)


def test_paired_difference_counts_only_what_differs():
    a, b = np.array([1, 1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 1, 0, 0], bool)
    found = paired_difference(a, b)
    assert (found.n, found.wins, found.losses) == (6, 3, 1)
    assert found.mean == pytest.approx(2 / 6)
    assert found.p_value == pytest.approx(2 * 5 / 16)
    spread = math.sqrt(sum((d - 1 / 3) ** 2 for d in (0, 1, 1, -1, 0, 1)) / 5)
    assert found.half_width == pytest.approx(1.96 * spread / math.sqrt(6))


@given(arrays(np.float64, st.integers(1, 20), elements=finite), st.randoms(use_true_random=False))
def test_paired_difference_changes_sign_with_its_arguments(a, random):
    b = np.array(random.sample(list(a), len(a)))
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert forth.mean == -back.mean
    assert (forth.wins, forth.losses, forth.p_value) == (back.losses, back.wins, back.p_value)


def test_one_problem_has_no_known_spread():
    assert paired_difference(np.array([1.0]), np.array([0.0])).half_width == math.inf


@pytest.mark.parametrize(("a", "b"), [([], []), ([1, 0], [1]), ([[1]], [[1]]), ([math.nan], [0.0])])
def test_paired_difference_refuses_what_is_not_paired(a, b):
    with pytest.raises(ValueError):
        paired_difference(np.array(a), np.array(b))


def test_a_ratio_has_the_interval_of_students_t():
    mean, low, high = paired_ratio([2.0, 8.0, 4.0], [1.0, 2.0, 2.0])
    assert mean == pytest.approx(2 ** (4 / 3))
    assert math.log2(high / mean) == pytest.approx(4.303 * (1 / 3) ** 0.5 / 3**0.5)
    assert mean / low == pytest.approx(high / mean)


def test_a_single_ratio_has_no_known_spread():
    assert paired_ratio([3.0], [2.0]) == (pytest.approx(1.5), 0, math.inf)
    with pytest.raises(ValueError, match="no mean"):
        mean_and_half_width([])


def test_bootstrap_agrees_with_the_normal_interval_on_many_problems(rng):
    a, b = rng.random(600) < 0.6, rng.random(600) < 0.5
    normal, found = paired_difference(a, b), bootstrap_difference(a, b, rng)
    assert found.estimate == normal.mean
    assert found.low == pytest.approx(normal.mean - normal.half_width, abs=0.01)
    assert found.high == pytest.approx(normal.mean + normal.half_width, abs=0.01)


def test_bootstrap_is_repeatable_and_keeps_pairs_together():
    a = np.arange(50.0)
    first, second = (bootstrap_difference(a + 1, a, np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert (first.low, first.estimate, first.high) == (1, 1, 1)  # every pair differs by 1; unpaired they would scatter


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 0.5, math.inf]), st.booleans()), min_size=2, max_size=30))
def test_auc_equals_the_share_of_pairs_in_order_with_ties_at_one_half(pairs):
    scores, labels = (np.array(column) for column in zip(*pairs, strict=True))
    positive, negative = scores[labels], scores[~labels]
    found = auc(scores, labels)
    if len(positive) and len(negative):
        slow = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
        assert found == pytest.approx(slow)
    else:
        assert math.isnan(found)


def test_auc_refuses_nan_scores_and_soft_labels():
    with pytest.raises(ValueError):
        auc(np.array([0.1, math.nan]), np.array([0, 1]))
    with pytest.raises(ValueError):
        auc(np.array([0.1, 0.2]), np.array([0.0, 0.5]))


def test_brier_matches_hand_values():
    assert brier(np.array([1.0, 0.0, 0.5]), np.array([1, 0, 1])) == pytest.approx(0.25 / 3)
    assert math.isnan(brier(np.array([]), np.array([])))


def test_ece_matches_hand_values():
    # bins of .1: {0.02, 0.08}: mean .05, rate .5; {0.95, 1.0}: mean .975, rate 1; (2 * .45 + 2 * .025) / 4
    assert ece(np.array([0.02, 0.08, 0.95, 1.0]), np.array([0, 1, 1, 1])) == pytest.approx(0.2375)
    assert math.isnan(ece(np.array([]), np.array([])))


@given(arrays(np.int64, 40, elements=st.integers(0, 10)), arrays(np.bool_, 40), st.integers(1, 12))
def test_ece_equals_a_loop_over_bins(tenths, labels, bins):
    probabilities = tenths / 10
    slow = 0.0
    for k in range(bins):
        last = k == bins - 1
        inside = [
            i
            for i, tenth in enumerate(tenths)
            if Fraction(k, bins) <= Fraction(int(tenth), 10)
            and (last or Fraction(int(tenth), 10) < Fraction(k + 1, bins))
        ]
        if inside:
            slow += len(inside) / 40 * abs(probabilities[inside].mean() - labels[inside].mean())
    assert ece(probabilities, labels, bins) == pytest.approx(slow)


def test_calibrated_probabilities_have_a_small_ece_and_shifted_ones_do_not(rng):
    probabilities = rng.random(20_000) * 0.7
    labels = rng.random(20_000) < probabilities
    assert ece(probabilities, labels) < 0.015
    assert ece(probabilities + 0.3, labels) == pytest.approx(0.3, abs=0.02)


def test_ece_takes_discounted_values_as_labels():
    assert ece(np.array([0.81, 0.9]), np.array([0.81, 0.9])) == 0


def test_calibration_refuses_what_is_no_probability():
    for measure in (ece, brier):
        with pytest.raises(ValueError):
            measure(np.array([1.2]), np.array([1]))
        with pytest.raises(ValueError):
            measure(np.array([0.2, 0.3]), np.array([1]))


def test_auc_within_groups_counts_pairs_of_one_group_alone():
    rng = np.random.default_rng(0)
    groups, labels, scores = rng.integers(0, 12, 300), rng.random(300) < 0.4, rng.integers(0, 6, 300).astype(float)
    pairs = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in range(300)
        for j in range(300)
        if groups[i] == groups[j] and labels[i] and not labels[j]
    ]
    assert auc_within(scores, labels, groups) == pytest.approx(np.mean(pairs))


def test_a_score_that_knows_groups_alone_has_an_auc_and_none_within():
    groups = np.repeat([0, 1], 50)
    labels = np.concatenate((np.arange(50) < 5, np.arange(50) < 45))
    scores = groups.astype(float)
    assert auc(scores, labels) == pytest.approx(0.9)
    assert auc_within(scores, labels, groups) == 0.5
    assert math.isnan(auc_within(scores, labels, np.arange(100)))

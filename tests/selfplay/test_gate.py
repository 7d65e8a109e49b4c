from __future__ import annotations

import numpy as np
import pytest

from selfplay.measure.gate import decide


def outcomes(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """(before, after) with so many problems of each kind."""
    before = np.repeat([True, False, True, False], [both, gained, lost, neither])
    after = np.repeat([True, True, False, False], [both, gained, lost, neither])
    return before, after


def test_an_equal_net_is_promoted_but_is_not_better():
    before, after = outcomes(both=50, gained=0, lost=0, neither=50)
    assert decide(before, after).promote
    assert not decide(before, after, mode="better").promote


def test_a_significantly_worse_net_is_not_promoted():
    decision = decide(*outcomes(both=50, gained=2, lost=20, neither=28))
    assert not decision.promote
    assert decision.difference == pytest.approx(-0.18)
    assert decision.p_value < 0.001
    assert decision.reason.startswith("worse: 70.0 % -> 52.0 %")


def test_a_net_that_lost_a_little_by_chance_is_promoted():
    assert decide(*outcomes(both=50, gained=8, lost=12, neither=30)).promote


def test_the_threshold_is_the_exact_binomial_one():
    # one-sided, nothing gained: 1/16 for four lost, 1/32 for five
    assert decide(*outcomes(10, 0, 4, 10)).p_value == 1 / 16
    assert decide(*outcomes(10, 0, 4, 10)).promote
    assert decide(*outcomes(10, 0, 5, 10)).p_value == 1 / 32
    assert not decide(*outcomes(10, 0, 5, 10)).promote
    assert decide(*outcomes(10, 0, 5, 10), alpha=0.01).promote
    assert not decide(*outcomes(10, 4, 0, 10), mode="better").promote
    assert decide(*outcomes(10, 5, 0, 10), mode="better").promote


def test_problems_that_both_or_neither_solve_do_not_matter():
    few, many = decide(*outcomes(0, 3, 11, 0)), decide(*outcomes(500, 3, 11, 700))
    assert few.p_value == many.p_value
    assert few.promote == many.promote


def test_equal_nets_are_held_back_less_often_than_alpha(rng):
    refused = 0
    for _ in range(400):
        before, after = rng.random((2, 200)) < 0.6
        refused += not decide(before, after).promote
    assert 0 < refused / 400 < 0.07


@pytest.mark.parametrize("arguments", [{"alpha": 0.0}, {"alpha": 1.0}, {"mode": "always"}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError):
        decide(*outcomes(1, 1, 1, 1), **arguments)


def test_other_problems_before_and_after_are_refused():
    with pytest.raises(ValueError):
        decide(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError):
        decide(np.ones(0, bool), np.ones(0, bool))

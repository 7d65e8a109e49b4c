"""Answers: the documented semantics over a corpus of adversarial and of odd but right cases, and totality on any text."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.judges.fuzz import answers
from tasks.judging.equal import MOST_CHARACTERS, compare, decide, final_answer
from tasks.judging.grading import MATH, grade
from tasks.judging.quantities import quantity
from tasks.sandbox.pool import JudgePool, Limits
from tests.tasks.answer_cases import FALSE, RIGHT
from tests.tasks.attack_cases import FOUND_FALSE, FOUND_RIGHT


@pytest.fixture(scope="module")
def pool():
    with JudgePool(MATH) as made:
        yield made


@pytest.mark.parametrize(("cases", "right"), [(FALSE, False), (RIGHT, True)], ids=["false", "right"])
def test_no_false_accept_and_no_false_reject(cases, right, pool):
    assert len(cases) >= 500
    grades = grade([(gold, text, "") for gold, text, _ in cases], pool)
    missed = [(case, found) for case, found in zip(cases, grades, strict=True) if found.right is not right]
    assert missed == []


@pytest.mark.parametrize(("cases", "right"), [(FOUND_FALSE, False), (FOUND_RIGHT, True)], ids=["false", "right"])
def test_what_an_attack_found_is_mended(cases, right, pool):
    grades = grade([(gold, text, "") for gold, text in cases], pool)
    missed = [(case, found) for case, found in zip(cases, grades, strict=True) if found.right is not right]
    assert missed == []


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12))
def test_every_spelling_of_a_rational_is_the_same_number(above, below):
    value = Fraction(above, below)
    a, b = value.as_integer_ratio()
    spellings = [f"{a}/{b}", rf"\frac{{{a}}}{{{b}}}", f"{3 * a}/{3 * b}", rf"\dfrac{{{a}}}{{{b}}}"]
    if b == 1:
        spellings += [f"{a:,}", f"{a}.0", f"{a}e0", f"{a:,}".replace(",", "{,}")]
    for spelling in spellings:
        found = quantity(spelling)
        assert found is not None, spelling
        assert found.value == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**6), max_value=10**6))
def test_decimals_are_exact(number):
    found = quantity(f"{number:f}")
    assert found is not None
    assert found.value == Fraction(number)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_texts_get_a_decision(gold, text):
    assert decide(gold, text).kind in ("right", "wrong", "ask")
    assert compare(gold, text).kind in ("right", "wrong", "ask")


@given(st.text(alphabet=r"\boxed{}0123 </think>$.,()[]^frac", max_size=200))
def test_texts_of_the_grammar_get_a_decision(text):
    answer, why = final_answer(text)
    assert (answer is None) == bool(why)
    assert decide("5", text).kind in ("right", "wrong")


def test_a_plain_gold_never_asks_a_library():
    for gold in (
        "42",
        "-1/2",
        r"\frac{3}{4}",
        "50\\%",
        "yes",
        "B",
        "blue whale",
        "1,234",
        "1, 2",
        "5 kg",
        "3:4",
        "3-5",
    ):
        for text in answers(np.random.default_rng(3), 2000, gold):
            assert decide(gold, text).kind != "ask", (gold, text)


def test_thirty_thousand_fuzzed_answers_do_no_harm():
    rng, kinds = np.random.default_rng(0), set()
    for gold in ("42", r"\frac{\sqrt{3}}{2}", "(3, \\frac{\\pi}{2})", "blue whale", "x^2+1"):
        for text in answers(rng, 6_000, gold):
            kinds.add(decide(gold, text).kind)
    assert kinds == {"right", "wrong", "ask"}


@pytest.mark.slow
def test_ten_million_fuzzed_answers_do_no_harm():
    rng = np.random.default_rng(1)
    for round_ in range(100):
        gold = ("42", r"\frac{\sqrt{3}}{2}", "blue whale", "(3, 4)", "x^2+1")[round_ % 5]
        for text in answers(rng, 100_000, gold):
            decide(gold, text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I think it is 41.</think>So \\boxed{42} it is.", "42"),
        ("<think>hm</think> Answer: 42.", "42."),
        ("\\boxed{\\boxed{42}}", "42"),
        ("\\boxed{1} and again \\boxed{ 1 }", "1"),
        ("\\boxed{\\text{a \\{ b}}", "\\text{a \\{ b}"),
        ("The final answer is: 42", "42"),
    ],
)
def test_where_the_final_answer_is(text, answer):
    assert final_answer(text) == (answer, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no answer"),
        ("<think> 42", "the thinking has no end"),
        ("a</think>b</think>42", "several end-of-thinking tags"),
        ("\\boxed{41} or \\boxed{42}", "several boxes that differ"),
        ("\\boxed{42", "a box that does not close"),
        ("41\n42", "several lines without a box"),
        ("4\u200b2", "invisible characters"),
        ("(" * 50 + "42" + ")" * 50, "nested deeper than 40"),
        ("4" * (MOST_CHARACTERS + 1), "longer than 1000 characters"),
    ],
)
def test_why_there_is_none(text, why):
    assert final_answer(text) == (None, why)


def test_a_judge_without_time_is_neither_right_nor_wrong():
    with JudgePool(MATH, workers=1, limits=Limits(deadline_s=1e-9)) as hasty:
        (found,) = grade([("x^2+2x+1", "(x+1)^2", "expand")], hasty)
    assert found.right is None
    assert "timeout" in found.reason

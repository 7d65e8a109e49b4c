"""Judges over 600 pairs by somebody who had not read them, and over the kinds of those that once fell (docs/judges.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judging.equal import decide
from tasks.judging.grading import MATH, grade
from tasks.judging.quantities import quantity
from tasks.sandbox.pool import JudgePool
from tests.tasks.question_cases import FALSE, RIGHT

PAIRS = [
    json.loads(line) for line in (Path(__file__).parent.parent / "data/judge_pairs.jsonl").read_text().splitlines()
]
ASKING = "how many much in of cm meters per hour apples $ 5 7 percent the is ? . , long"


@pytest.fixture(scope="module")
def pool():
    with JudgePool(MATH) as made:
        yield made


def missed(cases, right, pool):
    return [(case, found) for case, found in zip(cases, grade(cases, pool), strict=True) if found.right is not right]


@pytest.mark.slow
@pytest.mark.parametrize("right", [False, True], ids=["wrong", "right"])
def test_pairs_of_a_stranger(right, pool):
    cases = [(pair["gold"], pair["answer"], pair["question"]) for pair in PAIRS if pair["right"] is right]
    assert len(cases) >= 280
    assert missed(cases, right, pool) == []


@pytest.mark.parametrize(("cases", "right"), [(FALSE, False), (RIGHT, True)], ids=["wrong", "right"])
def test_pairs_that_fell_and_their_kinds(cases, right, pool):
    assert missed(cases, right, pool) == []


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=400))
def test_any_three_texts_get_a_decision(gold, text, question):
    assert decide(gold, text, question).kind in ("right", "wrong", "ask")


@given(st.lists(st.sampled_from(ASKING.split()), max_size=30))
def test_any_question_is_read(words):
    assert decide("5 cm", "5 cm", " ".join(words)).kind == "right"
    assert decide("5 cm", "5 kg", " ".join(words)).kind == "wrong"
    assert decide("5", "6", " ".join(words)).kind == "wrong"


def test_a_unit_never_changes_the_verdict_on_itself():
    for unit in ("cm", "kg", "miles per hour", "$", "degrees", "percent", "apples", "square feet", "hours"):
        written = f"${12}" if unit == "$" else f"12 {unit}"
        assert decide(written, written).kind == "right", unit
        assert decide(written, written.replace("12", "13")).kind == "wrong", unit


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("3 1/2 hours", "7/2", "hour"),
        ("5 ft 3 in", "63", "inch"),
        ("2h 15m", "135", "minute"),
        ("$2.5 million", "2500000", "dollar"),
        ("20^\\circ\\text{C}", "20", "celsius"),
        ("0.1\\overline{36}", "3/22", ""),
        ("60 miles an hour", "60", "mile/hour"),
    ],
)
def test_how_a_quantity_is_read(text, number, unit):
    assert str(quantity(text)) == f"{number} {unit}".strip()


@pytest.mark.parametrize(
    "text", ["42L", "5x", "5 or so", "1st", "3 pm", "2 + 3", "12 kg 13", "5 m 3 m", "3 1/2 1", "5 not", "1,23"]
)
def test_what_is_no_quantity(text):
    assert quantity(text) is None

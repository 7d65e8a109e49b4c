"""Sums worked line by line: only the end is judged, and free rows teach the form but no result of a problem."""

from __future__ import annotations

import numpy as np
import pytest

from tasks import TaskError, make_guesser, make_scorer, make_task
from tasks.base import PAD_ID
from tasks.guessing import guessed
from tasks.numbers.sums import Sums, worked
from tasks.numbers.sums_checked import another_way
from tasks.streams import Found

TASK = make_task("sums")
ASKED = TASK.parse_problem("7 + 4 - 9")


def test_a_problem_is_asked_and_worked_as_people_write():
    assert TASK.prompt(ASKED) == "Work out 7 + 4 - 9\n"
    assert worked((7, 4, -9)) == [("7 + 4 =", "11"), ("11 - 9 =", "2"), ("answer:", "2")]
    assert worked((1, -9, 2))[:2] == [("1 - 9 =", "-8"), ("-8 + 2 =", "-6")]


@pytest.mark.parametrize(
    ("steps", "reward"),
    [
        (["7 + 4 = 11\n", "11 - 9 = 2\n", "answer: 2\n"], 1.0),
        (["answer: 2\n"], 1.0),  # nobody asks how
        (["7 + 4 = 12\n", "12 - 9 = 3\n", "answer: 2\n"], 1.0),
        (["seven and four are eleven\n", "Answer:  2 \n"], 1.0),
        (["7 + 4 = 11\n", "11 - 9 = 2\n", "answer: 3\n"], 0.0),
        (["answer: 2 or 3\n"], 0.0),
        (["answer:\n"], 0.0),
        (["answer: 02\n"], 0.0),
    ],
)
def test_only_the_answer_is_judged(steps, reward):
    verdict = TASK.verdict(ASKED, steps)
    assert verdict.terminal
    assert verdict.legal
    assert verdict.reward == reward


def test_a_wrong_line_goes_on_unnoticed_and_its_result_is_the_state():
    verdict, state = TASK.advance(ASKED, TASK.initial_state(ASKED), "7 + 4 = 12\n")
    assert (verdict.legal, verdict.terminal, state) == (True, False, (1, "12"))
    assert not TASK.solvable(ASKED, state)
    assert TASK.solvable(ASKED, (1, "11"))
    assert TASK.distance(ASKED, (1, "11")) == 2
    other = TASK.advance(ASKED, TASK.initial_state(ASKED), "4 + 7 =  11\n")[1]
    assert TASK.state_key(ASKED, other) == TASK.state_key(ASKED, (1, "11")) != TASK.state_key(ASKED, (2, "11"))


def test_a_chain_without_an_answer_ends():
    assert TASK.verdict(ASKED, ["7 + 4 = 11\n"] * TASK.max_steps).reward == 0


@pytest.mark.parametrize("step", ["", "\n", "7 + 4", "7 + 4 = 11\n\n", "x" * 101 + "\n", 7])
def test_what_is_no_line_is_illegal(step):
    verdict, state = TASK.advance(ASKED, TASK.initial_state(ASKED), step)
    assert (verdict.legal, verdict.terminal, state) == (False, True, None)


def test_problems_have_the_terms_that_were_asked_for_and_splits_share_none():
    seen = {}
    for split in ("train", "dev", "test"):
        problems = TASK.problems(split, 600)
        assert {len(problem.data) for problem in problems} == {3, 4, 5}
        assert all(1 <= abs(term) <= 9 for problem in problems for term in problem.data)
        seen[split] = {problem.data for problem in problems}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]
    assert {problem.data for problem in make_task("sums", terms_max=6).problems("test", 600)} & seen["test"]


def test_free_rows_teach_results_of_two_terms_only(rng):
    rows = TASK.random_play("train", 400, rng)
    results = set()
    for tokens, weight in zip(rows.tokens.tolist(), rows.weight.tolist(), strict=True):
        words = [TASK.vocabulary[token] for token in tokens]
        operations = (words.index("\n") - 4) // 2  # behind BOS, "Work", "out" and the first term
        equals = [k for k, word in enumerate(words) if word == "="]
        results |= {(operations == 1, weight[k + 1]) for k in equals}
        assert weight[: words.index("\n") + 1] == [0.0] * (words.index("\n") + 1)
        assert weight[words.index("answer:") + 1] == 1.0
    assert results == {(True, 1.0), (False, 0.0)}
    assert np.isnan(rows.value).all()


def test_hindsight_is_right_and_values_tell_right_from_wrong(rng):
    for row in TASK.hindsight("train", 50, rng).tokens.tolist():
        asked, *steps = TASK.decode([token for token in row[1:] if token != PAD_ID]).splitlines(keepends=True)
        assert TASK.verdict(TASK.parse_problem(asked), steps).reward == 1.0
    rows = TASK.value_play("train", 200, rng)
    assert not rows.weight.any()
    for row, value in zip(rows.tokens.tolist(), rows.value, strict=True):
        asked, step = TASK.decode([token for token in row[1:] if token != PAD_ID]).splitlines(keepends=True)
        problem = TASK.parse_problem(asked)
        _, state = TASK.advance(problem, TASK.initial_state(problem), step)
        assert value[~np.isnan(value)].tolist() == [float(TASK.solvable(problem, state))]
    assert 60 < np.nansum(rows.value) < 140


def test_examples_are_right_chains_of_train():
    test = {problem.data for split in ("dev", "test") for problem in TASK.problems(split)}
    for text in TASK.examples(5):
        asked, *steps = text.splitlines(keepends=True)
        problem = TASK.parse_problem(asked)
        assert TASK.verdict(problem, steps).reward == 1.0
        assert problem.data not in test


def test_guessing_solves_few():
    problems = TASK.problems("test", 500)
    assert guessed(make_guesser("sums"), make_scorer("sums"), problems, 1).mean() < 0.1


@pytest.mark.parametrize("text", ["", "7", "7 * 4", "7 + 10", "1+2+3+4+5+6", "7 + + 4", "Work out", "\u0667 + 4"])
def test_what_is_no_sum_names_the_mend(text):
    with pytest.raises(TaskError) as error:
        TASK.parse_problem(text)
    assert "\n" not in str(error.value)


def test_options_that_cannot_be_met_are_refused():
    for options in ({"terms_min": 2}, {"terms_max": 17}, {"operand_min": 5}, {"operand_max": 8}):
        with pytest.raises(TaskError):
            Sums(**options)


def told(line: str, wrong: int = -1) -> tuple[Found, list[str]]:
    """What another way to a line comes to where every question is answered rightly, but the one numbered `wrong`."""
    way, asked, said = another_way(line), [], None
    while True:
        try:
            question = way.send(said)
        except StopIteration as ended:
            return ended.value, asked
        terms = question.lead.removesuffix(" =")
        assert question.asked == f"Work out {terms}\n"
        (_, result), *_ = worked([int(x) for x in terms.replace("+ ", "").replace("- ", "-").split()])
        asked.append(question.lead)
        said = str(int(result) + (len(asked) - 1 == wrong))


@pytest.mark.parametrize("first", range(-21, 46))
def test_another_way_to_a_line_comes_to_what_says_whether_it_is_right(first):
    for second in range(10):
        for sign in "+-":
            true = total(first, sign, second)
            for result in (true, true + 1, true - 3, -true, second - first, 0):
                line = f"{first} {sign} {second} = {result}\n"
                if first == 0 or second == 0:
                    assert another_way(line) is None
                    continue
                found, _ = told(line)
                assert found.agrees == (result == true)
                if found.step:
                    assert found.step == f"{first} {sign} {second} = {true}\n"
                else:
                    assert (
                        first >= second and first < 10 + second if sign == "-" else first % 10 == 0 or first == second
                    )


@pytest.mark.parametrize("sign", "+-")
@pytest.mark.parametrize("first", [-999, -100, -64, -19, -10, 10, 19, 37, 50, 81, 99, 100, 108, 300, 1000])
def test_a_line_with_a_number_of_several_digits_is_worked_out_a_column_at_a_time(first, sign):
    for second in (*range(1, 100), 101, 250, 999):
        true = total(first, sign, second)
        for result in (true + 10, -true or 1, true):
            found, asked = told(f"{first} {sign} {second} = {result}\n")
            assert found.agrees == (result == true)
            assert found.step == f"{first} {sign} {second} = {true}\n" or len(asked) == 1
        for question in asked if found.step and first % 10 else ():  # of round numbers columns say nothing
            a, _, b, _ = question.split()
            assert len(a) <= 2
            assert len(b) == 1
            assert "0" not in (a, b)
        slips = [told(f"{first} {sign} {second} = {true}\n", wrong)[0] for wrong in range(len(asked))]
        assert not any(found.agrees for found in slips)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("11", "4 - 9 = -11\n"), ("0", "4 - 9 = 0\n"), ("-11", ""), ("", ""), ("eleven", ""), ("1 1", ""), ("{}", ""),
        ("1.5", ""), ("\u0661", ""), ("--1", ""), ("9" * 99, ""),
    ],
)  # fmt: skip
def test_only_a_number_makes_a_line(said, step):
    for line in ("4 - 9 = -12\n", "44 - 55 = -12\n"):
        way = another_way(line)
        next(way)
        try:
            while True:
                way.send(said)
        except StopIteration as ended:
            found = ended.value
        assert not found.agrees
        assert found.step == step or line.startswith("44")
        assert not found.step or another_way(found.step) is not None


def test_no_line_is_asked_again_to_check_it():
    for first in range(-45, 46):
        for second in range(1, 46):
            for sign in "+-":
                lead = f"{first} {sign} {second} ="
                assert first == 0 or lead not in told(f"{lead} {total(first, sign, second)}\n")[1]


def test_another_way_is_asked_as_chains_are_written():
    lines = [
        f"{a} {sign} {b} = {total(a, sign, b)}\n" for a in range(-30, 45) if a for b in range(1, 10) for sign in "+-"
    ]
    asked = [next(another_way(line)).lead.split() for line in lines]
    assert all(sign in "+-" and 0 < len(second) <= 2 for _, sign, second, _ in asked)
    assert all(len(first) >= len(second) and not first.startswith("-") for first, _, second, _ in asked)


def total(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b


@pytest.mark.parametrize(
    "step",
    [
        "answer: 5\n", "", "\n", "7 + 4 = 11 = 11\n", "7 * 4 = 28\n", "7 + 4\n", "7 + -4 = 3\n", "٧ + 4 = 11\n",
        "7 + 4 = " + "9" * 99, "7  + 4 = 11\n",
    ],
)  # fmt: skip
def test_what_is_no_line_of_a_sum_has_no_other_way(step):
    assert another_way(step) is None

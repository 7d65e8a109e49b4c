"""The Countdown verifier: right on legal play, deaf to hostile text, equal to a slow checker that shares no code with it."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Problem, make_task

TASK = make_task("countdown", numbers=4, number_max=9)
PROBLEM = TASK.parse_problem("3 7 8 8 = 24")
STEPS = ["7 - 3 = 4 | 8 8 4\n", "8 - 4 = 4 | 8 4\n", "answer 8 * 4 = 32\n"]
NUMBER = r"(0|[1-9][0-9]?)"
PROPOSAL = re.compile(rf"{NUMBER} ([-+*/]) {NUMBER} = {NUMBER} \|((?: {NUMBER})+)\n")
ANSWER = re.compile(rf"answer {NUMBER} ([-+*/]) {NUMBER} = {NUMBER}\n")


def slow_check(numbers: tuple[int, ...], target: int, steps: list[str]) -> tuple[bool, bool]:
    """(legal, solved) of a chain, from the rules alone."""
    left = Counter(numbers)
    for place, step in enumerate(steps):
        last = left.total() == 2
        match = (ANSWER if last else PROPOSAL).fullmatch(step)
        if match is None:
            return False, False
        a, b, result = (Fraction(match[group]) for group in (1, 3, 4))
        if match[2] == "/" and b == 0:
            return False, False
        if {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[match[2]] != result:
            return False, False
        if Counter([int(a), int(b)]) - left:
            return False, False
        left = left - Counter([int(a), int(b)]) + Counter([int(result)])
        if last:
            return place == len(steps) - 1, place == len(steps) - 1 and result == target
        if left != Counter(map(int, match[5].split())):
            return False, False
    return True, False


def random_chain(draw_index, problem) -> list[str]:
    state, steps = TASK.initial_state(problem), []
    while state is not None:
        options = TASK.legal_steps(problem, state)
        steps.append(options[draw_index(len(options))])
        _, state = TASK.advance(problem, state, steps[-1])
    return steps


@st.composite
def mutated_chains(draw) -> tuple[Problem, list[str]]:
    """A chain that solves its problem, with a few words or characters changed, moved, dropped or doubled."""
    steps = random_chain(lambda n: draw(st.integers(0, n - 1)), PROBLEM)
    problem = Problem("relabelled", "countdown", (PROBLEM.data[0], int(steps[-1].split()[-1])))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(steps) - 1))
        by_word = draw(st.booleans())
        parts = re.split(r"(?<= )|(?= )|(?=\n)", steps[place]) if by_word else list(steps[place])
        spot = draw(st.integers(0, max(0, len(parts) - 1)))
        alphabet = [*"0123456789+-*/=| \n", "answer", "24", "07", "\u0663", "\t", "\u00a0", "\uff17", "", "-1", "1e1"]
        parts[spot : spot + draw(st.integers(0, 2))] = [draw(st.sampled_from(alphabet))]
        steps[place] = "".join(parts)
    return problem, steps


@settings(max_examples=400)
@given(mutated_chains())
def test_only_a_right_chain_earns_the_reward(case):
    problem, steps = case
    verdict = TASK.verdict(problem, steps)
    assert (verdict.legal, bool(verdict.reward)) == slow_check(*problem.data, steps)


def test_verdicts_equal_those_of_a_slow_checker_on_solved_chains(rng):
    solved = 0
    for problem in TASK.problems("train", 2000):
        steps = random_chain(rng.integers, problem)
        verdict = TASK.verdict(problem, steps)
        assert verdict.terminal
        assert (verdict.legal, bool(verdict.reward)) == slow_check(*problem.data, steps)
        solved += verdict.reward == 1
    assert solved > 0


@given(mutated_chains())
def test_a_verdict_is_the_fold_of_advance(case):
    problem, steps = case
    state, taken = TASK.initial_state(problem), []
    for step in steps:
        verdict, state = TASK.advance(problem, state, step)
        taken.append(step)
        assert verdict == TASK.verdict(problem, taken)
        assert (state is None) == verdict.terminal
        if state is None:
            break


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1")), st.text("0123456789+-*/=| \nansw")))
def test_any_text_gets_a_verdict(text):
    for state in ((3, 7, 8, 8), (8, 8, 4), (8, 3)):
        verdict, after = TASK.advance(PROBLEM, state, text)
        assert verdict.terminal == (after is None)
        assert verdict.reward == 0
        assert len(verdict.reason) < 120
    assert TASK.verdict(PROBLEM, [text, text]).reward == 0
    assert TASK.parse_step(PROBLEM, [text], text)[0] == "illegal"


@pytest.mark.parametrize(
    "step",
    [
        "",
        "\n",
        " ",
        "answer",
        "7 + 8 = 15 | 3 8 15",  # unfinished
        "7+8=15|3 8 15\n",
        "7  + 8 = 15 | 3 8 15\n",
        " 7 + 8 = 15 | 3 8 15\n",
        "7 + 8 = 15 | 3 8 15 \n",
        "7 + 8 = 15 | 3 8 15\n\n",
        "7 + 8 = 15 | 3 8 15\r\n",
        "07 + 8 = 15 | 3 8 15\n",
        "\u0667 + 8 = 15 | 3 8 15\n",  # Arabic-Indic seven
        "\uff17 + 8 = 15 | 3 8 15\n",  # fullwidth seven
        "7 + 8 = 15.0 | 3 8 15\n",
        "nan + 8 = nan | 3 8 nan\n",
        "7 + 8 = 15 | 3 8\n",
        "7 + 8 = 15 | 3 8 15 15\n",
        "7 + 7 = 14 | 3 8 14\n",  # one seven only
        "9 + 8 = 17 | 3 7 17\n",
        "3 - 7 = -4 | 8 8 -4\n",
        "7 / 3 = 2 | 8 8 2\n",
        "7 ** 3 = 343 | 8 8 343\n",
        "7 + 8 = 16 | 3 8 16\n",
        "answer 3 * 8 = 24\n",  # four numbers left
        "9" * 3_000_000 + "\n",
        "7 + " * 1_000_000 + "\n",
        "\ud800 + 8 = 15 | 3 8 15\n",
        "<pad> + 8 = 15 | 3 8 15\n",
        None,
        b"7 + 8 = 15 | 3 8 15\n",
    ],
)
def test_hostile_and_sloppy_steps_are_illegal_with_a_short_printable_reason(step):
    verdict, after = TASK.advance(PROBLEM, (3, 7, 8, 8), step)
    assert (verdict.legal, verdict.terminal, verdict.reward, after) == (False, True, 0.0, None)
    assert 0 < len(verdict.reason) < 120
    assert verdict.reason.isascii()
    assert TASK.parse_step(PROBLEM, [], step)[0] == "illegal"


@pytest.mark.parametrize(
    ("state", "step", "reason"),
    [
        ((3, 7, 8, 8), "7 + 8 = 16 | 3 8 16\n", "7 + 8 is 15, not 16"),
        ((3, 7, 8, 8), "7 / 3 = 2 | 8 8 2\n", "7 / 3 is 7/3, not 2"),
        ((3, 7, 8, 8), "3 - 7 = 4 | 8 8 4\n", "3 - 7 is -4, not 4"),
        ((0, 7, 8), "7 / 0 = 0 | 8 0\n", "7 / 0 has no value"),
        ((3, 7, 8, 8), "7 + 8 = 15 | 3 15 15\n", "the numbers left are 3 8 15"),
        ((3, 7, 8, 8), "7 + 5 = 12 | 3 8 12\n", "7 and 5 are not both among 3 7 8 8"),
        ((8, 3), "8 * 3 = 24 | 24\n", "an answer is due"),
        ((8, 3), "answer 8 + 3 = 11\n", "11 is not the target 24"),
        ((8, 3), "answer 8 * 3 = 24\n", "24 is the target"),
    ],
)
def test_a_reason_tells_a_person_what_happened(state, step, reason):
    assert reason in TASK.advance(PROBLEM, state, step)[0].reason


def test_a_wrong_answer_is_legal_and_a_false_one_is_not():
    assert TASK.verdict(PROBLEM, STEPS).legal
    assert TASK.verdict(PROBLEM, STEPS).reward == 0
    assert not TASK.verdict(PROBLEM, [*STEPS[:2], "answer 8 * 4 = 24\n"]).legal


def test_nothing_may_follow_an_answer():
    task = make_task("countdown", numbers=2)
    problem = task.parse_problem("3 8 = 24")
    assert task.verdict(problem, ["answer 3 * 8 = 24\n"]).reward == 1
    assert task.verdict(problem, ["answer 3 * 8 = 24\n", "answer 3 * 8 = 24\n"]).legal is False


def test_numbers_left_may_be_listed_in_any_order_and_the_state_keeps_it():
    verdict, state = TASK.advance(PROBLEM, (3, 7, 8, 8), "7 + 8 = 15 | 15 8 3\n")
    assert verdict.legal
    assert state == (15, 8, 3)
    assert TASK.state_key(PROBLEM, state) == TASK.state_key(PROBLEM, (3, 8, 15)) != TASK.state_key(PROBLEM, (3, 9, 15))


def test_kinds_are_told_by_the_first_word():
    assert [TASK.parse_step(PROBLEM, STEPS[:i], STEPS[i])[0] for i in range(3)] == ["propose", "propose", "answer"]


def test_legal_steps_lead_to_every_reachable_state():
    state = (2, 3, 3)
    after = {TASK.state_key(PROBLEM, TASK.advance(PROBLEM, state, s)[1]) for s in TASK.legal_steps(PROBLEM, state)}
    expected = [(3, 5), (1, 3), (3, 6), (2, 6), (0, 2), (2, 9), (1, 2)]  # 2+3 3-2 2*3 3+3 3-3 3*3 3/3
    assert after == {TASK.state_key(PROBLEM, s) for s in expected}


def test_a_million_character_chain_is_judged_in_linear_time():
    steps = ["7 + 8 = 15 | 3 8 15\n"] * 50_000
    assert not TASK.verdict(PROBLEM, steps).legal
    assert not TASK.verdict(PROBLEM, ["x" * 1_000_000] * 100).legal
    assert np.isfinite(TASK.verdict(PROBLEM, steps).reward)

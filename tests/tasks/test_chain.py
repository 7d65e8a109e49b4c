"""Chain arithmetic: the verifier, how problems are dealt, and the rows, against slow code that shares none with the task."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS, Problem, TaskError, make_task
from tasks.splits import split_code, split_codes, unit_hashes

TASK = make_task("chain")
PROBLEM = TASK.parse_problem("47 + 38 * 3 - 12")
WAY = ["a + 3 8 = 0 8 5\n", "b * 0 3 = 2 5 5\n", "c - 1 2 = 2 4 3\n"]
OPTIONS = [{}, {"cap": 9999, "operand_max": 12, "operations_max": 15}, {"cap": 150, "factor_max": 2}]


FIRST_IDS = [
    "chain:12+53-7-26*6-75+82+80+9+1-72",
    "chain:13-7+65*3-16-59+60-98*7-87",
    "chain:67*6+24+40-94+14-3-20-14+29+42-6",
]


def applied(value: int, operation: tuple[str, int]) -> int:
    return {"+": value + operation[1], "-": value - operation[1], "*": value * operation[1]}[operation[0]]


def slow_values(problem: Problem) -> list[int]:
    """Start and true results."""
    start, operations = problem.data
    values = [start]
    for operation in operations:
        values.append(applied(values[-1], operation))
    return values


def slow_check(problem: Problem, steps: list[str], cap: int = 999) -> tuple[bool, bool]:
    """(legal, solved) of a chain, from the rules alone."""
    values, operations = slow_values(problem), problem.data[1]
    for place, step in enumerate(steps):
        if place == len(operations) or not isinstance(step, str):
            return False, False
        op, operand = operations[place]
        head = re.escape(f"{'abcdefghijkl'[place]} {op} {operand // 10} {operand % 10} = ")
        match = re.fullmatch(head + r"([0-9]) ([0-9]) ([0-9])\n", step)
        if match is None or int("".join(match.groups())) > cap:
            return False, False
        if place == len(operations) - 1:
            return len(steps) == len(operations), len(steps) == len(operations) and int(
                "".join(match.groups())
            ) == values[-1]
    return True, False


def written(task, problem: Problem, values: list[int]) -> list[str]:
    """Steps that write `values`."""
    steps, width = [], len(str(task.operand_max))
    for label, (op, operand), value in zip("abcdefghijklmnopqrstuvwxyz", problem.data[1], values, strict=False):
        operand, value = (" ".join(str(x).zfill(n)) for x, n in ((operand, width), (value, len(str(task.cap)))))
        steps.append(f"{label} {op} {operand} = {value}\n")
    return steps


# ---- the verifier


def test_a_chain_reads_as_documented():
    assert TASK.prompt(PROBLEM) == "a + 3 8 b * 0 3 c - 1 2 | 0 4 7\n"
    assert TASK.verdict(PROBLEM, WAY).reward == 1
    assert TASK.context(PROBLEM, WAY[:2]) == TASK.prompt(PROBLEM) + WAY[0] + WAY[1]
    assert TASK.parse_step(PROBLEM, WAY[:1], WAY[1]) == ("compute", "")


@pytest.mark.parametrize("options", OPTIONS)
def test_every_right_chain_is_accepted_and_every_wrong_end_rejected(options):
    task = make_task("chain", **options)
    for problem in task.problems("train", 50, seed=3):
        values = slow_values(problem)
        assert min(values) >= 0
        assert max(values) <= task.cap
        right = written(task, problem, values[1:])
        assert task.verdict(problem, right).reward == 1
        for end in {0, task.cap, (values[-1] + 1) % (task.cap + 1), abs(values[-1] - 1)} - {values[-1]}:
            verdict = task.verdict(problem, right[:-1] + written(task, problem, [*values[1:-1], end])[-1:])
            assert (verdict.terminal, verdict.legal, verdict.reward) == (True, True, 0.0)


def test_wrong_results_on_the_way_are_legal_and_only_the_end_counts(rng):
    for problem in TASK.problems("train", 50):
        values = slow_values(problem)
        odd = rng.integers(0, 1000, len(values) - 2).tolist()
        steps = written(TASK, problem, [*odd, values[-1]])
        for k in range(1, len(steps)):
            verdict = TASK.verdict(problem, steps[:k])
            assert (verdict.legal, verdict.terminal) == (True, False)
        assert TASK.verdict(problem, steps).reward == 1
        follow = [odd[0]]
        for operation in problem.data[1][1:]:
            follow.append(applied(follow[-1], operation) % 1000)
        assert TASK.verdict(problem, written(TASK, problem, follow)).reward == float(follow[-1] == values[-1])


def test_a_state_is_solvable_while_its_value_is_the_true_one():
    for problem in TASK.problems("dev", 20):
        values, state = slow_values(problem), TASK.initial_state(problem)
        right = written(TASK, problem, values[1:])
        for done in range(len(right)):
            assert TASK.solvable(problem, state)
            assert TASK.distance(problem, state) == len(right) - done
            wrong = ((state[0] + 1) % 1000, done)
            assert not TASK.solvable(problem, wrong)
            assert TASK.distance(problem, wrong) is None
            verdict, state = TASK.advance(problem, state, right[done])
        assert (state, verdict.reward) == (None, 1.0)


def test_equal_values_after_equally_many_steps_are_one_state():
    problem = TASK.parse_problem("5 + 5 - 5 + 5 - 5")
    keys = {TASK.state_key(problem, (value, done)) for value in (0, 5, 10, 999) for done in range(4)}
    assert len(keys) == 16
    after = [
        TASK.advance(problem, TASK.initial_state(problem), f"a + 0 5 = {r}\n")[1] for r in ("0 1 0", "0 1 0", "0 1 1")
    ]
    keys = [TASK.state_key(problem, state) for state in after]
    assert keys[0] == keys[1] != keys[2]


def test_any_number_up_to_the_cap_is_a_legal_step_and_no_other():
    task = make_task("chain", cap=150)
    problem = task.parse_problem("7 + 1 * 2 - 3")
    steps = task.legal_steps(problem, (8, 1))
    assert steps == [f"b * 0 2 = {' '.join(f'{value:03d}')}\n" for value in range(151)]
    assert all(task.advance(problem, (8, 1), step)[0].legal for step in steps)
    assert not task.advance(problem, (8, 1), "b * 0 2 = 1 5 1\n")[0].legal


RESULTS = ["8 5", "0 0 8 5", "085", " 0 8 5", "0 8 5 ", "0 8 5\n", "0 8 5\r", "0 8 x", "0 - 5", "0 8 ٥", "0 8 \ud800"]
COPIES = ["", "a", "a + 3 9 =", "a - 3 8 =", "b + 3 8 =", "A + 3 8 =", "a + 38 =", "a + 3 8 =="]
HOSTILE = [
    *["", "\n", "a + 3 8 = 0 8 5", "a + 3 8 = " + "9 " * 1_000_000 + "\n", None, 85, b"a + 3 8 = 0 8 5\n"],
    *[f"a + 3 8 = {result}\n" for result in RESULTS],
    *[f"{copy} 0 8 5\n" for copy in COPIES],
]


@pytest.mark.parametrize("step", HOSTILE)
def test_hostile_and_sloppy_steps_are_illegal_with_a_short_printable_reason(step):
    verdict, after = TASK.advance(PROBLEM, TASK.initial_state(PROBLEM), step)
    assert (verdict.legal, verdict.terminal, verdict.reward, after) == (False, True, 0.0, None)
    assert 0 < len(verdict.reason) < 120
    assert verdict.reason.isascii()
    assert TASK.parse_step(PROBLEM, [], step)[0] == "illegal"
    assert TASK.verdict(PROBLEM, [step, *WAY[1:]]).reward == 0


any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates too


@given(
    st.lists(
        st.one_of(any_text, st.sampled_from([*WAY, *WAY, *WAY, "b * 0 3 = 9 9 9\n", "c - 1 2 = 2 4 4\n"])), max_size=5
    )
)
def test_any_chain_gets_the_verdict_of_a_slow_checker(steps):
    verdict = TASK.verdict(PROBLEM, steps)
    assert (verdict.legal, bool(verdict.reward)) == slow_check(PROBLEM, steps)


@given(st.integers(0, 2), st.data())
def test_a_right_chain_with_one_character_changed_is_right_only_if_that_was_a_middle_result(place, data):
    step = WAY[place]
    spot = data.draw(st.integers(0, len(step) - 1))
    changed = step[:spot] + data.draw(st.sampled_from([*"0123456789+-*=ab \n", ""])) + step[spot + 1 :]
    steps = [*WAY[:place], changed, *WAY[place + 1 :]]
    verdict = TASK.verdict(PROBLEM, steps)
    assert (verdict.legal, bool(verdict.reward)) == slow_check(PROBLEM, steps)


def test_a_step_after_the_last_operation_is_illegal():
    assert TASK.verdict(PROBLEM, [*WAY, WAY[-1]]).legal is False
    assert TASK.verdict(PROBLEM, []).terminal is False


# ---- problems


@pytest.mark.parametrize("options", OPTIONS)
def test_problems_are_within_the_options(options):
    task = make_task("chain", **options)
    lengths, factors, operands, starts = Counter(), set(), set(), set()
    for problem in task.problems("train", 2000):
        start, operations = problem.data
        lengths[len(operations)] += 1
        starts.add(start)
        factors |= {operand for op, operand in operations if op == "*"}
        operands |= {operand for op, operand in operations if op != "*"}
    assert set(lengths) == set(range(task.operations_min, task.operations_max + 1))
    assert min(lengths.values()) > 0.7 * 2000 / len(lengths)
    assert factors == set(range(2, task.factor_max + 1))
    assert operands == starts == set(range(1, task.operand_max + 1))


def test_a_split_is_a_hash_of_the_problem_and_splits_are_disjoint():
    found = {split: TASK.problems(split, 1500, seed=1) for split in SPLITS}
    for split, problems in found.items():
        names = [problem.id.removeprefix("chain:") for problem in problems]
        assert len(set(names)) == 1500
        codes = split_codes(unit_hashes(name.encode() for name in names), 0.8, 0.1)
        assert (codes == split_code(split)).all()
        for name, problem in zip(names, problems, strict=True):
            start, operations = problem.data
            assert name == f"{start}{''.join(f'{op}{operand}' for op, operand in operations)}"
    ids = [{problem.id for problem in problems} for problems in found.values()]
    assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]


def test_the_first_problems_of_every_split_stay_what_they_are():
    first = [TASK.problems(split, 1)[0].id for split in SPLITS]
    assert first == FIRST_IDS


def test_dev_and_test_are_lists_and_train_is_drawn(rng):
    for split in ("dev", "test"):
        everything = {problem.id for problem in TASK.problems(split)}
        assert len(everything) == TASK.count(split) == 4096
        assert {problem.id for problem in TASK.problems(split, 4096, seed=9)} == everything
        with pytest.raises(TaskError, match="holds 4096 problems"):
            TASK.problems(split, 4097)
    with pytest.raises(TaskError, match="give n"):
        TASK.problems("train")
    first, second = TASK.practice(64, rng), TASK.practice(64, rng)
    assert len({problem.id for problem in first + second}) == 128


def test_the_commonest_answer_is_no_way_to_guess():
    answers = Counter(slow_values(problem)[-1] for problem in TASK.problems("test", 4000))
    assert answers.most_common(1)[0][1] < 0.005 * 4000
    assert len(answers) > 900


NO_CHAINS = ["", "47", "47 + 38 /", "47 + \u0663", "9" * 10**6]
MENDS = {"1" + "+1" * 13: "operations_max", "47 + 100": "operand_max", "4 - 5": "cap", "99 * 9 * 9": "cap"}


@pytest.mark.parametrize(("text", "mend"), [*((text, "as 47") for text in NO_CHAINS), *MENDS.items()])
def test_a_bad_problem_text_names_the_mend(text, mend):
    with pytest.raises(TaskError, match=mend) as error:
        TASK.parse_problem(text)
    assert len(str(error.value)) < 140


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"operations_max": 27}, "integer in 3..26"),
        ({"operations_min": 13}, "integer in 3..12"),
        ({"operand_max": 5}, "integer in 9..999"),
        ({"factor_max": 1}, "integer in 2..9"),
        ({"cap": 98}, "integer in 99..9999"),
        ({"free_operations": 8}, "lower it to 7"),
        ({"free_operations": 1}, "integer in 2..26"),
        ({"train_fraction": 1.0}, "number in 0.01..0.98"),
        ({"train_fraction": 0.9, "dev_fraction": 0.2}, "number in 0.01..0.09"),
    ],
)
def test_impossible_options_name_the_mend_in_one_line(options, mend):
    with pytest.raises(TaskError) as error:
        make_task("chain", **options)
    assert mend in str(error.value)
    assert "\n" not in str(error.value)


def test_too_few_chains_for_a_split_are_an_error_and_no_endless_loop(monkeypatch):
    monkeypatch.setattr("tasks.splits.BARREN_BATCHES", 1)
    few = {"operations_min": 3, "operations_max": 3, "free_operations": 2, "operand_max": 9, "factor_max": 2, "cap": 99}
    task = make_task("chain", **few, train_fraction=0.01, dev_fraction=0.01)
    with pytest.raises(TaskError, match="raise operand_max"):
        task.problems("dev", 5)


# ---- text and tokens


@pytest.mark.parametrize("options", OPTIONS)
def test_declared_lengths_are_the_longest_that_occur(options):
    task = make_task("chain", **options)
    contexts, steps = [], []
    for problem in task.problems("dev", 40):
        way = written(task, problem, slow_values(problem)[1:])
        contexts += [1 + len(task.encode(task.context(problem, way[:k]))) for k in range(len(way))]
        steps += [len(task.encode(step)) for step in way]
    assert max(contexts) == task.max_context_tokens
    assert set(steps) == {task.max_step_tokens}

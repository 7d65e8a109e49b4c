"""Blocksworld: every claim against a slow game whose states say what each block stands on."""

from __future__ import annotations

from collections import deque
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS, Problem, TaskError, make_task

FOUR, FIVE = make_task("blocksworld", blocks=4), make_task("blocksworld")
TASKS = pytest.mark.parametrize("task", [FOUR, FIVE], ids=["4 blocks", "5 blocks"])
START, GOAL = "A b C d e", "A b c D e"
PROBLEM = Problem("any", "blocksworld", (START, GOAL))
WAY = ["e table A b C d E\n", "d table A b C D E\n", "c b A b c D E\n", "e d A b c D e\n"]

Below = tuple[str, ...]  # what a, b, c, ... stand on: a block or ""


def slow_states(blocks: int) -> list[Below]:
    """Everything that blocks can stand on, less what is impossible: two on one block, or a circle."""
    names = "abcdef"[:blocks]
    states = []
    for below in product(("", *names), repeat=blocks):
        used = [block for block in below if block]
        if len(set(used)) == len(used) and all(block not in held_up_by(block, below) for block in names):
            states.append(below)
    return states


def held_up_by(block: str, below: Below) -> list[str]:
    """The blocks under a block, nearest first; stops where a circle closes."""
    found = []
    while (block := below["abcdef".index(block)]) and block not in found:
        found.append(block)
    return found


def slow_text(below: Below) -> str:
    names = "abcdef"[: len(below)]
    tops = [block for block in names if block not in below]
    stacks = sorted([*reversed(held_up_by(top, below)), top] for top in tops)
    return " ".join(" ".join([stack[0].upper(), *stack[1:]]) for stack in stacks)


def slow_moves(below: Below) -> dict[str, Below]:
    """New states by move: a block with nothing on it goes to the table or onto another such block."""
    names = "abcdef"[: len(below)]
    free = [block for block in names if block not in below]
    moves = {}
    for block, onto in product(free, (*free, "")):
        if onto not in (block, below[names.index(block)]):
            moves[f"{block} {onto or 'table'}"] = tuple(
                onto if b == block else u for b, u in zip(names, below, strict=True)
            )
    return moves


def slow_distances(goal: Below) -> dict[Below, int]:
    found, queue = {goal: 0}, deque([goal])
    while queue:
        state = queue.popleft()
        for after in slow_moves(state).values():  # every move can be taken back
            if after not in found:
                found[after] = found[state] + 1
                queue.append(after)
    return found


STATES = {task.blocks: {slow_text(below): below for below in slow_states(task.blocks)} for task in (FOUR, FIVE)}


def at(task, text: str) -> tuple:
    """The task's own form of a state."""
    return task.initial_state(Problem("any", "blocksworld", (text, text)))


@TASKS
def test_the_space_is_every_arrangement_once(task):
    texts = [task.space.state_text(state) for state in range(len(task.space.after))]
    assert set(texts) == set(STATES[task.blocks]) == set(task.space.goal_of_text)
    assert len(texts) == len(set(texts)) == {4: 73, 5: 501}[task.blocks]


@TASKS
def test_legal_steps_are_the_moves_of_the_slow_game_in_every_state(task):
    goal = next(iter(STATES[task.blocks]))
    for text, below in STATES[task.blocks].items():
        expected = {f"{move} {slow_text(after)}\n" for move, after in slow_moves(below).items()}
        assert set(task.legal_steps(Problem("any", "blocksworld", (text, goal)), at(task, text))) == expected


@TASKS
def test_every_legal_step_is_accepted_and_every_other_pair_of_move_and_state_rejected(task, rng):
    texts = sorted(STATES[task.blocks])
    moves = [f"{a} {b}" for a, b in product("abcdef"[: task.blocks], (*"abcdef"[: task.blocks], "table"))]
    for text in rng.choice(texts, 25, replace=False).tolist():
        goal = texts[0] if text != texts[0] else texts[1]
        problem, legal = Problem("any", "blocksworld", (text, goal)), slow_moves(STATES[task.blocks][text])
        for move in moves:
            right = slow_text(legal[move]) if move in legal else text
            for claim in (right, *rng.choice(texts, 5).tolist()):
                verdict, after = task.advance(problem, at(task, text), f"{move} {claim}\n")
                assert verdict.legal == (move in legal and claim == right), (text, move, claim)
                assert (after is None) == (not verdict.legal or claim == goal)
                assert verdict.reward == (verdict.legal and claim == goal)
                assert verdict.legal or verdict.reason


@TASKS
def test_distances_equal_plain_breadth_first_search_on_every_state(task, rng):
    texts = list(STATES[task.blocks])
    for goal in texts if task is FOUR else rng.choice(texts, 25, replace=False).tolist():
        problem = Problem("any", "blocksworld", (goal, goal))
        expected = slow_distances(STATES[task.blocks][goal])
        assert len(expected) == len(texts)
        for below, moves in expected.items():
            assert task.distance(problem, at(task, slow_text(below))) == moves
            assert task.solvable(problem, at(task, slow_text(below)))


def test_six_blocks_have_the_known_number_of_arrangements_and_depth():
    six = make_task("blocksworld", blocks=6)
    assert len(six.space.after) == 4051  # OEIS A000262
    assert six.distance_max == 10
    problem = six.problems("test", 1)[0]
    assert six.distance(problem, six.initial_state(problem)) == len(shortest(six, problem))


def shortest(task, problem: Problem) -> list[str]:
    """A shortest chain, by following the labels."""
    steps, state = [], task.initial_state(problem)
    while state is not None:
        far = task.distance(problem, state)
        for step in task.legal_steps(problem, state):
            _, after = task.advance(problem, state, step)
            if far == 1 if after is None else task.distance(problem, after) == far - 1:
                break
        steps.append(step)
        state = after
    return steps


def test_problems_are_exactly_the_pairs_in_range():
    reference = {text: slow_distances(below) for text, below in STATES[4].items()}
    expected = {
        (start, goal)
        for goal, found in reference.items()
        for start, below in STATES[4].items()
        if 4 <= found[below] <= 6
    }
    found = [problem.data for split in SPLITS for problem in FOUR.problems(split)]
    assert len(found) == len(expected) == sum(FOUR.count(split) for split in SPLITS)
    assert set(found) == expected


def test_the_context_shows_only_goal_and_present_state():
    assert FIVE.prompt(PROBLEM) == "A b c D e | A b C d e\n"
    assert FIVE.context(PROBLEM, WAY[:2]) == "A b c D e | A b C D E\n"
    assert FIVE.parse_problem(FIVE.prompt(PROBLEM)).data == PROBLEM.data


def test_a_chain_ends_with_reward_one_as_soon_as_the_goal_is_reached():
    assert FIVE.verdict(PROBLEM, WAY[:-1]).terminal is False
    assert FIVE.verdict(PROBLEM, WAY).reward == 1
    assert FIVE.verdict(PROBLEM, [*WAY, "e table A b c D E\n"]).legal is False
    assert FIVE.distance(PROBLEM, FIVE.initial_state(PROBLEM)) == len(WAY)


@given(st.lists(st.one_of(st.text(), st.sampled_from([*WAY, "e c A b C e D\n", "e d A b C d e\n"])), max_size=8))
def test_any_chain_gets_the_verdict_of_a_slow_checker(steps):
    below, legal, solved = STATES[5][START], True, False
    for step in steps:
        after = slow_moves(below).get(" ".join(step.split(" ")[:2]))
        if solved or after is None or step != f"{' '.join(step.split(' ')[:2])} {slow_text(after)}\n":
            legal, solved = False, False
            break
        below, solved = after, slow_text(after) == GOAL
    verdict = FIVE.verdict(PROBLEM, steps)
    assert (verdict.legal, verdict.reward) == (legal, float(solved))


@pytest.mark.parametrize(
    "step",
    [
        "e table A b C d e\n",  # the state before the move
        "d table A b C e D\n",  # d carries e
        "e d A b C d e\n",  # it stands there already
        "e e A b C d E\n",
        "table e A b C d E\n",
        "E table A b C d E\n",
        "f table A b C d e F\n",
        "e table C d A b E\n",  # stacks out of order
        "e table A b C d E",
        "e table A b C d E \n",
        "e  table A b C d E\n",
        "e\ttable A b C d E\n",
        "е table A b C d E\n",  # a Cyrillic letter
    ],
)
def test_a_sloppy_step_is_illegal(step):
    assert not FIVE.advance(PROBLEM, at(FIVE, START), step)[0].legal


def test_a_bad_problem_text_names_the_mend():
    for text, mend in [
        ("A b c d e", "'goal | start': write it as A b c d e | E d c b a"),
        ("B A c d e | A b c d e", "write each of 5 blocks once"),
        ("A b c d e | A b c d", "sorted by the capitals"),
        ("A b c d e | A b c d e\n", "solved at the start"),
        ("A b c d e | \ud800", "write each of 5 blocks once"),
        ("x" * 10**6, "as A b"),
    ]:
        with pytest.raises(TaskError, match=mend.replace("|", r"\|")) as error:
            FIVE.parse_problem(text)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 200

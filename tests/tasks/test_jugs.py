"""Water jugs: every claim against slow pouring on tuples."""

from __future__ import annotations

from collections import deque
from itertools import combinations, product
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS, Problem, TaskError, make_task

TWO, THREE = make_task("jugs", jugs=2, capacity_max=11), make_task("jugs", capacity_max=9)
TASKS = pytest.mark.parametrize("task", [TWO, THREE], ids=["2 jugs", "3 jugs"])
PROBLEM = Problem("any", "jugs", ("0 0", "4 of 3 5"))
WAY = ["fill 2 0 5\n", "pour 2 1 3 2\n", "empty 1 0 2\n", "pour 2 1 2 0\n", "fill 2 2 5\n", "pour 2 1 3 4\n"]

State = tuple[int, ...]


def slow_moves(capacities: State, state: State) -> dict[str, State]:
    """New contents by move, moves that change nothing left out."""
    moves = {}
    for i, capacity in enumerate(capacities):
        moves[f"fill {i + 1}"] = (*state[:i], capacity, *state[i + 1 :])
        moves[f"empty {i + 1}"] = (*state[:i], 0, *state[i + 1 :])
        for j, room in enumerate(capacities):
            if i != j:
                after = list(state)
                while after[i] > 0 and after[j] < room:  # a cup at a time
                    after[i] -= 1
                    after[j] += 1
                moves[f"pour {i + 1} {j + 1}"] = tuple(after)
    return {move: after for move, after in moves.items() if after != state}


def slow_reach(capacities: State, start: State | None = None) -> dict[State, int]:
    """Moves from a state (all empty) to each that can occur."""
    start = start or (0,) * len(capacities)
    found, queue = {start: 0}, deque([start])
    while queue:
        state = queue.popleft()
        for after in slow_moves(capacities, state).values():
            if after not in found:
                found[after] = found[state] + 1
                queue.append(after)
    return found


def slow_distance(capacities: State, state: State, amount: int) -> int | None:
    return min((d for other, d in slow_reach(capacities, state).items() if amount in other), default=None)


def text_of(numbers: State) -> str:
    return " ".join(map(str, numbers))


def game(capacities: State, state: State, amount: int) -> Problem:
    return Problem("any", "jugs", (text_of(state), f"{amount} of {text_of(capacities)}"))


@TASKS
def test_the_space_is_all_that_can_occur_and_all_that_can_be_measured(task):
    goals, states = set(), 0
    for capacities in combinations(range(1, task.capacity_max + 1), task.jugs):
        reach = slow_reach(capacities)
        states += len(reach)
        goals |= {f"{amount} of {text_of(capacities)}" for state in reach for amount in state if amount}
    assert set(task.space.goal_of_text) == goals
    assert len(task.space.after) == states


@pytest.mark.parametrize("capacities", [(3, 5), (4, 6), (1, 11), (7, 11), (1, 2, 3), (3, 5, 8), (2, 6, 9), (7, 8, 9)])
def test_legal_steps_are_the_slow_moves_in_every_state(capacities):
    task = TWO if len(capacities) == 2 else THREE
    for state in slow_reach(capacities):
        problem = game(capacities, state, max(capacities))
        expected = {f"{move} {text_of(after)}\n" for move, after in slow_moves(capacities, state).items()}
        found = task.legal_steps(problem, task.initial_state(problem))
        assert set(found) == expected
        assert len(found) == len(expected)


@pytest.mark.parametrize("capacities", [(3, 5), (4, 10), (7, 11), (1, 3, 4), (3, 5, 8), (6, 7, 9)])
def test_distances_equal_plain_breadth_first_search_from_every_state(capacities):
    task = TWO if len(capacities) == 2 else THREE
    reach = slow_reach(capacities)
    amounts = sorted({amount for state in reach for amount in state if amount})
    for state in list(reach)[:: 1 + len(reach) // 60]:
        found = slow_reach(capacities, state)
        for amount in amounts:
            problem = game(capacities, state, amount)
            expected = min(d for other, d in found.items() if amount in other)
            assert task.distance(problem, task.initial_state(problem)) == expected
            assert task.solvable(problem, task.initial_state(problem))


@TASKS
def test_every_move_is_judged_with_right_and_wrong_contents(task, rng):
    capacities = (4, 7) if task is TWO else (3, 5, 8)
    names = [str(j + 1) for j in range(task.jugs)]
    moves = [f"{word} {j}" for word in ("fill", "empty") for j in names]
    moves += [f"pour {i} {j}" for i, j in product(names, names)]
    states = sorted(slow_reach(capacities))
    for state in rng.choice(states, 20, replace=False).tolist():
        problem, legal = game(capacities, tuple(state), 2), slow_moves(capacities, tuple(state))
        for move in moves:
            right = legal.get(move, tuple(state))
            for claim in (right, *map(tuple, rng.choice(states, 5).tolist())):
                verdict, after = task.advance(problem, task.initial_state(problem), f"{move} {text_of(claim)}\n")
                assert verdict.legal == (move in legal and claim == right), (state, move, claim)
                assert verdict.reward == (verdict.legal and 2 in claim)
                assert (after is None) == (not verdict.legal or 2 in claim)
                assert verdict.legal or verdict.reason


@TASKS
def test_problems_are_exactly_the_amounts_in_range_from_all_empty(task):
    expected = set()
    for capacities in combinations(range(1, task.capacity_max + 1), task.jugs):
        reach = slow_reach(capacities)
        for amount in range(1, task.capacity_max + 1):
            far = min((d for state, d in reach.items() if amount in state), default=0)
            if task.distance_min <= far <= task.distance_max:
                expected.add((text_of((0,) * task.jugs), f"{amount} of {text_of(capacities)}"))
    found = [problem.data for split in SPLITS for problem in task.problems(split)]
    assert len(found) == len(expected)
    assert set(found) == expected


def test_jugs_with_a_common_factor_are_in_the_split_of_the_simple_ones():
    task = make_task("jugs", jugs=2, capacity_max=20, distance_min=1, distance_max=24, goal_holdout=0.5)
    split_of: dict[tuple, set[str]] = {}
    for split in SPLITS:
        for problem in task.problems(split):
            amount, _, *sizes = problem.data[1].split()
            numbers = (int(amount), *map(int, sizes))
            simple = tuple(number // gcd(*numbers[1:]) for number in numbers)
            split_of.setdefault(simple, set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert set.union(*split_of.values()) == set(SPLITS)


def test_any_jug_may_hold_the_amount():
    assert TWO.verdict(PROBLEM, WAY).reward == 1
    assert TWO.verdict(PROBLEM, WAY[:-1]).terminal is False
    assert TWO.distance(PROBLEM, TWO.initial_state(PROBLEM)) == len(WAY)
    first = Problem("any", "jugs", ("0 0", "2 of 3 5"))
    assert TWO.verdict(first, WAY[:2]).reward == 1
    assert TWO.verdict(first, WAY[:3]).legal is False


def test_the_context_shows_only_goal_and_present_contents():
    assert TWO.prompt(PROBLEM) == "4 of 3 5 | 0 0\n"
    assert TWO.context(PROBLEM, WAY[:1]) == "4 of 3 5 | 0 5\n"
    assert TWO.context(PROBLEM, WAY[:2]) == "4 of 3 5 | 3 2\n"


@given(st.lists(st.one_of(st.text(), st.sampled_from([*WAY, "empty 2 0 0\n", "fill 2 0 4\n"])), max_size=8))
def test_any_chain_gets_the_verdict_of_a_slow_checker(steps):
    state, legal, solved = (0, 0), True, False
    for step in steps:
        right = {f"{move} {text_of(after)}\n": after for move, after in slow_moves((3, 5), state).items()}
        if solved or step not in right:
            legal, solved = False, False
            break
        state, solved = right[step], 4 in right[step]
    verdict = TWO.verdict(PROBLEM, steps)
    assert (verdict.legal, verdict.reward) == (legal, float(solved))


@pytest.mark.parametrize(
    "step",
    [
        "empty 1 0 0\n",  # changes nothing
        "pour 1 2 0 0\n",
        "fill 3 0 0\n",
        "fill 0 0 0\n",
        "fill 1 3 0",
        "fill 1 3\n",
        "fill 1 3 0 0\n",
        "fill 1  3 0\n",
        "fill 1 03 0\n",
        "fill 1 \u0663 0\n",
        "fill 1 3.0 0\n",
        "fill 1 2 0\n",
        "pour 2 1 0 0\n",
        "Fill 1 3 0\n",
    ],
)
def test_a_sloppy_step_is_illegal(step):
    verdict, _ = TWO.advance(PROBLEM, TWO.initial_state(PROBLEM), step)
    assert not verdict.legal
    assert verdict.reason.isascii()


def test_a_bad_problem_text_names_the_mend():
    for text, mend in [
        ("4 of 3 5", "'goal | start': write it as 4 of 3 5 | 0 0"),
        ("4 of 5 3 | 0 0", "ascending, up to 11, that can be measured"),
        ("3 of 4 6 | 0 0", "that can be measured"),
        ("4 of 3 5 | 1 1", "these contents cannot occur: start with 0 0"),
        ("4 of 3 5 | 0 0 0", "start with 0 0"),
        ("4 of 3 5 | 3 4", "solved at the start"),
        ("\ud800 of 3 5 | 0 0", "up to 11"),
        ("x" * 10**6, "as 4 of"),
    ]:
        with pytest.raises(TaskError, match=mend.replace("|", r"\|")) as error:
            TWO.parse_problem(text)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 200

"""What Blocksworld and jugs share: splits, stratified problems, lengths, the verifier on hostile text."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPECIAL_TOKENS, SPLITS, Problem, TaskError, make_task
from tasks.planning.space import draw_stratified
from tests.tasks.planning_cases import NAMES, PLAYS, SMALL, TASKS, goals_of

FULL = {name: make_task(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def task(request):
    return TASKS[request.param]


def far_by_steps(task, problem: Problem, moves: int) -> bool:
    """Whether legal steps, taken through the verifier, solve a problem in exactly `moves` and no fewer."""
    seen, queue = {task.initial_state(problem)}, deque([(task.initial_state(problem), 0)])
    while queue:
        state, depth = queue.popleft()
        for step in task.legal_steps(problem, state):
            verdict, after = task.advance(problem, state, step)
            if verdict.reward == 1:
                return depth + 1 == moves
            if after not in seen:
                seen.add(after)
                queue.append((after, depth + 1))
    return False


# ---- splits and problems


def test_splits_share_no_goal_and_hold_their_shares(task):
    goals = {split: goals_of(task, split) for split in SPLITS}
    assert not goals["train"] & goals["dev"] | goals["train"] & goals["test"] | goals["dev"] & goals["test"]
    total = sum(map(len, goals.values()))
    for split, share in zip(SPLITS, (0.8, 0.05, 0.15), strict=True):
        assert abs(len(goals[split]) - total * share) < 4 * (total * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_goal_stays_in_its_split_whatever_the_other_options(name):
    options = {"blocksworld": {"max_steps": 9}, "jugs": {"capacity_max": 12, "distance_max": 6}}
    wider = make_task(name, **{**SMALL[name], **options[name], "distance_min": 1, "discount": 0.5, "walk_moves": 5})
    for split in SPLITS:
        elsewhere = {p.data[1] for other in SPLITS if other != split for p in TASKS[name].problems(other)}
        assert not {problem.data[1] for problem in wider.problems(split)} & elsewhere


@pytest.mark.parametrize("split", SPLITS)
def test_optimal_lengths_come_equally_often_as_far_as_each_lasts(task, split):
    problems = task.problems(split, seed=3)
    moves = [task.distance(problem, task.initial_state(problem)) for problem in problems]
    total = Counter(moves)
    assert min(moves) >= task.distance_min
    assert max(moves) <= task.distance_max
    for n in (1, 7, len(problems) // 2, len(problems)):
        taken = Counter(moves[:n])
        lasting = [taken[length] for length, count in total.items() if taken[length] < count]
        assert not lasting or max(taken.values()) <= min(lasting) + 1


@pytest.mark.parametrize("split", SPLITS)
def test_fewer_problems_are_a_prefix_and_none_comes_twice(task, split):
    everything = task.problems(split, seed=3)
    assert len({problem.id for problem in everything}) == len(everything) == task.count(split)
    assert len({problem.data for problem in everything}) == len(everything)
    for n in (0, 1, 5, len(everything) - 1):
        assert task.problems(split, n, seed=3) == everything[:n]
    assert task.problems(split, seed=4) != everything
    assert set(task.problems(split, seed=4)) == set(everything)


def test_problems_of_one_length_are_uniform():
    counts, drawn = np.array([5, 40, 0, 3]), Counter()
    for seed in range(3000):
        positions = draw_stratified(counts, 6, "train", seed)
        strata = np.searchsorted(np.cumsum(counts), positions, side="right")
        assert np.bincount(strata, minlength=4).tolist() == [2, 2, 0, 2]
        drawn.update(positions.tolist())
    for members, share in ((range(5), 2 / 5), (range(5, 45), 2 / 40), (range(45, 48), 2 / 3)):
        for member in members:
            assert abs(drawn[member] / 3000 - share) < 5 * (share * (1 - share) / 3000) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_drawn_problems_are_as_deep_as_they_are_said_to_be(name):
    task = FULL[name]
    for problem in task.problems("test", 12, seed=2):
        assert far_by_steps(task, problem, task.distance(problem, task.initial_state(problem)))


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_hold_thousands_of_problems_of_every_length(name):
    task = FULL[name]
    assert task.count("train") > 4000
    assert task.count("dev") > 250
    problems = task.problems("train", 200)  # lengths come in turn
    moves = {task.distance(problem, task.initial_state(problem)) for problem in problems}
    assert moves == set(range(4, {"blocksworld": 8, "jugs": 14}[name] + 1))


@pytest.mark.parametrize("name", NAMES)
def test_practice_goes_down_to_shorter_ways_and_holds_no_goal_of_dev_and_test(name, rng):
    task = make_task(name, **{**SMALL[name], "distance_min": 3, "practice_min": 1})
    problems = task.practice(90, rng)
    moves = Counter(task.distance(problem, task.initial_state(problem)) for problem in problems)
    assert set(moves) >= {1, 2, 3}
    assert len({problem.id for problem in problems}) == 90
    assert {problem.data[1] for problem in problems} <= goals_of(task, "train")
    usual = TASKS[name].practice(10**6, rng)
    assert set(usual) == set(TASKS[name].problems("train"))


def test_asking_for_what_is_not_there_says_so(task, rng):
    with pytest.raises(TaskError, match=f"holds {task.count('dev')} problems"):
        task.problems("dev", task.count("dev") + 1)
    for ask in (lambda: task.problems("validation"), lambda: task.count("validation")):
        with pytest.raises(TaskError, match="use one of train, dev, test"):
            ask()
    for play in PLAYS:
        with pytest.raises(TaskError, match="use one of train, dev, test"):
            getattr(task, play)("validation", 3, rng)


@pytest.mark.parametrize(
    ("name", "options", "mend"),
    [
        ("blocksworld", {"blocks": 7}, "integer in 4..6"),
        ("blocksworld", {"distance_max": 17}, "integer in 1..16"),
        ("blocksworld", {"distance_min": 9}, "lower distance_min to 8 or less"),
        ("blocksworld", {"distance_min": 7, "distance_max": 6}, "integer in 1..6"),
        ("blocksworld", {"practice_min": 5}, "integer in 1..4"),
        ("blocksworld", {"distance_min": 12, "distance_max": 14}, "lower distance_min to 8 or less"),
        ("blocksworld", {"goal_holdout": 1}, "number in 0.01..0.99"),
        ("jugs", {"jugs": 4}, "integer in 2..3"),
        ("jugs", {"capacity_max": 99}, "integer in 4..24"),
        ("jugs", {"capacity_max": 5, "distance_min": 12}, "lower distance_min to 4 or less"),
        ("jugs", {"discount": "0.9"}, "number in 0.01..1"),
        ("jugs", {"walk_moves": 1}, "integer in 2..1000"),
    ],
)
def test_impossible_options_name_the_mend_in_one_line(name, options, mend):
    with pytest.raises(TaskError) as error:
        make_task(name, **options)
    assert mend in str(error.value)
    assert "\n" not in str(error.value)


# ---- texts and tokens


def test_a_prompt_reads_back_as_its_problem(task):
    for problem in [problem for split in SPLITS for problem in task.first_problems(split, 20)]:
        assert task.parse_problem(task.prompt(problem)) == problem
        assert task.parse_problem(task.prompt(problem).rstrip("\n")) == problem
        held = " ".join(problem.data).split()
        assert set(held) <= set(task.prompt(problem).split())


def test_a_problem_of_another_space_is_refused():
    for name in NAMES:
        foreign = FULL[name].problems("train")[-1]
        with pytest.raises(TaskError, match="is no problem of this"):
            TASKS[name].initial_state(Problem("foreign", name, (foreign.data[0] + " 1", foreign.data[1])))


@pytest.mark.parametrize("name", NAMES)
def test_declared_lengths_are_exact_and_every_text_survives_encoding(name):
    task, contexts, lengths = FULL[name], set(), set()
    assert task.vocabulary[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS
    for problem in task.problems("dev", 40):
        state = task.initial_state(problem)
        _, state = task.advance(problem, state, task.legal_steps(problem, state)[0])
        steps = task.legal_steps(problem, state)
        for text in (task.prompt(problem), *steps):
            assert task.decode(task.encode(text)) == text
        contexts.add(1 + len(task.encode(task.prompt(problem))))
        contexts |= {1 + len(task.encode(task.context(problem, [step]))) for step in steps}
        lengths |= {len(task.encode(step)) for step in steps}
    assert contexts == {task.max_context_tokens}
    assert max(lengths) == task.max_step_tokens


def test_a_chain_shows_the_state_that_the_verifier_holds(task, rng):
    for problem in task.problems("train", 10):
        state, steps = task.initial_state(problem), []
        while state is not None and len(steps) < 6:
            assert task.initial_state(task.parse_problem(task.context(problem, steps))) == state
            steps.append(rng.choice(task.legal_steps(problem, state)))
            _, state = task.advance(problem, state, steps[-1])


# ---- the verifier on hostile text


@given(st.data())
def test_any_text_gets_a_verdict_with_a_short_printable_reason(data):
    task = TASKS[data.draw(st.sampled_from(NAMES))]
    problem = task.problems("test", 1)[0]
    words = st.lists(st.sampled_from(task.vocabulary), max_size=12).map(" ".join)
    legal = st.sampled_from(task.legal_steps(problem, task.initial_state(problem)))
    broken = st.tuples(legal, st.integers(0, 30), st.text(max_size=2)).map(
        lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 1 :]
    )
    steps = data.draw(st.lists(st.one_of(st.text(), words, words.map(lambda t: t + "\n"), legal, broken), max_size=5))
    verdict = task.verdict(problem, steps)
    assert verdict.legal or (verdict.terminal and verdict.reward == 0)
    assert len(verdict.reason) < 120
    assert verdict.reason.isascii()
    if steps and not verdict.legal:
        assert verdict.reason
    for step in steps[:1]:
        allowed = step in task.legal_steps(problem, task.initial_state(problem))
        assert task.advance(problem, task.initial_state(problem), step)[0].legal == allowed
        assert task.parse_step(problem, [], step)[0] == ("propose" if allowed else "illegal")


@pytest.mark.parametrize(
    "step",
    ["", "\n", " ", "\ud800" * 20, "\ud800 \udfff\n", "1 " * 10**6 + "\n", "\n" * 30, "\0\n", None, 7, b"a b\n", ["a"]],
)
def test_what_is_no_step_at_all_is_illegal_with_a_reason(task, step):
    problem = task.problems("dev", 1)[0]
    verdict, after = task.advance(problem, task.initial_state(problem), step)
    assert (verdict.legal, verdict.terminal, verdict.reward, after) == (False, True, 0.0, None)
    assert 0 < len(verdict.reason) < 120
    assert verdict.reason.isascii()
    assert task.verdict(problem, [step]) == verdict


def test_a_chain_that_reaches_the_limit_is_over_without_reward(task):
    problem = task.problems("train", 1)[0]
    state, steps = task.initial_state(problem), []
    while len(steps) < task.max_steps:
        for step in task.legal_steps(problem, state):
            _, after = task.advance(problem, state, step)
            if after is not None:
                break
        steps.append(step)
        state = after
    assert task.verdict(problem, steps[:-1]).terminal is False
    verdict = task.verdict(problem, steps)
    assert (verdict.terminal, verdict.legal, verdict.reward) == (True, True, 0.0)
    assert task.verdict(problem, [*steps, "nonsense"]) == verdict


def test_equal_keys_are_equal_states(task):
    problem = task.problems("train", 1)[0]
    start = task.initial_state(problem)
    keys = {}
    for step in task.legal_steps(problem, start):
        _, state = task.advance(problem, start, step)
        if state is not None:
            keys[task.state_key(problem, state)] = step.split(" ", 2)[2]
    texts = {task.context(problem, [step]) for step in task.legal_steps(problem, start)}
    assert len(keys) == len(texts)
    assert task.state_key(problem, start) not in keys

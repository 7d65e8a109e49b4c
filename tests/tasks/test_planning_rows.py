"""Rows of Blocksworld and jugs: the verifier judges their steps, labels and random chains their values."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from tasks import NEWLINE_ID, SPLITS, Problem, TaskError, make_task
from tests.tasks.planning_cases import NAMES, PLAYS, SMALL, TASKS, goals_of, read_row


@pytest.fixture(params=NAMES)
def task(request):
    return TASKS[request.param]


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_legal_single_steps_towards_goals_of_their_split(task, split, rng):
    goals = goals_of(task, split)
    for name in PLAYS:
        rows = getattr(task, name)(split, 200, rng)
        for tokens, weight, value in zip(rows.tokens, rows.weight, rows.value, strict=True):
            problem, step = read_row(task, tokens)
            start = task.initial_state(problem)
            verdict, after = task.advance(problem, start, step)
            last = task.max_context_tokens + len(task.encode(step)) - 1
            assert problem.data[1] in goals
            assert verdict.legal
            assert tokens[last] == NEWLINE_ID
            assert not tokens[last + 1 :].any()
            inside = np.arange(len(tokens))
            expected = (inside >= task.max_context_tokens) & (inside <= last) & (name != "value_play")
            np.testing.assert_array_equal(weight, expected)
            here, there = value[task.max_context_tokens - 1], value[last]
            assert np.isfinite(value).sum() == (1 if name == "random_play" else 2)
            assert 0 <= here <= 0.9 ** task.distance(problem, start) + 1e-6  # no way is shorter than the best
            if name == "random_play":
                moves = np.log(here or 1) / np.log(0.9)
                assert moves == pytest.approx(round(moves), abs=1e-3)
                assert moves < task.max_steps + 0.5
                continue
            assert (there == 1) == (after is None)
            assert 0 < there <= 0.9 ** (0 if after is None else task.distance(problem, after)) + 1e-6
            if name == "hindsight":
                assert there == pytest.approx(here / 0.9)
            else:
                assert there <= here / 0.9 + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_what_a_stream_says_of_a_step_is_what_the_verifier_and_the_walk_say(name, rng):
    plain, task = TASKS[name], make_task(name, **SMALL[name], streams=True)
    rows, seen = task.check_play("train", 300, rng), Counter()
    for tokens, weight, value in zip(rows.tokens.tolist(), rows.weight, rows.value, strict=True):
        used = [token for token in tokens if token]
        said = task.vocabulary[used.pop()]
        context, step = task.decode(used[1:]).splitlines(keepends=True)
        effort = re.search(r" e[1-4] ", context)
        assert effort
        problem = plain.parse_problem(context.replace(effort[0], " | "))
        state = plain.initial_state(problem)
        verdict, after = plain.advance(problem, state, step)
        kind = "yes" if verdict.reward == 1 else "no" if not verdict.legal else "on or no"
        assert said in kind.split(" or ")
        follows = len(step.split()) + 1 - task.stream.choice(step)
        expected = np.zeros(len(tokens))
        expected[len(used) - follows : len(used)] = float(verdict.legal)
        expected[len(used)] = 16.0 if said == "yes" else 4.0
        np.testing.assert_array_equal(weight, expected)
        assert np.isnan(value).all()
        farther = after is not None and plain.distance(problem, after) > plain.distance(problem, state)
        seen.update({said: 1, "illegal": not verdict.legal, "on, farther": said == "on" and farther})
    assert min(seen["yes"], seen["on"], seen["illegal"]) > 5
    assert seen["on, farther"] < seen["on"] / 4
    with pytest.raises(TaskError, match="streams=true"):
        plain.check_play("train", 4, rng)


@pytest.mark.parametrize("name", NAMES)
def test_hindsight_of_long_walks_is_nearly_optimal_and_of_short_ones_is_short(name, rng):
    """The value is the formula of a real distance: with a walk all over the space, of the true one."""
    options = {"blocksworld": {"blocks": 4}, "jugs": {"jugs": 2, "capacity_max": 5, "distance_min": 1}}[name]
    task = make_task(name, **options, walk_moves=1000)
    rows = task.hindsight("train", 60, rng)
    for tokens, value in zip(rows.tokens, rows.value, strict=True):
        problem, _ = read_row(task, tokens)
        far = task.distance(problem, task.initial_state(problem))
        assert value[task.max_context_tokens - 1] == pytest.approx(0.9**far)
    short = make_task(name, **options, walk_moves=2).hindsight("train", 200, rng)
    assert np.nanmin(short.value) >= 0.9**2 - 1e-6


def test_value_play_leads_away_as_well(task, rng):
    rows = task.value_play("train", 2000, rng)
    there = np.array([value[np.isfinite(value)][-1] for value in rows.value])
    away = there < rows.value[:, task.max_context_tokens - 1]
    assert 0.1 < away.mean() < 0.7


def random_play_reference(task, problem: Problem, tries: int, rng) -> float:
    """Mean of discount ** moves of random legal chains, 0 where the limit came first; by the verifier."""
    earned = 0.0
    for _ in range(tries):
        state = task.initial_state(problem)
        for moves in range(1, task.max_steps + 1):
            verdict, state = task.advance(problem, state, str(rng.choice(task.legal_steps(problem, state))))
            if state is None:
                earned += task.discount**moves * verdict.reward
                break
    return earned / tries


@pytest.mark.parametrize("name", NAMES)
def test_random_play_is_worth_what_random_chains_earn(name, rng):
    options = {"blocksworld": {"blocks": 4, "max_steps": 6}, "jugs": {"jugs": 2, "capacity_max": 4, "distance_min": 1}}
    task = make_task(name, **options[name], goal_holdout=0.98)
    rows = task.random_play("train", 40_000, rng)
    contexts, which, counts = np.unique(
        rows.tokens[:, : task.max_context_tokens], axis=0, return_inverse=True, return_counts=True
    )
    for k in np.argsort(counts)[-4:]:
        problem = task.parse_problem(task.decode(contexts[k][1:].tolist()))
        value = rows.value[which.ravel() == k, task.max_context_tokens - 1]
        expected = random_play_reference(task, problem, 800, rng)
        assert abs(value.mean() - expected) < 5 * (value.var() / len(value) + 0.25 / 800) ** 0.5
        assert value.max() > 0


def slow_play(task, context: str) -> dict[str, float]:
    """P(context before the step) of random play from this problem's start, of a length 0..max_steps, goals included."""
    problem = task.parse_problem(context)
    now, chance = {context: 1.0}, Counter()
    for _ in range(task.max_steps + 1):
        after = Counter()
        for at, share in now.items():
            chance[at] += share / (task.max_steps + 1)
            here = Problem("any", task.name, (at.rstrip().split(" | ")[1], problem.data[1]))
            steps = task.legal_steps(here, task.initial_state(here))
            for step in steps:
                after[task.context(here, [step])] += share / len(steps)
        now = after
    return chance


def test_random_play_is_uniform_over_goals_lengths_and_legal_steps(rng):
    task = make_task("jugs", jugs=2, capacity_max=4, distance_min=1, distance_max=5, max_steps=5, goal_holdout=0.5)
    rows = task.random_play("train", 30_000, rng)
    steps: dict[str, Counter] = {}
    for tokens in rows.tokens:
        context, step = task.decode([token for token in tokens[1:] if token]).splitlines(keepends=True)
        steps.setdefault(context, Counter())[step] += 1
    chance = Counter()
    for problem in task.problems("train"):
        chance.update(slow_play(task, task.prompt(problem)))
    chance = {at: share for at, share in chance.items() if at.split()[0] not in at.rstrip().split(" | ")[1].split()}
    assert set(steps) <= set(chance)
    for context in [at for at, share in chance.items() if share > 0.002 * sum(chance.values())]:
        found, share = steps[context], chance[context] / sum(chance.values())
        total = sum(found.values())
        assert abs(total / 30_000 - share) < 5 * (share / 30_000) ** 0.5
        problem = task.parse_problem(context)
        legal = task.legal_steps(problem, task.initial_state(problem))
        assert set(found) <= set(legal)
        for step in legal:
            assert abs(found[step] / total - 1 / len(legal)) < 5 * (1 / len(legal) / total) ** 0.5


def test_rules_only_leaves_the_move_to_better_teachers(task, rng):
    rows = task.random_play("train", 200, rng, rules_only=True)
    assert np.isnan(rows.value).all()
    for tokens, weight in zip(rows.tokens, rows.weight, strict=True):
        problem, step = read_row(task, tokens)
        taught = task.decode([token for token, w in zip(tokens.tolist(), weight.tolist(), strict=True) if w])
        assert taught == task.context(problem, [step]).split(" | ")[1]


@pytest.mark.parametrize("play", PLAYS)
def test_the_same_generator_state_gives_the_same_rows(task, play):
    first, again, other = (getattr(task, play)("train", 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for field in ("tokens", "weight", "value"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.tokens != other.tokens).any()
    assert len(getattr(task, play)("train", 0, np.random.default_rng(0))) == 0

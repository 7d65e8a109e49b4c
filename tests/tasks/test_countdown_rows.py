"""Countdown training rows: legal under the task's own verifier, of the right split, reproducible and near uniform."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from tasks import BOS_ID, NEWLINE_ID, PAD_ID, SPLITS, Problem, TaskError, make_task
from tasks.numbers.countdown_space import identity

OPTIONS = [
    {"numbers": 2},
    {"numbers": 4, "number_max": 9},
    *(pytest.param(more, marks=pytest.mark.slow) for more in ({}, {"numbers": 5, "number_max": 4})),
]
PLAYS = ("random_play", "hindsight", "value_play", "ended_play")


def read_row(task, tokens: np.ndarray) -> tuple[Problem, list[str]]:
    """The problem and the steps of a row, numbers in the order that the row shows."""
    assert tokens[0] == BOS_ID
    prompt, *steps = task.decode(tokens[1:][tokens[1:] != PAD_ID]).splitlines(keepends=True)
    left, _, target = prompt.partition(" = ")
    numbers = tuple(map(int, left.split()))
    return Problem(f"countdown:{identity(numbers, int(target))}", "countdown", (numbers, int(target))), steps


def value_positions(tokens: np.ndarray) -> np.ndarray:
    """bool [B, L]: newlines that end a prompt or a proposal."""
    ends = tokens == NEWLINE_ID
    return ends & (ends.cumsum(1) < ends.sum(1, keepdims=True))


def narrow(**options):
    """Countdown whose free rows are of its own problems alone."""
    return make_task("countdown", wide_share=0.0, **options)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_random_play_is_legal_complete_and_on_problems_of_its_split(options, split, rng):
    task = narrow(**options)
    ids = {p.id for p in task.problems(split)}
    rows = task.random_play(split, 200, rng)
    for tokens, weight in zip(rows.tokens, rows.weight, strict=True):
        problem, steps = read_row(task, tokens)
        verdict = task.verdict(problem, steps)
        assert problem.id in ids
        assert (verdict.legal, verdict.terminal) == (True, True)
        assert weight.sum() == len(task.encode("".join(steps)))
    assert np.isnan(rows.value).all()
    assert rows.tokens.dtype == np.int32
    assert rows.weight.dtype == rows.value.dtype == np.float32
    assert (rows.weight[:, : options.get("numbers", 3) + 4] == 0).all()
    assert (rows.tokens != PAD_ID).all()


@pytest.mark.parametrize("options", OPTIONS)
def test_rules_only_weighs_all_but_operands_and_operations(options, rng):
    task = narrow(**options)
    free, taught = [
        [task.vocabulary[t] for row, w in zip(rows.tokens, rows.weight, strict=True) for t in row[picked(w)]]
        for rows in [task.random_play("train", 50, rng, rules_only=True)]
        for picked in (lambda w: w == 0, lambda w: w == 1)
    ]
    steps = options.get("numbers", 3) - 1
    assert sum(word in "+-*/" for word in free) == 50 * steps
    assert not any(word in "+-*/" for word in taught)
    assert taught.count("answer") == 50
    assert taught.count("=") == 50 * steps


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_hindsight_row_solves_a_problem_of_its_split(options, split, rng):
    task = narrow(**options)
    ids = {p.id for p in task.problems(split)}
    rows = task.hindsight(split, 200, rng)
    for tokens in rows.tokens:
        problem, steps = read_row(task, tokens)
        assert problem.id in ids
        assert task.verdict(problem, steps).reward == 1
    np.testing.assert_array_equal(np.isfinite(rows.value), value_positions(rows.tokens))
    assert (rows.value[np.isfinite(rows.value)] == 1).all()


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_value_labels_of_one_are_true_and_steps_are_legal(options, rng):
    task = narrow(**options)
    ids = {p.id for p in task.problems("train")}
    rows = task.value_play("train", 300, rng)
    true_at_two = 0
    for tokens, value in zip(rows.tokens, rows.value, strict=True):
        problem, steps = read_row(task, tokens)
        assert problem.id in ids
        labels = value[np.isfinite(value)]
        state = task.initial_state(problem)
        states = [state]
        for step in steps:
            verdict, state = task.advance(problem, state, step)
            assert verdict.legal
            states.append(state)
        assert len(labels) == len(states) == len(steps) + 1 >= 2
        assert all(task.solvable(problem, s) for s, label in zip(states, labels, strict=True) if label == 1)
        assert (np.diff(labels) <= 0).all()  # a hit later on the row is a hit from here
        if len(states[-1]) == 2:  # 32 plays of one step all but exhaust its few actions
            true_at_two += task.solvable(problem, states[-1]) == bool(labels[-1])
        else:
            true_at_two += 1
    assert true_at_two > 295
    assert (rows.weight == 0).all()


@pytest.mark.parametrize("options", OPTIONS[1:3])
def test_value_labels_are_near_balance(options, rng):
    task = narrow(**options)
    rows = task.value_play("train", 2000, rng)
    last = np.array([value[np.isfinite(value)][-1] for value in rows.value])
    assert 0.3 < last.mean() < 0.6


@pytest.mark.parametrize("play", PLAYS)
def test_the_same_generator_state_gives_the_same_rows(play):
    task = narrow()
    first = getattr(task, play)("train", 64, np.random.default_rng(3))
    again = getattr(narrow(), play)("train", 64, np.random.default_rng(3))
    other = getattr(task, play)("train", 64, np.random.default_rng(4))
    for field in ("tokens", "weight", "value"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.tokens != other.tokens).any()


@pytest.mark.parametrize("play", PLAYS)
def test_asking_for_no_rows_gives_none(play, rng):
    assert len(getattr(narrow(), play)("train", 0, rng)) == 0


def test_random_play_is_uniform_over_legal_actions(rng):
    task = narrow(numbers=2, number_min=4, number_max=8, target_min=0, target_max=64)
    rows = task.random_play("train", 40_000, rng)
    texts = [
        task.decode(row[7:]) for row in rows.tokens if {task.vocabulary[row[1]], task.vocabulary[row[2]]} == {"4", "8"}
    ]
    counts = {op: sum(f" {op} " in text for text in texts) / len(texts) for op in "+-*/"}
    assert len(texts) > 1000
    assert all(abs(share - 0.25) < 0.05 for share in counts.values())


def test_an_action_is_written_in_one_way_the_larger_operand_first(rng):
    task = narrow()
    rows = task.random_play("train", 500, rng)
    first, second = rows.tokens[:, 7], rows.tokens[:, 9]
    commutes = np.isin(rows.tokens[:, 8], [task.token_ids["+"], task.token_ids["*"]])
    assert (first >= second)[commutes].all()
    assert (first > second).any()


def test_hindsight_covers_the_split_and_is_close_to_uniform(rng):
    """300,000 rows over 3,056 identities: 98 each if uniform, with Poisson noise of 10 %."""
    task = narrow()
    rows = task.hindsight("train", 300_000, rng)
    numbers = np.sort(rows.tokens[:, 1:4], 1)
    _, counts = np.unique(np.column_stack([numbers, rows.tokens[:, 5]]), axis=0, return_counts=True)
    assert len(counts) > 0.995 * len(task.problems("train"))
    assert np.percentile(counts, 95) / np.percentile(counts, 5) < 2.2


def test_wide_play_and_practice_hold_no_dev_or_test_problem(rng):
    task = make_task("countdown", wide_share=0.75)
    held_out = {p.id for split in ("dev", "test") for p in task.problems(split)}
    practice = task.practice(20_000, rng)
    played = {read_row(task, row)[0].id for row in task.hindsight("train", 20_000, rng).tokens}
    wide = {p.id for p in practice if max(p.data[0]) > 15 or not 10 <= p.data[1] <= 50}
    assert not held_out & (played | {p.id for p in practice})
    assert len(wide) > 0.5 * len(practice)
    assert all(task.solvable(p, task.initial_state(p)) for p in practice[:500])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_finished_chains_are_labelled_by_what_the_verifier_says(options, split, rng):
    task = narrow(**options)
    ids = {p.id for p in task.problems(split)}
    rows = task.ended_play(split, 300, rng)
    told = [(read_row(task, tokens), value) for tokens, value in zip(rows.tokens, rows.value, strict=True)]
    verdicts = [task.verdict(problem, steps) for (problem, steps), _ in told]
    assert all(problem.id in ids for (problem, _), _ in told)
    assert all(verdict.terminal and (verdict.legal or " is " in verdict.reason) for verdict in verdicts)
    assert [value[-1] for _, value in told] == [verdict.reward for verdict in verdicts]
    assert sum(verdict.reward for verdict in verdicts) == 150
    assert np.isnan(rows.value[:, :-1]).all()
    assert (rows.weight == 0).all()


def test_wrong_chains_claim_the_target_or_miss_it_by_little(rng):
    task = narrow(numbers=5, number_max=9)
    claimed, missed = 0, []
    for tokens in task.ended_play("train", 600, rng).tokens[1::2]:
        problem, steps = read_row(task, tokens)
        result = int(steps[-1].split()[-1])
        claimed += result == problem.data[1]
        if result != problem.data[1]:
            missed.append(abs(result - problem.data[1]))
            assert task.verdict(problem, steps).legal  # its arithmetic is true
    assert 100 < claimed < 200
    random = [
        abs(int(steps[-1].split()[-1]) - problem.data[1])
        for problem, steps in (read_row(task, tokens) for tokens in task.random_play("train", 300, rng).tokens)
    ]
    assert np.median(missed) < 0.5 * np.median(random)


@pytest.mark.parametrize("numbers", [2, 3, 4])
def test_what_a_stream_says_of_play_is_what_the_verifier_says(numbers, rng):
    plain = make_task("countdown", numbers=numbers)
    task = make_task("countdown", numbers=numbers, streams=True)
    rows, seen = task.check_play("train", 400, rng), Counter()
    for tokens, weight in zip(rows.tokens, rows.weight, strict=True):
        used = tokens[tokens != PAD_ID]
        said = task.vocabulary[used[-1]]
        prompt, *steps = task.decode(used[1:-1]).splitlines(keepends=True)
        effort = re.search(r" e([1-4]) ", prompt)
        problem = plain.parse_problem(prompt.replace(effort[0], " = "))
        whole, verdict = len(steps) == task.max_steps, plain.verdict(problem, steps)
        assert said == ("yes" if verdict.reward >= 1 else "no")
        assert whole or not verdict.legal  # before its end only a false step is refused
        assert weight[len(used) - 1] == 4.0
        taught = task.decode(used[:-1][weight[: len(used) - 1] == 1.0]).split()
        follows = [word for step in steps for word in step.split()[task.stream.choice(step) - 1 :]]
        assert [word for word in taught if word != "answer"] == (follows if said == "yes" else [])
        seen.update({said: 1, effort[1]: 1, "false step": not verdict.legal, "not the target": whole and verdict.legal})
    assert abs(seen["yes"] - 200) < 40
    assert seen["false step"] > 60
    assert seen["not the target"] - seen["yes"] > 20
    assert set(seen) >= set("1234")
    with pytest.raises(TaskError, match="streams=true"):
        plain.check_play("train", 4, rng)

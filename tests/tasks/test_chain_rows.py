"""Rows of chain arithmetic: free ones compute rightly but for what they say; a check is worked out from the last place on."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from tasks import BOS_ID, PAD_ID, SPLITS, Problem, TaskError, make_task
from tests.tasks.test_chain import OPTIONS, TASK, applied, slow_values


def read_row(task, tokens: np.ndarray) -> tuple[Problem, list[str], list[int], list[int]]:
    """(problem, steps, results written, positions of newlines) of a row."""
    used = tokens[tokens != PAD_ID]
    assert used[0] == BOS_ID
    text = task.decode(used[1:])
    assert task.encode(text) == used[1:].tolist()
    prompt, *steps = text.splitlines(keepends=True)
    left, right = re.sub(r"(?<=\d) (?=\d)", "", prompt).split("|")
    operations = tuple((op, int(operand)) for op, operand in re.findall(r"[a-z] ([-+*]) (\d+)", left))
    results = [int(step.split("=")[1].replace(" ", "")) for step in steps]
    newlines = np.flatnonzero(tokens == task.token_ids["\n"]).tolist()
    return Problem("row", "chain", (int(right), operations)), steps, results, newlines


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_free_short_chains_are_accepted_by_the_verifier(options, split, rng):
    task = make_task("chain", **options)
    lengths = Counter()
    rows = task.hindsight(split, 200, rng)
    for tokens, weight, value in zip(rows.tokens, rows.weight, rows.value, strict=True):
        problem, steps, _, newlines = read_row(task, tokens)
        assert task.verdict(problem, steps).reward == 1
        lengths[len(steps)] += 1
        inside = (np.arange(len(tokens)) > newlines[0]) & (tokens != PAD_ID)
        np.testing.assert_array_equal(weight, inside)
        assert np.flatnonzero(~np.isnan(value)).tolist() == newlines[:-1]
        assert (value[newlines[:-1]] == 1).all()
    assert set(lengths) == {1, 2, 3}


@pytest.mark.parametrize("options", OPTIONS)
def test_random_play_computes_rightly_but_for_one_number_and_never_solves(options, rng):
    task = make_task("chain", **options)
    places = set()
    for rules_only in (False, True):
        rows = task.random_play("train", 200, rng, rules_only=rules_only)
        assert np.isnan(rows.value).all()
        for tokens, weight in zip(rows.tokens, rows.weight, strict=True):
            problem, steps, results, newlines = read_row(task, tokens)
            verdict = task.verdict(problem, steps)
            assert (verdict.terminal, verdict.legal, verdict.reward) == (True, True, 0.0)
            assert task.operations_min <= len(steps) <= task.operations_max
            before = [problem.data[0], *results]
            wrong = [k for k, op in enumerate(problem.data[1]) if applied(before[k], op) != results[k]]
            assert len(wrong) == 1
            places.add(len(steps) - wrong[0])
            expected = (np.arange(len(tokens)) > newlines[0]) & (tokens != PAD_ID)
            end = newlines[wrong[0] + 1]
            expected[end - task.digits : end] = False
            np.testing.assert_array_equal(weight, expected)
    assert places == set(range(2, task.operations_max + 1))


def test_values_of_random_chains_are_one_until_a_result_is_wrong(rng):
    rows = TASK.value_play("train", 400, rng)
    assert not rows.weight.any()
    wrong_rows, near = 0, 0
    for tokens, value in zip(rows.tokens, rows.value, strict=True):
        problem, steps, results, newlines = read_row(TASK, tokens)
        labels = [1.0]
        state = TASK.initial_state(problem)
        for k, step in enumerate(steps[:-1]):
            verdict, state = TASK.advance(problem, state, step)
            assert verdict.legal
            gone_on = results[k]
            for operation in problem.data[1][k + 1 :]:
                gone_on = applied(gone_on, operation)
            labels.append(float(gone_on == slow_values(problem)[-1]))
            assert labels[-1] == TASK.solvable(problem, state)
        assert value[newlines[:-1]].tolist() == labels
        assert np.isfinite(value).sum() == len(labels)
        if labels[-1] == 0:
            wrong_rows += 1
            slip = labels.index(0.0) - 1
            true, shown = slow_values(problem)[slip + 1], results[slip]
            near += (
                abs(true - shown) in (1, 10, 100)
                or sum(a != b for a, b in zip(f"{true:03d}", f"{shown:03d}", strict=True)) == 1
            )
    assert wrong_rows == near == 200


@pytest.mark.parametrize("play", ["random_play", "hindsight", "value_play"])
def test_the_same_generator_state_gives_the_same_rows(play):
    first, again, other = (getattr(TASK, play)("train", 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for field in ("tokens", "weight", "value"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.tokens != other.tokens).any()


@pytest.mark.parametrize("options", OPTIONS)
def test_a_check_is_the_true_result_backwards_where_the_result_would_stand(options, rng):
    task = make_task("chain", streams=True, **options)
    rows, seen = task.check_play("train", 80, rng), Counter()
    for tokens, weight in zip(rows.tokens.tolist(), rows.weight, strict=True):
        used = [token for token in tokens if token not in (PAD_ID, BOS_ID)]
        prompt, *steps, last = task.decode(used).split("\n")
        effort = re.search(r" e[1-4] ", prompt)
        assert effort
        operations, start = prompt.split(effort[0])
        values = [int("".join(start.split())), *(int("".join(step.split("=")[1].split())) for step in steps)]
        head, *check = last.split(" = check ")
        trues: list[int] = []
        for before, step in zip(values, [*steps, head] if check else steps, strict=False):
            _, op, operand = re.split("([-+*])", "".join(step.split(" =")[0].split()[1:]))
            trues.append(applied(before, (op, int(operand))))
        if check:
            (words,) = (line.split() for line in check)
            assert "".join(words[3::4][::-1]) == str(trues[-1]).zfill(task.digits)
            op, operand, value = head[2], int("".join(head[3:].split())), values[len(steps)]
            for place in range(1, task.digits + 1):  # what is carried, from the digits below alone
                low, of = value % 10**place, operand if op == "*" else operand % 10**place
                sign = -1 if op == "-" else 1
                assert int(words[4 * place - 2]) == applied(low, (op, of)) // 10**place * sign
                digit = value // 10 ** (place - 1) % 10
                taken = digit * operand if op == "*" else operand // 10 ** (place - 1) % 10
                assert int("".join(words[4 * place - 4 : 4 * place - 2])) == taken
        whole = len(trues) == len(operations.split()) // (2 + task.operand_digits)
        assert check or (whole and last == "yes")
        right = trues[: len(steps)] == values[1:]
        assert not (whole and right)  # no problem is solved
        seen[right] += 1
        seen["whole"] += whole
        seen["yes"] += not check
        line, before = task.max_step_tokens, 2 + len(task.encode(prompt))
        for k, right_there in enumerate(np.array(values[1:]) == trues[: len(steps)]):
            part = weight[before + k * line : before + (k + 1) * line]
            least = np.float32(0.1 if check else 1.0)
            assert (np.delete(part, range(line - 1 - task.digits, line - 1)) == least).all()
            assert (part[line - 1 - task.digits : line - 1] == least * right_there).all()
        assert (weight[:before] == 0.0).all()
        taught = 4 * task.digits if check else 1
        assert (weight[before + line * len(steps) : 1 + len(used) - taught] == 0.0).all()
        assert (weight[1 + len(used) - taught : 1 + len(used)] == (4.0 if check else 1.0)).all()
        assert not weight[1 + len(used) :].any()
    assert seen[False] > 10
    assert seen[True] > 30
    assert seen["whole"] >= seen["yes"] == 10


def test_checks_are_written_in_streams_alone(rng):
    with pytest.raises(TaskError, match="streams=true"):
        TASK.check_play("train", 4, rng)
    with pytest.raises(TaskError, match="has no checks to write"):
        make_task("sums", streams=True).check_play("train", 4, rng)

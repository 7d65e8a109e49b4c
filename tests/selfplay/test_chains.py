"""A chain becomes the rows that the task's context says: one for a task with history, one a step for a Markov task."""

from __future__ import annotations

import numpy as np
import pytest

from models.abilities import Step
from models.steps.codec import WordCodec
from selfplay.teach.row_builder import RowBuilder
from tasks import make_task
from tasks.base import BOS_ID, PAD_ID, UNK_ID


def text_of(task, tokens) -> str:
    return task.decode([t for t in tokens if t not in (BOS_ID, PAD_ID)])


def written(steps: list[str]) -> list[Step]:
    """Steps whose tokens nobody knows."""
    return [Step(step) for step in steps]


@pytest.fixture(scope="module")
def countdown():
    return make_task(name="countdown", numbers=3, number_max=6, target_max=30)


@pytest.fixture(scope="module")
def sliding():
    return make_task(name="sliding")


def solve(task, problem) -> list[str]:
    state, steps = task.initial_state(problem), []
    while True:
        for step in task.legal_steps(problem, state):
            verdict, child = task.advance(problem, state, step)
            if verdict.reward >= 1:
                return [*steps, step]
            if child is not None and (task.distance(problem, child) or 99) < task.distance(problem, state):
                state, steps = child, [*steps, step]
                break
        else:
            raise AssertionError("no step shortens the distance")


def test_a_task_with_history_gives_one_row_with_every_value_on_its_newline(countdown):
    problem = countdown.problems("train", 1)[0]
    steps = solve(countdown, problem)
    builder = RowBuilder(countdown, WordCodec(countdown))
    builder.chain(problem, written(steps), [1.0, 0.5], [0.9, 0.8])
    rows = builder.rows()
    assert len(rows) == 1
    assert text_of(countdown, rows.tokens[0]) == countdown.prompt(problem) + "".join(steps)
    prompt_end = 1 + len(countdown.encode(countdown.prompt(problem)))
    first_end = prompt_end + len(countdown.encode(steps[0]))
    assert (rows.weight[0, :prompt_end] == 0).all()
    assert (rows.weight[0, prompt_end:first_end] == 1).all()
    assert (rows.weight[0, first_end : first_end + len(countdown.encode(steps[1]))] == 0.5).all()
    known = np.flatnonzero(~np.isnan(rows.value[0]))
    assert known.tolist() == [prompt_end - 1, first_end - 1]
    assert rows.value[0, known] == pytest.approx([0.9, 0.8])


def test_a_markov_task_gives_one_row_a_step_with_its_own_context(sliding):
    problem = sliding.problems("train", 1)[0]
    steps = solve(sliding, problem)
    builder = RowBuilder(sliding, WordCodec(sliding))
    builder.chain(problem, written(steps), [1.0] * len(steps), [0.5] * len(steps))
    rows = builder.rows()
    assert len(rows) == len(steps)
    for k in range(len(steps)):
        assert text_of(sliding, rows.tokens[k]) == sliding.context(problem, steps[:k]) + steps[k]


def test_a_state_row_teaches_its_value_and_no_token(countdown):
    problem = countdown.problems("train", 1)[0]
    steps = solve(countdown, problem)
    builder = RowBuilder(countdown, WordCodec(countdown))
    builder.state(problem, written(steps[:1]), 0.25)
    rows = builder.rows()
    assert (rows.weight == 0).all()
    end = int((rows.tokens[0] != PAD_ID).sum()) - 1
    assert rows.value[0, end] == 0.25
    assert np.isnan(np.delete(rows.value[0], end)).all()


def test_the_value_of_a_finished_chain_stands_at_its_last_token(countdown):
    problem = countdown.problems("train", 1)[0]
    steps = solve(countdown, problem)
    builder = RowBuilder(countdown, WordCodec(countdown))
    builder.chain(problem, written(steps), [1.0] * 2, [np.nan] * 2, 1.0)
    builder.ended(problem, written(steps), 0.25)
    rows = builder.rows()
    np.testing.assert_array_equal(rows.tokens[0], rows.tokens[1])
    end = int((rows.tokens[0] != PAD_ID).sum()) - 1
    assert rows.value[:, end].tolist() == [1.0, 0.25]
    assert np.isnan(np.delete(rows.value, end, axis=1)).all()
    assert (rows.weight[1] == 0).all()
    assert (rows.weight[0] > 0).any()


def test_a_word_that_the_learner_never_writes_is_read_and_not_taught(countdown):
    problem = countdown.problems("train", 1)[0]
    builder = RowBuilder(countdown, WordCodec(countdown), own=False)
    builder.chain(problem, [Step("1 plus 2\n", (7, 8, 9))], [1.0], [np.nan])
    rows = builder.rows()
    step = countdown.encode("1 plus 2\n")
    assert step[1] == UNK_ID
    assert rows.tokens[0, -4:].tolist() == step
    assert rows.weight[0, -4:].tolist() == [1.0, 0.0, 1.0, 1.0]

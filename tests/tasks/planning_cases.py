"""Small planning tasks for the tests, one of each kind, and how their rows are read."""

from __future__ import annotations

import numpy as np

from tasks import BOS_ID, Problem, make_task

NAMES = ("blocksworld", "jugs")
SMALL = {"blocksworld": {"blocks": 4}, "jugs": {"capacity_max": 9, "distance_min": 2}}
TASKS = {name: make_task(name, **SMALL[name]) for name in NAMES}
PLAYS = ("random_play", "hindsight", "value_play")


def read_row(task, tokens: np.ndarray) -> tuple[Problem, str]:
    """The problem whose start is the row's state, and the row's step."""
    assert tokens[0] == BOS_ID
    context, step = task.decode([token for token in tokens[1:] if token]).splitlines(keepends=True)
    return task.parse_problem(context), step


def goals_of(task, split: str) -> set[str]:
    """Goals of all lengths."""
    every = make_task(task.name, **{**SMALL[task.name], "distance_min": 1})
    return {problem.data[1] for problem in every.problems(split)}

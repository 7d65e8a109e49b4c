"""Problems, the grammar of a step, verifiers and rows to learn from. Imports none of the other rooms and no torch."""

from __future__ import annotations

from inspect import signature

from .base import (
    BOS,
    BOS_ID,
    NEWLINE,
    NEWLINE_ID,
    PAD,
    PAD_ID,
    SPECIAL_TOKENS,
    SPLITS,
    UNK,
    UNK_ID,
    AnswerKey,
    Problem,
    Rows,
    Split,
    Task,
    TaskError,
    Verdict,
    join_words,
    split_words,
)
from .countdown import Countdown
from .sliding import Sliding

TASKS: dict[str, type[Task]] = {"countdown": Countdown, "sliding": Sliding}

__all__ = [
    "BOS",
    "BOS_ID",
    "NEWLINE",
    "NEWLINE_ID",
    "PAD",
    "PAD_ID",
    "SPECIAL_TOKENS",
    "SPLITS",
    "TASKS",
    "UNK",
    "UNK_ID",
    "AnswerKey",
    "Countdown",
    "Problem",
    "Rows",
    "Sliding",
    "Split",
    "Task",
    "TaskError",
    "Verdict",
    "join_words",
    "make_task",
    "split_words",
]


def make_task(name: str, **options) -> Task:
    """A task by its name in `TASKS`; `options` are those of its class.

    Raises:
        TaskError: unknown name or option, or options that cannot be met.
    """
    if name not in TASKS:
        raise TaskError(f"unknown task {name!r}: use one of {', '.join(TASKS)}")
    known = signature(TASKS[name]).parameters
    for option in options:
        if option not in known:
            raise TaskError(f"task {name} has no option {option!r}: use one of {', '.join(known)}")
    return TASKS[name](**options)

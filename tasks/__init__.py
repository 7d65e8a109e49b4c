"""Problems, the grammar of a step, verifiers, judges and rows to learn from. Imports none of the other rooms and no torch.

Names are imported when they are first asked for: a judge worker starts without numpy, a task without the others.
"""

from __future__ import annotations

import importlib
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        Scorer,
        Split,
        Task,
        TaskError,
        Verdict,
        join_words,
        split_words,
    )
    from .blocksworld import Blocksworld
    from .chain import ChainArithmetic
    from .corpus import Corpus
    from .countdown import Countdown
    from .guessing import Guesser
    from .gym import read_gym
    from .jsonl import read_jsonl
    from .jugs import Jugs
    from .pool import Job, JudgePool, Limits, Outcome
    from .sliding import Sliding

_HOMES = {
    "base": (
        "BOS", "BOS_ID", "NEWLINE", "NEWLINE_ID", "PAD", "PAD_ID", "SPECIAL_TOKENS", "SPLITS", "UNK", "UNK_ID",
        "AnswerKey", "Problem", "Rows", "Scorer", "Split", "Task", "TaskError", "Verdict", "join_words", "split_words",
    ),
    "blocksworld": ("Blocksworld",),
    "chain": ("ChainArithmetic",),
    "corpus": ("Corpus",),
    "countdown": ("Countdown",),
    "guessing": ("Guesser",),
    "gym": ("read_gym",),
    "jsonl": ("read_jsonl",),
    "jugs": ("Jugs",),
    "pool": ("Job", "JudgePool", "Limits", "Outcome"),
    "sliding": ("Sliding",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

TASKS = {  # the names of `make_task` and of task=NAME
    "blocksworld": "Blocksworld",
    "chain": "ChainArithmetic",
    "countdown": "Countdown",
    "jugs": "Jugs",
    "sliding": "Sliding",
    "gym": "read_gym",  # a function that reads a `Corpus`
    "jsonl": "read_jsonl",
}

__all__ = [
    "BOS", "BOS_ID", "NEWLINE", "NEWLINE_ID", "PAD", "PAD_ID", "SPECIAL_TOKENS", "SPLITS", "TASKS", "UNK", "UNK_ID",
    "AnswerKey", "Blocksworld", "ChainArithmetic", "Corpus", "Countdown", "Guesser", "Job", "JudgePool", "Jugs", "Limits",
    "Outcome", "Problem", "Rows", "Scorer", "Sliding", "Split", "Task", "TaskError", "Verdict", "given_chains", "join_words",
    "make_guesser", "make_scorer", "make_task", "read_gym", "read_jsonl", "split_words", "task_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"tasks.{_MODULE_OF[name]}"), name)
    return found


def make_task(name: str, **options) -> Task:
    """A task by its name in `TASKS`; `options` are those of its class, or of the function that reads its data.

    Raises:
        TaskError: unknown name or option, or options that cannot be met.
    """
    made = _made(name, options)
    return made.task() if _is_corpus(made) else made


def make_scorer(name: str, **options) -> Scorer:
    """The scorer of a task, by the same name and options. Where answers have a key, it is the only one who has it.

    Raises:
        TaskError: see `make_task`.
    """
    from .scoring import Replay

    made = _made(name, options)
    return made.scorer() if _is_corpus(made) else Replay(made)


def make_guesser(name: str, **options) -> Guesser:
    """The guessing control of a task, by the same name and options.

    Raises:
        TaskError: see `make_task`.
    """
    from .guessing import RandomPlay

    made = _made(name, options)
    return made.guesser() if _is_corpus(made) or hasattr(made, "guesser") else RandomPlay(made)


def given_chains(name: str, **options) -> list[tuple[Problem, tuple[str, ...]]]:
    """Solved chains of the train split that came with a task's data, for the learner; empty for a task without data.

    Raises:
        TaskError: see `make_task`.
    """
    made = _made(name, options)
    return made.given() if _is_corpus(made) else []


def task_report(name: str, **options) -> str:
    """What was read, kept and dropped of a task's data, and why; "" for a task without data.

    Raises:
        TaskError: see `make_task`.
    """
    made = _made(name, options)
    return str(made.report) if _is_corpus(made) else ""


def _made(name: str, options: dict) -> Any:
    """The `Task`, or the `Corpus` of one."""
    from .base import TaskError

    if name not in TASKS:
        raise TaskError(f"unknown task {name!r}: use one of {', '.join(TASKS)}")
    kind = __getattr__(TASKS[name])
    known = signature(kind).parameters
    for option in options:
        if option not in known:
            raise TaskError(f"task {name} has no option {option!r}: use one of {', '.join(known)}")
    for option, parameter in known.items():
        if parameter.default is Parameter.empty and options.get(option) is None:
            raise TaskError(f"task {name} needs {option}: set task.{option}=...")
    return kind(**options)


def _is_corpus(made: object) -> bool:
    from .corpus import Corpus

    return isinstance(made, Corpus)

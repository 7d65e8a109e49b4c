"""Tasks by name: what `task=NAME` and `make_task` know."""

from __future__ import annotations

import importlib
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base import Problem, Scorer, Task
    from tasks.guessing import Guesser

TASKS = {  # the names of `make_task` and of task=NAME, and where each is defined
    "blocksworld": "tasks.planning.blocksworld:Blocksworld",
    "chain": "tasks.numbers.chain:ChainArithmetic",
    "countdown": "tasks.numbers.countdown:Countdown",
    "jugs": "tasks.planning.jugs:Jugs",
    "sliding": "tasks.planning.sliding:Sliding",
    "gym": "tasks.gym.corpus:read_gym",  # a function that reads a `Corpus`
    "jsonl": "tasks.questions.jsonl:read_jsonl",
}


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
    from tasks.judging.scorers import Replay

    made = _made(name, options)
    return made.scorer() if _is_corpus(made) else Replay(made)


def make_guesser(name: str, **options) -> Guesser:
    """The guessing control of a task, by the same name and options.

    Raises:
        TaskError: see `make_task`.
    """
    from tasks.guessing import RandomPlay

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
    from tasks.base import TaskError

    if name not in TASKS:
        raise TaskError(f"unknown task {name!r}: use one of {', '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    known = signature(kind).parameters
    for option in options:
        if option not in known:
            raise TaskError(f"task {name} has no option {option!r}: use one of {', '.join(known)}")
    for option, parameter in known.items():
        if parameter.default is Parameter.empty and options.get(option) is None:
            raise TaskError(f"task {name} needs {option}: set task.{option}=...")
    return kind(**options)


def _is_corpus(made: object) -> bool:
    from tasks.questions.corpus import Corpus

    return isinstance(made, Corpus)

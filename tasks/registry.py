"""Tasks by name: what `task=NAME` and `make_task` know. A new task is its file and its line here."""

from __future__ import annotations

from copy import copy
from inspect import Parameter, signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from kit.pages import defaults, page

if TYPE_CHECKING:
    from tasks.base import Problem, Scorer, Task
    from tasks.guessing import Guesser

TASKS = {  # the names of `make_task` and of task=NAME, and where each is defined
    "blocksworld": "tasks.planning.blocksworld:Blocksworld",
    "chain": "tasks.numbers.chain:ChainArithmetic",
    "countdown": "tasks.numbers.countdown:Countdown",
    "jugs": "tasks.planning.jugs:Jugs",
    "sliding": "tasks.planning.sliding:Sliding",
    "sums": "tasks.numbers.sums:Sums",
    "gym": "tasks.gym.corpus:read_gym",  # a function that reads a `Corpus`
    "jsonl": "tasks.questions.jsonl:read_jsonl",
    "text": "tasks.questions.text:TextTask",
}

SomeTask = TypeVar("SomeTask", bound="Task")
STREAMS = "streams"  # option of every task: true for a net that learns its streams, see `tasks.streams`


def make_task(name: str, **options) -> Task:
    """A task by its name in `TASKS`; `options` are those of its class, or of the function that reads its data, and
    `streams`.

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
    kind = resolve_name(TASKS[name])
    options, with_streams = {k: v for k, v in options.items() if k != STREAMS}, options.get(STREAMS, False)
    known = signature(kind).parameters
    for option in options:
        if option not in known:
            raise TaskError(f"task {name} has no option {option!r}: use one of {', '.join(known)}")
    for option, parameter in known.items():
        if parameter.default is Parameter.empty and options.get(option) is None:
            raise TaskError(f"task {name} needs {option}: set task.{option}=...")
    return streamed(kind(**options)) if with_streams else kind(**options)


def streamed(task: SomeTask) -> SomeTask:
    """The task with the words of its streams behind its own; the task itself stays as it is.

    Raises:
        TaskError: it declares no streams.
    """
    from tasks.base import TaskError

    if (form := getattr(task, "stream", None)) is None:
        raise TaskError(f"task {task.name} says not what a stream of it needs: leave {STREAMS} out, or use countdown")
    added = tuple(word for word in form.words(task.max_steps) if word not in task.token_ids)
    made = copy(task)
    made.vocabulary, made.stream_words, made.stream = (*task.vocabulary, *added), added, form.taught()
    made.__dict__.pop("_token_ids", None)
    return made


def register_tasks() -> None:
    """Make every task known to Hydra as task=NAME, with the options of its class or function."""
    from hydra.core.config_store import ConfigStore

    for name, where in TASKS.items():
        ConfigStore.instance().store(group="task", name=name, node={"name": name, **defaults(resolve_name(where))})


def task_pages() -> list[str]:
    """The options of every task, with their defaults and comments."""
    return [f"## task={name}\n{page(resolve_name(where))}" for name, where in TASKS.items()]


def _is_corpus(made: object) -> bool:
    from tasks.questions.corpus import Corpus

    return isinstance(made, Corpus)

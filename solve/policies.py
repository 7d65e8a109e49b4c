"""Which policy answers which task: the one that was named, or the shipped net that reads the problem.

A checkpoint knows its task and how well it was measured (`models.files.calibration`). No value is trusted before it is
measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.files.calibration import Calibration
from models.policy import Opened, Policy, open_policy, shipped
from solve.types import SolveError
from tasks import TASKS, Problem, Task, TaskError, make_task

PLAIN = "text"  # the task of a language model in this process that was given none


@dataclass(frozen=True)
class Shelved:
    """A policy with its task."""

    policy: Policy
    task: Task
    options: dict[str, Any]  # of the task, its name included
    calibration: Calibration = field(default_factory=Calibration)  # empty: never measured

    @property
    def trusted(self) -> bool:
        """Whether there is a value head, and it was measured well enough to be looked at."""
        return self.policy.can.values and self.calibration.trusted


def take(
    policy: str | None = None,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    problem: str | None = None,
    calibration: bool = True,
    device: str | None = None,
) -> Shelved:
    """The policy to answer with, and the task that it reads.

    Args:
        policy: see `models.policy.open_policy`; None for one of the shipped ones.
        task, options: of the task; what is not given comes from the checkpoint.
        problem: a text that the task has to be able to read, where one is to be found among the shipped ones.
        calibration, device: see `models.policy.open_policy`.

    Raises:
        SolveError: no policy fits. One line that names the mend.
        PolicyError, CheckpointError, RemoteError, TaskError: what was named cannot be opened.
    """
    given = dict(options or {})
    if not isinstance(problem, str | None):
        raise SolveError(f"a problem of type {type(problem).__name__}: give its text")
    if task is not None and task not in TASKS:
        raise SolveError(f"unknown task {task!r}: use one of {', '.join(TASKS)}")
    if policy is None:
        return _shipped(task, given, problem, device)
    return _with_task(open_policy(policy, calibration=calibration, device=device), task, given)


def _shipped(task: str | None, given: dict[str, Any], problem: str | None, device: str | None) -> Shelved:
    """The first shipped net that reads the problem."""
    refused: dict[str, list[str]] = {}  # names by reason
    for name, options in shipped().items():
        if (task and options["name"] != task) or any(options.get(key) != value for key, value in given.items()):
            continue
        try:
            if problem is not None:
                make_task(**options).parse_problem(problem)
        except TaskError as error:
            refused.setdefault(str(error), []).append(name)
            continue
        return _with_task(open_policy(name, device=device), task, given)
    if task is not None and given:
        make_task(name=task, **given)  # says which options there are, where one of these is none
    wanted = f"task={task}" + "".join(f" task.{key}={value}" for key, value in given.items()) if task else "this"
    names = ", ".join(shipped())
    reasons = [f"{', '.join(alike)}: {reason}; " for reason, alike in refused.items()]
    raise SolveError(
        f"none of the shipped nets ({names}) answers {wanted}; {''.join(reasons)}"
        "or train one with make selfplay and give policy=FOLDER"
    )


def _with_task(opened: Opened, task: str | None, given: dict[str, Any]) -> Shelved:
    saved, name = opened.task_options, opened.policy.name
    if saved is None and task is None:
        if opened.policy.in_words:
            raise SolveError(f"{name} does not say which task it is for: give task=NAME and its options")
        if opened.policy.model is None:
            raise SolveError("a language model on a server reads many tasks: give task=NAME")
        task = PLAIN
    if saved is not None and task is not None and saved["name"] != task:
        raise SolveError(f"{name} is a checkpoint of task {saved['name']}, not {task}: give one of task {task}")
    options = {**(saved or {"name": task}), **given}
    made = make_task(**options)
    opened.policy.check(made)
    return Shelved(opened.policy, made, options, opened.calibration or Calibration())


def one_policy(policy: str | None, checkpoint: str | None) -> str | None:
    """The policy that is named, by its own setting or by the alias.

    Raises:
        SolveError: both name one.
    """
    if policy is not None and checkpoint is not None:
        raise SolveError("policy= and checkpoint= name the same thing: give policy= alone")
    return checkpoint if policy is None else policy


def read_problem(task: Task, text: str) -> Problem:
    """The problem that a text asks.

    Raises:
        SolveError: none of this task.
    """
    if not isinstance(text, str):
        raise SolveError(f"a problem of type {type(text).__name__}: give its text")
    try:
        return task.parse_problem(text)
    except TaskError as error:
        raise SolveError(str(error)) from None

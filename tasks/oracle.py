"""Exact labels of a state, where a task knows its own solutions. They measure; no policy, search or learner sees one."""

from __future__ import annotations

from abc import abstractmethod

from tasks.base import Problem, Task, TaskError


class Oracle(Task):
    """A task that knows its legal steps, and of every state whether and how soon it can be solved."""

    exact = True

    @abstractmethod
    def solvable(self, problem: Problem, state: tuple) -> bool:
        """Exact label for measuring the value head. Never shown to the policy, a search or the learner."""

    @abstractmethod
    def distance(self, problem: Problem, state: tuple) -> int | None:
        """Exact least number of steps to a solution, None if there is none. Labels and reference figures only."""

    @abstractmethod
    def legal_steps(self, problem: Problem, state: tuple) -> list[str]:
        """Every legal step text from a state, for the policy-free enumeration control."""


def oracle(task: Task) -> Oracle:
    """The task, as one that knows its solutions.

    Raises:
        TaskError: it does not.
    """
    if not isinstance(task, Oracle):
        raise TaskError(f"task {task.name} has no exact labels and no list of legal steps")
    return task


def exact_labels(task: Oracle, problem: Problem, state: tuple, discount: float) -> tuple[float, float]:
    """(what an AUC sorts by, what the value should say) of a state.

    Where steps can be undone, the first is the distance to the goal and the second discount ** distance; else both are 1 where
    the state can still be solved and 0 where it cannot.
    """
    if not task.reversible:
        solvable = float(task.solvable(problem, state))
        return solvable, solvable
    distance = task.distance(problem, state)
    assert distance is not None, "every state of a reversible task can be solved"
    return float(distance), discount**distance

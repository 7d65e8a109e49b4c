"""Exact labels of a state, where a task knows its own solutions. They measure; no policy, search or learner sees one."""

from __future__ import annotations

from tasks.base import Problem, Task


def exact_labels(task: Task, problem: Problem, state: tuple, discount: float) -> tuple[float, float]:
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

"""The policy-free control: legal steps in random order, equal states merged, each step's tokens paid."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from solve.types import NEVER, SolveError
from tasks.base import Problem, Task
from tasks.oracle import oracle


def enumeration(task: Task, problems: Sequence[Problem], tokens: int, *, seed: int = 0) -> np.ndarray:
    """Tokens paid when the judge first accepted a chain, NEVER where `tokens` did not suffice. int64 [P].

    Depth first where chains are short and end (so that answers come early), breadth first where steps can be undone.

    Raises:
        SolveError: the task needs gold answers to be judged.
    """
    if not task.self_verifying:
        raise SolveError(
            f"task {task.name} needs gold answers to be judged: enumeration is for tasks that judge themselves"
        )
    return np.array(
        [_enumerate(task, problem, tokens, np.random.default_rng([seed, i])) for i, problem in enumerate(problems)]
    )


def _enumerate(task: Task, problem: Problem, tokens: int, rng: np.random.Generator) -> int:
    start = task.initial_state(problem)
    seen, paid = {task.state_key(problem, start)}, 0
    open_ = deque([(0, _shuffled_steps(task, problem, start, rng))])
    while open_:
        depth, steps = open_[0] if task.reversible else open_[-1]
        step = next(steps, None)
        if step is None:
            open_.popleft() if task.reversible else open_.pop()
            continue
        text, state = step
        paid += len(task.encode(text))
        if paid > tokens:
            return NEVER
        verdict, child = task.advance(problem, state, text)
        if verdict.reward >= 1:
            return paid
        if child is None or depth + 1 >= task.max_steps or (key := task.state_key(problem, child)) in seen:
            continue
        seen.add(key)
        open_.append((depth + 1, _shuffled_steps(task, problem, child, rng)))
    return NEVER


def _shuffled_steps(
    task: Task, problem: Problem, state: tuple, rng: np.random.Generator
) -> Iterator[tuple[str, tuple]]:
    steps = oracle(task).legal_steps(problem, state)
    return ((steps[k], state) for k in rng.permutation(len(steps)))

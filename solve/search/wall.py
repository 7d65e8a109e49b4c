"""What a search is kept from seeing: verdicts on answers, the value head, or that two states are equal.

The leak wall has two parts. A task that needs gold answers never holds them (`tasks.questions.corpus`); a task that verifies
itself is wrapped by `Unjudged` where no verifier is to be in the loop.
"""

from __future__ import annotations

from abc import update_abstractmethods
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NoReturn

import numpy as np

from mcts.types import NO_KEY, Draw, Expansion, Roots
from models.abilities import StepEvaluator
from solve.types import SolveError, Verify
from tasks.base import Problem, Task, Verdict

NOT_JUDGED = Verdict(0.0, True, True, "an answer, not judged", scored=False)
BLIND = np.float32(0.5)
GRAMMAR = (  # what of a task says nothing of right or wrong
    "name", "vocabulary", "kinds", "exact", "reversible", "discount", "one_answer", "end", "never", "max_steps",
    "max_step_tokens", "max_context_tokens", "problems", "count", "parse_problem", "prompt", "context", "initial_state",
    "state_key", "answer", "reads_as_answer", "examples", "form", "stream", "stream_words",
)  # fmt: skip


class Unjudged(Task):
    """A self-verifying task whose answers nobody judges.

    The rules of the game stay: a proposal that breaks them has no state to go on from and ends its chain without an answer. Of
    a last step in the form of an answer nothing is said, neither whether its result is the target nor whether its arithmetic is
    true.

    Raises:
        SolveError: a task whose chains end where the goal is reached: their end is the verdict.
    """

    def __init__(self, task: Task):
        if task.reversible:
            raise SolveError(
                f"a chain of task {task.name} ends when its goal is reached, so it cannot be searched unjudged: use verify=task"
            )
        self._task, self.self_verifying = task, False

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        verdict, after = self._task.advance(problem, state, step)
        if after is not None or not verdict.terminal:
            return verdict, after
        return (NOT_JUDGED if self._task.reads_as_answer(problem, state, step) else verdict), None

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(self._task, name):
            raise AttributeError(f"task {self.name} has no {name}")
        raise SolveError(f"task {self.name} is searched unjudged: rows, labels and legal moves are not for a search")


for _name in GRAMMAR:
    setattr(Unjudged, _name, property(attrgetter(f"_task.{_name}")))
update_abstractmethods(Unjudged)


def wall(task: Task, verify: Verify) -> Task:
    """What a search may know of `task`.

    Raises:
        SolveError: its own judge is asked for and it has none, or it cannot do without.
    """
    if verify == "task":
        if not task.self_verifying:
            raise SolveError(
                f"task {task.name} needs gold answers to be judged, which no search may see: use verify=none"
            )
        return task
    return Unjudged(task) if task.self_verifying else task  # ty: ignore[abstract-class-instantiation]


class Curtained:
    """An evaluator of which a search sees less.

    `values`: False: every state looks the same, terminals keep the rewards that a judge gave. `merge`: False: equal states stay
    apart.
    """

    def __init__(self, evaluator: StepEvaluator, *, values: bool = True, merge: bool = True):
        self._evaluator, self._values, self._merge = evaluator, values, merge

    def begin(self, problems: Sequence[Problem]) -> Roots:
        return self._seen(self._evaluator.begin(problems))

    def join(self, problems: Sequence[Problem]) -> Roots:
        return self._seen(self._evaluator.join(problems))

    def _seen(self, roots: Roots) -> Roots:
        if not self._merge:
            roots = replace(roots, keys=np.full_like(roots.keys, NO_KEY))
        return roots if self._values else replace(roots, raw_values=np.full_like(roots.raw_values, BLIND))

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        found = self._evaluator.expand(handles, n_candidates, draw)
        if not self._merge:
            found = replace(found, keys=np.full_like(found.keys, NO_KEY))
        if self._values:
            return found
        known = np.where((found.rewards == 0) | (found.rewards == 1), found.rewards, BLIND).astype(np.float32)
        if not self._evaluator.task.self_verifying:  # a value head that is sure of failure is no verdict
            zero = np.flatnonzero(found.terminal & found.legal & (known == 0))
            known[zero] = [0.0 if self._evaluator.verdict(h).scored else BLIND for h in found.handles[zero].tolist()]
        return replace(found, rewards=known, raw_values=np.where(found.terminal, known, BLIND).astype(np.float32))

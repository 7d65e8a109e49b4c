"""What a search is kept from seeing: verdicts on answers, the value head, or that two states are equal.

The leak wall has two parts. A task that needs gold answers never holds them (`tasks.questions.corpus`); a task that verifies
itself is wrapped by `Unjudged` where no verifier is to be in the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from mcts.types import NO_KEY, Draw, Expansion, Roots
from models.abilities import StepEvaluator
from solve.types import SolveError, Verify
from tasks.base import Problem, Task, Verdict

NOT_JUDGED = Verdict(0.0, True, True, "an answer, not judged", scored=False)
BLIND = np.float32(0.5)


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
        self._task = task
        for name in ("name", "vocabulary", "kinds", "exact", "reversible", "one_answer", "end", "never", "max_steps"):
            setattr(self, name, getattr(task, name))
        self.self_verifying = False
        self.max_step_tokens, self.max_context_tokens = task.max_step_tokens, task.max_context_tokens

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        verdict, after = self._task.advance(problem, state, step)
        if after is not None or not verdict.terminal:
            return verdict, after
        return (NOT_JUDGED if self._task.reads_as_answer(problem, state, step) else verdict), None

    def reads_as_answer(self, problem: Problem, state: tuple, step: str) -> bool:
        return self._task.reads_as_answer(problem, state, step)

    def initial_state(self, problem: Problem) -> tuple:
        return self._task.initial_state(problem)

    def prompt(self, problem: Problem) -> str:
        return self._task.prompt(problem)

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        return self._task.context(problem, steps)

    def state_key(self, problem: Problem, state: tuple) -> bytes | None:
        return self._task.state_key(problem, state)

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        return self._task.answer(problem, steps)

    def parse_problem(self, text: str) -> Problem:
        return self._task.parse_problem(text)

    def examples(self, n: int, seed: int = 0) -> list[str]:
        return self._task.examples(n, seed)

    def problems(self, split: Any, n: int | None = None, seed: int = 0) -> list[Problem]:
        return self._task.problems(split, n, seed)

    def count(self, split: Any) -> int:
        return self._task.count(split)

    def random_play(self, split: Any, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> NoReturn:
        raise self._refused()

    def hindsight(self, split: Any, n: int, rng: np.random.Generator) -> NoReturn:
        raise self._refused()

    def value_play(self, split: Any, n: int, rng: np.random.Generator) -> NoReturn:
        raise self._refused()

    def ended_play(self, split: Any, n: int, rng: np.random.Generator) -> NoReturn:
        raise self._refused()

    def solvable(self, problem: Problem, state: tuple) -> NoReturn:
        raise self._refused()

    def distance(self, problem: Problem, state: tuple) -> NoReturn:
        raise self._refused()

    def legal_steps(self, problem: Problem, state: tuple) -> NoReturn:
        raise self._refused()

    def _refused(self) -> SolveError:
        return SolveError(f"task {self.name} is searched unjudged: rows, labels and legal moves are not for a search")


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
    return Unjudged(task) if task.self_verifying else task


class Curtained:
    """An evaluator of which a search sees less.

    `values`: False: every state looks the same, terminals keep the rewards that a judge gave. `merge`: False: equal states stay
    apart.
    """

    def __init__(self, evaluator: StepEvaluator, *, values: bool = True, merge: bool = True):
        self._evaluator, self._values, self._merge = evaluator, values, merge

    def begin(self, problems: Sequence[Problem]) -> Roots:
        roots = self._evaluator.begin(problems)
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

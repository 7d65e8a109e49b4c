"""What planning tasks share: a context of goal and present state, moves that the verifier replays, rows of random play.

    goal | state                   context: goal and present state, so the task is Markov
    move new-state                 step: a move and the new state, written by the model

A chain is solved as soon as its state meets the goal. Splits go by goal. Every state can still reach its goals, so values are
discounted by distance.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from tasks.base import NEWLINE, Problem, Rows, Split, TaskError, Verdict
from tasks.free_play import FreePlay
from tasks.oracle import Oracle
from tasks.planning.kernels import BAR
from tasks.splits import GoalSplits, check_fraction, check_int, split_code
from tasks.streams import EFFORT, EFFORTS, NO, ON, YES

DEV_SHARE = 0.25  # of the held-out goals; the rest is test
SIDES = f" {BAR} "
SAID_WEIGHT, YES_WEIGHT = 4.0, 16.0  # of what a stream says of a step, beside a word of the new state; few rows say yes

STEP_ON = Verdict(reward=0.0, terminal=False, legal=True, reason="")
SOLVED = Verdict(reward=1.0, terminal=True, legal=True, reason="the goal is reached")


class Game(FreePlay, Oracle):
    """Moves towards a goal.

    Options, for subclasses to pass on: `max_steps` of a chain. `goal_holdout`: share of goals held out, a quarter of it dev,
    the rest test. `discount`: value of a state is discount ** distance. `walk_moves`: length of the random walks behind
    `hindsight` and `value_play`.

    Raises:
        TaskError: options that cannot be met.
    """

    kinds = ("propose",)
    self_verifying = True
    one_answer = False
    end, never = "the goal was reached", "the goal is not reached"
    reversible = True
    state_tokens: int  # of a state's text, with the newline behind it

    def __init__(self, *, max_steps: int, goal_holdout: float, discount: float, walk_moves: int) -> None:
        self.max_steps = check_int("max_steps", max_steps, 1, 1000)
        holdout = check_fraction("goal_holdout", goal_holdout, 0.01, 0.99)
        self.split_shares = (1.0 - holdout, holdout * DEV_SHARE)
        self.discount = check_fraction("discount", discount, 0.01, 1.0)
        self.walk_moves = check_int("walk_moves", walk_moves, 2, 1000)

    @abstractmethod
    def sides(self, problem: Problem) -> tuple[str, str]:
        """(text of the start, text of the goal)."""

    @abstractmethod
    def met(self, problem: Problem, state: tuple) -> bool:
        """Whether a state is what the problem asks for."""

    @abstractmethod
    def moved(self, state: tuple, step: str) -> tuple[str | None, tuple | None]:
        """(what is wrong with a step or None, next state). A step comes here with its newline, and no longer than any is."""

    @abstractmethod
    def goal_splits(self) -> GoalSplits:
        """Which goals are whose."""

    @abstractmethod
    def fill_random(self, rng: np.random.Generator, goals: np.ndarray, tokens: np.ndarray, value: np.ndarray) -> None:
        """Rows of random play into the arrays, towards `goals`."""

    @abstractmethod
    def fill_walks(
        self, rng, codes: np.ndarray, code: int, shorten: bool, tokens: np.ndarray, value: np.ndarray
    ) -> None:
        """Rows of random walks into the arrays, relabelled with goals whose entry in `codes` is `code`."""

    # ---- the verifier

    def prompt(self, problem: Problem) -> str:
        start, goal = self.sides(problem)
        return f"{goal}{SIDES}{start}{NEWLINE}"

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """Goal and present state only. The last step's text names the state."""
        if not steps:
            return self.prompt(problem)
        return f"{self.sides(problem)[1]}{SIDES}{' '.join(steps[-1].split(' ')[1 - self.state_tokens :])}"

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. A state does not know its depth: `max_steps` is the caller's, or `verdict`'s."""
        if not isinstance(step, str):
            wrong, after = "a step is text", None
        elif len(step) > self._longest_step:
            wrong, after = f"longer than any step ({len(step)} characters)", None
        elif step[-1:] != NEWLINE:
            wrong, after = "unfinished: a step ends with a newline", None
        else:
            wrong, after = self.moved(state, step)
        if wrong or after is None:
            return Verdict(reward=0.0, terminal=True, legal=False, reason=wrong or ""), None
        return (SOLVED, None) if self.met(problem, after) else (STEP_ON, after)

    @cached_property
    def _longest_step(self) -> int:
        return self.max_step_tokens * (1 + max(map(len, self.vocabulary)))

    # ---- rows to learn from

    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """Rows are single steps: a uniform goal of the split, a state that can come to it, a random move.

        Value of the state before the step: random play goes on from there for `max_steps` moves; discount ** moves if it
        meets the goal, else 0. The free choice is the move. Rows that teach the rules only carry no value.
        """
        tokens, value = self._blank_rows(n)
        self.fill_random(rng, self._goals(split), tokens, value)
        weight = self._step_weight(tokens)
        if rules_only:
            weight *= np.cumsum(weight[:, ::-1], 1)[:, ::-1] <= self.state_tokens  # the last tokens of the step
            value[:] = np.nan
        return Rows(tokens, weight, value)

    def hindsight(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Rows are single steps of the shortest way, within a random walk's own graph, to a goal that it met.

        That graph is the states it visited and the moves between them. Values: discount ** (that distance) on the newline
        that ends the context and on the one that ends the step.
        """
        tokens, value = self._walk_rows(split, n, rng, shorten=True)
        return Rows(tokens, self._step_weight(tokens), value)

    def value_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """As `hindsight`, but the step is any of the walk or of its graph, so that many lead away; policy weight 0."""
        tokens, value = self._walk_rows(split, n, rng, shorten=False)
        return Rows(tokens, np.zeros(tokens.shape, np.float32), value)

    def check_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """See `FreePlay.check_play`: a step of a walk, as in `value_play`, at a random effort, and what a stream says of it.

        `yes` where it meets the goal, `on` where it comes nearer to it in the walk's own graph, else `no`. In every fourth row
        one word of the new state is another: `no`, and nothing of the step is taught.
        """
        if not self.stream_words:
            raise TaskError(f"task {self.name} says what a step is worth in streams alone: add +task.streams=true")
        drawn, value = self._walk_rows(split, n, rng, shorten=False)
        shape, ids = (n, drawn.shape[1] + 1), self.token_ids
        tokens, weight = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        tokens[:, :-1] = drawn
        bar = drawn == ids[BAR]
        tokens[:, :-1][bar] = np.array([ids[f"{EFFORT}{effort}"] for effort in range(1, len(EFFORTS))])[
            rng.integers(len(EFFORTS) - 1, size=int(bar.sum()))
        ]
        last, rows = (drawn != 0).sum(1) - 1, np.arange(n)
        before, after = value[:, self.max_context_tokens - 1], value[rows, last]
        said = np.where(after >= 1.0, ids[YES], np.where(after > before, ids[ON], ids[NO]))
        weight[:, :-1] = self._step_weight(drawn)
        weight[:, :-1] *= np.arange(drawn.shape[1]) > (last - self.state_tokens)[:, None]
        false = np.flatnonzero(np.arange(n) % 4 == 3)
        at = last[false] - rng.integers(1, self.state_tokens, size=len(false))
        others = np.unique(drawn[:, self.max_context_tokens - self.state_tokens : self.max_context_tokens - 1])
        words = others[rng.integers(len(others), size=len(false))]
        slipped = false[words != tokens[false, at]]
        tokens[false, at] = words
        weight[slipped], said[slipped] = 0.0, ids[NO]
        tokens[rows, last + 1] = said
        weight[rows, last + 1] = np.where(said == ids[YES], YES_WEIGHT, SAID_WEIGHT)
        return Rows(tokens, weight, np.full(shape, np.nan, np.float32))

    def solvable(self, problem: Problem, state: tuple) -> bool:
        return self.distance(problem, state) is not None

    # ---- helpers

    def _goals(self, split: Split) -> np.ndarray:
        split_code(split)
        goals = self.goal_splits().goals[split]
        if len(goals) == 0:
            raise TaskError(f"the {split} split has no goals: raise goal_holdout or make the task larger")
        return goals

    def _blank_rows(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (check_int("n", n, 0, 2**31), self.max_context_tokens + self.max_step_tokens)
        return np.zeros(shape, np.int32), np.full(shape, np.nan, np.float32)

    def _walk_rows(
        self, split: Split, n: int, rng: np.random.Generator, shorten: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        self._goals(split)
        tokens, value = self._blank_rows(n)
        self.fill_walks(rng, self.goal_splits().codes, split_code(split), shorten, tokens, value)
        return tokens, value

    def _step_weight(self, tokens: np.ndarray) -> np.ndarray:
        weight = (tokens != 0).astype(np.float32)
        weight[:, : self.max_context_tokens] = 0.0
        return weight

"""What planning tasks on an enumerated space share: problems, the verifier, rows and labels.

    goal | state                   context: goal and present state, so the task is Markov
    move new-state                 step: a move and the new state, written by the model

A chain is solved as soon as its state meets the goal. Splits go by goal. Every state can still reach its goals, so
values are discounted by distance. A task says what its space is and how to mend a text that is none of its problems.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from struct import pack

import numpy as np

from tasks.base import NEWLINE, Problem, Rows, Split, TaskError, Verdict
from tasks.free_play import FreePlay
from tasks.oracle import Oracle
from tasks.planning import kernels
from tasks.planning.kernels import BAR, NO_STATE, UNREACHABLE
from tasks.planning.space import Pairs, Space, distances, draw_stratified, has_problem, problem_pairs, split_goals
from tasks.splits import check_fraction, check_int, split_code

DEV_SHARE = 0.25  # of the held-out goals; the rest is test
SIDES = f" {BAR} "
ECHO = 6  # characters of hostile text that a reason repeats

STEP_ON = Verdict(reward=0.0, terminal=False, legal=True, reason="")
SOLVED = Verdict(reward=1.0, terminal=True, legal=True, reason="the goal is reached")


class Planning(FreePlay, Oracle):
    """A task on `space`; `Problem.data` is (text of the start, text of the goal), a state is (its number in the space,).

    Options, for subclasses to pass on: problems start `distance_min`..`distance_max` moves from the goal (`distance_max`
    None: as far as any does, at most `max_steps`), those to practise on from `practice_min` moves (None: `distance_min`).
    `goal_holdout`: share of goals held out, a quarter of it dev, the rest test. `discount`: value of a state is discount
    ** distance. `walk_moves`: length of the random walks behind `hindsight` and `value_play`.

    Raises:
        TaskError: options that cannot be met.
    """

    kinds = ("propose",)
    self_verifying = True
    one_answer = False
    end, never = "the goal was reached", "the goal is not reached"
    reversible = True
    example: str  # "goal | start" for a person who wrote something else

    def __init__(
        self,
        space: Space,
        *,
        distance_min: int,
        distance_max: int | None,
        practice_min: int | None,
        goal_holdout: float,
        max_steps: int,
        discount: float,
        walk_moves: int,
    ) -> None:
        self.space = space
        self.max_steps = check_int("max_steps", max_steps, 1, 1000)
        holdout = check_fraction("goal_holdout", goal_holdout, 0.01, 0.99)
        self.split_shares = (1.0 - holdout, holdout * DEV_SHARE)
        self.discount = check_fraction("discount", discount, 0.01, 1.0)
        self.walk_moves = check_int("walk_moves", walk_moves, 2, 1000)
        longest = self.max_steps if distance_max is None else check_int("distance_max", distance_max, 1, self.max_steps)
        self._distance_max = distance_max
        self.distance_min = check_int("distance_min", distance_min, 1, longest)
        self.practice_min = check_int(
            "practice_min", distance_min if practice_min is None else practice_min, 1, self.distance_min
        )
        if not has_problem(space, self._goals("train"), distance_min, longest):
            raise TaskError(
                f"no {self.name} problem is {distance_min}..{longest} moves deep:"
                f" lower distance_min to {self._pairs('train').deepest} or less"
            )
        tables = space.tables
        self.vocabulary = space.vocabulary
        self.max_context_tokens = tables.goal_words.shape[1] + tables.state_words.shape[1] + 3
        self.max_step_tokens = tables.move_words.shape[1] + tables.state_words.shape[1] + 1
        self._moves = [space.text(words) for words in tables.move_words]
        self._move_of_text = {text: move for move, text in enumerate(self._moves)}
        self._move_widths = sorted({len(text.split(" ")) for text in self._moves})
        self._max_step_chars = self.max_step_tokens * (1 + max(map(len, space.vocabulary)))

    @abstractmethod
    def what_is_wrong(self, goal: str, start: str) -> str:
        """The mend of a goal or start that is none, in a few words: "write each block once"."""

    # ---- problems

    @cached_property
    def distance_max(self) -> int:
        """The longest way of a problem. Where no option says it, all problems are listed to find out."""
        return min(self._pairs("train").deepest, self.max_steps) if self._distance_max is None else self._distance_max

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`, but stratified: optimal lengths come equally often as far as each length lasts.

        Uniform over (start, goal) pairs within a length; a smaller `n` gives a prefix of a larger one.
        """
        return self._drawn(split, n, seed, self.distance_min)

    def practice(self, n: int, rng: np.random.Generator) -> list[Problem]:
        """As `Task.practice`: up to `n` distinct problems with goals of the train split, from `practice_min` moves away."""
        most = int(self._pairs("train").counts(self.practice_min, self.distance_max).sum())
        return self._drawn("train", min(n, most), int(rng.integers(2**63)), self.practice_min)

    def count(self, split: Split) -> int:
        return int(self._pairs(split).counts(self.distance_min, self.distance_max).sum())

    def parse_problem(self, text: str) -> Problem:
        """The problem of a prompt, "goal | start".

        Raises:
            TaskError: not a goal and a state of its game that does not meet it yet.
        """
        sides = text.removesuffix(NEWLINE).split(SIDES)
        if len(sides) != 2:
            raise TaskError(f"{text[:40]!a} is not 'goal | start': write it as {self.example}")
        goal = self.space.goal_of_text.get(sides[0])
        state = None if goal is None else self._state_of_text(goal, sides[1])
        if goal is None or state is None:
            raise TaskError(f"{text[:40]!a}: {self.what_is_wrong(*sides)}, as in {self.example}")
        if goal in self.space.tables.met[state]:
            raise TaskError(f"{text[:40]!a} is solved at the start: write another goal or start, as in {self.example}")
        return self._problem(state, goal)

    def prompt(self, problem: Problem) -> str:
        return f"{problem.data[1]}{SIDES}{problem.data[0]}\n"

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """Goal and present state only. The last step's text names the state."""
        if not steps:
            return self.prompt(problem)
        words = steps[-1].split(" ")
        return f"{problem.data[1]}{SIDES}{' '.join(words[-self.space.tables.state_words.shape[1] :])}"

    # ---- the verifier

    def initial_state(self, problem: Problem) -> tuple[int]:
        """See `Task.initial_state`.

        Raises:
            TaskError: the problem is none of this space.
        """
        goal = self.space.goal_of_text.get(problem.data[1])
        state = None if goal is None else self._state_of_text(goal, problem.data[0])
        if state is None:
            raise TaskError(f"{problem.id[:60]!a} is no problem of this {self.name}: build the task that it is from")
        return (state,)

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        return pack("<I", state[0])

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. A state does not know its depth: `max_steps` is the caller's, or `verdict`'s."""
        wrong, after = self._judge(state[0], step)
        if wrong:
            return Verdict(reward=0.0, terminal=True, legal=False, reason=wrong), None
        if self.space.goal_of_text[problem.data[1]] in self.space.tables.met[after].tolist():
            return SOLVED, None
        return STEP_ON, (after,)

    def _judge(self, state: int, step: str) -> tuple[str | None, int]:
        """(what is wrong or None, next state)."""
        if not isinstance(step, str):
            return "a step is text", NO_STATE
        if len(step) > self._max_step_chars:
            return f"longer than any step ({len(step)} characters)", NO_STATE
        if step[-1:] != NEWLINE:
            return "unfinished: a step ends with a newline", NO_STATE
        words = step[:-1].split(" ")
        texts = [" ".join(words[:width]) for width in self._move_widths]
        move = next((text for text in texts if text in self._move_of_text), None)
        if move is None:
            return f"{texts[0][:ECHO]!a} is not a move, such as {self._moves[0]}", NO_STATE
        after = int(self.space.after[state, self._move_of_text[move]])
        if after == NO_STATE:
            return f"{move} cannot be done here", NO_STATE
        if step != (right := f"{move} {self.space.state_text(after)}\n"):
            return f"after {move} the state is {right[len(move) + 1 : -1]}", NO_STATE
        return None, after

    # ---- rows to learn from

    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """Rows are single steps: a uniform goal of the split, a state that random play came to from a start, a random move.

        Value of the state before the step: random play goes on from there for `max_steps` moves; discount ** moves if it
        meets the goal, else 0. The free choice is the move. Rows that teach the rules only carry no value.
        """
        tokens, value = self._blank_rows(n)
        play = (self.max_steps, self.discount)
        kernels.random_rows(rng, self.space.tables, self._goals(split), *play, tokens, value)
        weight = self._step_weight(tokens)
        if rules_only:
            state = self.space.tables.state_words.shape[1] + 1
            weight *= np.cumsum(weight[:, ::-1], 1)[:, ::-1] <= state  # the last tokens of the step
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
        """As `hindsight`, but the step is any move within the graph, so that many lead away; policy weight 0."""
        tokens, value = self._walk_rows(split, n, rng, shorten=False)
        return Rows(tokens, np.zeros(tokens.shape, np.float32), value)

    # ---- labels and controls

    def solvable(self, problem: Problem, state: tuple) -> bool:
        return self.distance(problem, state) is not None

    def distance(self, problem: Problem, state: tuple) -> int | None:
        goal = self.space.goal_of_text[problem.data[1]]
        moves = int(distances(self.space, goal)[state[0] - self.space.tables.span[goal, 0]])
        return None if moves == UNREACHABLE else moves

    def legal_steps(self, problem: Problem, state: tuple) -> list[str]:
        after = enumerate(self.space.after[state[0]].tolist())
        return [f"{self._moves[move]} {self.space.state_text(to)}\n" for move, to in after if to != NO_STATE]

    # ---- helpers

    def _problem(self, start: int, goal: int) -> Problem:
        data = (self.space.state_text(start), self.space.goal_text(goal))
        return Problem(f"{self.name}:{'>'.join(data)}".replace(" ", "."), self.name, data)

    def _state_of_text(self, goal: int, text: str) -> int | None:
        """The state of the goal's game that reads so."""
        low, high = self.space.tables.span[goal]
        words = [self.token_ids.get(word, -1) for word in text.split(" ")]
        table = self.space.tables.state_words[low:high]
        found = np.flatnonzero((table == words).all(1)) if len(words) == table.shape[1] else ()
        return int(low + found[0]) if len(found) else None

    def _pairs(self, split: Split) -> Pairs:
        split_code(split)
        return problem_pairs(self.space, *self.split_shares, split)

    def _drawn(self, split: Split, n: int | None, seed: int, distance_min: int) -> list[Problem]:
        pairs = self._pairs(split)
        counts = pairs.counts(distance_min, self.distance_max)
        shorter = int(pairs.ends[min(distance_min - 1, pairs.deepest)])
        chosen = draw_stratified(counts, n, split, seed) + shorter
        goals, starts = pairs.goal[chosen].tolist(), pairs.start[chosen].tolist()
        return [self._problem(start, goal) for start, goal in zip(starts, goals, strict=True)]

    def _goals(self, split: Split) -> np.ndarray:
        split_code(split)
        goals = split_goals(self.space, *self.split_shares).goals[split]
        if len(goals) == 0:
            raise TaskError(f"the {split} split has no goals: raise goal_holdout or take a larger space")
        return goals

    def _blank_rows(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (check_int("n", n, 0, 2**31), self.max_context_tokens + self.max_step_tokens)
        return np.zeros(shape, np.int32), np.full(shape, np.nan, np.float32)

    def _walk_rows(
        self, split: Split, n: int, rng: np.random.Generator, shorten: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        self._goals(split)
        tokens, value = self._blank_rows(n)
        codes = split_goals(self.space, *self.split_shares).codes
        walk = (self.walk_moves, self.discount, shorten)
        kernels.walk_rows(rng, self.space.tables, codes, split_code(split), *walk, tokens, value)
        return tokens, value

    def _step_weight(self, tokens: np.ndarray) -> np.ndarray:
        weight = (tokens != 0).astype(np.float32)
        weight[:, : self.max_context_tokens] = 0.0
        return weight

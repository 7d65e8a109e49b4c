"""Planning on an enumerated space: its problems, stratified by depth, the verifier and exact labels.

A task says what its space is and how to mend a text that is none of its problems.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from struct import pack

import numpy as np

from tasks.base import NEWLINE, Problem, Split, TaskError
from tasks.planning import kernels
from tasks.planning.game import SIDES, Game
from tasks.planning.kernels import NO_STATE, UNREACHABLE
from tasks.planning.space import Pairs, Space, distances, draw_stratified, has_problem, problem_pairs, split_goals
from tasks.splits import GoalSplits, check_int, split_code
from tasks.streams import StreamForm

ECHO = 6  # characters of hostile text that a reason repeats


class Planning(Game):
    """A task on `space`; `Problem.data` is (text of the start, text of the goal), a state is (its number in the space,).

    Options, for subclasses to pass on: problems start `distance_min`..`distance_max` moves from the goal (`distance_max`
    None: as far as any does, at most `max_steps`), those to practise on from `practice_min` moves (None: `distance_min`);
    the others are those of `Game`.

    Raises:
        TaskError: options that cannot be met.
    """

    example: str  # "goal | start" for a person who wrote something else

    def __init__(
        self,
        space: Space,
        *,
        distance_min: int,
        distance_max: int | None,
        practice_min: int | None,
        **options,
    ) -> None:
        super().__init__(**options)
        self.space = space
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
        self.state_tokens = tables.state_words.shape[1] + 1
        self.max_context_tokens = tables.goal_words.shape[1] + self.state_tokens + 2
        self.max_step_tokens = tables.move_words.shape[1] + self.state_tokens
        self.stream = StreamForm(mark=kernels.BAR, following=self.state_tokens - 1, markov=True)
        self._moves = [space.text(words) for words in tables.move_words]
        self._move_of_text = {text: move for move, text in enumerate(self._moves)}
        self._move_widths = sorted({len(text.split(" ")) for text in self._moves})

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

    def sides(self, problem: Problem) -> tuple[str, str]:
        return problem.data

    # ---- the verifier

    def initial_state(self, problem: Problem) -> tuple[int]:
        """See `Task.initial_state`.

        Raises:
            TaskError: the problem is none of this space.
        """
        start, end = problem.data
        goal = self.space.goal_of_text.get(end)
        state = None if goal is None else self._state_of_text(goal, start)
        if state is None:
            raise TaskError(f"{problem.id[:60]!a} is no problem of this {self.name}: build the task that it is from")
        return (state,)

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        return pack("<I", state[0])

    def met(self, problem: Problem, state: tuple) -> bool:
        _, goal = problem.data
        return self.space.goal_of_text[goal] in self.space.tables.met[state[0]].tolist()

    def moved(self, state: tuple, step: str) -> tuple[str | None, tuple | None]:
        words = step[:-1].split(" ")
        texts = [" ".join(words[:width]) for width in self._move_widths]
        move = next((text for text in texts if text in self._move_of_text), None)
        if move is None:
            return f"{texts[0][:ECHO]!a} is not a move, such as {self._moves[0]}", None
        after = int(self.space.after[state[0], self._move_of_text[move]])
        if after == NO_STATE:
            return f"{move} cannot be done here", None
        if step != (right := f"{move} {self.space.state_text(after)}\n"):
            return f"after {move} the state is {right[len(move) + 1 : -1]}", None
        return None, (after,)

    # ---- rows to learn from

    def goal_splits(self) -> GoalSplits:
        return split_goals(self.space, *self.split_shares)

    def fill_random(self, rng, goals, tokens, value) -> None:
        kernels.random_rows(rng, self.space.tables, goals, self.max_steps, self.discount, tokens, value)

    def fill_walks(self, rng, codes, code, shorten, tokens, value) -> None:
        walk = (self.walk_moves, self.discount, shorten)
        kernels.walk_rows(rng, self.space.tables, codes, code, *walk, tokens, value)

    # ---- labels and controls

    def distance(self, problem: Problem, state: tuple) -> int | None:
        _, end = problem.data
        goal = self.space.goal_of_text[end]
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

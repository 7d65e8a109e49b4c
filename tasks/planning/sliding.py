"""The sliding puzzle with random goals: the deep task, 4 to 24 moves and more.

    1 2 3 4 5 0 | 1 2 3 0 4 5      context: goal | present state
    R 1 2 3 4 0 5                  step: where the blank goes (U, D, L, R) and the new state, written by the model

The context shows only goal and present state, so the task is Markov. A chain is solved as soon as its state is the
goal. Splits go by goal. Moves can be taken back, so every state of the right parity is solvable: values are discounted
by distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.base import NEWLINE, Problem, Rows, Split, TaskError, Verdict
from tasks.free_play import FreePlay
from tasks.oracle import Oracle
from tasks.planning import sliding_kernels as kernels
from tasks.planning.sliding_space import Board, distance, distance_table, split_goals, start_board, starts_within
from tasks.splits import check_fraction, check_int, draw_distinct, split_code

DEV_SHARE = 0.25  # of the held-out goals; the rest is test
SMALL_SQUARES = 6  # boards up to here have the small defaults

STEP_ON = Verdict(reward=0.0, terminal=False, legal=True, reason="")
SOLVED = Verdict(reward=1.0, terminal=True, legal=True, reason="the goal is reached")


class Sliding(FreePlay, Oracle):
    """Sliding puzzle of `rows` x `cols` (each at least 2, at most 9 squares).

    Problems start `distance_min`..`distance_max` moves from the goal (default 4..14, 4..24 beyond six squares).
    `goal_holdout`: share of goals held out, a quarter of it dev, the rest test. `max_steps`: default 24, or 48 beyond
    six squares. `discount`: value of a state is discount ** distance. `walk_moves`: length of the random walks behind
    `hindsight` and `value_play`.

    Raises:
        TaskError: options that cannot be met.
    """

    name = "sliding"
    kinds = ("propose",)
    self_verifying = True
    one_answer = False
    end, never = "the goal was reached", "the goal is not reached"
    reversible = True

    def __init__(
        self,
        rows: int = 2,
        cols: int = 3,
        distance_min: int = 4,
        distance_max: int | None = None,
        goal_holdout: float = 0.2,
        max_steps: int | None = None,
        discount: float = 0.9,
        walk_moves: int = 24,
    ) -> None:
        self.rows = check_int("rows", rows, 2, 4)
        self.cols = check_int("cols", cols, 2, 4)
        self.squares = rows * cols
        if self.squares > kernels.MAX_SQUARES:
            raise TaskError(f"{rows}x{cols} has {self.squares} squares, over {kernels.MAX_SQUARES}: lower rows or cols")
        small = self.squares <= SMALL_SQUARES
        self.max_steps = check_int("max_steps", (24 if small else 48) if max_steps is None else max_steps, 1, 1000)
        if distance_max is None:
            distance_max = min(14 if small else 24, self.max_steps)
        self.distance_max = check_int("distance_max", distance_max, 1, self.max_steps)
        self.distance_min = check_int("distance_min", distance_min, 1, self.distance_max)
        holdout = check_fraction("goal_holdout", goal_holdout, 0.01, 0.99)
        self.split_shares = (1.0 - holdout, holdout * DEV_SHARE)
        self.discount = check_fraction("discount", discount, 0.01, 1.0)
        self.walk_moves = check_int("walk_moves", walk_moves, 2, 1000)
        if sum(self._start_counts()) == 0:
            deepest = max(int(table[table < kernels.UNREACHABLE].max()) for table in self._distance_tables())
            raise TaskError(
                f"no {rows}x{cols} problem is {distance_min}..{distance_max} moves deep:"
                f" lower distance_min to {deepest} or less"
            )
        self.vocabulary = kernels.vocabulary(self.squares)
        self.max_step_tokens = kernels.step_tokens(self.squares)
        self.max_context_tokens = kernels.context_tokens(self.squares)
        self._tile_of_word = {str(tile): tile for tile in range(self.squares)}
        self._shift_of_word = {"U": -self.cols, "D": self.cols, "L": -1, "R": 1}

    # ---- problems

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`. Uniform over (start, goal) pairs; a smaller `n` gives a prefix of a larger one.

        Raises:
            TaskError: also if `n` is None and the split is too large to list (3x3).
        """
        goals = kernels.unrank_many(self._goals(split), self.squares)
        ends = self._problem_ends(goals)
        chosen = draw_distinct(int(ends[-1]), n, split, seed)
        places = np.searchsorted(ends, chosen, side="right").tolist()
        targets = [tuple(goals[place].tolist()) for place in places]
        codes = np.empty(len(chosen), np.int64)
        for k, (position, place) in enumerate(zip(chosen.tolist(), places, strict=True)):
            starts = self._starts(targets[k].index(0))
            codes[k] = starts[position - int(ends[place]) + len(starts)]
        starts = kernels.unrank_many(codes, self.squares)
        return [self._problem(start_board(start, goal), goal) for start, goal in zip(starts, targets, strict=True)]

    def count(self, split: Split) -> int:
        return int(self._problem_ends(kernels.unrank_many(self._goals(split), self.squares))[-1])

    def parse_problem(self, text: str) -> Problem:
        """The problem of a prompt, "goal | start".

        Raises:
            TaskError: not two boards of this size that can reach each other and differ.
        """
        sides = [tuple(side.split()) for side in text.split(kernels.BAR)]
        boards = [tuple(self._tile_of_word.get(word, -1) for word in side) for side in sides]
        if len(boards) != 2 or any(sorted(board) != list(range(self.squares)) for board in boards):
            example = " ".join(map(str, (*range(1, self.squares), 0)))
            raise TaskError(
                f"{text[:40]!a} is not 'goal | start': write each tile 0..{self.squares - 1} once, as {example}"
            )
        goal, start = boards
        if start == goal or distance(self.rows, self.cols, start, goal) is None:
            raise TaskError("start and goal are equal or of different parity: swap two tiles of the start")
        return self._problem(start, goal)

    def prompt(self, problem: Problem) -> str:
        return self._context(problem, problem.data[0])

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """Goal and present state only. The last step's text names the state."""
        if not steps:
            return self.prompt(problem)
        return f"{_text(problem.data[1])} {kernels.BAR} {steps[-1][2:]}"

    # ---- the verifier

    def initial_state(self, problem: Problem) -> Board:
        """A state is the board, row-major, 0 the blank."""
        return problem.data[0]

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        return bytes(state)

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. A board does not know its depth: `max_steps` is the caller's, or `verdict`'s."""
        wrong, after = self._judge(state, step)
        if wrong:
            return Verdict(reward=0.0, terminal=True, legal=False, reason=wrong), None
        if after == problem.data[1]:
            return SOLVED, None
        return STEP_ON, after

    def _judge(self, state: tuple, step: str) -> tuple[str | None, Board | None]:
        """(what is wrong or None, next state)."""
        if not isinstance(step, str):
            return "a step is text", None
        if len(step) > 2 * self.squares + 2:
            return f"longer than any step ({len(step)} characters)", None
        if step[-1:] != NEWLINE:
            return "unfinished: a step ends with a newline", None
        move, *words = step[:-1].split(" ")
        shift = self._shift_of_word.get(move)
        if shift is None:
            return f"{move!a} is not a move: U, D, L or R", None
        after = self._moved(state, shift)
        if after is None:
            return f"{move} leaves the board", None
        tile_of = self._tile_of_word
        if tuple([tile_of.get(word) for word in words]) != after:
            return f"after {move} the state is {_text(after)}", None
        return None, after

    # ---- rows to learn from

    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """Rows are single steps: a uniform goal of the split, a uniform state that can reach it, a random move.

        Value of the state before the step: random play goes on from there for `max_steps` moves; discount ** moves if it
        meets the goal, else 0. The free choice is the move. Rows that teach the rules only carry no value.
        """
        tokens, value = self._blank_rows(n)
        play = (self.max_steps, self.discount)
        kernels.random_rows(rng, self._goals(split), self.rows, self.cols, *play, tokens, value)
        weight = self._step_weight(tokens)
        if rules_only:
            weight[:, self.max_context_tokens] = 0.0
            value[:] = np.nan
        return Rows(tokens, weight, value)

    def hindsight(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Rows are single steps of the shortest way, within a random walk's own graph, to a goal that it met.

        Values: discount ** (that distance) on the newline that ends the context and on the one that ends the step.
        """
        tokens, value = self._walk_rows(split, n, rng, shorten=True)
        return Rows(tokens, self._step_weight(tokens), value)

    def value_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """As `hindsight`, but the step follows the walk either way, so that half of them lead away; policy weight 0."""
        tokens, value = self._walk_rows(split, n, rng, shorten=False)
        return Rows(tokens, np.zeros(tokens.shape, np.float32), value)

    # ---- labels and controls

    def solvable(self, problem: Problem, state: tuple) -> bool:
        return self.distance(problem, state) is not None

    def distance(self, problem: Problem, state: tuple) -> int | None:
        return distance(self.rows, self.cols, state, problem.data[1])

    def legal_steps(self, problem: Problem, state: tuple) -> list[str]:
        after = {move: self._moved(state, shift) for move, shift in self._shift_of_word.items()}
        return [f"{move} {_text(board)}\n" for move, board in after.items() if board is not None]

    # ---- helpers

    def _moved(self, state: tuple, shift: int) -> Board | None:
        """The board after the blank moved by `shift` squares, None if that leaves the board."""
        blank = state.index(0)
        square = blank + shift
        if not 0 <= square < self.squares or (abs(shift) == 1 and blank // self.cols != square // self.cols):
            return None
        after = list(state)
        after[blank], after[square] = after[square], 0
        return tuple(after)

    def _problem(self, start: Board, goal: Board) -> Problem:
        key = f"{self.rows}x{self.cols}:{''.join(map(str, start))}>{''.join(map(str, goal))}"
        return Problem(id=f"{self.name}:{key}", task=self.name, data=(start, goal))

    def _context(self, problem: Problem, state: Board) -> str:
        return f"{_text(problem.data[1])} {kernels.BAR} {_text(state)}\n"

    def _goals(self, split: Split) -> np.ndarray:
        split_code(split)
        goals = split_goals(self.rows, self.cols, *self.split_shares).goals[split]
        if len(goals) == 0:
            raise TaskError(f"the {split} split has no goals: raise goal_holdout or take a larger board")
        return goals

    def _distance_tables(self) -> list[np.ndarray]:
        return [distance_table(self.rows, self.cols, blank) for blank in range(self.squares)]

    def _starts(self, blank: int) -> np.ndarray:
        return starts_within(self.rows, self.cols, blank, self.distance_min, self.distance_max)

    def _start_counts(self) -> list[int]:
        """Starts in range, by the square of the goal's blank."""
        return [len(self._starts(blank)) for blank in range(self.squares)]

    def _problem_ends(self, goals: np.ndarray) -> np.ndarray:
        """int [G]: how many problems the goals [G, N] up to and with each one have."""
        return np.cumsum(np.array(self._start_counts())[(goals == 0).argmax(1)])

    def _blank_rows(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (check_int("n", n, 0, 2**31), self.max_context_tokens + self.max_step_tokens)
        return np.zeros(shape, np.int32), np.full(shape, np.nan, np.float32)

    def _walk_rows(
        self, split: Split, n: int, rng: np.random.Generator, shorten: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        self._goals(split)
        tokens, value = self._blank_rows(n)
        codes = split_goals(self.rows, self.cols, *self.split_shares).codes
        walk = (self.walk_moves, self.discount, shorten)
        kernels.walk_rows(rng, codes, split_code(split), self.rows, self.cols, *walk, tokens, value)
        return tokens, value

    def _step_weight(self, tokens: np.ndarray) -> np.ndarray:
        weight = np.zeros(tokens.shape, np.float32)
        weight[:, self.max_context_tokens :] = 1.0
        return weight


def _text(board: Board) -> str:
    return " ".join(map(str, board))

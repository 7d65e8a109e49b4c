"""The sliding puzzle with random goals: the deep task, 4 to 24 moves and more.

    1 2 3 4 5 0 | 1 2 3 0 4 5      context: goal | present state
    R 1 2 3 4 0 5                  step: where the blank goes (U, D, L, R) and the new state, written by the model

Values are discounted by distance: moves can be taken back, so every state of the right parity is solvable.
"""

from __future__ import annotations

import numpy as np

from tasks.base import Problem, Split, TaskError
from tasks.planning import sliding_kernels as kernels
from tasks.planning.game import Game
from tasks.planning.kernels import BAR
from tasks.planning.sliding_space import Board, distance, distance_table, split_goals, start_board, starts_within
from tasks.splits import GoalSplits, check_int, draw_distinct
from tasks.streams import StreamForm

SMALL_SQUARES = 6  # boards up to here have the small defaults


class Sliding(Game):
    """Sliding puzzle of `rows` x `cols` (each at least 2, at most 9 squares).

    Problems start `distance_min`..`distance_max` moves from the goal (default 4..14, 4..24 beyond six squares).
    `goal_holdout`: share of goals held out, a quarter of it dev, the rest test. `max_steps`: default 24, or 48 beyond
    six squares. `discount`: value of a state is discount ** distance. `walk_moves`: length of the random walks behind
    `hindsight` and `value_play`.

    Raises:
        TaskError: options that cannot be met.
    """

    name = "sliding"

    def __init__(
        self,
        rows: int = 2,  # 2x3 or 3x3
        cols: int = 3,
        distance_min: int = 4,  # moves between start and goal
        distance_max: int | None = None,  # null: 14, beyond six squares 24
        goal_holdout: float = 0.2,  # share of the goals that train never sees; a quarter of them is dev, the rest test
        max_steps: int | None = None,  # of a chain; null: 24, beyond six squares 48
        discount: float = 0.9,  # value of a state: discount^distance
        walk_moves: int = 24,  # length of the random walks behind hindsight
    ) -> None:
        self.rows = check_int("rows", rows, 2, 4)
        self.cols = check_int("cols", cols, 2, 4)
        self.squares = rows * cols
        if self.squares > kernels.MAX_SQUARES:
            raise TaskError(f"{rows}x{cols} has {self.squares} squares, over {kernels.MAX_SQUARES}: lower rows or cols")
        small = self.squares <= SMALL_SQUARES
        super().__init__(
            max_steps=(24 if small else 48) if max_steps is None else max_steps,
            goal_holdout=goal_holdout,
            discount=discount,
            walk_moves=walk_moves,
        )
        if distance_max is None:
            distance_max = min(14 if small else 24, self.max_steps)
        self.distance_max = check_int("distance_max", distance_max, 1, self.max_steps)
        self.distance_min = check_int("distance_min", distance_min, 1, self.distance_max)
        if sum(self._start_counts()) == 0:
            deepest = max(int(table[table < kernels.UNREACHABLE].max()) for table in self._distance_tables())
            raise TaskError(
                f"no {rows}x{cols} problem is {distance_min}..{distance_max} moves deep:"
                f" lower distance_min to {deepest} or less"
            )
        self.vocabulary = kernels.vocabulary(self.squares)
        self.state_tokens = self.squares + 1
        self.stream = StreamForm(mark=BAR, following=self.squares, markov=True)
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

    def sides(self, problem: Problem) -> tuple[str, str]:
        start, goal = problem.data
        return _text(start), _text(goal)

    # ---- the verifier

    def initial_state(self, problem: Problem) -> Board:
        """A state is the board, row-major, 0 the blank."""
        start, _ = problem.data
        return start

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        return bytes(state)

    def met(self, problem: Problem, state: tuple) -> bool:
        _, goal = problem.data
        return state == goal

    def moved(self, state: tuple, step: str) -> tuple[str | None, Board | None]:
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

    def goal_splits(self) -> GoalSplits:
        return split_goals(self.rows, self.cols, *self.split_shares)

    def fill_random(self, rng, goals, tokens, value) -> None:
        kernels.random_rows(rng, goals, self.rows, self.cols, self.max_steps, self.discount, tokens, value)

    def fill_walks(self, rng, codes, code, shorten, tokens, value) -> None:
        walk = (self.walk_moves, self.discount, shorten)
        kernels.walk_rows(rng, codes, code, self.rows, self.cols, *walk, tokens, value)

    # ---- labels and controls

    def distance(self, problem: Problem, state: tuple) -> int | None:
        _, goal = problem.data
        return distance(self.rows, self.cols, state, goal)

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


def _text(board: Board) -> str:
    return " ".join(map(str, board))

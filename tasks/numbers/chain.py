"""Chain arithmetic: eight to twelve operations on one number, of which only the end is verified.

    a + 3 8 b * 0 3 c - 1 2 | 0 4 7     prompt: labelled operations | start
    a + 3 8 = 0 8 5                     step: the label and the operation, copied, and the new value
    b * 0 3 = 2 5 5
    c - 1 2 = 2 4 3                     the last result decides

A copy that is not exact is illegal. A result may be any number: a wrong one is legal and not flagged, the chain goes on from
it. So independent samples decay as p ** operations, and a value head that notices a wrong step can tell a search where to go
back.

What can follow depends on the present value alone. The context keeps all steps nevertheless: the value is read at its end, and
from a number alone nothing could be said of how it came about. Numbers are padded with zeros, so that places of equal weight
stand at equal distances; a step's label leads to its operation in the prompt, however long the chain is.

A check of a step works its result out from the last place to the first (`tasks.streams`), where the step's own result would
stand. At each place it writes the product of two digits, or the operand's digit, then what is carried on, or borrowed, and the
digit: a line of a table of products or sums each, so that it slips less than the step does, and nothing can be copied.

    b * 0 3 = 2 4 5
    check 1 5 1 5 2 4 2 5 0 0 0 2       5 * 3 = 15, + 0 = 15; 8 * 3 = 24, + 1 = 25; 0 * 3 = 00, + 2 = 02: so 255
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import add, mul, sub
from struct import pack

import numpy as np

from tasks.base import NEWLINE, Problem, Rows, Split, TaskError, Verdict
from tasks.free_play import FreePlay
from tasks.guessing import CommonestEnds, Guesser
from tasks.numbers import chain_play as play
from tasks.oracle import Oracle
from tasks.splits import check_fraction, check_int, draw_distinct, drawn_distinct, split_code
from tasks.streams import CHECK, EFFORT, EFFORTS, YES, StreamForm

LISTED = 4096  # problems of dev, and of test
RANKED = 4096  # train problems behind the guessing control
DRAWN = 1_000_000  # train problems that can be asked for at once
BATCH = 1024  # random chains drawn at once; a part of what a seed means
LISTING_SEED = 20_240_311

STEP_ON = Verdict(reward=0.0, terminal=False, legal=True, reason="")
SOLVED = Verdict(reward=1.0, terminal=True, legal=True, reason="the last result is right")
WRONG_END = Verdict(reward=0.0, terminal=True, legal=True, reason="the last result is wrong")

DIGITS = frozenset("0123456789")
APPLY: dict[str, Callable[[int, int], int]] = dict(zip(play.OPS, (add, sub, mul), strict=True))
NUMBER, OP, CHAIN = re.compile("[0-9]+"), re.compile("[-+*]"), re.compile("[0-9]+([-+*][0-9]+)+")
MAX_CHARS = 400  # of a chain as text
WHOLE = 8  # of so many rows of streams one is a whole chain, and `yes`
CHECK_WEIGHT, BEFORE_WEIGHT = 4.0, 0.1  # of a word of a check; of the steps before it, which other rows teach

Operation = tuple[str, int]


class ChainArithmetic(FreePlay, Oracle):
    """Chains of `operations_min`..`operations_max` operations: + and - with 1..`operand_max`, * with 2..`factor_max`.

    They start in 1..`operand_max`; no true result leaves 0..`cap`, and no step may write a number beyond. `free_operations`:
    longest chain in `hindsight` and `value_play`, below `operations_min`, so that no problem is among these rows and right long
    chains are left to self-play.

    A problem's split is a keyed hash of the problem. There are far too many to list, so dev and test are the first 4096 of
    their hash in a fixed random sequence, and train problems are drawn; `train_fraction` and `dev_fraction` are shares of the
    hash, the rest is test. Problems follow the law of `chain_play`: uniform in length and by equal odds of +, - and *, not
    over all chains, hardly any of which multiply.

    Raises:
        TaskError: options that cannot be met.
    """

    name = "chain"
    kinds = ("compute",)
    self_verifying = True
    end = "the last operation"
    reversible = False
    vocabulary = play.VOCABULARY
    stream = StreamForm(mark=play.BAR, follows=play.EQUALS, checks=4)

    def __init__(
        self,
        operations_min: int = 8,  # of a problem; more than free_operations
        operations_max: int = 12,
        operand_max: int = 99,  # of + and -, from 1; the start too
        factor_max: int = 9,  # of *, from 2
        cap: int = 999,  # largest result, and largest number that a step may write
        free_operations: int = 3,  # longest chain in hindsight and value_play; right long chains are left to self-play
        train_fraction: float = 0.8,  # of all chains, by a hash; what dev does not take is test
        dev_fraction: float = 0.1,
    ) -> None:
        self.operations_max = check_int("operations_max", operations_max, 3, len(play.LABELS))
        self.operations_min = check_int("operations_min", operations_min, 3, self.operations_max)
        self.cap = check_int("cap", cap, 99, 9999)
        self.operand_max = check_int("operand_max", operand_max, 9, min(999, self.cap))
        self.factor_max = check_int("factor_max", factor_max, 2, 9)
        self.free_operations = check_int("free_operations", free_operations, 2, len(play.LABELS))
        if self.free_operations >= self.operations_min:
            raise TaskError(
                f"free_operations {free_operations} would solve problems of {operations_min} operations in free rows:"
                f" lower it to {operations_min - 1} or less"
            )
        train_fraction = check_fraction("train_fraction", train_fraction, 0.01, 0.98)
        dev_fraction = check_fraction("dev_fraction", dev_fraction, 0.01, 0.99 + 1e-9 - train_fraction)
        self.split_shares = (train_fraction, dev_fraction)
        self.digits, self.operand_digits = len(str(self.cap)), len(str(self.operand_max))
        self.max_steps = self.operations_max
        self.max_step_tokens = play.step_tokens(self.digits, self.operand_digits)
        self.max_context_tokens = self._row_tokens(self.operations_max) - self.max_step_tokens

    # ---- problems

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`. A smaller `n` gives a prefix of a larger one.

        Raises:
            TaskError: also if `n` is None for train, or if the options allow too few chains.
        """
        law, code = self._law(), split_code(split)
        if split != "train":
            listed = _listing(split, law, self.split_shares)
            return [_problem(listed[i]) for i in draw_distinct(len(listed), n, split, seed).tolist()]
        if n is None or check_int("n", n, 0, 2**63 - 1) > DRAWN:
            raise TaskError(f"the train split is drawn, up to {DRAWN} problems at once: give n, up to that")
        rng = np.random.default_rng([code, check_int("seed", seed, 0, 2**63 - 1)])
        return [_problem(text) for text in _distinct(rng, n, split, law, self.split_shares)]

    def count(self, split: Split) -> int:
        """4096 for dev and test. For train, how many `problems` gives at once: the split itself is far larger."""
        return DRAWN if split_code(split) == split_code("train") else LISTED

    def parse_problem(self, text: str) -> Problem:
        """The problem of a line such as "47 + 38 * 3", read from left to right. Any length up to `operations_max`.

        Raises:
            TaskError: not a chain of this task.
        """
        compact = "".join(text[: MAX_CHARS + 1].split())
        if len(compact) > MAX_CHARS or not CHAIN.fullmatch(compact):
            raise TaskError(f"{text[:40]!a} is not a chain: write a number and operations, as 47 + 38 * 3")
        start, operations = _parsed(compact)
        if len(operations) > self.operations_max:
            raise TaskError(f"{len(operations)} operations, over {self.operations_max}: raise operations_max")
        if max(operand for _, operand in operations) > self.operand_max:
            raise TaskError(f"an operand is over {self.operand_max}: raise operand_max")
        problem = _problem(f"{start}{''.join([f'{op}{operand}' for op, operand in operations])}")
        for done in range(len(operations) + 1):
            if not 0 <= _true_value(problem, done) <= self.cap:
                raise TaskError(f"after {done} operations the value is not in 0..{self.cap}: change them, or raise cap")
        return problem

    def prompt(self, problem: Problem) -> str:
        start, operations = problem.data
        texts = [self._operation_text(step, operation) for step, operation in enumerate(operations)]
        return f"{' '.join(texts)} {play.BAR} {_spaced(start, self.digits)}\n"

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        """The last number."""
        return "".join(steps[-1].rpartition(play.EQUALS)[2].split()) if steps else None

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """Prompt and all steps: the history is kept."""
        return self.prompt(problem) + "".join(steps)

    # ---- the verifier

    def initial_state(self, problem: Problem) -> tuple[int, int]:
        """A state is (present value, steps done)."""
        start, _ = problem.data
        return start, 0

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        """Value and steps done: how the value came about makes no difference to what can follow."""
        return pack("<HB", *state)

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. Any result in 0..cap is legal; that of the last operation is verified."""
        _, operations = problem.data
        wrong, value = self._read(self._copy(state[1], operations[state[1]]), step)
        if wrong:
            return Verdict(reward=0.0, terminal=True, legal=False, reason=wrong), None
        done = state[1] + 1
        if done < len(operations):
            return STEP_ON, (value, done)
        return (SOLVED if value == _true_value(problem, done) else WRONG_END), None

    def _read(self, copy: str, step: str) -> tuple[str | None, int]:
        """(what is wrong or None, the result written) of a step that has to begin with `copy`."""
        if not isinstance(step, str):
            return "a step is text", 0
        if len(step) > len(copy) + 2 * self.digits:
            return f"longer than any step ({len(step)} characters)", 0
        if step[-1:] != NEWLINE:
            return "unfinished: a step ends with a newline", 0
        if not step.startswith(copy):
            return f"a step here begins with {copy}", 0
        words = step[len(copy) : -1].split(" ")
        if len(words) != self.digits or not DIGITS.issuperset(words):
            return f"a result is {self.digits} digits with single blanks between them", 0
        value = int("".join(words))
        return (f"{value} is over {self.cap}", 0) if value > self.cap else (None, value)

    # ---- rows to learn from

    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """Chains as long as problems, of which one result before the last is any other number, so that none is solved.

        The other results are right for what is written before them. The free choice, weight 0 with or without `rules_only`, is
        that number. No values; the same rows for every split: operations are drawn to fit the numbers written.
        """
        rows = self._rows(split, n, rng, self.operations_min, self.operations_max, play.ANY_SLIP)
        return Rows(rows.tokens, rows.weight, np.full_like(rows.value, np.nan))

    def hindsight(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Chains of 1..`free_operations` operations with right results, value 1 wherever one is read; for every split the same.

        There is no target to relabel: a chain with right results reaches what its operations ask for.
        """
        return self._rows(split, n, rng, 1, self.free_operations, play.NO_SLIP)

    def value_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Chains of 2..`free_operations` operations, policy weight 0, the same for every split.

        In half of them one result before the last is misread, and the later ones follow from it. Value 1 after the prompt and
        after each step but the last if the chain, gone on with rightly, comes to its true end, else 0.
        """
        rows = self._rows(split, n, rng, 2, self.free_operations, play.NEAR_SLIP)
        return Rows(rows.tokens, np.zeros_like(rows.weight), rows.value)

    def check_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """See `FreePlay.check_play`. Chains at random efforts, a misread result in every other one. Each ends with a check, or,
        every eighth, with `yes`; what is right of the steps before is taught as well.

        For every split the same: operations are drawn to fit the numbers written, and no chain is solved.
        """
        if not self.stream_words:
            raise TaskError(f"task {self.name} writes checks in streams alone: add +task.streams=true")
        drawn = self._rows(split, n, rng, self.operations_min, self.operations_max, play.NEAR_SLIP)
        shape = (n, drawn.tokens.shape[1] + 3 * self.digits)  # of a check what is longer than a result and its newline
        out = Rows(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32))
        ids = self.token_ids
        for k, tokens in enumerate(drawn.tokens.tolist()):
            bar = tokens.index(play.BAR_ID)
            operations, first = (bar - 1) // (2 + self.operand_digits), bar + self.digits + 2
            out.tokens[k, : len(tokens)], out.weight[k, : len(tokens)] = tokens, drawn.weight[k]
            out.tokens[k, bar] = ids[f"{EFFORT}{rng.integers(1, len(EFFORTS))}"]
            if k % WHOLE == 1:
                end = first + operations * self.max_step_tokens
                out.tokens[k, end], out.weight[k, end] = ids[YES], 1.0
                continue
            at = int(rng.integers(operations - 1 + k % 2, size=2).min())  # the end of a right chain is not shown
            end = first + at * self.max_step_tokens + 2 + self.operand_digits + 1  # behind =
            value = end - self.max_step_tokens if at else bar + 1
            operand = end - 1 - self.operand_digits
            check = worked_out(
                play.OPS[tokens[operand - 1] - play.PLUS_ID],
                [token - play.DIGIT_ID for token in tokens[value : value + self.digits]],
                play.number(tokens[operand : operand + self.operand_digits]),
            )
            out.tokens[k, end:], out.weight[k, end - 3 - self.operand_digits :] = 0, 0.0
            out.tokens[k, end : end + 1 + len(check)] = [ids[CHECK], *(play.DIGIT_ID + digit for digit in check)]
            out.weight[k] *= BEFORE_WEIGHT
            out.weight[k, end + 1 : end + 1 + len(check)] = CHECK_WEIGHT
        return out

    # ---- labels and controls

    def solvable(self, problem: Problem, state: tuple) -> bool:
        """Whether the present value is the true one, so that right steps lead to the right end.

        From a wrong value another wrong step can still write the right end, as any number is legal; that does not count.
        """
        value, done = state
        return value == _true_value(problem, done)

    def distance(self, problem: Problem, state: tuple) -> int | None:
        """Operations left, None where `solvable` is False."""
        _, operations = problem.data
        return len(operations) - state[1] if self.solvable(problem, state) else None

    def legal_steps(self, problem: Problem, state: tuple) -> list[str]:
        """One for every number: cap + 1 steps."""
        (_, operations), (_, done) = problem.data, state
        copy = self._copy(done, operations[done])
        return [f"{copy}{_spaced(value, self.digits)}\n" for value in range(self.cap + 1)]

    def guesser(self) -> Guesser:
        """The commonest ends of train problems, each written at the end of a legal chain of zeros."""
        asked = self.problems("train", RANKED)
        ends = Counter(_true_value(problem, len(operations)) for problem in asked for _, operations in [problem.data])
        return CommonestEnds(self._ending, [end for end, _ in ends.most_common()])

    # ---- helpers

    def _ending(self, problem: Problem, end: int) -> list[str]:
        """A legal chain that comes to `end`."""
        _, operations = problem.data
        values = [0] * (len(operations) - 1) + [end]
        return [
            f"{self._copy(k, o)}{_spaced(v, self.digits)}\n"
            for k, (o, v) in enumerate(zip(operations, values, strict=True))
        ]

    def _operation_text(self, step: int, operation: Operation) -> str:
        op, operand = operation
        return f"{play.LABELS[step]} {op} {_spaced(operand, self.operand_digits)}"

    def _copy(self, step: int, operation: Operation) -> str:
        """How a step begins."""
        return f"{self._operation_text(step, operation)} {play.EQUALS} "

    def _row_tokens(self, operations: int) -> int:
        return play.row_tokens(operations, self.digits, self.operand_digits)

    def _law(self) -> tuple[int, ...]:
        return self.operations_min, self.operations_max, self.operand_max, self.factor_max, self.cap

    def _rows(self, split: Split, n: int, rng: np.random.Generator, fewest: int, most: int, slips: int) -> Rows:
        split_code(split)
        shape = (check_int("n", n, 0, 2**31), self._row_tokens(most))
        rows = Rows(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32))
        law = (self.operand_max, self.factor_max, self.cap, self.digits, self.operand_digits)
        play.rows(rng, fewest, most, *law, slips, rows.tokens, rows.weight, rows.value)
        return rows


def worked_out(op: str, value: Sequence[int], operand: int) -> list[int]:
    """Of each place of a result, from the last on: what is taken to it, as two digits, what is carried or borrowed, the digit.

    `value`: first digit first.
    """
    written, carry = [], 0
    for place, digit in enumerate(reversed(value)):
        other = digit * operand if op == "*" else operand // 10**place % 10
        here = {"*": other + carry, "+": digit + other + carry, "-": digit - other - carry}[op]
        carry, here = abs(here // 10), here % 10
        written += [*divmod(other, 10), carry, here]
    return written


@lru_cache(maxsize=8)
def _listing(split: Split, law: tuple[int, ...], split_shares: tuple[float, float]) -> tuple[str, ...]:
    """Chains of dev or test as text."""
    rng = np.random.default_rng([split_code(split), LISTING_SEED])
    return tuple(_distinct(rng, LISTED, split, law, split_shares))


def _distinct(
    rng: np.random.Generator, n: int, split: Split, law: tuple[int, ...], split_shares: tuple[float, float]
) -> list[str]:
    """The first `n` distinct chains of a split among random ones, as text."""

    def draw() -> list[str]:
        return [_text(chain) for chain in play.draw_chains(rng, BATCH, *law).tolist()]

    return drawn_distinct(draw, n, split, split_shares, "raise operand_max or operations_max")


def _text(chain: list[int]) -> str:
    """Compact text of a chain, "47+38*3": what its split is a hash of."""
    words, end = play.VOCABULARY, play.FIRST + 2 * chain[play.COUNT]
    steps = [f"{words[chain[k]]}{chain[k + 1]}" for k in range(play.FIRST, end, 2)]
    return f"{chain[play.START]}{''.join(steps)}"


def _parsed(text: str) -> tuple[int, tuple[Operation, ...]]:
    """Start and operations of a chain's compact text."""
    start, *operands = map(int, NUMBER.findall(text))
    return start, tuple(zip(OP.findall(text), operands, strict=True))


def _problem(text: str) -> Problem:
    return Problem(id=f"{ChainArithmetic.name}:{text}", task=ChainArithmetic.name, data=_parsed(text))


def _true_value(problem: Problem, done: int) -> int:
    """The right result of the first `done` operations."""
    value, operations = problem.data
    for op, operand in operations[:done]:
        value = APPLY[op](value, operand)
    return value


def _spaced(number: int, digits: int) -> str:
    return " ".join(f"{number:0{digits}d}")

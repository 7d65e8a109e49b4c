"""Sums worked line by line: three to five terms with + and -, of which only the end is judged.

    Work out 7 + 4 - 9          prompt
    7 + 4 = 11                  step: any line; what stands after its last = is taken for its result
    11 - 9 = 2
    answer: 2                   the last step; right or wrong

It is written as people write, for language models: the text of every line is free, and nobody says that one is wrong. What a
search may know of a line is its result, so that chains which came to the same result in as many lines are one state.

A line can be worked out another way (`tasks.numbers.sums_checked`): its terms in the other order, or the sum that undoes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from tasks.base import BOS_ID, NEWLINE, SPECIAL_TOKENS, Problem, Rows, Split, TaskError, Verdict, split_words
from tasks.free_play import FreePlay
from tasks.guessing import CommonestEnds, Guesser
from tasks.judging.answer_line import ANSWER, answer_line, answer_of
from tasks.numbers.sums_checked import ASKED, another_way
from tasks.oracle import Oracle
from tasks.splits import check_fraction, check_int, draw_distinct, drawn_distinct, split_code
from tasks.streams import StreamForm

LISTED = 4096  # problems of dev, and of test
RANKED = 4096  # train problems behind the guessing control
DRAWN = 1_000_000  # train problems that can be asked for at once
BATCH = 1024  # random sums drawn at once; a part of what a seed means
LISTING_SEED = 20_261_129
MOST_TERMS = 16
MOST_LINE = 100  # characters of a step
SPARE = 2  # lines that a chain may have beyond those that it needs
FREE = 2  # terms of the sums whose results free rows teach

STEP_ON = Verdict(reward=0.0, terminal=False, legal=True, reason="")
SOLVED = Verdict(reward=1.0, terminal=True, legal=True, reason="the answer is right")
WRONG = Verdict(reward=0.0, terminal=True, legal=True, reason="the answer is wrong")

Line = tuple[str, str]  # what leads to a result, and the result


class Sums(FreePlay, Oracle):
    """Sums of `terms_min`..`terms_max` terms in `operand_min`..`operand_max`, each but the first with + or -.

    A problem's split is a keyed hash of it. Dev and test are the first 4096 of their hash in a fixed random sequence, even in
    the number of terms; train problems are drawn.

    Raises:
        TaskError: options that cannot be met.
    """

    name = "sums"
    kinds = ("propose", "answer")
    self_verifying = True
    reversible = False
    stream = StreamForm(mark=ASKED.split()[-1], follows="=", answer=ANSWER, derive=another_way, threshold=0.5)

    def __init__(
        self,
        terms_min: int = 3,  # of a problem; above 2, whose results free rows teach
        terms_max: int = 5,
        operand_min: int = 1,
        operand_max: int = 9,
        train_fraction: float = 0.8,  # of all sums, by a hash; what dev does not take is test
        dev_fraction: float = 0.1,
    ) -> None:
        self.terms_max = check_int("terms_max", terms_max, FREE + 1, MOST_TERMS)
        self.terms_min = check_int("terms_min", terms_min, FREE + 1, self.terms_max)
        self.operand_max = check_int("operand_max", operand_max, 9, 999)
        self.operand_min = check_int("operand_min", operand_min, 0, self.operand_max - 8)
        train_fraction = check_fraction("train_fraction", train_fraction, 0.01, 0.98)
        self.split_shares = (
            train_fraction,
            check_fraction("dev_fraction", dev_fraction, 0.01, 0.99 + 1e-9 - train_fraction),
        )
        largest = self.terms_max * self.operand_max
        words = (*ASKED.split(), ANSWER, "+", "-", "=", *map(str, range(-largest, largest + 1)))
        self.vocabulary = (*SPECIAL_TOKENS, *words)
        self.max_steps = self.terms_max + SPARE
        self.max_step_tokens = len(split_words("1 + 1 = 1\n"))
        self.max_context_tokens = 1 + 2 + 2 * self.terms_max + self.max_steps * self.max_step_tokens

    # ---- problems

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`. A smaller `n` gives a prefix of a larger one.

        Raises:
            TaskError: also if `n` is None for train, or if the options allow too few sums.
        """
        code = split_code(split)
        if split != "train":
            listed = self._listed[split]
            return [_problem(listed[i]) for i in draw_distinct(len(listed), n, split, seed).tolist()]
        if n is None or check_int("n", n, 0, 2**63 - 1) > DRAWN:
            raise TaskError(f"the train split is drawn, up to {DRAWN} problems at once: give n, up to that")
        rng = np.random.default_rng([code, check_int("seed", seed, 0, 2**63 - 1)])
        return [_problem(text) for text in self._distinct(rng, n, split)]

    def count(self, split: Split) -> int:
        """4096 for dev and test. For train, how many `problems` gives at once: the split itself is far larger."""
        return DRAWN if split_code(split) == split_code("train") else LISTED

    def parse_problem(self, text: str) -> Problem:
        """The problem of a line such as "7 + 4 - 9", with or without "Work out". Two terms or more, up to `terms_max`.

        Raises:
            TaskError: not a sum of this task.
        """
        compact = "".join(text[: 2 * MOST_LINE].replace(ASKED, "", 1).split())
        signs = [sign for sign in compact if sign in "+-"]
        numbers = compact.replace("-", "+").split("+")
        if not 1 <= len(signs) < self.terms_max or not all(part.isascii() and part.isdigit() for part in numbers):
            raise TaskError(f"{text[:40]!a} is not a sum of 2 to {self.terms_max} terms: write one, as 7 + 4 - 9")
        if max(map(int, numbers)) > self.operand_max:
            raise TaskError(f"a term is over {self.operand_max}: raise operand_max")
        return _problem(_text([int(numbers[0]), *(int(s + x) for s, x in zip(signs, numbers[1:], strict=True))]))

    def prompt(self, problem: Problem) -> str:
        return _asked(problem.data)

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """Prompt and all steps: the history is kept."""
        return self.prompt(problem) + "".join(steps)

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        """What stands on the answer line."""
        return answer_of(steps)

    def reads_as_answer(self, problem: Problem, state: tuple, step: str) -> bool:
        return not _no_line(step) and answer_of([step]) is not None

    # ---- the verifier

    def initial_state(self, problem: Problem) -> tuple[int, str]:
        """A state is (lines written, result of the last one)."""
        return 0, str(problem.data[0])

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        """Lines and result: how it came about makes no difference to what is to be done."""
        return f"{state[0]}\0{state[1]}".encode()

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. Every line is legal; the answer is judged."""
        if wrong := _no_line(step):
            return Verdict(reward=0.0, terminal=True, legal=False, reason=wrong), None
        if (answer := answer_of([step])) is not None:
            return (SOLVED if "".join(answer.split()) == str(sum(problem.data)) else WRONG), None
        return STEP_ON, (state[0] + 1, " ".join(step.rpartition("=")[2].split()))

    def step_kind(self, problem: Problem, state: tuple, step: str) -> tuple[str, str]:
        if wrong := _no_line(step):
            return "illegal", wrong
        return self.kinds[answer_of([step]) is not None], ""

    # ---- rows to learn from

    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """Form: half are right sums of two terms, half as long as problems, whose results stand there with weight 0.

        No values; nothing is chosen freely, so `rules_only` makes no difference. The same rows for every split: a problem has
        more terms than those whose results are taught.
        """
        split_code(split)
        short = rng.random(check_int("n", n, 0, 2**31)) < 0.5
        sums = (self._drawn(rng, n, FREE, FREE), self._drawn(rng, n))
        rows = [(sums[not few][k], float(few)) for k, few in enumerate(short.tolist())]
        return _rows([_Row(self, terms, worked(terms), result_weight=weight) for terms, weight in rows])

    def hindsight(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Right sums of two terms, value 1 after every line; for every split the same. There is no target to relabel."""
        split_code(split)
        sums = self._drawn(rng, check_int("n", n, 0, 2**31), FREE, FREE)
        return _rows([_Row(self, terms, worked(terms), value=1.0) for terms in sums])

    def value_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Sums of two terms without policy weight, half of them off by one to three: value 1 after a right result, else 0."""
        split_code(split)
        rows = []
        slips = rng.integers(1, 4, size=check_int("n", n, 0, 2**31)) * rng.integers(2, size=n)
        for terms, slip in zip(self._drawn(rng, n, FREE, FREE), slips.tolist(), strict=True):
            lead, result = worked(terms)[0]
            rows.append(_Row(self, terms, [(lead, str(int(result) + slip))], weight=0.0, value=float(not slip)))
        return _rows(rows)

    def examples(self, n: int, seed: int = 0) -> list[str]:
        """Train problems, worked."""
        shown = self.problems("train", n, seed)
        return ["".join((self.prompt(problem), *map(_line, worked(problem.data)))) for problem in shown]

    # ---- labels and controls

    def solvable(self, problem: Problem, state: tuple) -> bool:
        """Whether the last result is what the terms up to there come to."""
        lines, result = state
        return lines < len(problem.data) and result == str(sum(problem.data[: lines + 1]))

    def distance(self, problem: Problem, state: tuple) -> int | None:
        """Lines left, the answer's included; None where `solvable` is False."""
        return len(problem.data) - state[0] if self.solvable(problem, state) else None

    def legal_steps(self, problem: Problem, state: tuple) -> list[str]:
        """Lines of the usual form: the next operation on the last result with any number after it, or any answer."""
        lines, result = state
        largest = self.terms_max * self.operand_max
        if lines >= len(problem.data) - 1:
            return [answer_line(str(number)) for number in range(-largest, largest + 1)]
        lead = f"{result} {_signed(problem.data[lines + 1])} ="
        return [f"{lead} {number}\n" for number in range(-largest, largest + 1)]

    def guesser(self) -> Guesser:
        """The commonest ends of train problems, each at once."""
        ends = Counter(sum(problem.data) for problem in self.problems("train", RANKED))
        return CommonestEnds(lambda _, end: [answer_line(str(end))], [end for end, _ in ends.most_common()])

    # ---- helpers

    def _drawn(self, rng: np.random.Generator, n: int, fewest: int = 0, most: int = 0) -> list[list[int]]:
        """`n` random sums of `fewest`..`most` terms; 0: as many as a problem has."""
        counts = rng.integers(fewest or self.terms_min, (most or self.terms_max) + 1, size=n)
        terms = rng.integers(self.operand_min, self.operand_max + 1, size=(n, most or self.terms_max))
        terms[:, 1:] *= rng.choice([1, -1], size=(n, terms.shape[1] - 1))
        return [row[:count] for row, count in zip(terms.tolist(), counts.tolist(), strict=True)]

    def _distinct(self, rng: np.random.Generator, n: int, split: Split) -> list[str]:
        def draw() -> list[str]:
            return [_text(terms) for terms in self._drawn(rng, BATCH)]

        return drawn_distinct(draw, n, split, self.split_shares, "raise operand_max or terms_max")

    @cached_property
    def _listed(self) -> dict[Split, list[str]]:
        """Sums of dev and test as text."""
        splits: tuple[Split, Split] = ("dev", "test")
        return {s: self._distinct(np.random.default_rng([split_code(s), LISTING_SEED]), LISTED, s) for s in splits}


def worked(terms: Sequence[int]) -> list[Line]:
    """The lines of a right chain."""
    done, lines = terms[0], []
    for term in terms[1:]:
        lines.append((f"{done} {_signed(term)} =", str(done + term)))
        done += term
    return [*lines, (ANSWER, str(done))]


class _Row:
    """One row in words: a prompt, then lines."""

    def __init__(
        self,
        task: Sums,
        terms: Sequence[int],
        lines: Sequence[Line],
        *,
        weight: float = 1.0,
        result_weight: float = 1.0,
        value: float = np.nan,
    ):
        """`weight`: of the lines; `result_weight`: share of it that results get, but the answer; `value`: after each line."""
        self.tokens = [BOS_ID, *task.encode(_asked(terms))]
        self.weight, self.value = [0.0] * len(self.tokens), [np.nan] * len(self.tokens)
        for lead, result in lines:
            words = task.encode(_line((lead, result)))
            last = weight * (1.0 if lead == ANSWER else result_weight)
            self.tokens += words
            self.weight += [weight] * (len(words) - 2) + [last, weight]
            self.value += [np.nan] * (len(words) - 1) + [value]


def _rows(made: Sequence[_Row]) -> Rows:
    shape = (len(made), max((len(row.tokens) for row in made), default=1))
    out = Rows(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32))
    for k, row in enumerate(made):
        used = slice(len(row.tokens))
        out.tokens[k, used], out.weight[k, used], out.value[k, used] = row.tokens, row.weight, row.value
    return out


def _line(line: Line) -> str:
    return f"{line[0]} {line[1]}\n"


def _no_line(step: object) -> str:
    """Why a step is no line; "" where it is one."""
    if not isinstance(step, str):
        return "a step is text"
    if len(step) > MOST_LINE:
        return f"longer than any step ({len(step)} characters)"
    if not step.endswith(NEWLINE) or NEWLINE in step[:-1]:
        return "a step is one line that ends with a newline"
    return "" if step.strip() else "an empty line"


def _signed(term: int) -> str:
    return f"{'-' if term < 0 else '+'} {abs(term)}"


def _asked(terms: Sequence[int]) -> str:
    return f"{ASKED} {terms[0]} {' '.join(map(_signed, terms[1:]))}\n"


def _text(terms: Sequence[int]) -> str:
    """Compact text of a sum, "7+4-9": what its split is a hash of."""
    return f"{terms[0]}" + "".join(f"{term:+d}" for term in terms[1:])


def _problem(text: str) -> Problem:
    terms = text.replace("+", " +").replace("-", " -").split()
    return Problem(id=f"{Sums.name}:{text}", task=Sums.name, data=tuple(map(int, terms)))

"""Countdown: reach a target from a few numbers, each used once, one arithmetic step a line.

    3 7 12 = 24
    12 - 7 = 5 | 3 5          propose: a op b = r | the numbers left, in any order
    answer 3 * 5 = 15         answer: the last two numbers; ends the chain, reward 1 if r is the target

The model does its own arithmetic and may be wrong; the verifier replays each step on integers and fractions, never by
evaluating text. Results are whole, not negative and at most `cap`; division is exact. Words stand between single blanks
and only those of the vocabulary count, so "07", "٣" or "7+12" are no numbers here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from struct import pack

import numpy as np

from tasks.base import NEWLINE, Problem, Rows, Split, TaskError, Verdict
from tasks.free_play import FreePlay
from tasks.numbers import countdown_play as play
from tasks.numbers.countdown_hindsight import acceptance_table, verdict_rows
from tasks.numbers.countdown_judge import CountdownJudge
from tasks.numbers.countdown_space import (
    CountdownSpace,
    Ranges,
    build_space,
    check_pairs,
    identity,
    reachable,
    wide_ranges,
)
from tasks.oracle import Oracle
from tasks.splits import check_fraction, check_int, draw_distinct, keyed_permutation, split_code
from tasks.streams import StreamForm

VALUE_TRIES = 8  # see `value_rows`
ECHO = 24  # longest word of hostile text that a reason repeats

STEP_ON = Verdict(reward=0.0, terminal=False, legal=True, reason="")


class Countdown(FreePlay, Oracle):
    """Countdown over enumerated problems.

    `wide_share` of the free rows (`hindsight`, `value_play`, `random_play`) and of the practice problems come from a wider
    space of the same game: numbers up to `wide_number_max` and every target up to `cap`. A split is a function of the
    identity alone, so a wider train split never holds a dev or test problem of this task. A small net learns 3056 train
    problems by heart; wider play is harder to learn by heart.

    Raises:
        TaskError: the ranges are impossible or too large to enumerate; that they hold no solvable problem is found when the
            first of them is asked for.
    """

    name = "countdown"
    kinds = ("propose", "answer")
    self_verifying = True
    one_answer = False
    reversible = False
    stream = StreamForm(mark=play.EQUALS, follows=play.EQUALS, answer=play.ANSWER, meets=play.meets)

    def __init__(
        self,
        numbers: int = 3,  # operands, 2 to 6; each is used exactly once
        number_min: int = 1,
        number_max: int = 15,
        target_min: int = 10,
        target_max: int = 50,
        cap: int = 99,  # largest intermediate result, and largest number word
        train_fraction: float = 0.75,  # of all problems; what dev does not take is test
        dev_fraction: float = 0.1,
        value_plays: int = 32,  # random plays behind a value of value_play
        wide_share: float = 0.75,  # of the random play: wider numbers, any target; no dev or test problem among them
        wide_number_max: int | None = None,  # null: a third above number_max
    ) -> None:
        numbers = check_int("numbers", numbers, 2, 6)
        cap = check_int("cap", cap, 1, 999)
        number_max = check_int("number_max", number_max, 0, 999)
        target_max = check_int("target_max", target_max, 0, 999)
        if max(number_max, target_max) > cap:
            raise TaskError(f"number_max {number_max} and target_max {target_max} must not exceed cap {cap}: raise cap")
        number_min = check_int("number_min", number_min, 0, number_max)
        target_min = check_int("target_min", target_min, 0, target_max)
        ranges = Ranges(numbers, number_min, number_max, target_min, target_max, cap)
        train_fraction = check_fraction("train_fraction", train_fraction)
        dev_fraction = check_fraction("dev_fraction", dev_fraction, 0.0, 1.0 + 1e-9 - train_fraction)
        self.value_plays = check_int("value_plays", value_plays, 1, 10_000)
        self.numbers, self.cap = numbers, cap
        check_pairs(ranges)
        self._fractions = train_fraction, dev_fraction
        self._ranges = ranges
        self.wide_share = check_fraction("wide_share", wide_share, 0.0, 1.0)
        self._wide_ranges = wide_ranges(ranges, wide_number_max) if self.wide_share else None
        self.vocabulary = play.vocabulary(cap)
        self.max_steps = numbers - 1
        self.max_step_tokens, self.max_context_tokens = play.step_tokens(numbers), play.context_tokens(numbers)
        self._value_of_word = {str(value): value for value in range(cap + 1)}
        self._max_step_chars = (self.max_step_tokens + 1) * (1 + max(len(play.ANSWER), len(str(cap))))

    # ---- problems

    @cached_property
    def space(self) -> CountdownSpace:
        """Every problem, enumerated when first asked for: ten seconds for five numbers up to 15."""
        return build_space(self._ranges, *self._fractions)

    @cached_property
    def wide_space(self) -> CountdownSpace:
        return build_space(self._wide_ranges, *self._fractions) if self._wide_ranges else self.space

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        """See `Task.problems`. A smaller `n` gives a prefix of a larger one."""
        split_code(split)
        members = self.space.members[split]
        chosen = members[draw_distinct(len(members), n, split, seed)]
        multisets = self.space.multisets[chosen[:, 0]].tolist()
        return [self._problem(tuple(m), t) for m, t in zip(multisets, chosen[:, 1].tolist(), strict=True)]

    def count(self, split: Split) -> int:
        split_code(split)
        return len(self.space.members[split])

    def practice(self, n: int, rng: np.random.Generator) -> list[Problem]:
        """Train problems, `wide_share` of them from the wider space."""
        problems: dict[str, Problem] = {}
        for space, part in self._parts(n, rng):
            members = _members(space, "train")
            chosen = members[rng.choice(len(members), min(part.stop - part.start, len(members)), replace=False)]
            for numbers, target in zip(space.multisets[chosen[:, 0]].tolist(), chosen[:, 1].tolist(), strict=True):
                problem = self._problem(tuple(numbers), target)
                problems[problem.id] = problem
        return list(problems.values())

    def parse_problem(self, text: str) -> Problem:
        """The problem that a text such as "3 7 8 8 = 24" asks. It need not be solvable nor in the ranges.

        Raises:
            TaskError: not a problem of this task.
        """
        left, equals, right = text.strip().partition(play.EQUALS)
        words, goal = left.split(), right.split()
        if not equals or len(goal) != 1:
            raise TaskError(
                f"{_echo(text)} is not a problem: write numbers, a blank, = and a target, as in '3 7 12 = 24'"
            )
        for word in (*words, *goal):
            if word not in self._value_of_word:
                mend = "write plain digits" + (", or raise cap" if word.isdecimal() else ", blanks between numbers")
                raise TaskError(f"{_echo(word)} is not a number in 0..{self.cap}: {mend}")
        if len(words) != self.numbers:
            taken = f"{len(words)} numbers given, this task takes {self.numbers}"
            raise TaskError(f"{taken}: build it with numbers={len(words)}")
        return self._problem(tuple(self._value_of_word[word] for word in words), self._value_of_word[goal[0]])

    def prompt(self, problem: Problem) -> str:
        numbers, target = problem.data
        return f"{' '.join(map(str, numbers))} = {target}\n"

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        """The last equation."""
        return steps[-1].removeprefix(f"{play.ANSWER} ").strip() if steps else None

    def reads_as_answer(self, problem: Problem, state: tuple, step: str) -> bool:
        """`answer a op b = r` in numbers and with two of them left, whether or not it is true of them."""
        if not isinstance(step, str) or not 0 < len(step) <= self._max_step_chars or step[-1] != NEWLINE:
            return False
        words = step[:-1].split(" ")
        if len(state) != 2 or len(words) != 6 or words[0] != play.ANSWER:
            return False
        numbers = all(word in self._value_of_word for word in words[1::2])
        return numbers and words[2] in play.OPS and words[4] == play.EQUALS

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """Prompt and all steps: the history is kept."""
        return self.prompt(problem) + "".join(steps)

    # ---- the verifier

    def initial_state(self, problem: Problem) -> tuple[int, ...]:
        """A state is the tuple of numbers left, in the order the model wrote them."""
        numbers, _ = problem.data
        return numbers

    def state_key(self, problem: Problem, state: tuple) -> bytes:
        """The multiset of numbers left, 2 bytes each."""
        return pack(f"<{len(state)}H", *sorted(state))

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        _, target = problem.data
        _, verdict, after = self._judge(state, target, step)
        return verdict, after

    def token_judge(self) -> CountdownJudge:
        return CountdownJudge(self.numbers)

    def step_kind(self, problem: Problem, state: tuple, step: str) -> tuple[str, str]:
        _, target = problem.data
        kind, verdict, _ = self._judge(state, target, step)
        return (kind if verdict.legal else "illegal"), verdict.reason

    def _judge(self, state: tuple, target: int, step: str) -> tuple[str, Verdict, tuple | None]:
        """(kind, verdict, next state). Linear in the length of a legal step; longer text is refused unread."""
        if not isinstance(step, str):
            return "illegal", _illegal("a step is text"), None
        if len(step) > self._max_step_chars:
            return "illegal", _illegal(f"longer than any step ({len(step)} characters)"), None
        if step[-1:] != NEWLINE:
            return "illegal", _illegal("unfinished: a step ends with a newline"), None
        words = step[:-1].split(" ")
        if words[0] == play.ANSWER:
            return "answer", *self._judge_answer(state, target, words)
        return "propose", *self._judge_proposal(state, words)

    def _judge_answer(self, state: tuple, target: int, words: list[str]) -> tuple[Verdict, None]:
        if len(state) != 2:
            return _illegal(f"an answer with {len(state)} numbers left, not 2"), None
        if len(words) != 6:
            return _illegal("an answer reads: answer a op b = r"), None
        wrong, result, _ = self._judge_equation(state, words[1:])
        if wrong:
            return _illegal(wrong), None
        if result != target:
            return Verdict(0.0, True, True, f"{result} is not the target {target}"), None
        return Verdict(1.0, True, True, f"{result} is the target"), None

    def _judge_proposal(self, state: tuple, words: list[str]) -> tuple[Verdict, tuple | None]:
        if len(state) < 3:
            return _illegal("a proposal with 2 numbers left: an answer is due"), None
        if len(words) != len(state) + 5 or words[5] != play.BAR:
            return _illegal(f"a step here reads: a op b = r | {len(state) - 1} numbers left"), None
        wrong, result, left = self._judge_equation(state, words)
        if wrong:
            return _illegal(wrong), None
        try:
            written = tuple([self._value_of_word[word] for word in words[6:]])
        except KeyError as unknown:
            return _illegal(f"{_echo(unknown.args[0])} is not a number"), None
        left.append(result)
        if sorted(written) != sorted(left):
            return _illegal(f"the numbers left are {' '.join(map(str, left))}"), None
        return STEP_ON, written

    def _judge_equation(self, state: tuple, words: list[str]) -> tuple[str | None, int, list[int]]:
        """(what is wrong or None, result, numbers untouched) of the words a op b = r."""
        value_of = self._value_of_word
        try:
            a, b, result = value_of[words[0]], value_of[words[2]], value_of[words[4]]
        except KeyError as unknown:
            return f"{_echo(unknown.args[0])} is not a number", 0, []
        op = words[1]
        left = list(state)
        try:
            left.remove(a)
            left.remove(b)
        except ValueError:
            return f"{a} and {b} are not both among {' '.join(map(str, state))}", 0, []
        if words[3] != play.EQUALS:
            return f"{_echo(words[3])} stands where = should", 0, []
        if op == "+":
            true = a + b
        elif op == "-":
            true = a - b
        elif op == "*":
            true = a * b
        elif op != "/":
            return f"{_echo(op)} is not an operation", 0, []
        elif b == 0:
            return f"{a} / 0 has no value", 0, []
        else:
            true = a // b if a % b == 0 else Fraction(a, b)
        if true != result:
            return f"{a} {op} {b} is {true}, not {result}", 0, []
        return None, result, left

    # ---- rows to learn from

    def random_play(self, split: Split, n: int, rng: np.random.Generator, *, rules_only: bool = False) -> Rows:
        """Complete random plays with their true results. The free choices are the two operands and the operation."""
        tokens = self._blank_rows(n, play.row_tokens(self.numbers))
        for space, part in self._parts(n, rng):
            play.random_rows(rng, space.multisets, _members(space, split), self.cap, tokens[part])
        weight = self._step_weight(tokens)
        if rules_only:
            weight[:, play.choice_columns(self.numbers)] = 0.0
        return Rows(tokens, weight, np.full(tokens.shape, np.nan, np.float32))

    def hindsight(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Random plays relabelled with the number they reached, thinned until identities are close to uniform.

        A pure function of `rng`: the acceptance comes from a pre-pass of random play with a fixed seed, not from a
        solver. Value 1 where a value is read, since each row's own steps solve its problem.
        """
        tokens = self._blank_rows(n, play.row_tokens(self.numbers))
        for space, part in self._parts(n, rng):
            accept = acceptance_table(space, split)
            args = (_members(space, split), accept, space.ranges.target_min, self.cap, tokens[part])
            play.hindsight_rows(rng, space.multisets, *args)
        value = np.full(tokens.shape, np.nan, np.float32)
        value[:, play.state_ends(self.numbers)] = 1.0
        return Rows(tokens, self._step_weight(tokens), value)

    def value_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """Random proposals towards true targets; a state's value is 1 if a random play from it hits, else 0.

        Half of the rows wish for a last state labelled 0, half for 1, so labels are near balance and not at the base
        rate of random play. A label 0 may be a miss of `value_plays` plays: hardly ever with two numbers left, seldom
        with three, often at the prompt.
        """
        tokens = self._blank_rows(n, self.max_context_tokens)
        value = np.full(tokens.shape, np.nan, np.float32)
        ends = np.array(play.state_ends(self.numbers))
        for space, part in self._parts(n, rng):
            args = (_members(space, split), self.cap, ends, self.value_plays, VALUE_TRIES, tokens[part], value[part])
            play.value_rows(rng, space.multisets, *args)
        return Rows(tokens, np.zeros(tokens.shape, np.float32), value)

    def ended_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """See `FreePlay.ended_play`. What is wrong misses the target by little, half of it with the target for its result."""
        tokens = self._blank_rows(n, play.row_tokens(self.numbers))
        value = np.full(tokens.shape, np.nan, np.float32)
        for space, part in self._parts(n, rng):
            args = (_members(space, split), acceptance_table(space, split), space.ranges.target_min, self.cap)
            play.ended_rows(rng, space.multisets, *args, tokens[part], value[part])
        return Rows(tokens, np.zeros(tokens.shape, np.float32), value)

    def check_play(self, split: Split, n: int, rng: np.random.Generator) -> Rows:
        """See `FreePlay.check_play`: the chains of `ended_play`, and proposals that are false."""
        if not self.stream_words:
            raise TaskError(f"task {self.name} judges itself in streams alone: add +task.streams=true")
        return verdict_rows(self.ended_play(split, n, rng), self.numbers, self.token_ids, rng)

    # ---- labels and controls

    def solvable(self, problem: Problem, state: tuple) -> bool:
        _, target = problem.data
        return bool(reachable(tuple(sorted(state)), self.cap)[target])

    def distance(self, problem: Problem, state: tuple) -> int | None:
        return len(state) - 1 if self.solvable(problem, state) else None

    def legal_steps(self, problem: Problem, state: tuple) -> list[str]:
        """Distinct legal steps, up to the order of operands that commute and of the numbers left."""
        steps: dict[str, None] = {}
        for i, a in enumerate(state):
            for j, b in enumerate(state):
                if i == j:
                    continue
                results = [("-", a - b)] if a >= b else []
                if i < j:
                    results += [("+", a + b), ("*", a * b)]
                if b > 0 and a % b == 0:
                    results.append(("/", a // b))
                for op, result in results:
                    if result <= self.cap:
                        left = [x for k, x in enumerate(state) if k not in (i, j)] + [result]
                        steps[play.step_text(a, op, b, result, left)] = None
        return list(steps)

    # ---- helpers

    def _problem(self, numbers: tuple[int, ...], target: int) -> Problem:
        """The problem of an identity; the order it is shown in is a permutation fixed by the identity."""
        name = identity(numbers, target)
        ascending = sorted(numbers)
        shown = tuple(ascending[i] for i in keyed_permutation(name.encode(), len(ascending)))
        return Problem(id=f"{self.name}:{name}", task=self.name, data=(shown, target))

    def _parts(self, n: int, rng: np.random.Generator) -> list[tuple[CountdownSpace, slice]]:
        """Which of `n` rows come from which space."""
        wide = int(rng.binomial(check_int("n", n, 0, 2**31), self.wide_share)) if self.wide_share else 0
        parts = [(self.space, slice(0, n - wide)), (self.wide_space, slice(n - wide, n))]
        return [(space, part) for space, part in parts if part.stop > part.start]

    def _blank_rows(self, n: int, length: int) -> np.ndarray:
        return np.zeros((check_int("n", n, 0, 2**31), length), np.int32)

    def _step_weight(self, tokens: np.ndarray) -> np.ndarray:
        weight = np.ones(tokens.shape, np.float32)
        weight[:, : play.prompt_tokens(self.numbers)] = 0.0
        return weight


def _members(space: CountdownSpace, split: Split) -> np.ndarray:
    split_code(split)
    members = space.members[split]
    if len(members) == 0:
        raise TaskError(f"the {split} split is empty: widen the ranges or its fraction")
    return members


def _illegal(reason: str) -> Verdict:
    return Verdict(reward=0.0, terminal=True, legal=False, reason=reason)


def _echo(text: str) -> str:
    """Foreign text made short and printable."""
    return ascii(text[:ECHO])

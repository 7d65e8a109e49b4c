"""The contract of a task: what a problem is, how a step reads, and who may judge it.

A `Problem` is the wire half: frozen, picklable as plain data, and free of any answer. A `Task` is the behaviour half.
Gold answers, where a task has them, live in an `AnswerKey` that only a scorer holds (the leak wall); no `Problem`, `Task`
or search state refers to one.

Token ids are positions in `Task.vocabulary`; the tokenizer saved beside a model has the same ids, so that a task can
write training rows as arrays without importing a tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from tasks.streams import StreamForm

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

PAD, BOS, UNK, NEWLINE = "<pad>", "<bos>", "<unk>", "\n"
SPECIAL_TOKENS = (PAD, BOS, UNK, NEWLINE)  # ids 0, 1, 2, 3 in every task's vocabulary
PAD_ID, BOS_ID, UNK_ID, NEWLINE_ID = range(4)
END_OF_TEXT = "\x03"  # ends the last step of a free text, which its writer has closed


class TaskError(ValueError):
    """A task that cannot be built as asked. The message is one line and names the mend."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question. `data` is what the prompt shows and the verifier needs, and nothing else."""

    id: str  # stable across runs and machines; equal ids = equal problems
    task: str
    data: tuple


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of a chain of steps. `reward` in [0, 1]; 0 unless terminal."""

    reward: float
    terminal: bool
    legal: bool
    reason: str  # one short line for a person: "7+13 is 20, not 21"
    scored: bool = True  # False: terminal with an answer that only a `Scorer` can judge; the reward is 0 until then


Chat = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class Form:
    """How a language model is shown a task, and what a step of its text is. As it is here: lines of words after a question."""

    step: str = "line"  # line | paragraph | sentence | tokens:N
    free: bool = False  # any text is a step, kept as it was written; False: words with one blank between them, in lines
    max_tokens: int = 0  # of a free chain, in the model's own tokens; 0: no limit but that of its steps
    chat: Chat = "off"  # on: through the tokenizer's chat template | off: as text | auto: on where there is a template
    system: str = ""  # text of the system turn; "": none of ours
    chat_arguments: tuple[tuple[str, Any], ...] = ()  # of the chat template, e.g. enable_thinking
    template: str = (
        ""  # text around a question, which stands for {question}; "": the question, after "Question: " as text
    )
    hint: str = ""  # said behind a question in a chat, which then shows no examples: they are for the form as text

    def parts(self, context: str) -> tuple[str, str]:
        """(question, steps) of a context. A question ends with its line; of a free task, which has several lines, with an empty
        one, and empty lines within it are written with a blank, see `question`.
        """
        if not self.free:
            question, end, steps = context.partition(NEWLINE)
            return question + end, steps
        question, _, steps = context.partition(2 * NEWLINE)
        return NEWLINE.join("" if line == _EMPTY else line for line in question.split(NEWLINE)), steps

    @staticmethod
    def question(text: str) -> str:
        """The question of a free task as its contexts open."""
        lines = (line.rstrip() for line in text.strip().splitlines())
        return NEWLINE.join(line or _EMPTY for line in lines) + 2 * NEWLINE

    @staticmethod
    def turns(question: str) -> tuple[str, tuple[str, ...], str]:
        """(text of the system turn, earlier questions and their answers in turn, question) of one that `conversation` wrote."""
        system, *rest = question.split(TURN)
        if len(rest) % 2 == 0:
            return "", (), question.replace(TURN, "")
        return system.strip(), tuple(turn.strip() for turn in rest[:-1]), rest[-1]

    @staticmethod
    def conversation(system: str, turns: Sequence[str]) -> str:
        """The text of a question that has a system turn, or turns before it: an odd number of `turns`, the question last."""
        said = [text.replace(TURN, "") for text in (system, *turns)]
        return TURN.join(said) if system or len(turns) > 1 else said[-1]

    def asked(self, question: str, before: str = "") -> str:
        """A question in its template, or behind `before` where it has none. Nothing but {question} is replaced."""
        return self.template.replace(HOLE, question.strip()) if self.template else before + question


LINES = Form()
HOLE = "{question}"  # in a template
TURN = "\ue002"  # between the turns of a conversation: private use, no text holds it
_EMPTY = " "  # an empty line within the question of a free task
NO_STEP = Verdict(reward=0.0, terminal=False, legal=True, reason="no step yet")


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Gold answers by problem id. Held by scorers only, after a search has ended."""

    answers: dict[str, str]


class Scorer(Protocol):
    """Judges whole chains after a search has ended; alone holds gold answers, where a task has them."""

    def score(self, problems: Sequence[Problem], chains: Sequence[Sequence[str]]) -> list[Verdict]:
        """What each chain is worth. `scored` stays False where the judge ran out of time: reward 0, but not "wrong"."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows to learn from; one row is one context with its steps. B rows, L tokens."""

    tokens: np.ndarray  # int32 [B, L], PAD_ID after the end
    weight: (
        np.ndarray
    )  # float32 [B, L], policy weight of *predicting* this token (< 0: unlearn); 0 on prompts and padding
    value: np.ndarray  # float32 [B, L], target of P(solved) after this token, the chain's last included; NaN: none

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def used(self) -> np.ndarray:
        """bool [B, L]: True up to each row's last column that is read. A tokenizer's own token may have the id of padding ("!"
        in Qwen2, the end of text in SmolLM2): inside a row, and where something is taught, it is a token like any other.
        """
        read = (self.tokens != PAD_ID) | (self.weight != 0) | ~np.isnan(self.value)
        return np.logical_or.accumulate(read[:, ::-1], axis=1)[:, ::-1]


ILLEGAL, GOES_ON, WRONG, SOLVED = range(4)  # what a `TokenJudge` says of a step; all but GOES_ON are terminal


class TokenJudge(Protocol):
    """`Task.advance` for many steps at once, in the task's own tokens: for searches whose model is faster than Python.

    Only for a task whose context is the prompt and all steps, where equal states lie equally deep and no legal chain can be
    longer than `max_steps`. A state is a row of int32 [W]. Legend: C steps, S tokens of the longest.
    """

    state_width: int  # W

    def roots(self, problems: Sequence[Problem]) -> np.ndarray:
        """int32 [B, W]: the state before any step of each problem."""
        ...

    def judge(self, states: np.ndarray, tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int8 [C] of steps tokens int32 [C, S], newline included in `lengths` [C], taken in states int32 [C, W], and
        the states after those that go on, int32 [C, W].
        """
        ...

    def keys(self, states: np.ndarray) -> np.ndarray:
        """uint64 [C]: equal for states that `Task.state_key` says are equal, a good hash otherwise."""
        ...

    def state(self, row: np.ndarray) -> tuple:
        """The task's own form of a state."""
        ...


class Task(ABC):
    """Behaviour of one family of problems. Stateless after construction; safe to share between threads."""

    name: str
    vocabulary: tuple[str, ...]  # index = token id; starts with SPECIAL_TOKENS
    kinds: tuple[str, ...]  # kinds of step that the grammar allows, e.g. ("propose", "answer")
    self_verifying: bool  # True: `verdict` needs no gold answer
    exact: bool = False  # True: the task is an `Oracle`
    reversible: bool  # True: every state can still be solved, so values must be discounted by distance
    discount: float = 1.0  # value of a state is discount ** distance; 1: whether it can be solved
    one_answer: bool = True  # of a problem is right; False: chains with other answers can be right beside each other
    form: Form = LINES  # how a language model is shown it
    stream: StreamForm | None = None  # what its streams need; None: it has none
    stream_words: tuple[
        str, ...
    ] = ()  # at the end of `vocabulary`, known to nets that learn streams; see `tasks.streams`
    end: str = "the answer"  # of a chain, and what is missing where it has none, for reasons that people read
    never: str = "no answer"
    max_steps: int  # a chain of this many steps without an answer is over, reward 0
    max_step_tokens: int  # longest legal step in tokens, delimiter included
    max_context_tokens: int  # longest `context`, in tokens, BOS included

    @abstractmethod
    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        """`n` distinct problems of a split, uniform over it and in an order fixed by `seed`; all of them if None.

        Raises:
            TaskError: the split holds fewer than `n`.
        """

    @abstractmethod
    def count(self, split: Split) -> int:
        """How many problems a split holds."""

    def first_problems(self, split: Split, n: int) -> list[Problem]:
        """The same up to `n` problems at every call: all of a split that holds fewer, in a fixed order."""
        return self.problems(split, min(n, self.count(split)), seed=0)

    def practice(self, n: int, rng: np.random.Generator) -> list[Problem]:
        """Up to `n` distinct problems to play on: uniform over the train split, or over a wider game that holds none of dev
        and test."""
        return self.problems("train", min(n, self.count("train")), seed=int(rng.integers(2**63)))

    def parse_problem(self, text: str) -> Problem:
        """The problem that a person's text asks, in the form of a prompt.

        Raises:
            TaskError: not a problem of this task.
        """
        raise TaskError(f"task {self.name} reads no problems from text: ask for problems of a split")

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        """What a finished chain answers: equal for chains that agree, for votes. Here the last step's text."""
        return steps[-1].strip() if steps else None

    def told(self, problem: Problem, steps: Sequence[str]) -> str | None:
        """The answer of a finished chain as a person reads it. Here as votes do."""
        return self.answer(problem, steps)

    def reads_as_answer(self, problem: Problem, state: tuple, step: str) -> bool:
        """Whether a step that ends its chain has the form of an answer, right or wrong. Total; here: it is legal."""
        return self.advance(problem, state, step)[0].legal

    @abstractmethod
    def prompt(self, problem: Problem) -> str:
        """The text that opens a context, ending in a newline token."""

    @abstractmethod
    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        """All that the policy sees before the next step. Markov tasks show only the present state.

        `steps` are legal, non-terminal steps. For a task with history this is prompt + steps.
        """

    def parse_step(self, problem: Problem, steps: Sequence[str], step: str) -> tuple[str, str]:
        """(kind, reason): the kind of `step` after legal `steps`, or ("illegal", why). Total: never raises on any text."""
        state: tuple | None = self.initial_state(problem)
        for earlier in steps:
            verdict, state = self.advance(problem, state, earlier)
            if state is None:
                return "illegal", f"an earlier step ended the chain: {verdict.reason}"
        return self.step_kind(problem, state, step)

    def step_kind(self, problem: Problem, state: tuple, step: str) -> tuple[str, str]:
        """As `parse_step`, from a known state. Here for tasks with one kind of step."""
        verdict, _ = self.advance(problem, state, step)
        return (self.kinds[0] if verdict.legal else "illegal"), verdict.reason

    def verdict(self, problem: Problem, steps: Sequence[str]) -> Verdict:
        """Judge a chain by replaying it. Total and linear-time: any text gets a verdict, none raises.

        An illegal step anywhere makes the chain terminal, illegal, reward 0.
        """
        verdict, state = NO_STEP, self.initial_state(problem)
        for taken, step in enumerate(steps):
            if state is None:
                late = Verdict(0.0, True, False, f"a step after {self.end}")
                return verdict if not verdict.legal else late
            if taken >= self.max_steps:
                break
            verdict, state = self.advance(problem, state, step)
        if state is not None and len(steps) >= self.max_steps:
            return Verdict(0.0, True, True, f"{self.never} in {self.max_steps} steps")
        return verdict

    @abstractmethod
    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """Judge one more step from a known state, so that a search need not replay the chain.

        Returns the verdict and the next state (None when terminal). `initial_state` starts; `verdict` is the fold of this.
        """

    @abstractmethod
    def initial_state(self, problem: Problem) -> tuple: ...

    @abstractmethod
    def state_key(self, problem: Problem, state: tuple) -> bytes | None:
        """Equal keys = equal states of this problem. None: never merge."""

    def token_judge(self) -> TokenJudge | None:
        """A compiled form of `advance`, where there is one."""
        return None

    def examples(self, n: int, seed: int = 0) -> list[str]:
        """Up to `n` solved problems to show to a pretrained model: prompt and steps, none of them of dev or test. Here none."""
        return []

    def encode(self, text: str) -> list[int]:
        """Token ids of a text in the grammar (no BOS). Unknown words become UNK_ID."""
        ids = self.token_ids
        return [ids.get(word, UNK_ID) for word in split_words(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids: words joined by blanks, no blank around a newline."""
        return join_words(self.vocabulary[token] for token in tokens)

    @property
    def token_ids(self) -> dict[str, int]:
        cached = self.__dict__.get("_token_ids")
        if cached is None:
            cached = self.__dict__["_token_ids"] = {word: i for i, word in enumerate(self.vocabulary)}
        return cached


def split_words(text: str) -> list[str]:
    """Words of a text: blanks separate, a newline is a word of its own."""
    return [word for word in text.replace(NEWLINE, f" {NEWLINE} ").split(" ") if word]


BYTES_PER_WORD = 8  # of text in a language that writes no blanks


def room(text: str) -> int:
    """Words to make room for: those of a text, or one for every BYTES_PER_WORD of it where it has few blanks (CJK, LaTeX)."""
    return max(len(split_words(text)), -(-len(text.encode()) // BYTES_PER_WORD))


def join_words(words) -> str:
    """Inverse of `split_words` on canonical text."""
    return (
        " ".join(words).replace(f" {NEWLINE} ", NEWLINE).replace(f" {NEWLINE}", NEWLINE).replace(f"{NEWLINE} ", NEWLINE)
    )

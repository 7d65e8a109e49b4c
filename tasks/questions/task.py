"""Questions with a gold answer: reasoning in free lines, then one line with the answer. The task never holds the gold.

    Tom has 3 bags of 4 apples and eats 2. How many are left?     prompt: the question on one line
    3 bags of 4 apples are 12 apples                              steps: any line of text
    answer: 10                                                    the last step; judged by a `Scorer`, after the search

A chain that ends in an answer line is terminal and *not scored*: its reward is 0 until a scorer, which alone has the key,
has seen it. There are no legal moves to enumerate here, no exact values and no free rows; the first thing to learn are
reasoning steps that came with the data (`corpus.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from tasks.base import LINES, NEWLINE, SPECIAL_TOKENS, Form, Problem, Split, Task, TaskError, Verdict, room
from tasks.judging.answer_line import ANSWER, agreed, answer_of, letter
from tasks.splits import draw_distinct, split_code

MOST_LINE = 2000  # characters of a step
STEP_ON = Verdict(0.0, False, True, "")
ANSWERED = Verdict(0.0, True, True, "an answer, not scored yet", scored=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What a policy may see of one item."""

    id: str
    text: str  # one line
    choices: tuple[str, ...] = ()  # shown as (A), (B), ...


@dataclass(frozen=True, slots=True)
class Example:
    """An item shown to everybody, solution included; it belongs to no split."""

    question: Question
    steps: tuple[str, ...]  # the last one is the answer line


class AnswerTask(Task):
    """Free reasoning over the questions of a data set.

    `questions`: of each split. `examples`: solved items that pretrained models are shown before a question. `words`: of the
    vocabulary, which a model trained from scratch speaks. `max_step_words`, `max_steps`: limits of a chain.
    `form`: how a language model is asked.

    Raises:
        TaskError: no questions at all.
    """

    kinds = ("propose", "answer")
    self_verifying = False
    reversible = False

    def __init__(
        self,
        name: str,
        questions: dict[Split, list[Question]],
        *,
        words: Sequence[str] = (),
        examples: Sequence[Example] = (),
        max_steps: int = 16,
        max_step_words: int = 64,
        form: Form = LINES,
    ):
        if not any(questions.values()):
            raise TaskError(f"task {name} has no questions")
        self.name, self._questions, self.shown, self.form = name, questions, tuple(examples), form
        self.max_steps, self.max_step_tokens = max_steps, max_step_words
        self.vocabulary = (*SPECIAL_TOKENS, *dict.fromkeys((ANSWER, *words)))
        longest = max(room(_prompt(q)) for part in questions.values() for q in part)
        self.max_context_tokens = 1 + longest + (max_steps - 1) * max_step_words

    # ---- problems

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        split_code(split)
        questions = self._questions[split]
        chosen = draw_distinct(len(questions), n, split, seed)
        return [self._problem(questions[i]) for i in chosen.tolist()]

    def count(self, split: Split) -> int:
        split_code(split)
        return len(self._questions[split])

    def parse_problem(self, text: str) -> Problem:
        """A question on one line. Its choices, if it has any, stand in the line.

        Raises:
            TaskError: nothing is asked, or too much.
        """
        line = " ".join(text.split())
        if not line or len(line) > MOST_LINE:
            raise TaskError(f"a question is a line of 1 to {MOST_LINE} characters, not {len(line)}")
        return Problem(f"{self.name}:{blake2b(line.encode(), digest_size=8).hexdigest()}", self.name, (line, ()))

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        """The answer line without its lead: a number in lowest terms, words without regard to case and blanks."""
        given = answer_of(steps)
        return agreed(given) if given else None

    def prompt(self, problem: Problem) -> str:
        return _prompt(Question(problem.id, *problem.data))

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        return self.prompt(problem) + "".join(steps)

    # ---- the grammar

    def initial_state(self, problem: Problem) -> tuple:
        """A state is the number of steps taken: what they say is nobody's business before the answer."""
        return (0,)

    def state_key(self, problem: Problem, state: tuple) -> None:
        return None

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. An answer line ends the chain, not scored."""
        kind, reason = self.step_kind(problem, state, step)
        if kind == "illegal":
            return Verdict(0.0, True, False, reason), None
        return (ANSWERED, None) if kind == "answer" else (STEP_ON, (state[0] + 1,))

    def step_kind(self, problem: Problem, state: tuple, step: str) -> tuple[str, str]:
        if not isinstance(step, str):
            return "illegal", "a step is text"
        if len(step) > MOST_LINE:
            return "illegal", f"longer than any step ({len(step)} characters)"
        if not step.endswith(NEWLINE) or NEWLINE in step[:-1]:
            return "illegal", "a step is one line that ends with a newline"
        if not (line := step.strip()):
            return "illegal", "an empty line"
        return ("answer" if line.lower().startswith(ANSWER) else "propose"), ""

    def examples(self, n: int, seed: int = 0) -> list[str]:
        """The first `n` of those that were taken out of the train split for it."""
        return [_prompt(example.question) + "".join(example.steps) for example in self.shown[:n]]

    def _problem(self, question: Question) -> Problem:
        return Problem(question.id, self.name, (question.text, question.choices))


def _prompt(question: Question) -> str:
    choices = "".join(f" ({letter(k)}) {choice}" for k, choice in enumerate(question.choices))
    return f"{question.text}{choices}{NEWLINE}"

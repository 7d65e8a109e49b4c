"""A question in words, and an answer in free text: any model's own reasoning, judged by nobody.

    What is 7 times 8?                                            prompt: one or several lines
    7 times 8 is 7 times 4, twice: 28 and 28.                     steps: lines, paragraphs, sentences or some tokens
    \\boxed{56}                                                    what chains vote with

A chain ends where its writer closes the text, where it gives an answer line as the examples do, or after `max_steps`. A step is
what was written, blanks and all; one that closes its text ends in `END_OF_TEXT`. There is no data set: people ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from tasks.base import END_OF_TEXT, NEWLINE, SPECIAL_TOKENS, Form, Problem, Split, Task, TaskError, Verdict
from tasks.judging.answer_line import agreed, bare_answer, last_answer
from tasks.questions.form import MOST_TOKENS as MOST_STEP
from tasks.questions.form import form_of, tokens_of
from tasks.questions.jsonl import read_examples
from tasks.questions.task import ANSWERED, STEP_ON
from tasks.splits import check_int, split_code

MOST_QUESTION = 20_000  # characters
HINT = 'Think in short steps, then give the final answer on the last line as "answer: ...".'  # in a chat
LIMITS = {"line": 128, "paragraph": 384, "sentence": 96}  # tokens of a step
MOST_TOKENS, USUAL = 1 << 20, 8  # of a chain; a step is so many times shorter than it may be
ROOM = (
    3072  # tokens of a question and its answer for which memory is laid out; a chain may grow to the model's positions
)

EXAMPLES = (  # what a model without a chat template follows
    "How many minutes are 3 hours and a quarter?\n\nAn hour has 60 minutes.\n3 * 60 = 180\n"
    "A quarter of an hour is 15 minutes.\n180 + 15 = 195\nanswer: 195\n",
    "Which is the largest planet of the solar system?\n\nThe giant planets are Jupiter, Saturn, Uranus and Neptune.\n"
    "Jupiter is larger than the others together.\nanswer: Jupiter\n",
    "Anna has 4 boxes of 6 eggs. She uses 5 eggs. How many are left?\n\n4 * 6 = 24\n24 - 5 = 19\nanswer: 19\n",
)


class TextTask(Task):
    """Any question. Chains agree where `last_answer` does, read as judges read answers.

    Raises:
        TaskError: a setting that cannot work.
    """

    name = "text"
    kinds = ("propose", "answer")
    self_verifying = False
    reversible = False
    vocabulary = SPECIAL_TOKENS  # no net of ours speaks it

    def __init__(
        self,
        *,
        step: str = "line",  # what a step is: line | paragraph | sentence | tokens:N
        max_tokens: int = 1024,  # of a chain, in the model's own tokens; models that think at length need more
        max_steps: int
        | None = None,  # of a chain; null: as many as fit into max_tokens at an eighth of their most tokens
        max_step_tokens: int
        | None = None,  # of a step, which is cut there; null: 128 of a line, 384 of a paragraph, 96
        chat: str = "auto",  # auto: by the tokenizer's chat template where there is one | on | off: examples as text
        system: str = "",  # text of the system turn; "": the template's own, or none
        chat_arguments: Mapping[str, Any] | None = None,  # of the chat template, e.g. {enable_thinking: false}
        template: str = "",  # text around a question, e.g. "{question}\nAnswer in one word."; "": ours, {question} alone: none
        examples: str
        | None = None,  # a .jsonl of solved questions to show first; null: three of ours, where no chat is
    ):
        check_int("max_tokens", max_tokens, 1, MOST_TOKENS)
        size = tokens_of(step) or (LIMITS[step] if max_step_tokens is None else max_step_tokens)
        self.max_step_tokens = min(max_tokens, check_int("max_step_tokens", size, 1, MOST_STEP))
        many = -(-USUAL * max_tokens // self.max_step_tokens)
        self.max_steps = check_int("max_steps", many if max_steps is None else max_steps, 1, USUAL * MOST_TOKENS)
        self.max_context_tokens = ROOM
        self._examples = EXAMPLES if examples is None else read_examples(examples)
        self.form = form_of(
            step=step, free=True, max_tokens=max_tokens, chat=chat, system=system, template=template,
            chat_arguments=chat_arguments, hint=HINT if examples is None else "",
        )  # fmt: skip

    # ---- questions

    def problems(self, split: Split, n: int | None = None, seed: int = 0) -> list[Problem]:
        split_code(split)
        if n:
            raise TaskError("task text holds no questions: ask one with problem='...', or read a file with task=jsonl")
        return []

    def count(self, split: Split) -> int:
        split_code(split)
        return 0

    def parse_problem(self, text: str) -> Problem:
        """A question of one or several lines, or a conversation that ends in one (`Form.conversation`).

        Raises:
            TaskError: nothing is asked, or too much.
        """
        asked = "".join(c for c in text.replace("\r\n", NEWLINE) if c >= " " or c in "\t\n").strip()
        if not asked or len(asked) > MOST_QUESTION:
            raise TaskError(f"a question is a text of 1 to {MOST_QUESTION} characters, not {len(asked)}")
        return Problem(
            f"text:{blake2b(asked.encode(errors='replace'), digest_size=8).hexdigest()}", self.name, (asked,)
        )

    def prompt(self, problem: Problem) -> str:
        return Form.question(problem.data[0])

    def context(self, problem: Problem, steps: Sequence[str]) -> str:
        return self.prompt(problem) + "".join(steps)

    def examples(self, n: int, seed: int = 0) -> list[str]:
        """The first `n` of the file, or of ours."""
        return list(self._examples[:n])

    # ---- chains

    def answer(self, problem: Problem, steps: Sequence[str]) -> str | None:
        said = last_answer("".join(steps))
        return None if said is None else agreed(said, self.form.turns(problem.data[0])[-1])

    def told(self, problem: Problem, steps: Sequence[str]) -> str | None:
        said = last_answer("".join(steps))
        return None if said is None else bare_answer(said, self.form.turns(problem.data[0])[-1])

    def initial_state(self, problem: Problem) -> tuple:
        """A state is the number of steps taken."""
        return (0,)

    def state_key(self, problem: Problem, state: tuple) -> None:
        return None

    def advance(self, problem: Problem, state: tuple, step: str) -> tuple[Verdict, tuple | None]:
        """See `Task.advance`. A chain that has come to `max_steps` has answered with what it says last."""
        if not isinstance(step, str):
            return Verdict(0.0, True, False, "a step is text"), None
        taken = state[0] + 1
        over = step.endswith(END_OF_TEXT) or taken >= self.max_steps
        return (ANSWERED, None) if over else (STEP_ON, (taken,))

    def step_kind(self, problem: Problem, state: tuple, step: str) -> tuple[str, str]:
        verdict, after = self.advance(problem, state, step)
        return ("illegal" if not verdict.legal else "answer" if after is None else "propose"), verdict.reason

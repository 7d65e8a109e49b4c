"""How a pretrained model, with a tokenizer of its own, reads contexts and writes steps.

It follows examples rather than instructions: a few solved problems of the train split, then the question. Small models keep to
the format so (few-shot 73 to 100 %, zero-shot chat 0 to 20 % for SmolLM2-135M). Free text is asked through the tokenizer's chat
template where there is one (`Task.form`, `models.steps.chat`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from models.steps.chat import AS_TEXT, ChatTurns, special_ids, wants_chat
from models.steps.unit_ends import step_ends
from models.trie.step_ends import StepEnds
from tasks.base import BOS_ID, END_OF_TEXT, NEWLINE, PAD_ID, Form, Rows, Task, TaskError
from tasks.judging.answer_line import has_answer_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION = "Question: "
TOKENS_PER_WORD = 4  # of a tokenizer for one word of a task, at most
NO_LIMIT = 1 << 30  # positions of a model of which nothing is known


class TextCodec:
    """A task in lines, in the tokens of a pretrained model.

    A step ends with the first token whose text ends in a newline, or with a token that closes the text. Tokens that go on after
    a newline are never sampled, nor are special tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        vocabulary_size: int,
        *,
        few_shot: int = 3,
        seed: int = 0,
        positions: int = NO_LIMIT,
        closing: Iterable[int] = (),
    ):
        """`vocabulary_size`, `positions`: of the model; `few_shot`: solved problems of the train split shown before every
        question; `closing`: tokens that end an answer in a chat, beside the tokenizer's own and its chat template's.

        Raises:
            TaskError: a chat template that is asked for and cannot be used, or a tokenizer in which no step can end.
        """
        self._tokenizer, self._words, self._form = tokenizer, task.vocabulary, task.form
        self.vocabulary_size, self.positions = min(vocabulary_size, len(tokenizer)), positions
        chat = wants_chat(task.form, tokenizer)
        shown = [] if chat and task.form.hint else task.examples(few_shot, seed)
        self._answers = bool(
            shown or (task.form.hint and not task.form.template)
        )  # the model is shown, or told, to end with an answer line
        self._chat = ChatTurns(tokenizer, task.form, shown) if chat else None
        self.preamble = "" if chat else _blocks(shown, task.form)
        self._opening = [] if chat else [*self._start(), *self._ids(self.preamble)]
        ending = {tokenizer.eos_token_id, *((*closing, self._chat.closing()) if self._chat else ())}
        self._closing = sorted(token for token in ending if token is not None and token < self.vocabulary_size)
        self._pieces = tokenizer.batch_decode([[token] for token in range(self.vocabulary_size)])
        self.ends, never = self._alphabet(task)
        self.masked = tuple(np.flatnonzero(never).tolist())
        opening = len(self._chat.tokens("")) if self._chat else len(self._opening)
        self.max_step_tokens = self._per_word * task.max_step_tokens
        self.max_chain_tokens = task.form.max_tokens or NO_LIMIT
        self.max_context_tokens = opening + self._per_word * (task.max_context_tokens + 2)

    _per_word = TOKENS_PER_WORD

    def context(self, text: str) -> list[int]:
        if self._joint:
            return [*self._opening, *self._ids(QUESTION + text)]
        question, steps = self._form.parts(text)
        return [*self._asked(question), *self.tokens(steps)]

    def step(self, tokens: Sequence[int], finished: bool) -> str:
        if not finished:
            return tidy(self._text(tokens))
        last = "" if tokens[-1] in self._closing else self._pieces[tokens[-1]].partition(NEWLINE)[0]
        return tidy(self._text(tokens[:-1]) + last) + NEWLINE

    def tokens(self, step: str) -> list[int]:
        line, alone = self._ids(NEWLINE + step), self._ids(NEWLINE)
        if line[: len(alone)] != alone:  # a tokenizer that merges newlines with what follows them
            return self._ids(step)
        return line[len(alone) :]  # some put a blank before whatever they read, but a step stands behind a newline

    def rows(self, rows: Rows) -> Rows:
        """The same lines in the model's tokens, the examples before them; each token takes the policy weight of the word that
        it is part of, and the last one of a word takes the word's value target. What a chat template holds takes no weight.
        """
        made = [self._row(*row) for row in zip(rows.tokens, rows.weight, rows.value, strict=True)]
        longest = max(len(tokens) for tokens, _, _ in made)
        out = Rows(
            np.full((len(made), longest), PAD_ID, np.int32),
            np.zeros((len(made), longest), np.float32),
            np.full((len(made), longest), np.nan, np.float32),
        )
        for i, (tokens, weight, value) in enumerate(made):
            n = len(tokens)
            out.tokens[i, :n], out.weight[i, :n], out.value[i, :n] = tokens, weight, value
        return out

    def _row(
        self, words: np.ndarray, weight: np.ndarray, value: np.ndarray
    ) -> tuple[list[int], np.ndarray, np.ndarray]:
        used = [i for i, word in enumerate(words.tolist()) if word not in (PAD_ID, BOS_ID)]
        text, ends, line_start = "", [], True  # ends[k]: where word k of `used` stops in the text
        for i in used:
            word = self._words[words[i]]
            text += word if line_start or word == NEWLINE else f" {word}"
            line_start = word == NEWLINE
            ends.append(len(text))
        question, steps = ("", text) if self._joint else self._form.parts(text)
        opening, lead = (self._opening, QUESTION) if self._joint else (self._asked(question), "")
        encoded = self._tokenizer(lead + steps, return_offsets_mapping=True, **AS_TEXT)
        tokens: list[int] = [*opening, *encoded["input_ids"]]
        weights, values = np.zeros(len(tokens), np.float32), np.full(len(tokens), np.nan, np.float32)
        if question:  # its last token is where the first step starts
            values[len(opening) - 1] = value[used[ends.index(len(question))]]
        for t, (_, stop) in enumerate(encoded["offset_mapping"], start=len(opening)):
            at = len(question) + stop - len(lead)  # in the text
            k = int(np.searchsorted(ends, at))  # the word that holds the token's last character
            if at > 0 and k < len(ends):
                weights[t] = weight[used[k]]
                if ends[k] == at:
                    values[t] = value[used[k]]
        return tokens, weights, values

    @property
    def _joint(self) -> bool:
        """A question and its steps are read as one text."""
        return self._chat is None and not self._form.free and not self._form.template

    def _asked(self, question: str) -> list[int]:
        """Token ids of all before the first step."""
        if self._chat is not None:
            return self._chat.tokens(question)
        return [*self._opening, *self._ids(asked_text(self._form, question))]

    def _alphabet(self, task: Task) -> tuple[StepEnds, np.ndarray]:
        """Where a step ends, and bool [V], the tokens that are never sampled."""
        special = self._flags(self._tokenizer.all_special_ids)
        broken = np.array([NEWLINE in piece for piece in self._pieces])
        ends = broken & np.array([piece.endswith(NEWLINE) for piece in self._pieces]) & ~special
        if not ends.any():
            raise TaskError(
                f"no token of the tokenizer ends a line, as steps of task {task.name} do: use another model"
            )
        never = (broken & ~ends) | special
        ends[self._closing], never[self._closing] = True, False
        return StepEnds.at(ends), never

    def _flags(self, tokens: Iterable[int]) -> np.ndarray:
        """bool [V]: whether a token is one of `tokens`."""
        flags = np.zeros(self.vocabulary_size, np.bool_)
        flags[[token for token in tokens if token < self.vocabulary_size]] = True
        return flags

    def _text(self, tokens: Sequence[int]) -> str:
        return cast("str", self._tokenizer.decode(list(tokens)))

    def _start(self) -> list[int]:
        """What the tokenizer itself puts before a text, e.g. a begin-of-text token; not what it puts behind one."""
        whole, bare = self._tokenizer(QUESTION).input_ids, self._ids(QUESTION)
        return next((whole[:i] for i in range(len(whole)) if whole[i : i + len(bare)] == bare), [])

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, **AS_TEXT).input_ids if text else []


class FreeCodec(TextCodec):
    """Free text: any text is a step, as it was written; how far one reaches, the task's form tells (`models.steps.unit_ends`).

    A step that closes the text ends in `END_OF_TEXT`, as does one with an answer line, or another question, where the model is
    shown or told to end so.
    """

    _per_word = 1  # limits of free text are in tokens

    def step(self, tokens: Sequence[int], finished: bool) -> str:
        closed = tokens[-1] in self._closing
        text = self._behind_newline(tokens[:-1] if closed else tokens)
        return text + END_OF_TEXT if closed or self._ended(text) else text

    def tokens(self, step: str) -> list[int]:
        text = step.removesuffix(END_OF_TEXT)
        closed = len(text) < len(step) and not self._ended(text)
        return super().tokens(text) + (self._closing[:1] if closed else [])

    def _alphabet(self, task: Task) -> tuple[StepEnds, np.ndarray]:
        never = np.array([END_OF_TEXT in piece for piece in self._pieces])
        never |= self._flags(special_ids(self._tokenizer))
        never[self._closing] = False
        return step_ends(self._form.step, self._pieces, self._flags(self._closing)), never

    def _ended(self, text: str) -> bool:
        return self._answers and (has_answer_line(text) or text.lstrip().startswith(QUESTION))

    def _behind_newline(self, tokens: Sequence[int]) -> str:
        """Text of tokens within a text: some tokenizers drop a blank at the head of whatever they decode."""
        line = self._ids(NEWLINE)
        whole, alone = (
            self._tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in (line + list(tokens), line)
        )
        return cast("str", whole).removeprefix(cast("str", alone))


def asked_text(form: Form, question: str) -> str:
    """A question as text, up to where its answer begins; turns before it as solved examples are shown."""
    system, earlier, last = form.turns(question)
    blocks = [f"{system}{NEWLINE}{NEWLINE}"] if system else []
    for before, answer in zip(earlier[::2], earlier[1::2], strict=True):
        blocks.append(_closed_block(form.asked(before, QUESTION), answer))
    return "".join(blocks) + form.asked(last, QUESTION).removesuffix(NEWLINE) + NEWLINE


def few_shot_examples(task: Task, n: int, seed: int = 0) -> str:
    """`n` solved problems of the train split as question and steps, each closed by an empty line."""
    return _blocks(task.examples(n, seed), task.form) if n else ""


def _blocks(examples: Sequence[str], form: Form) -> str:
    parts = [form.parts(text) for text in examples]
    return "".join(_closed_block(form.asked(question, QUESTION), steps) for question, steps in parts)


def _closed_block(asked: str, steps: str) -> str:
    return f"{asked.removesuffix(NEWLINE)}{NEWLINE}{steps.rstrip(NEWLINE)}{NEWLINE}{NEWLINE}"


def tidy(text: str) -> str:
    """A step as a task writes it: words with one blank between them, whatever blanks a model put around them."""
    return " ".join(text.split())

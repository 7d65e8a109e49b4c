"""Between text and tokens: how a model reads a context and how its steps are read.

A task speaks in lines of words. A model trained from scratch here has one token a word (`WordCodec`); a pretrained one has a
tokenizer of its own and follows examples rather than instructions (`TextCodec`): a few solved problems of the train split,
then the question. Small models keep to the format so (few-shot 73 to 100 %, zero-shot chat 0 to 20 % for SmolLM2-135M).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

import numpy as np

from models.trie.batch import NEVER_SAMPLED
from tasks.base import BOS_ID, NEWLINE, NEWLINE_ID, PAD_ID, Rows, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION = "Question: "
TOKENS_PER_WORD = 4  # of a tokenizer for one word of a task, at most
AS_TEXT = {"add_special_tokens": False, "split_special_tokens": True}  # "<|im_end|>" in a question ends nothing


class Codec(Protocol):
    """What generation needs to know of a model's tokens."""

    vocabulary_size: int  # tokens that may be sampled are below it
    masked: tuple[int, ...]  # tokens that are never sampled
    ends: np.ndarray  # bool [V], tokens that end a step
    max_step_tokens: int
    max_context_tokens: int

    def context(self, text: str) -> list[int]:
        """Token ids of a context, as the model is to see it."""
        ...

    def step(self, tokens: Sequence[int], finished: bool) -> str:
        """Text of one step, in the task's own form; `finished`: the last token ends it."""
        ...

    def tokens(self, step: str) -> list[int]:
        """Token ids of a step's text, as the model would read it after a context."""
        ...

    def rows(self, rows: Rows) -> Rows:
        """Free rows, written in a task's words, in the model's tokens."""
        ...


class WordCodec:
    """The task's own vocabulary: a token is a word."""

    def __init__(self, task: Task):
        self._task = task
        self.masked: tuple[int, ...] = NEVER_SAMPLED
        self.vocabulary_size = len(task.vocabulary)
        self.ends = np.arange(self.vocabulary_size) == NEWLINE_ID
        self.max_step_tokens, self.max_context_tokens = task.max_step_tokens, task.max_context_tokens

    def context(self, text: str) -> list[int]:
        return [BOS_ID, *self._task.encode(text)]

    def step(self, tokens: Sequence[int], finished: bool) -> str:
        words = " ".join(map(self._task.vocabulary.__getitem__, tokens[:-1] if finished else tokens))
        return words + NEWLINE if finished else words  # as `task.decode`: only the last word can be a newline

    def tokens(self, step: str) -> list[int]:
        return self._task.encode(step)

    def rows(self, rows: Rows) -> Rows:
        return rows


class TextCodec:
    """The tokenizer of a pretrained model, and examples before every question.

    A step ends with the first token whose text ends in a newline, or with the end-of-text token. Tokens that go on after a
    newline are never sampled, nor are special tokens.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, task: Task, vocabulary_size: int, *, few_shot: int = 3, seed: int = 0
    ):
        """`vocabulary_size`: of the model; `few_shot`: solved problems of the train split shown before every question."""
        self._tokenizer, self._task, self._words = tokenizer, task, task.vocabulary
        self.vocabulary_size = min(vocabulary_size, len(tokenizer))
        pieces = tokenizer.batch_decode([[token] for token in range(self.vocabulary_size)])
        special = np.zeros(self.vocabulary_size, np.bool_)
        special[[token for token in tokenizer.all_special_ids if token < self.vocabulary_size]] = True
        broken = np.array([NEWLINE in piece for piece in pieces])
        self.ends = broken & np.array([piece.endswith(NEWLINE) for piece in pieces]) & ~special
        never = (broken & ~self.ends) | special
        if (end := tokenizer.eos_token_id) is not None and end < self.vocabulary_size:
            self.ends[end], never[end] = True, False
        self.masked = tuple(np.flatnonzero(never).tolist())
        self._pieces = {int(token): pieces[token] for token in np.flatnonzero(self.ends) if not special[token]}
        self.preamble = few_shot_examples(task, few_shot, seed)
        self._opening = [*self._start(), *self._ids(self.preamble)]
        self.max_step_tokens = TOKENS_PER_WORD * task.max_step_tokens
        self.max_context_tokens = len(self._opening) + TOKENS_PER_WORD * (task.max_context_tokens + 2)

    def context(self, text: str) -> list[int]:
        return [*self._opening, *self._ids(QUESTION + text)]

    def step(self, tokens: Sequence[int], finished: bool) -> str:
        if not finished:
            return tidy(self._text(tokens))
        last = self._pieces.get(int(tokens[-1]), "").partition(NEWLINE)[0]
        return tidy(self._text(tokens[:-1]) + last) + NEWLINE

    def tokens(self, step: str) -> list[int]:
        line, alone = self._ids(NEWLINE + step), self._ids(NEWLINE)
        if line[: len(alone)] != alone:  # a tokenizer that merges newlines with what follows them
            return self._ids(step)
        return line[len(alone) :]  # some put a blank before whatever they read, but a step stands behind a newline

    def rows(self, rows: Rows) -> Rows:
        """The same lines in the model's tokens, the examples before them; each token takes the policy weight of the word that
        it is part of, and the last one of a word takes the word's value target.
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
        text, ends, line_start = QUESTION, [], True  # ends[k]: where word k of `used` stops in the text
        for i in used:
            word = self._words[words[i]]
            text += word if line_start or word == NEWLINE else f" {word}"
            line_start = word == NEWLINE
            ends.append(len(text))
        encoded = self._tokenizer(text, return_offsets_mapping=True, **AS_TEXT)
        tokens: list[int] = [*self._opening, *encoded["input_ids"]]
        weights, values = np.zeros(len(tokens), np.float32), np.full(len(tokens), np.nan, np.float32)
        for t, (_, stop) in enumerate(encoded["offset_mapping"], start=len(self._opening)):
            k = int(np.searchsorted(ends, stop))  # the word that holds the token's last character
            if k < len(ends):
                weights[t] = weight[used[k]]
                if ends[k] == stop:
                    values[t] = value[used[k]]
        return tokens, weights, values

    def _text(self, tokens: Sequence[int]) -> str:
        return cast("str", self._tokenizer.decode(list(tokens)))

    def _start(self) -> list[int]:
        """What the tokenizer itself puts before a text, e.g. a begin-of-text token; not what it puts behind one."""
        whole, bare = self._tokenizer(QUESTION).input_ids, self._ids(QUESTION)
        return next((whole[:i] for i in range(len(whole)) if whole[i : i + len(bare)] == bare), [])

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, **AS_TEXT).input_ids if text else []


def few_shot_examples(task: Task, n: int, seed: int = 0) -> str:
    """`n` solved problems of the train split as question and steps, each closed by an empty line."""
    if not n:
        return ""
    return "".join(f"{QUESTION}{text.rstrip(NEWLINE)}{NEWLINE}{NEWLINE}" for text in task.examples(n, seed))


_LAST_CODEC: WeakKeyDictionary[Any, tuple[Task, TextCodec]] = WeakKeyDictionary()  # by model


def codec_of(model, task: Task) -> Codec:
    """How `model` reads and writes `task`: through the tokenizer that it came with, or in the task's own words.

    The last one of a model is kept: reading a vocabulary takes half a second.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return WordCodec(task)
    its_task, codec = _LAST_CODEC.get(model, (None, None))
    if codec is None or its_task is not task:
        size = model.trunk.get_input_embeddings().weight.shape[0]
        codec = TextCodec(tokenizer, task, size, few_shot=model.few_shot)
        _LAST_CODEC[model] = task, codec
    return codec


def tidy(text: str) -> str:
    """A step as a task writes it: words with one blank between them, whatever blanks a model put around them."""
    return " ".join(text.split())

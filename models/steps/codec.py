"""Between text and tokens: how a model reads a context and how its steps are read.

A task speaks in lines of words, or in free text. A model trained from scratch here has one token a word (`WordCodec`); a
pretrained one has a tokenizer of its own (`models.steps.text_codec`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from models.steps.text_codec import (
    NO_LIMIT,
    QUESTION,
    TOKENS_PER_WORD,
    FreeCodec,
    TextCodec,
    asked_text,
    few_shot_examples,
    tidy,
)
from models.trie.batch import NEVER_SAMPLED
from models.trie.step_ends import StepEnds
from tasks.base import BOS_ID, NEWLINE, NEWLINE_ID, Rows, Task

__all__ = [
    "QUESTION", "TOKENS_PER_WORD", "Codec", "FreeCodec", "TextCodec", "WordCodec", "asked_text", "codec_of",
    "few_shot_examples", "tidy",
]  # fmt: skip


class Codec(Protocol):
    """What generation needs to know of a model's tokens."""

    vocabulary_size: int  # tokens that may be sampled are below it
    masked: tuple[int, ...]  # tokens that are never sampled
    ends: StepEnds
    positions: int  # of the model: longest path, in tokens
    max_step_tokens: int
    max_chain_tokens: int  # of all steps together
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

    positions = NO_LIMIT  # a net of ours has room for the longest chain of its task

    def __init__(self, task: Task):
        self._task = task
        self.masked: tuple[int, ...] = NEVER_SAMPLED
        self.vocabulary_size = len(task.vocabulary) - len(task.stream_words)  # a plain chain holds none of these
        self.ends = StepEnds.at(np.arange(self.vocabulary_size) == NEWLINE_ID)
        self.max_step_tokens, self.max_chain_tokens = task.max_step_tokens, NO_LIMIT
        self.max_context_tokens = task.max_context_tokens

    def context(self, text: str) -> list[int]:
        return [BOS_ID, *self._task.encode(text)]

    def step(self, tokens: Sequence[int], finished: bool) -> str:
        words = " ".join(map(self._task.vocabulary.__getitem__, tokens[:-1] if finished else tokens))
        return words + NEWLINE if finished else words  # as `task.decode`: only the last word can be a newline

    def tokens(self, step: str) -> list[int]:
        return self._task.encode(step)

    def rows(self, rows: Rows) -> Rows:
        return rows


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
        from models.forward.trial import max_positions, turning_point  # with transformers, as the model

        config = model.trunk.config.get_text_config()
        codec = (FreeCodec if task.form.free else TextCodec)(
            tokenizer,
            task,
            model.trunk.get_input_embeddings().weight.shape[0],
            few_shot=model.few_shot,
            positions=min(max_positions(config), turning_point(config)),
            closing=_closing(model.trunk),
        )
        _LAST_CODEC[model] = task, codec
    return codec


def _closing(trunk: Any) -> list[int]:
    """The tokens at which the model's makers stop: one, several or none."""
    told = getattr(getattr(trunk, "generation_config", None), "eos_token_id", None)
    return told if isinstance(told, list) else [] if told is None else [told]

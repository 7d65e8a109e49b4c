"""The words of a task's streams as tokens of the net that writes them.

A net that speaks in the task's words was given new ones. A pretrained model says them with tokens that it has, at the head of a
line, where none opens a step; one token each, so that a verdict is read off one row. An effort is text to it. Where steps are
worked out another way, or say themselves whether they are what is asked, the decoder alone says these words.

Legend: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.abilities import PolicyError, Step
from models.steps.codec import Codec, WordCodec
from models.trie.batch import NEVER_SAMPLED
from models.trie.step_ends import ENDS, StepEnds
from tasks.base import NEWLINE_ID, Problem, Task
from tasks.streams import BACK, CHECK, EFFORTS, NO, ON, STOP, UNDOS, YES, StreamForm

DEPTHS = "0123456789abcdefghijklmnopqrstuvwxyz"  # how a pretrained model names a depth


@dataclass(frozen=True, eq=False)
class StreamWords:
    """How streams of one task are written and read."""

    task: Task
    form: StreamForm
    codec: Codec  # of plain chains
    yes: int
    no: int
    stop: int
    back: np.ndarray  # int64 [depths], the token that goes back to each depth
    vocabulary_size: int  # V, stream words included
    check: int  # opens a check; -1: steps of this task have none
    on: int  # neither yes nor no; -1: the steps of a context that keeps them say it by going on
    aside: tuple[int, ...]  # lines that are no step
    masked: tuple[int, ...]  # never sampled: efforts are asked, and whether a step is checked is the decoder's rule
    whole: np.ndarray  # bool [V], tokens that end a step as its task reads it
    ends: StepEnds  # one of these ends a line; a verdict is a line of its own

    @classmethod
    def of(cls, task: Task, codec: Codec | None = None) -> StreamWords:
        """Those of `task`, for a net that reads and writes it by `codec`; None: in the task's own words.

        Raises:
            PolicyError: the net has none.
        """
        codec = codec or WordCodec(task)
        in_words = isinstance(codec, WordCodec)
        if task.stream is None or not (task.stream_words or (task.stream.wordless and not in_words)):
            raise PolicyError(
                f"a net of task {task.name} without stream words cannot think: give a net that learned its streams "
                "(selfplay.mode=stream), or effort=none"
            )
        size = len(task.vocabulary) if in_words else codec.vocabulary_size
        ids = task.token_ids if in_words else _tokens_of(codec, task)
        markov, checks = task.stream.markov, task.stream.checks
        aside = (ids[NO], ids[YES], ids[ON]) if markov else (ids[NO],)
        verdicts = np.zeros(size, np.bool_)
        verdicts[[ids[YES], *aside]] = True
        if in_words:
            whole = np.arange(size) == NEWLINE_ID
            ends, masked = StepEnds.at(whole | verdicts), (*NEVER_SAMPLED, *(ids[word] for word in task.stream.asking))
        else:
            whole = codec.ends[np.arange(size)]
            ends, masked = _opening(codec.ends, verdicts), codec.masked
        return cls(
            task, task.stream, codec, ids[YES], ids[NO], ids[STOP],
            np.array([ids[f"{BACK}{depth}"] for depth in range(task.max_steps)]),
            size, ids[CHECK] if checks else -1, ids[ON] if markov else -1, aside, masked, whole, ends,
        )  # fmt: skip

    def context(self, problem: Problem, effort: int, steps: Sequence[str] = ()) -> list[int]:
        """Token ids of what a stream has read after `steps`, verdicts and what was given up left out."""
        return self.codec.context(self.form.asked(self.task.context(problem, steps), effort))

    def chosen(self, step: Step) -> int:
        """Tokens of a step that its writer chooses; the others follow from them."""
        words, tokens = self.form.choice(step.text), step.tokens or ()
        if isinstance(self.codec, WordCodec):
            return words
        text = " ".join(step.text.split()[:words])
        return next(
            (k for k in range(len(tokens)) if len(self.codec.step(tokens[:k], False)) >= len(text)), len(tokens)
        )


def _tokens_of(codec: Codec, task: Task) -> Mapping[str, int]:
    """The token of a pretrained model that stands for each word but those that ask for an effort, which it reads as text."""
    assert task.stream is not None, "a task with stream words has their form"
    if task.stream.checks:
        raise PolicyError(f"steps of task {task.name} are checked by nets of the task's own words: use model=tiny")
    said = {YES: YES, NO: NO, STOP: STOP, **({ON: ON} if task.stream.markov else {})}
    if task.max_steps > len(DEPTHS):
        raise PolicyError(f"a stream of task {task.name} goes back over {len(DEPTHS)} steps: give it fewer (max_steps)")
    said |= {f"{BACK}{depth}": DEPTHS[depth] for depth in range(task.max_steps)}
    ids: dict[str, int] = {}
    for word, text in said.items():
        tokens = codec.tokens(text)
        if len(tokens) != 1 or tokens[0] in codec.masked or codec.step(tokens, False) != text:
            raise PolicyError(
                f"the tokenizer has no token of its own for {text!r}, which a stream says: use another model"
            )
        ids[word] = tokens[0]
    return ids


def _opening(ends: StepEnds, verdicts: np.ndarray) -> StepEnds:
    """`ends`, and a line ends with one of `verdicts` bool [V], too, where that opens it."""
    kinds = ends.after.shape[1]
    after = np.where(ends.after == ENDS, ENDS, ends.after + 1)
    after = np.vstack((after[:1], after))  # mode 0: nothing yet; then those of `ends`, one on
    after = np.hstack((after, after)).astype(np.int8)
    after[0, kinds:] = ENDS
    return StepEnds(np.where(verdicts, ends.kinds + kinds, ends.kinds).astype(np.uint8), after, ends.cut)


def effort_number(effort: str) -> int:
    """The number of an effort that streams know.

    Raises:
        PolicyError: there is none of this name.
    """
    if effort not in UNDOS:
        raise PolicyError(f"effort={effort}: a stream was taught to go back 15 times at most: use {', '.join(UNDOS)}")
    return EFFORTS.index(effort)

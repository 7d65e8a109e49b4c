"""The words of a task's streams as tokens of a net that speaks in the task's words.

Legend: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.abilities import PolicyError
from models.steps.codec import WordCodec
from models.trie.batch import NEVER_SAMPLED
from models.trie.step_ends import StepEnds
from tasks.base import BOS_ID, NEWLINE_ID, Problem, Task
from tasks.streams import BACK, CHECK, EFFORT, EFFORTS, NO, ON, STOP, UNDOS, YES, StreamForm


@dataclass(frozen=True, eq=False)
class StreamWords:
    """How streams of one task are written and read."""

    task: Task
    form: StreamForm
    codec: WordCodec  # of plain chains
    yes: int
    no: int
    stop: int
    back: np.ndarray  # int64 [depths], the token that goes back to each depth
    vocabulary_size: int  # V, stream words included
    check: int  # opens a check; -1: steps of this task have none
    on: int  # neither yes nor no; -1: the steps of a context that keeps them say it by going on
    aside: tuple[int, ...]  # lines that are no step
    masked: tuple[int, ...]  # never sampled: efforts are asked, and whether a step is checked is the decoder's rule
    ends: StepEnds  # a newline ends a line; a verdict is a line of its own

    @classmethod
    def of(cls, task: Task) -> StreamWords:
        """Those of `task`.

        Raises:
            PolicyError: the net that reads it has none.
        """
        ids = task.token_ids
        if task.stream is None or not task.stream_words:
            raise PolicyError(
                f"a net of task {task.name} without stream words cannot think: give a net that learned its streams "
                "(selfplay.mode=stream), or effort=none"
            )
        last = np.zeros(len(task.vocabulary), np.bool_)
        aside = (ids[NO], ids[YES], ids[ON]) if task.stream.markov else (ids[NO],)
        last[[NEWLINE_ID, ids[YES], *aside]] = True
        efforts = tuple(ids[f"{EFFORT}{effort}"] for effort in range(1, len(EFFORTS)))
        check = ids[CHECK] if task.stream.checks else -1
        return cls(
            task, task.stream, WordCodec(task), ids[YES], ids[NO], ids[STOP],
            np.array([ids[f"{BACK}{depth}"] for depth in range(task.max_steps)]),
            len(task.vocabulary), check, ids[ON] if task.stream.markov else -1, aside,
            (*NEVER_SAMPLED, *efforts, *((check,) if check >= 0 else ())), StepEnds.at(last),
        )  # fmt: skip

    def context(self, problem: Problem, effort: int, steps: Sequence[str] = ()) -> list[int]:
        """Token ids of what a stream has read after `steps`, verdicts and what was given up left out."""
        return [BOS_ID, *self.task.encode(self.form.asked(self.task.context(problem, steps), effort))]


def effort_number(effort: str) -> int:
    """The number of an effort that streams know.

    Raises:
        PolicyError: there is none of this name.
    """
    if effort not in UNDOS:
        raise PolicyError(f"effort={effort}: a stream was taught to go back 15 times at most: use {', '.join(UNDOS)}")
    return EFFORTS.index(effort)

"""What crosses the seam of streams: the rules of decoding in, the hidden and the visible chain out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from models.abilities import Step
from tasks.base import Task
from tasks.streams import THRESHOLD, Kind, StreamForm

Back = Literal["net", "root", "last"]
DOUBTED = 0.05  # chosen on dev: docs/results/reflect.md
End = Literal["yes", "no", "stop", "tokens", "exhausted", "broken", "plain"]
NATURAL: tuple[End, ...] = ("yes", "no", "stop", "plain")  # ends that a stream comes to by itself


@dataclass(frozen=True, slots=True)
class Rules:
    """How streams are decoded. Each rule can be switched off."""

    temperature: float = 0.0  # of steps and depths; 0: the most probable, again and again
    threshold: float | None = THRESHOLD  # surer than that: `no` before the end, `yes` at it; None: words like others
    distinct: bool = True  # no step twice at one state of the stream; False: drawn again, each time anew
    undos: int | None = None  # at most; None: those of the effort. 0: one try and its verdict
    tokens: int | None = None  # at most, the line under way is still written; None: no limit but that of the undos
    early: bool = True  # `no` may come before a chain is finished
    doubted: float = (
        DOUBTED  # a step is given up whose consequences, once it was chosen, were less probable; 0: none is
    )
    checked: float | None = (
        None  # a step of lower probability is checked, where a task's can be; None: as the effort says
    )
    mended: bool = (
        True  # where a check refuses a step, what it came to itself is written next; False: another step is drawn
    )
    back: Back = "net"  # who says where a `no` goes back to: the net; always depth 0; always the step before

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or (self.undos or 0) < 0 or (self.tokens is not None and self.tokens < 1):
            raise ValueError("temperature and undos are 0 or more, tokens 1 or more")
        if self.back not in get_args(Back):
            raise ValueError(f"back={self.back}: use {', '.join(get_args(Back))}")
        if self.checked is not None and not 0 <= self.checked <= 1:
            raise ValueError(f"a step is checked below a probability, 0..1, not {self.checked}")
        if not 0 <= self.doubted <= 1:
            raise ValueError(f"a step is doubted below a probability, 0..1, not {self.doubted}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"a threshold of a verdict lies in 0..1, not {self.threshold}")


@dataclass(frozen=True, slots=True)
class Thought:
    """One line of a hidden chain."""

    kind: Kind
    text: str
    tokens: tuple[int, ...]  # all that were written for it
    depth: int  # steps before it
    back: int | None = None  # of kind undo: the depth that it goes back to; None: it ends the stream


@dataclass(frozen=True, slots=True)
class Planted:
    """What a stream is made to begin with, as if it had written it; it pays no tokens for that."""

    steps: tuple[Step, ...] = ()  # stand in its context; where `distinct` is on, they count as tried
    tried: Step | None = None  # what counts as tried after them, too


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream, come to its end. Nobody has judged it but the stream itself."""

    thoughts: tuple[Thought, ...]  # the hidden chain: all that was written, in order
    chain: tuple[Step, ...]  # the visible chain: the steps that stood at the end
    end: End  # by itself: yes, no (no undo was left), stop; tokens: a limit; exhausted: all was tried; plain: effort 0
    sure: float = 0.5  # P(yes) against P(no) where it ended, by the stream itself; 0.5 where no such rule decided

    @property
    def steps(self) -> tuple[str, ...]:
        """Texts of the visible chain."""
        return tuple(step.text for step in self.chain)

    @property
    def tokens(self) -> int:
        """All that were written."""
        return sum(len(thought.tokens) for thought in self.thoughts)

    @property
    def undos(self) -> int:
        """Times that it went back."""
        return sum(thought.back is not None for thought in self.thoughts)

    @property
    def accepted(self) -> bool:
        """Whether the visible chain is its answer; at effort 0 it always is."""
        return self.end in ("yes", "plain")

    @staticmethod
    def of_steps(steps: Sequence[Step], form: StreamForm) -> Stream:
        """A chain that does not judge itself."""
        thoughts = (Thought(form.kind(step.text), step.text, step.tokens or (), k) for k, step in enumerate(steps))
        return Stream(tuple(thoughts), tuple(steps), "plain")


def threshold_of(task: Task, fitted: float | None) -> float:
    """How sure a verdict in streams of a task must be: as was `fitted` for the net, or else as the task says."""
    if fitted is not None:
        return fitted
    return THRESHOLD if task.stream is None else task.stream.threshold

"""A stream in the making: the states on its path, and what was tried at each of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.abilities import Step
from models.steps.stream_types import End, Stream, Thought
from tasks.base import Problem

NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class Kept:
    """A step that a check left for later."""

    sure: float
    step: Step
    now: bool = False  # what a check came to, which is written next; else what it refused, until nothing left beats it


NOTHING = Kept(0.0, Step(""))


@dataclass(slots=True)
class Tried:
    """What was tried at a state, and what came of it."""

    slot: int = NO_SLOT  # of the sampler
    bound: float = 1.0  # no step that was not drawn here is more probable
    best: Kept = NOTHING  # the surest of what checks came to here, or refused
    refused: dict[tuple[int, ...], float] = field(
        default_factory=dict
    )  # by choice: mass of the consequences refused here


@dataclass(slots=True)
class State:
    """A state on the path of a stream."""

    node: int  # of the trie, the last token of the context that the next step is drawn in
    behind: int  # of the trie, the last token of the step that led here; the same where the context keeps its steps
    tried: Tried
    step: Step | None = None  # that led here; None: the prompt
    sure: float = 1.0  # of that step: by its check, or by its own probability
    doubtful: bool = False  # by rule `doubted`, by a check that differs, or because it leads nowhere new


@dataclass(slots=True)
class Open:
    """A stream that goes on."""

    problem: Problem
    seed: int
    path: list[State]
    seen: dict[int, Tried]  # by node, of every state that it came to; of one whose context is shown alone they are one
    thoughts: list[Thought] = field(default_factory=list)
    tokens: int = 0
    undos: int = 0
    sure: float = 0.5  # see `Stream`
    end: End | None = None

    @property
    def depth(self) -> int:
        return len(self.path) - 1

    @property
    def steps(self) -> list[str]:
        """Texts of the steps in its context."""
        return [state.step.text for state in self.path if state.step is not None]

    @property
    def noise(self) -> int:
        """Differs from line to line."""
        return self.seed ^ (len(self.thoughts) << 32)

    def note(self, thought: Thought) -> None:
        self.thoughts.append(thought)
        self.tokens += len(thought.tokens)

    def closed(self, *, checks: bool) -> Stream:
        """The stream, once it has come to its end; `checks`: its steps were checked, and it is as sure as of the least sure."""
        assert self.end is not None, "a stream that goes on is not closed"
        chain = tuple(state.step for state in self.path[1:] if state.step is not None)
        sure = min((state.sure for state in self.path[1:]), default=0.5) if checks else self.sure
        return Stream(tuple(self.thoughts), chain, self.end, sure)

    def most_probable(self) -> int | None:
        """Depth of the state above with the most probable step not yet tried, the deepest of equal ones; None: none is left."""
        bounds = [(state.tried.bound, depth) for depth, state in enumerate(self.path[:-1])]
        bound, depth = max(bounds, default=(0.0, 0))
        return depth if bound > 0.0 else None

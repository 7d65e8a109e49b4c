"""What a policy can do, and what an evaluator remembers of the states that it handed out: the words of the seam.

`models.policy` says what a policy is and opens one; who proposes steps (`models.local_policy`, `models.remote.policy`) stands
on this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from mcts.types import Draw, Expansion, Roots
from tasks.base import Problem, Task, Verdict


class PolicyError(RuntimeError):
    """A policy that cannot be opened, or cannot do what it was asked for. The message is one line and names the mend."""


class PolicyWarning(UserWarning):
    """Requests failed, and what was asked goes on without them. One line."""


Alone = Literal["bits", "usually", "no"]  # bit for bit, as far as float32 rounds alike, or nothing is promised


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a policy gives beside steps."""

    values: bool  # P(solved) of every state, by a value head
    token_ids: bool  # ids of the tokens that it sampled
    logprobs: bool  # log pi of every step; False: an estimate, from how often it was drawn
    without_replacement: bool  # draws a state's next unseen step at once; False: by drawing again and dropping repeats
    streams: bool = False  # writes streams (`models.steps.stream_decoder`), if it was taught to
    alone: Alone = "no"  # whether what is computed of a state is the same beside other states


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain as it was written."""

    text: str  # in the task's own form, delimiter included where there is one
    tokens: tuple[int, ...] | None = None  # as the policy sampled them, delimiter included; None: not known


@dataclass(frozen=True, slots=True)
class Rollout:
    """One chain, played to its end."""

    steps: tuple[str, ...]
    verdict: Verdict  # of the last step
    tokens: int  # sampled for this chain, rejected steps included
    logprob: float  # log pi of the chain's own tokens, at temperature 1
    last_logprob: float  # of those of its last step
    states: tuple[tuple, ...]  # the task's states: the initial one, then after each step that goes on
    values: tuple[float, ...]  # P(solved) in each of `states`, by the value head
    end_value: float  # of the finished chain, by the value head, where a scorer judges it later; else the reward
    step_tokens: tuple[tuple[int, ...] | None, ...]  # of each step, as they were sampled; None: not known

    @property
    def history(self) -> list[Step]:
        """The steps as they were written."""
        return [Step(text, tokens) for text, tokens in zip(self.steps, self.step_tokens, strict=True)]


class History(Protocol):
    """The states that handles stand for, and how each was come to."""

    def parent(self, handle: int) -> int:
        """Handle of the state before the last step; a root is its own parent."""
        ...

    def tree(self, handle: int) -> int:
        """Position in `begin` of the problem that the state belongs to."""
        ...

    def step(self, handle: int) -> Step:
        """The last step; without text and tokens at a root."""
        ...

    def history(self, handle: int) -> list[Step]:
        """All steps from the root."""
        ...

    def steps(self, handle: int) -> list[str]:
        """Their texts."""
        ...

    def state(self, handle: int) -> tuple | None:
        """The task's own state; None when terminal."""
        ...

    def verdict(self, handle: int) -> Verdict:
        """What the task says of the last step."""
        ...


class StepEvaluator(History, Protocol):
    """`mcts.types.Evaluator` that also knows the history of every handle."""

    task: Task
    generated_tokens: int  # sampled since the evaluator was made; the sum of all `leaf_tokens`

    @property
    def prefilled_tokens(self) -> int:
        """Prompt and context tokens computed since the evaluator was made, as far as that is known."""
        ...

    def begin(self, problems: Sequence[Problem]) -> Roots:
        """Open one tree a problem; forget what an earlier `begin` opened."""
        ...

    def join(self, problems: Sequence[Problem]) -> Roots:
        """Open more trees behind those that are open; their positions go on from the last one's."""
        ...

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        """Up to `n_candidates` unseen steps at each of `handles` (int64 [L], distinct). One wave = one call."""
        ...

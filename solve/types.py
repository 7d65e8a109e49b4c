"""What crosses the seams of this room: chains that a search has found, what they cost, and the two contracts of a strategy.

Legend: P problems of one search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from models.files.calibration import ChainFit
from models.steps.stream_types import THRESHOLD, Thought
from tasks.base import Problem, Task, Verdict

if TYPE_CHECKING:
    from models.policy import Policy

NO_OPINION = 0.5  # of a value head that is not asked
COLDEST = 1e-3  # temperature: below it a sampler is the greedy chain, and soon no number any more
NEVER = np.iinfo(np.int64).max  # tokens at the first solution of a problem that has none

Verify = Literal["task", "none"]
Interrupted = Callable[[], bool]


class SolveError(ValueError):
    """A request that cannot be met. The message is one line and names the mend."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of steps that has come to its end."""

    steps: tuple[str, ...]
    answer: str | None  # what chains that agree have in common; None: it ended without an answer
    tokens: int  # generated tokens paid on its problem when it ended
    votes: float  # 1 for an independent sample; the policy's mass that is known to lead to it where chains are distinct
    visits: int
    value: float  # P(right), see `Workbench.chain_value`; 0.5 where the value is not trusted
    reward: float | None  # in [0, 1]; None: no judge has seen it
    thoughts: tuple[Thought, ...] = ()  # of a stream: its hidden chain, what it gave up included


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a search works with. `task` is what a search may know: see `search.wall.wall`."""

    policy: Policy  # proposes steps
    task: Task
    verify: Verify
    trust_value: bool  # False: the value head is not looked at
    seed: int = 0
    chain_fit: ChainFit | None = None  # what the value and the last step tell of a chain; None: its value alone
    chain_tokens: int = 0  # of a greedy chain on average, for searches that are sized by their limit; 0: not known
    most_tokens: int | None = None  # of a chain in free text; None: as the task says
    effort: str = "high"  # of streams, by name
    verdict_threshold: float = THRESHOLD  # how sure a stream must be of its verdict
    interrupted: Interrupted = lambda: False  # asked between waves; True: stop with what there is

    def __post_init__(self) -> None:
        if (self.verify == "task") != self.task.self_verifying:
            raise SolveError(
                f"task {self.task.name} needs gold answers to be judged, which no search may see: use verify=none"
                if self.verify == "task"
                else f"task {self.task.name} judges itself: put it behind solve.search.wall.wall for verify=none"
            )

    @property
    def knows_chains(self) -> bool:
        """A chain's value is its P(right), and the whole of it: where many answers are right, agreeing proves little."""
        return self.trust_value and self.chain_fit is not None and not self.task.one_answer

    def outcome(self, problem: Problem, steps: tuple[str, ...], verdict: Verdict) -> tuple[str | None, float | None]:
        """(answer, reward) of a chain that has ended. No answer: illegal, or refused unasked. No reward: unjudged."""
        answered = verdict.legal and (self.verify == "task" or not verdict.scored)
        return self.task.answer(problem, steps) if answered else None, verdict.reward if verdict.scored else None

    def chain_value(self, value: float, logprob: float, ended: float) -> float:
        """P(right) of an ended chain.

        `value`: of the state before its last step, by the head; `logprob`: of that step, by the policy as it drew it;
        `ended`: of the finished chain, by the head, not looked at beside a judge.
        """
        if not self.trust_value:
            return NO_OPINION
        if self.chain_fit is None:
            return value
        return self.chain_fit.right(value, logprob, ended if self.verify == "none" else NO_OPINION)


class Search(Protocol):
    """A search over P problems that goes on where it stopped.

    A token is paid on its problem when it is sampled. `limits` of `advance` are inclusive of what was paid before.
    """

    @property
    def tokens(self) -> np.ndarray:
        """int64 [P]: generated tokens paid so far."""
        ...

    @property
    def simulations(self) -> np.ndarray:
        """int64 [P]: leaves expanded, or chains sampled."""
        ...

    @property
    def solved_at(self) -> np.ndarray:
        """int64 [P]: tokens paid when the judge first accepted a chain; NEVER. Only with verify="task"."""
        ...

    @property
    def prefilled_tokens(self) -> int:
        """Prompt and context tokens computed, over all problems."""
        ...

    @property
    def exhausted(self) -> np.ndarray:
        """bool [P]: nothing is left to find, more tokens change nothing."""
        ...

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        """Go on until each problem has paid its limit (int64 [P], tokens), is solved or exhausted, or `seconds` are over.

        `simulations`: most leaves or chains, of every problem or int64 [P], one each.
        """
        ...

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        """Chains of one problem that ended within so many tokens (None: all), in order of appearance.

        Votes and visits are those of the whole search so far, not of the moment when a chain ended.
        """
        ...


class Joinable(Search, Protocol):
    """A search that takes in problems while it goes on. None of them depends on the others.

    Raises:
        TrieError: by `join`, a prompt does not fit the model's positions. Nothing has changed.
    """

    def join(self, problems: Sequence[Problem]) -> None:
        """Take in `problems` behind those that are there; they have spent nothing."""
        ...


class Strategy(Protocol):
    """Settings of a search; holds no state."""

    @property
    def sized(self) -> bool:
        """Its shape depends on the limit that it is started for: another limit is another search."""
        ...

    def start(self, bench: Workbench, problems: Sequence[Problem], limit: int | None) -> Search:
        """A search that has spent nothing yet; `limit`: tokens a problem that it will be given, where known."""
        ...

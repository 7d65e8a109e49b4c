"""What a request asks of the engine, and what it holds while it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from serve.engine.watching import TreeWatch
from solve.budgets import TokenBudget
from solve.plan import Plan, Solution
from solve.search.think import Think
from solve.types import Chain, Verify
from tasks.base import Problem


class Busy(RuntimeError):
    """The queue is full. `retry_after`: seconds until a place may be free."""

    def __init__(self, retry_after: int):
        super().__init__(f"all places are taken: ask again in {retry_after} s")
        self.retry_after = retry_after


class Closing(RuntimeError):
    """The engine ends and takes nothing more."""


class Failed(RuntimeError):
    """Something went wrong within the engine. Says which kind of error, never what it held."""


class Unanswered(Failed):
    """The model is on another server, which failed or refuses. Its words are not told: they may hold what was thought."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and how it is to be searched; see `solve.solver.Solver.solve`."""

    text: str
    strategy: str | None = None
    effort: str = "low"
    verify: Verify | None = None
    seed: int = 0
    tokens: int | None = None  # generated, in place of the effort's
    simulations: int | None = None
    at_most: int | None = None  # generated tokens that an effort is cut to
    seconds: float | None = None  # since it was asked; then the best so far is the answer
    with_chains: bool = False  # whether what was tried is handed out, too


@dataclass(frozen=True, slots=True)
class Continue:
    """A prompt that the plain policy is to continue: nothing is thought, and nothing hidden."""

    prompt: str | tuple[int, ...]  # text, or tokens of the policy
    at_most: int = 16  # tokens
    temperature: float = 1.0
    seed: int = 0
    top: int = 0  # most probable tokens that are told of each place
    stops: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What the plain policy has written."""

    text: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]  # log pi of each token, at temperature 1
    best: tuple[tuple[tuple[str, float], ...], ...]  # (text, log pi) of the most probable tokens of each place
    pieces: tuple[str, ...]  # text of each token alone
    offsets: tuple[int, ...]  # characters of the whole text before each token
    ended: bool  # by itself or by a stop; else it was cut at its limit


@dataclass(frozen=True, slots=True)
class Piece(Written):
    """A part of it that nothing which follows can change, behind the parts before it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question that has been checked."""

    plan: Plan
    budget: TokenBudget | None  # None: it waits for the problem's own greedy chain
    problem: Problem

    @property
    def key(self) -> tuple:
        """What requests of one search have in common."""
        bench = self.plan.bench
        effort = bench.effort if isinstance(self.plan.way.search, Think) else None
        return self.plan.strategy, bench.verify, bench.seed, self.plan.choose, bench.most_tokens, effort


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it."""

    solution: Solution
    text: str  # the answer as it is shown; "": there is none
    prompt_tokens: int  # of the question as the policy reads it
    visible_tokens: int  # of the answer, in the policy's tokens; all others that were generated are hidden
    chains: tuple[Chain, ...] = ()  # what the search has found, in order; only if asked for
    late: bool = False  # its time was over

    @property
    def hidden_tokens(self) -> int:
        """Generated and not shown."""
        return self.solution.cost.generated_tokens - self.visible_tokens


@dataclass(eq=False)
class Ticket:
    """A request in the engine. `future` gets an `Answered`, of a `Continue` a `Written`, or the error that refuses it."""

    asked: Asked | Continue
    future: Future[Any] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)  # nobody waits for the answer any more
    watch: TreeWatch | None = None  # told how the search grows, by the engine's thread
    search: Prepared | None = None  # of an `Asked`
    heard: Callable[[Piece], object] | None = None  # told what a `Continue` has come to so far, by the engine's thread

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.asked.seconds is not None and time.monotonic() - self.began >= self.asked.seconds

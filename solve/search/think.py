"""One stream a problem: a chain that judges itself, goes back and tries again, as the net was taught to.

No verifier is asked while it is written, and it ends by itself. What it gave up is its hidden chain; the steps that stand
at its `yes` are the answer. A stream that gives up for good has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.abilities import PolicyError
from models.steps.stream_types import DOUBTED, Back, Rules, Stream
from models.steps.stream_words import effort_number
from solve.types import NEVER, Chain, SolveError, Workbench
from tasks.base import Problem


@dataclass(frozen=True, slots=True)
class Think:
    """See `models.steps.stream_types.Rules`."""

    effort: str | None = None  # how often it may go back; null: as asked of the solver, high in a bench
    temperature: float = 0.0
    threshold: float | None = None  # of a verdict; null: as fitted for the net
    distinct: bool = True  # nothing is tried twice at one state
    doubted: float = DOUBTED  # a step is given up whose consequences were less probable
    mended: bool = True  # what a check came to is written where it refuses a step
    back: Back = "net"  # where it goes back to: as the net says, root: always to the start, last: always one step
    sized: bool = True  # where its limit ends a stream, nothing is answered

    def start(self, bench: Workbench, problems: Sequence[Problem], limit: int | None = None) -> ThinkSearch:
        """See `solve.types.Strategy`; a stream of more than `limit` tokens is cut short."""
        threshold = bench.verdict_threshold if self.threshold is None else self.threshold
        try:
            rules = Rules(
                self.temperature, threshold, self.distinct, tokens=limit, back=self.back, doubted=self.doubted,
                mended=self.mended,
            )  # fmt: skip
            return ThinkSearch(rules, effort_number(self.effort or bench.effort), bench, problems)
        except (PolicyError, ValueError) as error:
            raise SolveError(f"strategy think: {error}") from None


class ThinkSearch:
    """See `solve.types.Search`. A stream is written at once, whatever slices a budget comes in."""

    def __init__(self, rules: Rules, effort: int, bench: Workbench, problems: Sequence[Problem]):
        self._rules, self._effort, self._bench = rules, effort, bench
        self._problems: list[Problem] = []
        self.tokens = self.simulations = self.solved_at = np.empty(0, np.int64)
        self.exhausted = np.empty(0, np.bool_)
        self.prefilled_tokens = 0
        self.streams: dict[int, Stream] = {}  # by problem
        self.join(problems)

    def join(self, problems: Sequence[Problem]) -> None:
        """See `solve.types.Joinable`."""
        none = np.zeros(len(problems), np.int64)
        self._problems.extend(problems)
        self.tokens, self.simulations = np.append(self.tokens, none), np.append(self.simulations, none)
        self.solved_at, self.exhausted = np.append(self.solved_at, none + NEVER), np.append(self.exhausted, none > 0)

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        asked = np.flatnonzero((np.asarray(limits) > 0) & ~self.exhausted).tolist()
        if not asked or self._bench.interrupted():
            return
        bench = self._bench
        made = bench.policy.streams(
            bench.task, [self._problems[i] for i in asked], self._effort, self._rules, seed=bench.seed,
            on_prefill=self._prefilled,
        )  # fmt: skip
        self.exhausted[asked] = True
        for i, stream in zip(asked, made, strict=True):
            self.streams[i] = stream
            self.tokens[i], self.simulations[i] = stream.tokens, 1 + stream.undos
            (chain,) = self.chains(i)
            if bench.verify == "task" and (chain.reward or 0.0) >= 1:
                self.solved_at[i] = stream.tokens

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        stream = self.streams.get(problem)
        if stream is None or (within is not None and stream.tokens > within):
            return []
        asked, answer, reward = self._problems[problem], None, 0.0 if self._bench.verify == "task" else None
        if stream.accepted:
            answer, reward = self._bench.outcome(asked, stream.steps, self._bench.task.verdict(asked, stream.steps))
        return [Chain(stream.steps, answer, stream.tokens, 1.0, 1, stream.sure, reward, stream.thoughts)]

    def _prefilled(self, tokens: int) -> None:
        self.prefilled_tokens += tokens

"""One stream a problem: a chain that judges itself, goes back and tries again, as the net was taught to.

No verifier is asked while it is written, and it ends by itself. What it gave up is its hidden chain; the steps that stand
at its `yes` are the answer. A stream that gives up for good has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from models.abilities import PolicyError
from models.policy import Policy
from models.steps.codec import WordCodec
from models.steps.stream_decoder import StreamWave
from models.steps.stream_types import DOUBTED, Back, Planted, Rules, Stream
from models.steps.stream_words import effort_number
from solve.types import NEVER, Chain, SolveError, Workbench
from tasks.base import Problem, Task


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


def has_streams(task: Task) -> bool:
    """Whether chains of a task can be thought about: it has words for it, or its steps another way that needs none."""
    return bool(task.stream_words) or (task.stream is not None and task.stream.derive is not None)


def thinks(task: Task, policy: Policy) -> bool:
    """Whether a policy can write streams of a task."""
    if not has_streams(task) or not policy.can.streams:
        return False
    return bool(task.stream_words) or not isinstance(policy.codec(task), WordCodec)


class ThinkSearch:
    """See `solve.types.Search`. A stream is written to its end, whatever slices a budget comes in, a line of all a round."""

    def __init__(self, rules: Rules, effort: int, bench: Workbench, problems: Sequence[Problem]):
        self._rules, self._effort, self._bench = rules, effort, bench
        self._problems: list[Problem] = []
        self.tokens = self.simulations = self.solved_at = np.empty(0, np.int64)
        self.exhausted = np.empty(0, np.bool_)
        self.prefilled_tokens = 0
        self.streams: dict[int, Stream] = {}  # by problem
        self._wave: StreamWave | None = None
        self._before = 0  # prompt tokens of waves that are over
        self._places: dict[int, int] = {}  # in the wave, of problems whose streams go on
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
        if self._effort == 0:
            self._plain(asked)
            return
        for i in self._places.keys() - set(asked):  # given up in the middle
            cast(StreamWave, self._wave).drop(self._places.pop(i))
        while not all(self.exhausted[asked]) and not self._bench.interrupted():
            wave = self._opened([i for i in asked if i not in self._places and not self.exhausted[i]])
            wave.round()
            for i, place in list(self._places.items()):
                self.tokens[i] = wave.tokens(place)
                stream = wave.stream(place)
                if stream is not None:
                    del self._places[i]
                    self._ended(i, stream)

    def _opened(self, fresh: list[int]) -> StreamWave:
        """The wave, with as many of `fresh` problems as it has room for; one that is full and over makes way for another."""
        wave, bench = self._wave, self._bench
        if wave is None or (not wave.room and not self._places):
            self._before += 0 if wave is None else wave.prefilled_tokens
            wave = self._wave = bench.policy.stream_wave(bench.task, self._effort, self._rules, seed=bench.seed)
        some = fresh[: wave.room]
        if some:
            self._places |= {i: wave.size + k for k, i in enumerate(some)}
            wave.join([(self._problems[i], 0, Planted()) for i in some])
        self.prefilled_tokens = self._before + wave.prefilled_tokens
        return wave

    def _plain(self, asked: list[int]) -> None:
        """Effort none: chains that do not judge themselves."""
        bench = self._bench
        if asked and not bench.interrupted():
            problems = [self._problems[i] for i in asked]
            made = bench.policy.streams(
                bench.task, problems, 0, self._rules, seed=bench.seed, on_prefill=self._prefilled
            )
            for i, stream in zip(asked, made, strict=True):
                self._ended(i, stream)

    def _ended(self, i: int, stream: Stream) -> None:
        self.exhausted[i] = True
        self.streams[i] = stream
        self.tokens[i], self.simulations[i] = stream.tokens, 1 + stream.undos
        (chain,) = self.chains(i)
        if self._bench.verify == "task" and (chain.reward or 0.0) >= 1:
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

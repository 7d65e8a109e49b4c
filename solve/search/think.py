"""One stream a problem: a chain that judges itself, goes back and tries again, as the net was taught to.

No verifier is asked while it is written, and it ends by itself. What it gave up is its hidden chain; the steps that stand
at its `yes` are the answer. A stream that gives up for good has none.

Of several streams of a problem, which are sampled, each answer has the votes of those that came to it, as sure as they are of
it; a judge in the loop takes the first that is right, and the others are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from models.abilities import PolicyError
from models.policy import Policy
from models.steps.stream_decoder import StreamWave
from models.steps.stream_types import DOUBTED, Back, Planted, Rules, Stream
from models.steps.stream_words import StreamWords, effort_number
from solve.types import NEVER, Chain, SolveError, Workbench
from tasks.base import Problem, Task
from tasks.streams import BEYOND, EFFORTS

HOT = 0.7  # of several streams; as often right as the most probable one on worked sums (docs/results/reflect.md)


@dataclass(frozen=True, slots=True)
class Think:
    """See `models.steps.stream_types.Rules`."""

    effort: str | None = None  # how often it may go back; null: as asked of the solver, high in a bench
    streams: int = 1  # of a problem
    temperature: float | None = None  # null: 0, and of several streams 0.7
    threshold: float | None = None  # of a verdict; null: as fitted for the net
    distinct: bool = True  # nothing is tried twice at one state
    doubted: float = DOUBTED  # a step is given up whose consequences were less probable
    mended: bool = True  # what a check came to is written where it refuses a step
    back: Back = "net"  # where it goes back to: as the net says, root: always to the start, last: always one step
    sized: bool = True  # where its limit ends a stream, nothing is answered

    def start(self, bench: Workbench, problems: Sequence[Problem], limit: int | None = None) -> ThinkSearch:
        """See `solve.types.Strategy`; a problem's streams of more than `limit` tokens together are cut short."""
        effort, threshold = (
            self.effort or bench.effort,
            bench.verdict_threshold if self.threshold is None else self.threshold,
        )
        temperature = self.temperature if self.temperature is not None else HOT if self.streams > 1 else 0.0
        if self.streams < 1:
            raise SolveError(f"strategy think: streams={self.streams}: use 1 or more")
        try:
            rules = Rules(
                temperature, threshold, self.distinct, BEYOND.get(effort), limit and max(1, limit // self.streams),
                back=self.back, doubted=self.doubted, mended=self.mended,
            )  # fmt: skip
            number = effort_number(EFFORTS[-1] if effort in BEYOND else effort)
            if number:
                StreamWords.of(bench.task, bench.policy.codec(bench.task))
            return ThinkSearch(rules, number, bench, problems, self.streams)
        except (PolicyError, ValueError) as error:
            raise SolveError(f"strategy think: {error}") from None


def has_streams(task: Task) -> bool:
    """Whether chains of a task can be thought about: it has words for it, or says of them what needs none."""
    return bool(task.stream_words) or (task.stream is not None and task.stream.wordless)


def thinks(task: Task, policy: Policy) -> bool:
    """Whether a policy can write streams of a task."""
    if not has_streams(task) or not policy.can.streams:
        return False
    try:
        StreamWords.of(task, policy.codec(task))
    except PolicyError:
        return False
    return True


class ThinkSearch:
    """See `solve.types.Search`. A stream is written to its end, whatever slices a budget comes in, a line of all a round."""

    def __init__(self, rules: Rules, effort: int, bench: Workbench, problems: Sequence[Problem], each: int = 1):
        """`each`: streams of a problem."""
        self._rules, self._effort, self._bench, self._each = rules, effort, bench, each
        self._problems: list[Problem] = []
        self.tokens = self.simulations = self.solved_at = np.empty(0, np.int64)
        self.exhausted = np.empty(0, np.bool_)
        self.prefilled_tokens = 0
        self._ended: list[list[tuple[Stream, Chain]]] = []  # of each problem, as they came to their ends
        self._waiting: list[list[int]] = []  # of each problem, numbers of the streams that nobody writes yet
        self._over = np.empty(0, np.int64)  # tokens of each problem's streams that are not written any more
        self._wave: StreamWave | None = None
        self._before = 0  # prompt tokens of waves that are over
        self._places: dict[tuple[int, int], int] = {}  # in the wave, of (problem, stream) that go on
        self.join(problems)

    def join(self, problems: Sequence[Problem]) -> None:
        """See `solve.types.Joinable`."""
        none = np.zeros(len(problems), np.int64)
        self._problems.extend(problems)
        self.tokens, self.simulations = np.append(self.tokens, none), np.append(self.simulations, none)
        self.solved_at, self.exhausted = np.append(self.solved_at, none + NEVER), np.append(self.exhausted, none > 0)
        self._over = np.append(self._over, none)
        self._ended.extend([] for _ in problems)
        self._waiting.extend(list(range(self._each)) for _ in problems)

    def streams(self, problem: int) -> list[Stream]:
        """Those of one problem that have come to their ends, in this order."""
        return [stream for stream, _ in self._ended[problem]]

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        asked = np.flatnonzero((np.asarray(limits) > 0) & ~self.exhausted).tolist()
        if self._effort == 0:
            self._plain(asked)
            return
        for i in {i for i, _ in self._places} - set(asked):  # given up in the middle
            self._drop(i)
        while not all(self.exhausted[asked]) and not self._bench.interrupted():
            wave = self._opened([(i, k) for i in asked for k in self._waiting[i]])
            wave.round()
            self.tokens[asked] = self._over[asked]
            over: list[tuple[int, int, Stream]] = []
            for (i, k), place in self._places.items():
                self.tokens[i] += wave.tokens(place)
                if (stream := wave.stream(place)) is not None:
                    over.append((i, k, stream))
            for i, k, stream in over:
                if self._places.pop((i, k), None) is not None:  # else another one of the problem was right before it
                    self._over[i] += stream.tokens
                    self._end(i, stream)

    def _opened(self, fresh: list[tuple[int, int]]) -> StreamWave:
        """The wave, with as many of `fresh` streams as it has room for; one that is full and over makes way for another."""
        wave, bench = self._wave, self._bench
        if wave is None or (not wave.room and not self._places):
            self._before += 0 if wave is None else wave.prefilled_tokens
            wave = self._wave = bench.policy.stream_wave(bench.task, self._effort, self._rules, seed=bench.seed)
        some = fresh[: wave.room]
        if some:
            self._places |= {key: wave.size + at for at, key in enumerate(some)}
            wave.join([(self._problems[i], k, Planted()) for i, k in some])
            for i, k in some:
                self._waiting[i].remove(k)
        self.prefilled_tokens = self._before + wave.prefilled_tokens
        return wave

    def _drop(self, i: int) -> None:
        """Write no more of a problem's streams; they are paid, and begin anew if they are asked for again."""
        wave = cast(StreamWave, self._wave)
        for key in [key for key in self._places if key[0] == i]:
            place = self._places.pop(key)
            self._over[i] += wave.tokens(place)
            self._waiting[i].append(key[1])
            wave.drop(place)

    def _plain(self, asked: list[int]) -> None:
        """Effort none: chains that do not judge themselves."""
        bench, jobs = self._bench, [(i, k) for i in asked for k in self._waiting[i]]
        if not jobs or bench.interrupted():
            return
        problems, first = [self._problems[i] for i, _ in jobs], [k for _, k in jobs]
        made = bench.policy.streams(
            bench.task, problems, 0, self._rules, seed=bench.seed, first=first, on_prefill=self._prefilled
        )
        for (i, k), stream in zip(jobs, made, strict=True):
            self._waiting[i].remove(k)
            self.tokens[i] += stream.tokens
            self._end(i, stream)

    def _end(self, i: int, stream: Stream) -> None:
        """A stream has come to its end, and its tokens are counted."""
        asked, paid, judged = self._problems[i], int(self.tokens[i]), self._bench.verify == "task"
        answer, reward = None, 0.0 if judged else None
        if stream.accepted:
            answer, reward = self._bench.outcome(asked, stream.steps, self._bench.task.verdict(asked, stream.steps))
        chain = Chain(stream.steps, answer, paid, 1.0, 1, stream.sure, reward, stream.thoughts)
        self._ended[i].append((stream, chain))
        self.simulations[i] += 1 + stream.undos
        self.exhausted[i] = len(self._ended[i]) == self._each
        if judged and (reward or 0.0) >= 1:
            self.solved_at[i] = min(self.solved_at[i], paid)
            self.exhausted[i] = True
            self._drop(i)

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        return [chain for _, chain in self._ended[problem] if within is None or chain.tokens <= within]

    def _prefilled(self, tokens: int) -> None:
        self.prefilled_tokens += tokens

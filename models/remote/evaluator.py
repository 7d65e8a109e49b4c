"""The evaluator behind a search whose model is on another machine: steps sampled as text, distinct by rejection.

A prompt is a few-shot preamble and the task's own context. What a server samples is judged by the task alone, as in
`models.steps.evaluator`; repeats are dropped and drawn again a bounded number of times, and what one expansion drew beyond
what it
was asked for is handed out by the next one before anything new is paid. A search closes a node whose expansion brings nothing,
so an expansion goes on until a step is new, or so many draws in a row were not that hardly any mass can be left.

Log-probabilities are the server's: the sum over a step's tokens, the one that holds the newline included where the server
lists it. That is the policy at temperature 1 for servers that report raw log-probabilities (vLLM, llama.cpp, OpenAI). Two
tokenisations of one text count as the first that came. Where a server reports none (`capabilities.logprobs` False), the
log-probability of a step is log(times drawn / (draws + 1)) over the samples at its node so far: the empirical frequency, with
one draw set aside for all that was not seen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mcts.types import NO_KEY, Draw, Expansion, Roots
from models.abilities import PolicyWarning
from models.remote.answers import Request
from models.remote.asking import Asking
from models.remote.client import HOPELESS, REFUSED, Answer, RemoteClient, RemoteError
from models.steps.history import Lineage, digest
from models.steps.states import State, next_state
from tasks.base import NO_STEP, Problem, Task

RAW_VALUE = 0.5  # of every state: no server reports values
LEAST_UNSEEN = 1e-12  # probability mass that a node keeps until it is declared exhausted
WORTH_DRAWING = 1e-3  # probability mass below which a node is exhausted
SURENESS = 7.0  # a step of probability p is missed by SURENESS / p draws with probability exp(-SURENESS)
MOST_MISSES = 32  # draws in a row without a new step that one node is given at most
MOST_AT_ONCE = 8  # draws of one node asked at once where repeats are likely


@dataclass(slots=True)
class _Step:
    """A distinct step of one node, drawn and not yet handed out."""

    text: str  # with its newline, if it is finished
    finished: bool
    logprob: float | None
    tokens: int  # of the draw that found it
    ids: tuple[int, ...] | None  # of those tokens, where the server tells them


@dataclass(slots=True)
class _Draws:
    """What has been drawn at one node over its whole life."""

    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # times drawn, by text
    waiting: list[_Step] = field(default_factory=list)
    handed_mass: float = 0.0  # sum of exp(logprob) of the steps handed out
    unreported_tokens: int = 0  # paid since the last expansion that came through
    waiting_mass: float = 0.0  # the same of those that wait
    last_logprob: float = 0.0  # of the least probable step of the last ones handed out
    misses: int = 0  # draws in a row that brought nothing new
    failed: int = 0  # expansions in a row without a candidate for want of answers
    closed: bool = False  # the server refuses the prompt, or has failed too often
    guessed: bool = False  # the server reports no log-probabilities
    has_best: bool = False  # the greedy draw has come

    def take(self, asking: Asking, answer: Answer) -> None:
        for one in answer.completions:
            self.total += 1
            self.unreported_tokens += one.tokens
            self.misses += 1
            text, finished = asking.step(one)
            if not finished and one.finish != "length":
                continue  # cut off by the server, not by the policy
            if text not in self.counts:
                self.waiting.append(_Step(text, finished, one.logprob, one.tokens, one.token_ids or None))
                self.misses = 0
                self.guessed |= one.logprob is None
                self.waiting_mass += 0.0 if one.logprob is None else math.exp(one.logprob)
            self.counts[text] = self.counts.get(text, 0) + 1

    @property
    def unseen(self) -> float:
        """Probability that a draw is new. Without log-probabilities: as if one more step were as likely as those seen."""
        if self.guessed:
            return 1.0 / (len(self.counts) + 1)
        return 1.0 - self.handed_mass - self.waiting_mass

    @property
    def spent(self) -> bool:
        """Nothing new is worth asking for."""
        if self.closed or self.unseen < WORTH_DRAWING:
            return True
        return self.misses >= min(SURENESS / self.unseen, MOST_MISSES)

    def logprob(self, step: _Step) -> float:
        if step.logprob is not None:
            return step.logprob
        return math.log(self.counts[step.text] / (self.total + 1))

    def hand_out(self, n: int, draw: Draw) -> tuple[list[_Step], list[float]]:
        """Up to `n` steps and their log-probabilities, in the order drawn, or the most probable first."""
        if draw == "best":
            self.waiting.sort(key=self.logprob, reverse=True)
        steps, self.waiting = self.waiting[:n], self.waiting[n:]
        logprobs = [self.logprob(step) for step in steps]
        self.handed_mass += sum(map(math.exp, logprobs))
        self.waiting_mass = sum(math.exp(step.logprob) for step in self.waiting if step.logprob is not None)
        self.last_logprob = min(logprobs, default=self.last_logprob)
        return steps, logprobs

    @property
    def unseen_logmass(self) -> float:
        exhausted = self.spent and not self.waiting
        return -math.inf if exhausted else math.log(max(1.0 - self.handed_mass, LEAST_UNSEEN))

    @property
    def best_unseen_logprob(self) -> float:
        """What the next step is worth for the price of a draw: its probability times that of a draw being new.

        Steps come in about falling order, so the next one is put at the last one's probability, or all that is unseen. By a
        bound alone (what is unseen, at most the greedy step's probability) a best-first order stays at a node until hardly a
        draw is new: on 100 problems of Countdown at 600 tokens it solved 82 instead of 89, Levin's order 16 instead of 76.
        """
        mass = self.unseen_logmass
        return mass + min(mass, self.last_logprob)


@dataclass(slots=True)
class _Record:
    """What a handle stands for."""

    state: State
    tree: int  # position of the problem in `begin`
    parent: int  # handle of the state before the last step, the own one at a root
    key: int
    tokens: tuple[int, ...] | None = None  # of the last step, where the server tells them
    draws: _Draws = field(default_factory=_Draws)


class RemoteEvaluator(Lineage[_Record]):
    """Implements `mcts.types.Evaluator` over a `RemoteClient`. A handle is the index of a state record.

    `leaf_tokens` counts every generated token that was paid, repeats included; a candidate's `tokens` those of the draw
    that found it. `best_unseen_logprob` is an estimate and no bound, see `_Draws`: what a draw without replacement pays once,
    rejection pays again and again.

    A leaf whose requests have all failed, retries and redraws included, or were refused as they are, gets no candidate, and the
    store of `mcts` closes such a node; the other leaves of the wave go on. `failed_requests` counts what no retry could save;
    the first ones are told by a warning.

    Seeds are digests of (seed, problem id, steps, number of the draw): with a deterministic server a tree is the same
    whatever the wave, the batch or the order in which requests end.
    """

    def __init__(
        self,
        client: RemoteClient,
        task: Task,
        *,
        few_shot: str = "",
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_step_tokens: int | None = None,
        redraws: int = 2,
        patience: int = 2,
        max_failures: int = 8,
        seed: int = 0,
        most: int | None = None,
    ):
        """`few_shot`: stands before every context, e.g. worked problems; it ends where a context begins.

        `max_step_tokens`, `most`: see `models.remote.asking.Asking`.
        `redraws`: most further rounds of requests in one expansion, for leaves that drew something, but too many repeats, and
        for those without an answer. `patience`: expansions in a row without any answer that close a node.
        `max_failures`: leaves in a row without any answer that mean that the server is gone; refused prompts mean nothing.

        Raises:
            ValueError: a number that makes no sense, or a client that declares values.
            RemoteError: the client's capabilities are not declared, and the probe failed.
        """
        if temperature < 0 or redraws < 0 or patience < 1 or max_failures < 1:
            raise ValueError("temperature and redraws must be 0 or more, patience and max_failures 1 or more")
        if client.capabilities.values:
            raise ValueError("no protocol gives values yet: declare capabilities with values=False")
        self.client, self.task, self.seed = client, task, seed
        self._asking = Asking(client, task, few_shot, max_step_tokens=max_step_tokens, most=most)
        self.temperature, self.top_p = temperature, top_p
        self.redraws, self.patience, self.max_failures = redraws, patience, max_failures
        self.generated_tokens = 0  # paid since the evaluator was made; the sum of all `leaf_tokens`
        self.prefilled_tokens = 0  # servers do not say how many they computed
        self.failed_requests = 0  # that no retry could save
        self._records: list[_Record] = []
        self._depths: dict[int, int] = {}  # fewest steps known to lead to the state of a key
        self._trees = 0
        self._failures_in_a_row = 0  # leaves
        self._answered = False  # since `begin`
        self._warned = False

    def begin(self, problems: Sequence[Problem]) -> Roots:
        """Open one tree a problem; forget what an earlier `begin` opened. Asks the server nothing."""
        self._records.clear()
        self._depths.clear()
        self._trees, self._answered = 0, False
        return self.join(problems)

    def join(self, problems: Sequence[Problem]) -> Roots:
        """Open more trees behind those that are open, whose positions go on. Asks the server nothing."""
        first = len(self._records)
        for problem in problems:
            state = State(problem, (), self.task.initial_state(problem), NO_STEP, 0)
            key = self._key(self._trees, state)
            self._records.append(_Record(state, self._trees, len(self._records), key))
            self._trees += 1
            if key != NO_KEY:
                self._depths[key] = 0
        opened = self._records[first:]
        return Roots(
            handles=np.arange(first, len(self._records)),
            keys=np.array([record.key for record in opened], np.uint64),
            raw_values=np.full(len(opened), RAW_VALUE, np.float32),
        )

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        """Up to `n_candidates` unseen steps at each of `handles` (int64 [L], distinct), all leaves asked at once.

        `draw`: "best" asks for the greedy step first and orders candidates by log-probability.

        Raises:
            ValueError: a handle of a terminal state, or one twice.
            RemoteError: the server is gone: it refuses the key or the model, has answered nothing since `begin` though it took
                the prompt, or `max_failures` leaves in a row got no answer. What other leaves drew is kept for the next call.
        """
        leaves = [self._records[handle] for handle in handles]
        if len(set(map(int, handles))) < len(leaves) or any(leaf.state.inner is None for leaf in leaves):
            raise ValueError("handles of one wave must be distinct and not terminal")
        self._draw(leaves, n_candidates, draw)
        children: list[_Record] = []
        logprobs: list[float] = []
        tokens: list[int] = []
        offsets = [0]
        for leaf, handle in zip(leaves, map(int, handles), strict=True):
            steps, found = leaf.draws.hand_out(n_candidates, draw)
            children += self._children(leaf, handle, steps)
            logprobs += found
            tokens += [step.tokens for step in steps]
            offsets.append(len(children))
        first = len(self._records)
        self._records += children
        paid = [leaf.draws.unreported_tokens for leaf in leaves]
        for leaf in leaves:
            leaf.draws.unreported_tokens = 0
        unseen = np.array([leaf.draws.unseen_logmass for leaf in leaves], np.float32)
        alive = np.array([child.state.inner is not None for child in children], np.bool_)
        rewards = np.array([child.state.verdict.reward for child in children], np.float32)
        return Expansion(
            offsets=np.array(offsets),
            handles=np.arange(first, first + len(children)),
            keys=np.array([child.key for child in children], np.uint64),
            logprobs=np.array(logprobs, np.float32),
            raw_values=np.where(alive, np.float32(RAW_VALUE), rewards),
            rewards=rewards,
            terminal=~alive,
            legal=np.array([child.state.verdict.legal for child in children], np.bool_),
            tokens=np.array(tokens, np.int32),
            leaf_tokens=np.array(paid, np.int32),
            unseen_logmass=unseen,
            best_unseen_logprob=np.array([leaf.draws.best_unseen_logprob for leaf in leaves], np.float32),
        )

    # ---- inside

    def _draw(self, leaves: list[_Record], n_candidates: int, draw: Draw) -> None:
        """Ask until every leaf has `n_candidates` steps waiting, has some and was asked `redraws` times more, or is spent."""
        errors: dict[int, RemoteError] = {}
        asked: set[int] = set()
        said: list[RemoteError] = []
        rounds = 0
        while short := [
            i for i, leaf in enumerate(leaves) if self._lacks(leaf.draws, n_candidates, rounds, i in errors)
        ]:
            jobs = [(i, job) for i in short for job in self._requests(leaves[i], n_candidates, draw, rounds > 0)]
            asked.update(short)
            errors = {i: error for i, error in errors.items() if i not in short}
            answers = self.client.complete_all([request for _, request in jobs])
            for (i, request), answer in zip(jobs, answers, strict=True):
                draws = leaves[i].draws
                draws.take(self._asking, answer)
                draws.has_best |= request.temperature == 0 and not answer.error
                self.generated_tokens += sum(one.tokens for one in answer.completions)
                self._answered |= bool(answer.completions)
                if answer.error is not None:
                    self.failed_requests += 1
                    errors[i] = answer.error
                    said.append(answer.error)
                    draws.closed |= answer.error.status in REFUSED
            rounds += 1
        self._notice_a_server_that_is_gone(leaves, sorted(asked), errors)
        if said and not self._warned:
            self._warned = True
            warnings.warn(failures(said), PolicyWarning, stacklevel=3)

    def _lacks(self, draws: _Draws, n_candidates: int, rounds: int, failed: bool) -> bool:
        """Whether a leaf is asked once more in this expansion."""
        waiting = len(draws.waiting)
        if draws.spent or waiting >= n_candidates or (self.temperature == 0 and draws.misses):
            return False
        if failed or waiting:
            return rounds <= self.redraws and not (failed and waiting)
        return True

    def _requests(self, leaf: _Record, n_candidates: int, draw: Draw, again: bool) -> list[Request]:
        """Those that may fill up a leaf's waiting steps; a request's seed is that of its first draw. `again`: after repeats."""
        state, draws = leaf.state, leaf.draws
        wanted = n_candidates - len(draws.waiting)
        if again and not draws.waiting:
            wanted = max(wanted, min(math.ceil(wanted / draws.unseen), MOST_AT_ONCE))
        parts = [(wanted, self.temperature)]
        if draw == "best" and self.temperature > 0 and not draws.has_best:
            parts = [(1, 0.0), (wanted - 1, self.temperature)]
        number, requests = draws.total, []
        for n, temperature in parts:
            if n > 0:
                seed = digest(f"{self.seed}\0{state.problem.id}\0{''.join(state.steps)}\0{number}".encode())
                requests.append(self._asking.request(state, n, seed, temperature, self.top_p))
            number += n
        return requests

    def _notice_a_server_that_is_gone(
        self, leaves: list[_Record], asked: list[int], errors: dict[int, RemoteError]
    ) -> None:
        for i in asked:
            draws = leaves[i].draws
            failed = i in errors and not draws.waiting
            draws.failed = draws.failed + 1 if failed else 0
            draws.closed |= draws.failed >= self.patience
            if failed and errors[i].status in REFUSED:
                continue
            self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
            if not failed:
                continue
            error, row = errors[i], self._failures_in_a_row
            if error.status in HOPELESS or not self._answered or row >= self.max_failures:
                raise RemoteError(f"no answer for {row} leaves in a row: {error}", error.status) from error

    def _children(self, leaf: _Record, handle: int, steps: list[_Step]) -> list[_Record]:
        """Judge the steps drawn at one leaf."""
        leaf.state.depth = min(leaf.state.depth, self._depths.get(leaf.key, leaf.state.depth))
        children = []
        for step in steps:
            state = next_state(self.task, leaf.state, step.text, step.finished)
            child = _Record(state, leaf.tree, handle, self._key(leaf.tree, state), step.ids)
            if child.key != NO_KEY:
                self._depths[child.key] = min(state.depth, self._depths.get(child.key, state.depth))
            children.append(child)
        return children


def failures(errors: Sequence[RemoteError]) -> str:
    """One line of requests that failed."""
    return f"{len(errors)} requests failed, the first one: {errors[0]}" if len(errors) > 1 else str(errors[0])

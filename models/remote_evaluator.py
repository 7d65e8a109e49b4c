"""The evaluator behind a search whose model is on another machine: steps sampled as text, distinct by rejection.

A prompt is a few-shot preamble and the task's own context. What a server samples is judged by the task alone, as in
`models.evaluator`; repeats are dropped and drawn again a bounded number of times, and what one expansion drew beyond what it
was asked for is handed out by the next one before anything new is paid.

Log-probabilities are the server's: the sum over a step's tokens, the one that holds the newline included where the server
lists it. That is the policy at temperature 1 for servers that report raw log-probabilities (vLLM, llama.cpp, OpenAI). Two
tokenisations of one text count as the first that came. Where a server reports none (`capabilities.logprobs` False), the
log-probability of a step is log(times drawn / (draws + 1)) over the samples at its node so far: the empirical frequency, with
one draw set aside for all that was not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mcts.types import NO_KEY, Draw, Expansion, Roots
from models.lineage import Lineage, digest
from models.remote import Answer, RemoteClient, RemoteError
from models.remote_answers import Request
from models.states import State, next_state
from tasks.base import NEWLINE, NO_STEP, Problem, Task

RAW_VALUE = 0.5  # of every state: no server reports values
LEAST_UNSEEN = 1e-12  # probability mass that a node keeps until it is declared exhausted

_HOPELESS = (401, 403, 404)  # statuses that every other request would get too


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
    empty: int = 0  # expansions in a row without a candidate
    has_best: bool = False  # the greedy draw has come

    def take(self, answer: Answer) -> None:
        for one in answer.completions:
            self.total += 1
            self.unreported_tokens += one.tokens
            finished = one.finish == "stop"
            if not finished and one.finish != "length":
                continue  # cut off by the server, not by the policy
            text = one.text + NEWLINE if finished else one.text
            if text not in self.counts:
                self.waiting.append(_Step(text, finished, one.logprob, one.tokens, one.token_ids or None))
            self.counts[text] = self.counts.get(text, 0) + 1

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
        self.empty = 0 if steps else self.empty + 1
        return steps, logprobs

    def unseen_logmass(self, patience: int) -> float:
        return -math.inf if self.empty >= patience else math.log(max(1.0 - self.handed_mass, LEAST_UNSEEN))


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
    that found it. `best_unseen_logprob` is the whole unseen mass: a step not yet seen may have all of it.

    A leaf whose requests have all failed, retries and redraws included, gets no candidate, and the store of `mcts` closes such
    a node; the other leaves of the wave go on. `failed_requests` counts what no retry could save.

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
    ):
        """`few_shot`: stands before every context, e.g. worked problems; it ends where a context begins.

        `max_step_tokens`: in the server's tokens; None: four times the task's, whose words may be several tokens.
        `redraws`: most further rounds of requests in one expansion, for leaves that drew too many repeats.
        `max_failures`: leaves in a row without any answer that mean that the server is gone.

        Raises:
            ValueError: a number that makes no sense, or a client that declares values.
            RemoteError: the client's capabilities are not declared, and the probe failed.
        """
        if temperature < 0 or redraws < 0 or patience < 1 or max_failures < 1:
            raise ValueError("temperature and redraws must be 0 or more, patience and max_failures 1 or more")
        if client.capabilities.values:
            raise ValueError("no protocol gives values yet: declare capabilities with values=False")
        self.client, self.task, self.seed = client, task, seed
        self.few_shot, self.temperature, self.top_p = few_shot, temperature, top_p
        self.max_step_tokens = max_step_tokens or 4 * task.max_step_tokens
        self.redraws, self.patience, self.max_failures = redraws, patience, max_failures
        self.generated_tokens = 0  # paid since the evaluator was made; the sum of all `leaf_tokens`
        self.prefilled_tokens = 0  # servers do not say how many they computed
        self.failed_requests = 0  # that no retry could save
        self._records: list[_Record] = []
        self._depths: dict[int, int] = {}  # fewest steps known to lead to the state of a key
        self._failures_in_a_row = 0  # leaves
        self._answered = False  # since `begin`

    def begin(self, problems: Sequence[Problem]) -> Roots:
        """Open one tree a problem; forget what an earlier `begin` opened. Asks the server nothing."""
        states = [State(problem, (), self.task.initial_state(problem), NO_STEP, 0) for problem in problems]
        self._records = [_Record(state, i, i, self._key(i, state)) for i, state in enumerate(states)]
        self._depths = {record.key: 0 for record in self._records if record.key != NO_KEY}
        self._answered = False
        return Roots(
            handles=np.arange(len(states)),
            keys=np.array([record.key for record in self._records], np.uint64),
            raw_values=np.full(len(states), RAW_VALUE, np.float32),
        )

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        """Up to `n_candidates` unseen steps at each of `handles` (int64 [L], distinct), all leaves asked at once.

        `draw`: "best" asks for the greedy step first and orders candidates by log-probability.

        Raises:
            ValueError: a handle of a terminal state, or one twice.
            RemoteError: the server is gone: it refuses the key or the model, has answered nothing since `begin`, or
                `max_failures` leaves in a row got no answer. What other leaves drew is kept for the next call.
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
        unseen = np.array([leaf.draws.unseen_logmass(self.patience) for leaf in leaves], np.float32)
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
            best_unseen_logprob=unseen,
        )

    # ---- inside

    def _draw(self, leaves: list[_Record], n_candidates: int, draw: Draw) -> None:
        """Ask until every leaf has `n_candidates` steps waiting, has some and failed, or was asked `redraws` times more."""
        errors: dict[int, RemoteError] = {}
        asked: set[int] = set()
        for _ in range(1 + self.redraws):
            short = [
                i
                for i, leaf in enumerate(leaves)
                if len(leaf.draws.waiting) < (1 if i in errors else n_candidates) and leaf.draws.empty < self.patience
            ]
            jobs = [(i, job) for i in short for job in self._requests(leaves[i], n_candidates, draw)]
            asked.update(short)
            errors = {i: error for i, error in errors.items() if i not in short}
            answers = self.client.complete([request for _, request in jobs])
            for (i, request), answer in zip(jobs, answers, strict=True):
                draws = leaves[i].draws
                draws.take(answer)
                draws.has_best |= request.temperature == 0 and not answer.error
                self.generated_tokens += sum(one.tokens for one in answer.completions)
                self._answered |= bool(answer.completions)
                if answer.error is not None:
                    self.failed_requests += 1
                    errors[i] = answer.error
        self._notice_a_server_that_is_gone(leaves, sorted(asked), errors)

    def _requests(self, leaf: _Record, n_candidates: int, draw: Draw) -> list[Request]:
        """Those that may fill up a leaf's waiting steps; a request's seed is that of its first draw."""
        state, draws = leaf.state, leaf.draws
        prompt = self.few_shot + self.task.context(state.problem, state.steps)
        wanted = n_candidates - len(draws.waiting)
        parts = [(wanted, self.temperature)]
        if draw == "best" and self.temperature > 0 and not draws.has_best:
            parts = [(1, 0.0), (wanted - 1, self.temperature)]
        number, requests = draws.total, []
        for n, temperature in parts:
            if n > 0:
                seed = digest(f"{self.seed}\0{state.problem.id}\0{''.join(state.steps)}\0{number}".encode())
                requests.append(Request(prompt, n, self.max_step_tokens, temperature, self.top_p, seed, (NEWLINE,)))
            number += n
        return requests

    def _notice_a_server_that_is_gone(
        self, leaves: list[_Record], asked: list[int], errors: dict[int, RemoteError]
    ) -> None:
        for i in asked:
            failed = i in errors and not leaves[i].draws.waiting
            self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
            if not failed:
                continue
            error, row = errors[i], self._failures_in_a_row
            if error.status in _HOPELESS or not self._answered or row >= self.max_failures:
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

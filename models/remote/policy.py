"""A policy on a server that speaks OpenAI's API: steps by `models.remote.evaluator`, whole chains a step at a time.

A prompt is the same few solved examples, and the same words before a question, that a language model in this process reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from models.abilities import Abilities, PolicyError, PolicyWarning, Rollout
from models.remote.answers import Capabilities
from models.remote.asking import Asking
from models.remote.client import HOPELESS, REFUSED, Answer, RemoteClient, RemoteError
from models.remote.evaluator import RAW_VALUE, RemoteEvaluator, failures
from models.steps.codec import QUESTION, few_shot_examples
from models.steps.history import digest
from models.steps.states import State, next_state
from tasks.base import NO_STEP, Problem, Task, Verdict

_UNANSWERED = Verdict(0.0, True, False, "the server gave no step")


class RemotePolicy:
    """Implements `models.policy.Policy` over a `RemoteClient`."""

    in_words = False
    model = tokenizer = None
    flops_per_token: float | None = None  # nobody says how large a served model is

    def __init__(self, client: RemoteClient, *, few_shot: int):
        """`few_shot`: solved problems of the train split shown before every question.

        Raises:
            RemoteError: the server does not answer, or speaks no such model.
        """
        self.client, self.name, self.few_shot = client, client.model, few_shot
        self.can = _abilities(client.capabilities)

    @property
    def version(self) -> str:
        """Where the weights are, and under which name."""
        return f"{self.client.base_url}/v1@{self.client.model}"

    def check(self, task: Task) -> None:
        """A language model reads any task, if its steps can be asked for; `chat=on` asks for them in a chat from now on.

        Raises:
            PolicyError: steps that no server can be asked for.
            RemoteError: `chat=on`, and the server does not chat.
        """
        Asking(self.client, task)
        if task.form.chat == "on" and self.client.capabilities.completions:
            self.can = _abilities(self.client.probe(chat=True))

    def codec(self, task: Task) -> None:
        """Rows of a served model are written by whoever learns from them: its own tokens stay with the server."""

    def evaluator(
        self, task: Task, *, temperature: float = 1.0, seed: int = 0, most: int | None = None
    ) -> RemoteEvaluator:
        """Steps for a search, see `models.remote.evaluator`. `most`: of an answer in free text that is one step."""
        shown = self._preamble(task)
        return RemoteEvaluator(self.client, task, few_shot=shown, temperature=temperature, seed=seed, most=most)

    def chains(
        self,
        task: Task,
        problems: Sequence[Problem],
        n: int = 1,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        no_reentry: bool = False,
        first: Sequence[int] | None = None,
        most: int | None = None,
        on_prefill: Callable[[int], None] | None = None,
    ) -> list[list[Rollout]]:
        """`n` independent chains of each problem, a request a step, all chains at once; `first` as in `models.steps.rollout`.

        A chain whose request failed after all retries, or was refused, ends there without an answer, and the others go on; it
        has paid what it had drawn, which may be nothing. One warning a call says so. `on_prefill` is not told: servers do not
        say what they computed.

        Raises:
            PolicyError: `no_reentry`, which needs draws without replacement.
            ValueError: negative temperature, or n below 1.
            RemoteError: the server refuses the key or the model, or is gone: no request of a round was answered, and not all of
                them were refused as they are.
        """
        if temperature < 0 or n < 1:
            raise ValueError(f"temperature must be 0 or more and n at least 1, not {temperature} and {n}")
        if no_reentry:
            raise PolicyError(
                f"policy {self.version} draws with replacement, so its chains can re-enter a state: use best_of_n"
            )
        starts = [0] * len(problems) if first is None else first
        chains = [
            _Chain(State(problem, (), task.initial_state(problem), NO_STEP, 0), at + k)
            for problem, at in zip(problems, starts, strict=True)
            for k in range(n)
        ]
        for chain in chains:
            chain.states.append(chain.state.inner)
        asking, failed = Asking(self.client, task, self._preamble(task), most=most), []
        while going := [chain for chain in chains if chain.state.inner is not None]:
            answers = self.client.complete_all(
                [asking.request(chain.state, 1, chain.seed(seed), temperature) for chain in going]
            )
            failed += _failed(answers)
            for chain, answer in zip(going, answers, strict=True):
                chain.take(task, asking, answer)
        if failed:
            warnings.warn(failures(failed), PolicyWarning, stacklevel=2)
        done = [chain.result() for chain in chains]
        return [done[i : i + n] for i in range(0, len(done), n)]

    def streams(self, task: Task, problems: Sequence[Problem], *_settings: object, **_more: object) -> NoReturn:
        """None: a served model's context cannot be cut.

        Raises:
            PolicyError: always.
        """
        raise PolicyError(f"policy {self.version} writes no streams: strategy=think needs a net that learned them")

    def stream_wave(self, task: Task, *_settings: object, **_more: object) -> NoReturn:
        """None, as `streams`.

        Raises:
            PolicyError: always.
        """
        return self.streams(task, ())

    def continuations(self, task: Task) -> NoReturn:
        """None: its own server continues text.

        Raises:
            PolicyError: always.
        """
        raise PolicyError(f"policy {self.version} is on a server, which continues text itself: ask that one")

    def _preamble(self, task: Task) -> str:
        return few_shot_examples(task, self.few_shot) + ("" if task.form.free else QUESTION)


@dataclass(slots=True)
class _Chain:
    """A chain in the making; `number`: of the sample, among those of its problem."""

    state: State
    number: int
    states: list[tuple | None] = field(default_factory=list)
    ids: list[tuple[int, ...] | None] = field(default_factory=list)
    tokens: int = 0
    logprob: float = 0.0
    last_logprob: float = 0.0

    def seed(self, seed: int) -> int:
        """Of the next request."""
        return digest(f"{seed}\0{self.state.problem.id}\0{self.number}\0{len(self.state.steps)}".encode())

    def take(self, task: Task, asking: Asking, answer: Answer) -> None:
        """Go on by the step that came; a chain that got none is over."""
        if not answer.completions:
            self.state = State(self.state.problem, self.state.steps, None, _UNANSWERED, self.state.depth)
            return
        one = answer.completions[0]
        self.tokens += one.tokens
        if one.thought and not one.text:
            self.state = State(self.state.problem, self.state.steps, None, _UNANSWERED, self.state.depth)
            return
        self.state = next_state(task, self.state, *asking.step(one))
        self.ids.append(one.token_ids or None)
        self.last_logprob = float("nan") if one.logprob is None else one.logprob
        self.logprob += self.last_logprob
        if self.state.inner is not None:
            self.states.append(self.state.inner)

    def result(self) -> Rollout:
        reward = self.state.verdict.reward
        end = RAW_VALUE if not self.state.verdict.scored else reward
        states = tuple(state for state in self.states if state is not None)
        return Rollout(
            self.state.steps, self.state.verdict, self.tokens, self.logprob, self.last_logprob, states,
            (RAW_VALUE,) * len(states), end, tuple(self.ids),
        )  # fmt: skip


def _abilities(told: Capabilities) -> Abilities:
    return Abilities(values=False, token_ids=told.token_ids, logprobs=told.logprobs, without_replacement=False)


def _failed(answers: Sequence[Answer]) -> list[RemoteError]:
    """Errors of a round.

    Raises:
        RemoteError: one that every other request would get too.
    """
    errors = [answer.error for answer in answers if answer.error is not None]
    alone = any(answer.completions for answer in answers)
    for error in errors:
        if error.status in HOPELESS or not (alone or error.status in REFUSED):
            raise error
    return errors

"""A policy on a server that speaks OpenAI's API: steps by `models.remote_evaluator`, whole chains a step at a time.

A prompt is the same few solved examples, and the same words before a question, that a language model in this process reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.abilities import Abilities, PolicyError
from models.codec import QUESTION, TOKENS_PER_WORD, few_shot_examples
from models.lineage import digest
from models.remote import Answer, RemoteClient
from models.remote_answers import Request
from models.remote_evaluator import RAW_VALUE, RemoteEvaluator
from models.rollout import Rollout
from models.states import State, next_state
from tasks.base import NEWLINE, NO_STEP, Problem, Task, Verdict

_REFUSED = (400, 413, 422)  # statuses of a request that a server does not take as it is; another one may pass
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
        told = client.capabilities
        self.can = Abilities(values=False, token_ids=told.token_ids, logprobs=told.logprobs, without_replacement=False)

    @property
    def version(self) -> str:
        """Where the weights are, and under which name."""
        return f"{self.client.base_url}/v1@{self.client.model}"

    def check(self, task: Task) -> None:
        """A language model reads any task."""

    def codec(self, task: Task) -> None:
        """Rows of a served model are written by whoever learns from them: its own tokens stay with the server."""

    def evaluator(self, task: Task, *, temperature: float = 1.0, seed: int = 0) -> RemoteEvaluator:
        """Steps for a search, see `models.remote_evaluator`."""
        return RemoteEvaluator(self.client, task, few_shot=self._preamble(task), temperature=temperature, seed=seed)

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
        on_prefill: Callable[[int], None] | None = None,
    ) -> list[list[Rollout]]:
        """`n` independent chains of each problem, a request a step, all chains at once; `first` as in `models.rollout`.

        A chain whose request failed after all retries ends there, without an answer, and the others go on. `on_prefill` is not
        told: servers do not say what they computed.

        Raises:
            PolicyError: `no_reentry`, which needs draws without replacement.
            ValueError: negative temperature, or n below 1.
            RemoteError: the server is gone, or refuses the key or the model: no request of a round was answered. Where it only
                would not take those of the chains still going, say as too long, what the other chains have come to is kept.
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
        preamble = self._preamble(task)
        while going := [chain for chain in chains if chain.state.inner is not None]:
            asked = [_request(task, chain, preamble, temperature, seed) for chain in going]
            answers = self.client.complete(asked)
            _notice_a_server_that_is_gone(chains, answers)
            for chain, answer in zip(going, answers, strict=True):
                chain.take(task, answer)
        done = [chain.result() for chain in chains]
        return [done[i : i + n] for i in range(0, len(done), n)]

    def _preamble(self, task: Task) -> str:
        return few_shot_examples(task, self.few_shot) + QUESTION


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

    def take(self, task: Task, answer: Answer) -> None:
        """Go on by the step that came; a chain that got none is over."""
        if not answer.completions:
            self.state = State(self.state.problem, self.state.steps, None, _UNANSWERED, self.state.depth)
            return
        one = answer.completions[0]
        finished = one.finish == "stop"
        self.state = next_state(task, self.state, one.text + NEWLINE if finished else one.text, finished)
        self.ids.append(one.token_ids or None)
        self.tokens += max(one.tokens, 1)  # some servers count nothing, and a step has at least its end
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


def _notice_a_server_that_is_gone(chains: Sequence[_Chain], answers: Sequence[Answer]) -> None:
    errors = [answer.error for answer in answers if answer.error is not None]
    if any(answer.completions for answer in answers) or not errors:
        return
    paid = any(chain.tokens for chain in chains)
    if not paid or any(error.status not in _REFUSED for error in errors):
        raise errors[0]


def _request(task: Task, chain: _Chain, preamble: str, temperature: float, seed: int) -> Request:
    state = chain.state
    name = f"{seed}\0{state.problem.id}\0{chain.number}\0{len(state.steps)}".encode()
    return Request(
        preamble + task.context(state.problem, state.steps),
        max_tokens=TOKENS_PER_WORD * task.max_step_tokens,
        temperature=temperature,
        seed=digest(name),
    )

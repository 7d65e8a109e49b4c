"""A model that plays Countdown behind OpenAI's API, on loopback: it reads the last question of a prompt, and errs at times."""

from __future__ import annotations

import threading
import zlib
from functools import cache

import numpy as np

from models.steps.codec import QUESTION
from tasks import TaskError
from tasks.numbers.countdown import Countdown
from tests.models.servers import Call, Reply, vllm_answer, vllm_choice

NAME, KEY = "small", "secret-of-ours"
NONSENSE = "well"  # what it says now and then, and to what it cannot read
ERRS = 0.1  # how often
SKILL = 4.0  # how much likelier a step is that leaves a way to the target


@cache
def countdown() -> Countdown:
    """Three numbers, as the task is by default."""
    return Countdown()


def distribution(prompt: str) -> tuple[list[str], np.ndarray]:
    """(texts, probabilities) of the next step: the task's legal ones, weighed at random but always alike, and nonsense."""
    task = countdown()
    question, *steps = prompt.rpartition(QUESTION)[2].splitlines(keepends=True) or [""]
    try:
        problem = task.parse_problem(question)
    except TaskError:
        return [NONSENSE], np.ones(1)
    state = task.initial_state(problem)
    for step in steps:
        _, state = task.advance(problem, state, step)
        assert state is not None, f"asked to go on after {step!r}"
    legal = task.legal_steps(problem, state)
    after = [task.advance(problem, state, step) for step in legal]
    good = [bool(verdict.reward) or (on is not None and task.solvable(problem, on)) for verdict, on in after]
    noise = np.random.default_rng(zlib.crc32((question + "".join(steps)).encode())).dirichlet(np.ones(len(legal)))
    weights = noise * np.where(good, SKILL, 1.0)
    return [*(step.rstrip() for step in legal), NONSENSE], np.append(weights / weights.sum() * (1 - ERRS), ERRS)


class CountdownModel:
    """Answers the calls of `tests.models.servers.FakeServer`. A token is a letter.

    `with_logprobs`, `with_n`, `with_ids`: what the server knows of the protocol. `key`: what it wants to see; None: nothing.
    `generated`: tokens of all choices so far.
    """

    def __init__(
        self, *, with_logprobs: bool = True, with_n: bool = True, with_ids: bool = False, key: str | None = None
    ):
        self.with_logprobs, self.with_n, self.with_ids, self.key = with_logprobs, with_n, with_ids, key
        self.generated = 0
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> dict | Reply:
        body = call.body
        if self.key is not None and call.headers.get("authorization") != f"Bearer {self.key}":
            return Reply({"error": {"message": "Incorrect API key provided"}}, status=401)
        if body["model"] != NAME:
            return Reply({"error": {"message": f"The model `{body['model']}` does not exist."}}, status=404)
        texts, table = distribution(body["prompt"])
        rng = np.random.default_rng(body["seed"])
        n = body.get("n", 1) if self.with_n else 1
        drawn = rng.choice(len(texts), n, p=table) if body["temperature"] else np.full(n, table.argmax())
        choices, tokens = [], 0
        for index, which in enumerate(drawn.tolist()):
            text = texts[which]
            length = len(text) + 1
            logprobs = [float(np.log(table[which])) / length] * length if self.with_logprobs else None
            choice = vllm_choice(text, logprobs, index)
            choices.append(choice | {"token_ids": [*map(ord, text), ord("\n")] if self.with_ids else None})
            tokens += length
        with self._lock:
            self.generated += tokens
        return vllm_answer(choices, tokens)

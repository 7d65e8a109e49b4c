"""`POST /v1/chat/completions`: a question in, an answer out, whole or as a stream of events."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from serve.api.asking import asked_of
from serve.api.errors import ApiError
from serve.api.fields import ChatRequest
from serve.api.served import Served, fresh_id
from serve.api.turns import question
from serve.engine.ticket import Answered, Asked
from serve.thoughts import Visibility, capped, reasoning

PIECE = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+")
DONE = "data: [DONE]\n\n"
ONE_SEED = 1 << 63


def wanted(request: ChatRequest, served: Served) -> tuple[list[Asked], Visibility]:
    """What the engine is asked, a question for each choice, and what may be seen of it.

    Raises:
        ApiError: another model, no question, or a temperature where nothing is drawn.
    """
    served.check_model(request.model)
    visibility = capped(request.visibility, served.most_visible)
    limits = [limit for limit in (request.max_completion_tokens, request.max_tokens) if limit is not None]
    first = asked_of(
        served, question(request.messages, served.task), request.search, effort=request.reasoning_effort,
        temperature=request.temperature, seed=request.seed, at_most=min(limits, default=None), with_chains=visibility == "show",
    )  # fmt: skip
    return [replace(first, seed=(first.seed + i) % ONE_SEED) for i in range(request.n or 1)], visibility


def finish(found: Answered) -> str:
    """Why it ended: a budget that is spent without an answer has cut the thinking, and nothing of it is shown."""
    solution = found.solution
    cut = not found.text and (
        found.late
        or solution.stopped in ("budget", "interrupted")
        or (solution.answer is not None and not solution.closed)
    )
    return "length" if cut else "stop"


def content(found: Answered, stops: Sequence[str]) -> str:
    """The visible text, up to the first of `stops`."""
    text = found.text
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def usage(answers: Sequence[Answered]) -> dict[str, Any]:
    """Tokens: all that were generated, and of them what stays hidden."""
    prompt = answers[0].prompt_tokens
    generated = sum(found.solution.cost.generated_tokens for found in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sum(found.hidden_tokens for found in answers)},
    }


def searched(found: Answered) -> dict[str, Any]:
    """What the search came to, in numbers and words of ours."""
    solution = found.solution
    return {
        "strategy": solution.strategy.partition(":")[0], "verify": solution.verify, "solved": solution.solved,
        "stopped": solution.stopped, "confidence": solution.confidence, "calibrated": solution.calibrated,
        "simulations": solution.cost.simulations, "chains": solution.chains, "agreeing": solution.agreeing,
    }  # fmt: skip


def shown(found: Answered, visibility: Visibility) -> dict[str, str]:
    """Fields of a message that hold the chain, under both names that clients read; none where it is hidden."""
    text = reasoning(found, visibility)
    return {} if text is None else {"reasoning": text, "reasoning_content": text}


class Completion:
    """One request's answers, as OpenAI's API writes them."""

    def __init__(self, request: ChatRequest, served: Served, visibility: Visibility):
        self._request, self._served, self._visibility = request, served, visibility
        self._id, self._created = fresh_id("chatcmpl-"), int(time.time())

    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """The body of a response."""
        stops = self._request.stops
        choices = [
            {
                "index": i,
                "message": {
                    "role": "assistant", "content": content(found, stops), "refusal": None, **shown(found, self._visibility),
                },
                "logprobs": None,
                "finish_reason": finish(found),
                "search": searched(found),
            }
            for i, found in enumerate(answers)
        ]  # fmt: skip
        return {**self._head("chat.completion"), "choices": choices, "usage": usage(answers)}

    async def events(self, answers: AsyncGenerator[tuple[int, Answered] | None]) -> AsyncGenerator[str]:
        """Server-sent events. `answers`: (choice, answer) as they come; None: nothing yet, the line is kept alive.

        A beat comes by the clock and not by tokens, so that it tells nothing of the chain.
        """
        for i in range(self._request.n or 1):
            yield self._event(i, {"role": "assistant", "content": ""})
        found: dict[int, Answered] = {}
        try:
            async for item in answers:
                if item is None:
                    yield ": thinking\n\n"
                    continue
                i, answer = item
                found[i] = answer
                if fields := shown(answer, self._visibility):
                    yield self._event(i, fields)
                for piece in PIECE.findall(content(answer, self._request.stops)):
                    yield self._event(i, {"content": piece})
                yield self._event(i, {}, finish(answer), searched(answer))
        except ApiError as error:
            yield f"data: {json.dumps(error.body)}\n\n"
            return
        options = self._request.stream_options
        if options is not None and options.include_usage:
            body = {**self._head(), "choices": [], "usage": usage([found[i] for i in sorted(found)])}
            yield f"data: {json.dumps(body)}\n\n"
        yield DONE

    def _event(
        self, i: int, delta: dict[str, Any], ended: str | None = None, search: dict[str, Any] | None = None
    ) -> str:
        choice = {"index": i, "delta": delta, "logprobs": None, "finish_reason": ended}
        if search is not None:
            choice["search"] = search
        return f"data: {json.dumps({**self._head(), 'choices': [choice]})}\n\n"

    def _head(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        return {
            "id": self._id, "object": kind, "created": self._created, "model": self._served.name,
            "system_fingerprint": self._served.fingerprint,
        }  # fmt: skip

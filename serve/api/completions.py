"""`POST /v1/completions`: the plain policy continues a prompt.

It thinks nothing and hides nothing, so that its tokens and their log-probabilities are served, for other engines to build on.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from serve.api.errors import ApiError
from serve.api.fields import MOST_CHOICES, MOST_STOPS, StreamOptions, Strict, allowed
from serve.api.served import Served, fresh_id
from serve.engine.ticket import Continue, Piece, Written

MOST_PROMPTS, MOST_TOP = 64, 20
SERVED = ("logprobs", "return_token_ids")  # that no route which thinks serves
REFUSED: dict[str, tuple[Any, ...]] = {"best_of": (None, 1), "suffix": (None, "")}
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
DONE = "data: [DONE]\n\n"


class CompletionRequest(Strict):
    """`POST /v1/completions`."""

    model: str
    prompt: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    return_token_ids: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuses(cls, data: Any) -> Any:
        return allowed(data, REFUSED, served=SERVED)

    def asked(self, served: Served) -> list[Continue]:
        """A prompt for each choice.

        Raises:
            ApiError: another model, or more choices than are served at once.
        """
        served.check_model(self.model)
        given: Any = self.prompt
        prompts: list[Any] = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        if len(prompts) * (self.n or 1) > MOST_PROMPTS:
            raise ApiError(400, f"prompt: {MOST_PROMPTS} choices at once, at most", param="prompt")
        stops = tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop or []))
        temperature = 1.0 if self.temperature is None else self.temperature
        return [
            Continue(
                prompt if isinstance(prompt, str) else tuple(prompt), self.max_tokens or 16, temperature, (self.seed or 0) + i,
                self.logprobs or 0, stops, served.seconds,
            )
            for prompt in prompts
            for i in range(self.n or 1)
        ]  # fmt: skip


class Texts:
    """One request's texts, as OpenAI's API writes them."""

    def __init__(self, request: CompletionRequest, served: Served):
        self._request, self._served = request, served
        self._id, self._created = fresh_id("cmpl-"), int(time.time())

    def whole(self, written: Sequence[Written]) -> dict[str, Any]:
        """The body of a response."""
        choices = [self._choice(i, one) for i, one in enumerate(written)]
        return {**self._head(), "choices": choices, "usage": _usage(written, self._request.n or 1)}

    async def events(self, written: AsyncGenerator[tuple[int, Any] | None]) -> AsyncGenerator[str]:
        """Server-sent events: of each text its tokens as they come, where nothing that follows can change them."""
        done: dict[int, Written] = {}
        sent: dict[int, Written] = {}  # all that was told of a text
        try:
            async for item in written:
                if item is None:
                    yield ": writing\n\n"
                    continue
                i, one = item
                before = sent.get(i)
                part = one if isinstance(one, Piece) or before is None else _rest(one, before)
                choice = self._choice(i, part)
                if isinstance(one, Piece):
                    sent[i] = part if before is None else _joined(before, part)
                    choice["finish_reason"] = None
                else:
                    done[i] = one
                yield f"data: {json.dumps({**self._head(), 'choices': [choice]})}\n\n"
        except ApiError as error:
            yield f"data: {json.dumps(error.body)}\n\n"
            return
        if self._request.stream_options is not None and self._request.stream_options.include_usage:
            used = _usage([done[i] for i in sorted(done)], self._request.n or 1)
            yield f"data: {json.dumps({**self._head(), 'choices': [], 'usage': used})}\n\n"
        yield DONE

    def _choice(self, i: int, one: Written) -> dict[str, Any]:
        ids = (
            {"token_ids": list(one.tokens), "prompt_token_ids": list(one.prompt)}
            if self._request.return_token_ids
            else {}
        )
        told = None if self._request.logprobs is None else _logprobs(one)
        return {
            "index": i,
            "text": one.text,
            "logprobs": told,
            "finish_reason": "stop" if one.ended else "length",
            **ids,
        }

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id, "object": "text_completion", "created": self._created, "model": self._served.name,
            "system_fingerprint": self._served.fingerprint,
        }  # fmt: skip


def _rest(whole: Written, sent: Written) -> Written:
    """What of a text has not been sent."""
    n = len(sent.tokens)
    return replace(
        whole, text=whole.text[len(sent.text) :], tokens=whole.tokens[n:], logprobs=whole.logprobs[n:], best=whole.best[n:],
        pieces=whole.pieces[n:], offsets=whole.offsets[n:],
    )  # fmt: skip


def _joined(sent: Written, part: Written) -> Written:
    return replace(sent, text=sent.text + part.text, tokens=sent.tokens + part.tokens)


def _logprobs(one: Written) -> dict[str, Any]:
    """As OpenAI's completions tell them; token texts that are alike keep the more probable figure."""
    best = [dict(reversed(place)) for place in one.best]
    return {
        "tokens": list(one.pieces), "token_logprobs": list(one.logprobs), "top_logprobs": best or None,
        "text_offset": list(one.offsets),
    }  # fmt: skip


def _usage(written: Sequence[Written], n: int) -> dict[str, int]:
    prompt, generated = sum(len(one.prompt) for one in written[::n]), sum(len(one.tokens) for one in written)
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}

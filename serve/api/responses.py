"""`POST /v1/responses`: the same answers as items, a reasoning item before the message."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from serve.api.asking import asked_of
from serve.api.chat import PIECE, content, finish, searched
from serve.api.errors import ApiError
from serve.api.response_fields import ResponseRequest
from serve.api.served import Served, fresh_id
from serve.api.turns import question
from serve.engine.ticket import Answered, Asked
from serve.sealed import Seal, SealError
from serve.thoughts import Visibility, capped, summary, written


def wanted(request: ResponseRequest, served: Served, seal: Seal, owner: str) -> tuple[Asked, Visibility]:
    """What the engine is asked, and what may be seen of it.

    Raises:
        ApiError: another model, no question, or an encrypted item that is not this owner's.
    """
    served.check_model(request.model)
    for item in request.sealed:
        try:
            seal.open(item, owner)
        except SealError as error:
            raise ApiError(400, str(error), param="input", code="invalid_encrypted_content") from None
    visibility = capped(request.visibility, served.most_visible)
    effort = request.reasoning.effort if request.reasoning else None
    asked = asked_of(
        served, question(request.messages, served.task), request.search, effort=effort, temperature=request.temperature,
        seed=request.seed, at_most=request.max_output_tokens, with_chains=visibility == "show" or bool(request.include),
    )  # fmt: skip
    return asked, visibility


class Response:
    """One request's answer, as the Responses API writes it."""

    def __init__(self, request: ResponseRequest, served: Served, visibility: Visibility, seal: Seal, owner: str):
        self._request, self._served, self._visibility, self._seal, self._owner = (
            request,
            served,
            visibility,
            seal,
            owner,
        )
        self._id, self._created, self._sequence = fresh_id("resp_"), int(time.time()), -1
        self._thoughts, self._message = fresh_id("rs_"), fresh_id("msg_")

    def whole(self, found: Answered) -> dict[str, Any]:
        """The body of a response."""
        return self._body(found, [self._reasoning_item(found), self._message_item(found)])

    async def events(self, answers: AsyncGenerator[tuple[int, Answered] | None]) -> AsyncGenerator[str]:
        """Server-sent events; a beat comes by the clock and not by tokens."""
        yield self._event("response.created", response=self._body(None, []))
        yield self._event("response.in_progress", response=self._body(None, []))
        try:
            async for item in answers:
                if item is None:
                    yield ": thinking\n\n"
                    continue
                for event in self._told(item[1]):
                    yield event
        except ApiError as error:
            failed = self._body(None, []) | {
                "status": "failed", "error": {"code": error.code or "server_error", "message": error.message},
            }  # fmt: skip
            yield self._event("response.failed", response=failed)

    def _told(self, found: Answered) -> list[str]:
        """Every event of an answer, in order."""
        thoughts, message = self._reasoning_item(found), self._message_item(found)
        at: dict[str, Any] = {"output_index": 0, "item_id": self._thoughts}
        events = [self._event("response.output_item.added", output_index=0, item=self._empty(thoughts))]
        for k, part in enumerate(thoughts["summary"]):
            whole = {**at, "summary_index": k}
            events += [
                self._event("response.reasoning_summary_part.added", **whole, part={**part, "text": ""}),
                self._event("response.reasoning_summary_text.delta", **whole, delta=part["text"]),
                self._event("response.reasoning_summary_text.done", **whole, text=part["text"]),
                self._event("response.reasoning_summary_part.done", **whole, part=part),
            ]
        for k, part in enumerate(thoughts.get("content", [])):
            whole = {**at, "content_index": k}
            events += [
                self._event("response.reasoning_text.delta", **whole, delta=part["text"]),
                self._event("response.reasoning_text.done", **whole, text=part["text"]),
            ]
        events.append(self._event("response.output_item.done", output_index=0, item=thoughts))
        (part,), whole = message["content"], {"output_index": 1, "item_id": self._message, "content_index": 0}
        events += [
            self._event("response.output_item.added", output_index=1, item=self._empty(message)),
            self._event("response.content_part.added", **whole, part={**part, "text": ""}),
            *(
                self._event("response.output_text.delta", **whole, delta=piece, logprobs=[])
                for piece in PIECE.findall(part["text"])
            ),
            self._event("response.output_text.done", **whole, text=part["text"], logprobs=[]),
            self._event("response.content_part.done", **whole, part=part),
            self._event("response.output_item.done", output_index=1, item=message),
        ]
        body = self._body(found, [thoughts, message])
        return [*events, self._event(f"response.{body['status']}", response=body)]

    def _reasoning_item(self, found: Answered) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._thoughts, "type": "reasoning", "summary": [], "status": "completed"}
        if self._visibility != "hide":
            item["summary"] = [{"type": "summary_text", "text": summary(found)}]
        if self._visibility == "show":
            item["content"] = [{"type": "reasoning_text", "text": written(found)}]
        if self._request.include:
            item["encrypted_content"] = self._seal.close(written(found), self._owner)
        return item

    def _message_item(self, found: Answered) -> dict[str, Any]:
        part = {"type": "output_text", "text": content(found, ()), "annotations": [], "logprobs": []}
        status = "incomplete" if finish(found) == "length" else "completed"
        return {"id": self._message, "type": "message", "role": "assistant", "status": status, "content": [part]}

    @staticmethod
    def _empty(item: dict[str, Any]) -> dict[str, Any]:
        """An item as it is announced."""
        emptied = {key: value for key, value in item.items() if key != "encrypted_content"}
        lists = {key: [] for key in ("summary", "content") if key in item}
        return emptied | lists | {"status": "in_progress"}

    def _body(self, found: Answered | None, output: list[dict[str, Any]]) -> dict[str, Any]:
        cut = found is not None and finish(found) == "length"
        asked = self._request.reasoning
        return {
            "id": self._id, "object": "response", "created_at": self._created, "model": self._served.name, "output": output,
            "status": "in_progress" if found is None else "incomplete" if cut else "completed", "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": self._request.instructions, "max_output_tokens": self._request.max_output_tokens, "metadata": {},
            "parallel_tool_calls": False, "previous_response_id": None, "store": False,
            "temperature": self._request.temperature,
            "reasoning": {"effort": (asked and asked.effort) or self._served.effort, "summary": asked and asked.summary},
            "text": {"format": {"type": "text"}}, "tool_choice": "none", "tools": [], "top_p": 1.0, "truncation": "disabled",
            "usage": None if found is None else _usage(found), **({} if found is None else {"search": searched(found)}),
        }  # fmt: skip

    def _event(self, kind: str, **fields: Any) -> str:
        self._sequence += 1
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': self._sequence, **fields})}\n\n"


def _usage(found: Answered) -> dict[str, Any]:
    generated = found.solution.cost.generated_tokens
    return {
        "input_tokens": found.prompt_tokens, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": found.hidden_tokens}, "total_tokens": found.prompt_tokens + generated,
    }  # fmt: skip

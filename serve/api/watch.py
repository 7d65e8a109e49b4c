"""`POST /v1/watch`: a chat request whose search is shown while it grows, for the page; events `update`, then `answer`.

Who may not see chains sees less: with `summary` the tree without the text of its steps, with `hide` nothing but the answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from serve.api.chat import Completion
from serve.api.errors import ApiError, told
from serve.api.served import Served
from serve.engine.ticket import Answered, Asked
from serve.engine.watching import TreeWatch
from serve.thoughts import Visibility


async def watched(completion: Completion, served: Served, asked: Asked, visibility: Visibility) -> AsyncGenerator[str]:
    """Server-sent events of one search."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()
    watch = None
    if visibility != "hide":
        watch = TreeWatch(
            lambda update: loop.call_soon_threadsafe(waiting.put_nowait, update), with_text=visibility == "show"
        )
    ticket = None
    try:
        ticket = served.engine.ask(asked, watch)
        answer = asyncio.ensure_future(asyncio.wrap_future(ticket.future))
        while not answer.done() or not waiting.empty():
            update = asyncio.ensure_future(waiting.get())
            await asyncio.wait((answer, update), timeout=served.heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if update.done():
                yield _event("update", update.result())
            else:
                update.cancel()
                if not answer.done():
                    yield ": thinking\n\n"
        found: Answered = answer.result()
        yield _event("answer", completion.whole([found]) | {"thoughts": _thoughts(found, visibility)})
    except Exception as error:  # noqa: BLE001  told without its words
        yield _event("error", told(error).body if not isinstance(error, ApiError) else error.body)
    finally:
        if ticket is not None:
            served.engine.leave(ticket)


def _thoughts(found: Answered, visibility: Visibility) -> list[dict[str, Any]]:
    """A stream's lines, for who may see them."""
    if visibility != "show":
        return []
    return [
        {"kind": thought.kind, "text": thought.text.strip(), "depth": thought.depth, "back": thought.back}
        for thought in found.solution.thoughts
    ]


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"

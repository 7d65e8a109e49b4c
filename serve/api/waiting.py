"""Places in the engine for the questions of one request, and what comes of them, on the event loop of the routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from starlette.requests import Request

from serve.api.errors import ApiError, told
from serve.api.served import Served
from serve.engine.ticket import Asked, Continue, Ticket


class Heard:
    """What the engine's thread tells of a request, in the order told: (choice, a piece of it or the future that has come)."""

    def __init__(self) -> None:
        """Made on the event loop that listens."""
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Any]]()

    def tell(self, choice: int, item: object) -> None:
        """From any thread; nobody listens on a loop that is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.put_nowait, (choice, item))

    async def next(self, seconds: float) -> tuple[int, Any] | None:
        """None: nothing came within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._told.get()
        except TimeoutError:
            return None


def places(served: Served, asked: Sequence[Asked] | Sequence[Continue], heard: Heard | None = None) -> list[Ticket]:
    """A place for each question of a request, or for none of them. `heard`: told pieces of what is written.

    Raises:
        ApiError: there is no place, or a question that cannot be answered.
    """
    tickets: list[Ticket] = []
    try:
        for i, one in enumerate(asked):
            tickets.append(served.engine.ask(one, heard=None if heard is None else partial(heard.tell, i)))
    except Exception as error:
        for ticket in tickets:
            served.engine.leave(ticket)
        raise told(error) from error
    return tickets


async def all_of(served: Served, tickets: Sequence[Ticket], http: Request) -> list[Any]:
    """Every answer; a client that leaves ends its searches.

    Raises:
        ApiError: one of them was refused, or failed, or the client left.
    """
    watch = asyncio.ensure_future(_left(http))
    answers = asyncio.gather(*(asyncio.wrap_future(ticket.future) for ticket in tickets))
    try:
        await asyncio.wait((watch, answers), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ApiError(499, "the client left")
        return answers.result()
    except ApiError:
        raise
    except Exception as error:
        raise told(error) from error
    finally:
        watch.cancel()
        answers.cancel()
        for ticket in tickets:
            served.engine.leave(ticket)


async def _left(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def as_they_come(
    served: Served, tickets: Sequence[Ticket], heard: Heard
) -> AsyncGenerator[tuple[int, Any] | None]:
    """(choice, answer or a piece of it) as they come; None by the clock. Who stops listening ends the searches.

    Raises:
        ApiError: one of them was refused, or failed.
    """
    for i, ticket in enumerate(tickets):
        ticket.future.add_done_callback(partial(heard.tell, i))
    left = len(tickets)
    try:
        while left:
            item = await heard.next(served.heartbeat)
            if item is None or not isinstance(item[1], Future):
                yield item
                continue
            left -= 1
            try:
                yield item[0], item[1].result()
            except Exception as error:
                raise told(error) from error
    finally:
        for ticket in tickets:
            served.engine.leave(ticket)

"""An HTTP client on an event loop in a thread of its own: connections outlive a call, and a caller may have a loop itself."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import httpx


class ClientLoop:
    """Runs coroutines with an `httpx.AsyncClient` for threads that wait. Starts at the first `run`; a fork starts its own."""

    def __init__(self, open_client: Callable[[], httpx.AsyncClient]):
        self._open_client = open_client
        self._lock = threading.Lock()
        self._engine: tuple[int, asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None  # first: process id
        self._finalizer: weakref.finalize | None = None

    def run(self, job: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
        """What `job(client)` returns or raises. An interrupt while waiting cancels it."""
        _, loop, client = self._started()
        future = asyncio.run_coroutine_threadsafe(job(client), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is under way and close all connections. A later `run` starts anew."""
        with self._lock:
            finalizer, self._finalizer, self._engine = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def _started(self) -> tuple[int, asyncio.AbstractEventLoop, httpx.AsyncClient]:
        with self._lock:
            if self._engine is None or self._engine[0] != os.getpid():
                loop, client = asyncio.new_event_loop(), self._open_client()
                thread = threading.Thread(target=_serve, args=(loop, client), name="remote-policy", daemon=True)
                thread.start()
                self._engine = (os.getpid(), loop, client)
                self._finalizer = weakref.finalize(self, _stop, os.getpid(), loop, thread)
            return self._engine


def _serve(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    """Body of the thread."""

    async def leave() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()

    loop.run_forever()
    loop.run_until_complete(leave())
    loop.close()


def _stop(process: int, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if process == os.getpid():  # the thread of a fork's parent is not here
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

"""What stands before every route: the key, and a body that comes whole, in time and no larger than allowed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import ApiError

log = logging.getLogger("reverse_o1.serve")


class Guard:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, *, api_key: str | None, most_bytes: int, seconds: float, count: Callable[[str, int], None]
    ):
        """`seconds`: within which a body has to have come. `count`: told the route and status of every response."""
        self._app, self._key, self._most, self._seconds, self._count = app, api_key, most_bytes, seconds, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(headers, browser=scope["path"] == "/")
            await self._app(scope, _handed(await self._body(headers, receive), receive), noted)
        except ApiError as error:
            await error.response()(scope, receive, noted)
        except Exception as error:  # noqa: BLE001  its text may hold what people or models wrote
            log.error("a request failed: %s", type(error).__name__)
            if not status:
                await ApiError(500, "the server failed: ask again", code="internal_error").response()(
                    scope, receive, noted
                )
        finally:
            self._count(getattr(scope.get("route"), "path", "none"), status)

    def _check(self, headers: Headers, *, browser: bool) -> None:
        """`browser`: a person opens the page, whose browser asks for a name, which nobody reads, and the key as a password."""
        if self._key is None:
            return
        if not hmac.compare_digest(_key_in(headers.get("authorization", "")), self._key.encode()):
            raise ApiError(
                401, "the key is missing or wrong: send the header Authorization: Bearer KEY", code="invalid_api_key",
                headers={"WWW-Authenticate": 'Basic realm="reverse-o1"' if browser else "Bearer"},
            )  # fmt: skip

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        told = headers.get("content-length", "0")
        if told.isdigit() and int(told) > self._most:
            raise self._too_large()
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(self._seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the request was cut off: send it again")
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > self._most:
                        raise self._too_large()
        except TimeoutError:
            raise ApiError(408, f"the request did not come within {self._seconds:g} s: send it at once") from None
        return b"".join(parts)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"a request holds {self._most} bytes at most: ask shorter", code="request_too_large")


def _key_in(header: str) -> bytes:
    """The key that an Authorization header holds, after Bearer or as the password of Basic."""
    kind, _, given = header.partition(" ")
    if kind.lower() != "basic":
        return given.strip().encode("latin-1", "replace") if kind.lower() == "bearer" else b""
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _handed(body: bytes, receive: Receive) -> Receive:
    """Messages of a request whose body has been read."""
    waiting = [body]

    async def whole() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return whole

"""Refusals in OpenAI's shape: one line that names the mend, and never what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from serve.engine.ticket import Busy, Closing, Failed, Unanswered


class ApiError(Exception):
    """A request that is refused."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = (
            status,
            message,
            param,
            code,
            dict(headers or {}),
        )

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status, headers=self.headers)


KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def told(error: Exception) -> ApiError:
    """What the engine raised, as a refusal."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Busy):
        return ApiError(429, str(error), code="rate_limit_exceeded", headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, Closing):
        return ApiError(503, str(error), code="shutting_down", headers={"Retry-After": "1"})
    if isinstance(error, Unanswered):
        return ApiError(502, str(error), code="upstream_error")
    if isinstance(error, Failed):
        return ApiError(500, str(error), code="internal_error")
    return ApiError(400, " ".join(str(error).split()), code="invalid_value")

"""The routes of one server.

Whatever goes wrong is told in OpenAI's shape, in one line of ours: what was sent, and what was thought, are in no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from serve.api import responses
from serve.api.chat import Completion, wanted
from serve.api.completions import CompletionRequest, Texts
from serve.api.errors import ApiError, told
from serve.api.fields import ChatRequest
from serve.api.guard import Guard
from serve.api.response_fields import ResponseRequest
from serve.api.served import Served
from serve.api.waiting import Heard, all_of, as_they_come, places
from serve.api.watch import watched
from serve.page import live_page
from serve.sealed import Seal
from solve.budgets import EFFORTS

MOST_BYTES, BODY_SECONDS = 4 << 20, 20.0
SEALED_SECONDS = 86_400.0  # that an encrypted chain may come back
REASONS = {
    404: "there is no such route: see /openapi.json",
    405: "the route does not know this method: see /openapi.json",
}


def create_app(
    served: Served,
    *,
    api_key: str | None = None,
    most_bytes: int = MOST_BYTES,
    body_seconds: float = BODY_SECONDS,
    drain: float = 30.0,
    secret: str | None = None,
) -> FastAPI:
    """The ASGI application of a server.

    `drain`: seconds that requests under way are given when it ends. `secret`: see `Seal`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        yield
        await asyncio.to_thread(served.engine.close, drain)

    seal = Seal(served.name, secret=secret, seconds=SEALED_SECONDS)
    app = FastAPI(title="reverse-o1", docs_url=None, redoc_url=None, lifespan=lifespan)
    plain = app.openapi
    app.openapi = lambda: app.openapi_schema or _narrowed(plain(), served)
    app.add_exception_handler(ApiError, lambda request, error: told(error).response())
    app.add_exception_handler(RequestValidationError, lambda request, error: _malformed(error).response())
    app.add_exception_handler(HTTPException, lambda request, error: _refused(error).response())
    app.add_middleware(
        Guard, api_key=api_key, most_bytes=most_bytes, seconds=body_seconds, count=served.engine.metrics.count
    )

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "open": served.engine.open, "queued": served.engine.queued}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(served.engine.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [served.model()]}

    @app.get("/v1/models/{name:path}")
    def model(name: str) -> dict[str, Any]:
        served.check_model(name)
        return served.model()

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest, http: Request) -> Response:
        asked, visibility = wanted(request, served)
        completion, tickets = Completion(request, served, visibility), places(served, asked)
        if request.stream:
            return _stream(completion.events(as_they_come(served, tickets, Heard())))
        return JSONResponse(completion.whole(await all_of(served, tickets, http)))

    @app.post("/v1/responses")
    async def respond(request: ResponseRequest, http: Request) -> Response:
        owner = api_key or ""
        asked, visibility = responses.wanted(request, served, seal, owner)
        answer, tickets = responses.Response(request, served, visibility, seal, owner), places(served, [asked])
        if request.stream:
            return _stream(answer.events(as_they_come(served, tickets, Heard())))
        return JSONResponse(answer.whole((await all_of(served, tickets, http))[0]))

    @app.post("/v1/completions")
    async def complete(request: CompletionRequest, http: Request) -> Response:
        heard = Heard() if request.stream else None
        texts, tickets = Texts(request, served), places(served, request.asked(served), heard)
        if heard is not None:
            return _stream(texts.events(as_they_come(served, tickets, heard)))
        return JSONResponse(texts.whole(await all_of(served, tickets, http)))

    @app.post("/v1/watch")
    async def watch(request: ChatRequest) -> Response:
        (asked, *_), visibility = wanted(request, served)
        return _stream(watched(Completion(request, served, visibility), served, asked, visibility))

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return live_page(served.name, efforts=list(EFFORTS), effort=served.effort)

    return app


def _stream(events: AsyncGenerator[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _narrowed(description: dict[str, Any], served: Served) -> dict[str, Any]:
    """The OpenAPI description with the names that this server knows."""
    known = {"model": [served.name], "reasoning_effort": [*EFFORTS, None]}
    for schema in description["components"]["schemas"].values():
        for name, values in known.items():
            if name in schema.get("properties", {}):
                schema["properties"][name] = {"title": name, "enum": values}
    return description


def _malformed(error: RequestValidationError) -> ApiError:
    """The first thing that is wrong with a body, without the body."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body" and not isinstance(part, int))
    kind = first["type"]
    if kind == "json_invalid":
        return ApiError(400, "the body is no JSON: send a JSON object", code="invalid_json")
    if kind == "extra_forbidden":
        return ApiError(
            400, "a field is unknown here: see /openapi.json for those that are served", code="unknown_field"
        )
    message = first["msg"] if kind == "refused" else f"{where or 'body'}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return ApiError(400, message, param=where or None, code="invalid_value")


def _refused(error: HTTPException) -> ApiError:
    return ApiError(error.status_code, REASONS.get(error.status_code, "the request cannot be read: send JSON in UTF-8"))

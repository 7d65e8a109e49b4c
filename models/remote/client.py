"""A client for servers that speak OpenAI's completions or chat API: vLLM, llama.cpp, SGLang, `transformers serve`, hosted ones.

A request that failed is a value in its answer and not an exception: what its wave mates brought is kept. Bodies are capped.

Each request on the wire has a seed of its own, a digest of the caller's seed and of the number of its first draw, and answers
come in the order of the requests: nothing depends on which one ended first. Waits depend on (seed, request seed, attempt).
"""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import httpx
import numpy as np

from models.abilities import PolicyError, PolicyWarning
from models.remote.answers import (
    SHOWN_CHARS,
    Capabilities,
    Completion,
    Request,
    draw_seed,
    error_text,
    instead,
    parse_answer,
    refused_field,
    retry_after,
    wire_body,
)
from models.remote.loop import ClientLoop
from models.remote.thoughts import ALLOWED

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"

HOPELESS = frozenset({401, 403, 404})  # statuses that every other request would get too
REFUSED = frozenset({400, 413, 422})  # of a request that a server does not take as it is; another one may pass

_RETRIED = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
_NO_ENDPOINT = frozenset({404, 405, 501})
_MENDS = {  # KEY: name of the environment variable
    400: "check the name of the model, or shorten the prompt",
    401: "set the environment variable KEY to the server's key",
    403: "set the environment variable KEY to a key that may use this model",
    404: "check the address and the name of the model",
    413: "shorten the prompt",
    429: "wait, and ask again",
}
_REQUESTS_PER_SLOT = 4  # that share a deadline, for each that may be in flight
_PROBE_PROMPT = " ".join(map(str, range(1, 65)))  # longer than a block of a prefix cache


class RemoteError(PolicyError):
    """No usable answer, in one line that names the mend. `status`: of HTTP. `field`: of the request, that a server refuses."""

    def __init__(self, message: str, status: int | None = None, field: str | None = None):
        super().__init__(message)
        self.status, self.field = status, field


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often, how much.

    Raises:
        ValueError: a limit that no request could keep.
    """

    connect_seconds: float = 5.0
    read_seconds: float = 60.0  # one attempt, from the connection to the last byte
    call_seconds: float = 300.0  # one `complete`, waits and retries of all its requests included
    retries: int = 4  # attempts after the first one
    backoff_seconds: float = 0.5  # wait i is uniform in 0..min(max_backoff_seconds, backoff_seconds * 2^i)
    max_backoff_seconds: float = 20.0  # a server's Retry-After may ask for more
    concurrency: int = 8  # requests in flight, of all threads together
    body_bytes: int = 8 << 20  # of one answer
    text_chars: int = 1 << 16  # of one choice

    def __post_init__(self) -> None:
        for name in ("connect_seconds", "read_seconds", "call_seconds", "concurrency", "body_bytes", "text_chars"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        for name in ("retries", "backoff_seconds", "max_backoff_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be 0 or more")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: up to `n` completions, and why there are no more."""

    completions: tuple[Completion, ...]
    error: RemoteError | None = None
    cached_tokens: int = 0  # of the prompt, that the server says it had not to compute


@dataclass(frozen=True, slots=True)
class _Call:
    """What the requests of one call share; the gate is that of all calls."""

    client: httpx.AsyncClient
    capabilities: Capabilities
    gate: asyncio.Semaphore
    deadline: float  # seconds on the loop's clock


class _Retry(Exception):
    """One attempt failed in a way that another may not."""

    def __init__(self, problem: str, status: int | None = None, wait: float = 0.0):
        super().__init__(problem)
        self.status, self.wait = status, wait


class RemoteClient:
    """One model behind one server. Threads may share it. Close it, or use it as a context manager.

    The key goes to `base_url` alone (no redirect is followed) and appears in no message, log or repr.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        api_key_env: str = "REVERSE_O1_API_KEY",
        capabilities: Capabilities | None = None,
        limits: Limits | None = None,
        extra: Mapping[str, object] | None = None,
        seed: int = 0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        """`base_url`: with or without the final /v1. `capabilities`: declared; None: probed when first needed.

        `extra`: more fields for every request, e.g. {"top_k": 0, "min_p": 0} where a server cuts the distribution by default.
        `seed`: of the jitter; clients of one server want different ones.

        Raises:
            ValueError: no plain http(s) address, a key that no header can hold, or no endpoint declared.
        """
        try:
            url = httpx.URL(base_url.strip().rstrip("/").removesuffix("/v1"))
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
            raise ValueError("base_url must read http(s)://host:port/path, without user, password or query")
        key = os.environ.get(api_key_env, "") if api_key is None else api_key
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("the API key holds blanks, line ends or characters beyond ASCII: give the bare key")
        if capabilities and not (capabilities.completions or capabilities.chat):
            raise ValueError("capabilities declare neither completions nor chat: set one of them")
        self.base_url, self.model = str(url).rstrip("/"), model
        self.limits, self.seed = limits or Limits(), seed
        self._local = url.host in ("localhost", "127.0.0.1", "::1")
        self._key, self._key_name, self._extra, self._sleep = key, api_key_env, dict(extra or {}), sleep
        self._capabilities = capabilities
        self._refused: list[str] = []  # fields that the server does not take, and that it was asked without
        self._loop = ClientLoop(self._open_client)

    def __repr__(self) -> str:
        return f"RemoteClient({self.base_url!r}, {self.model!r})"

    def __enter__(self) -> RemoteClient:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and cancel what is under way. A later call opens new ones."""
        self._loop.close()

    @property
    def capabilities(self) -> Capabilities:
        """Declared, or found out now.

        Raises:
            RemoteError: see `probe`.
        """
        return self._capabilities or self.probe()

    def probe(self, *, chat: bool = False) -> Capabilities:
        """Find out what the server can do, in a `chat` alone, by a few requests of two tokens; replaces what was declared.

        Raises:
            RemoteError: no endpoint answers.
        """
        self._capabilities = self._loop.run(lambda client: self._probe(client, (False,) if chat else (True, False)))
        return self._capabilities

    def complete_all(self, requests: Sequence[Request]) -> list[Answer]:
        """As `complete`, for any number of requests: in parts, each with a deadline of its own, for `limits.call_seconds` runs
        for the requests that wait for their turn, too. A part without any answer, and not for its own sake, is the last one:
        the requests after it fail as it did.

        Raises:
            RemoteError: as `complete`.
        """
        answers: list[Answer] = []
        while len(answers) < len(requests):
            part = self.complete(self._part(requests[len(answers) :]))
            answers += part
            gone = next((one.error for one in part if one.error and one.error.status not in REFUSED), None)
            if gone is not None and not any(one.completions for one in part):
                answers += [Answer((), gone)] * (len(requests) - len(answers))
        return answers

    def _part(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The first requests: as many as share a deadline, at least one. Without `n` each draw is a request on the wire."""
        room, size = _REQUESTS_PER_SLOT * self.limits.concurrency, 0
        for request in requests:
            room -= 1 if self.capabilities.n else request.n
            if room < 0:
                break
            size += 1
        return requests[: max(1, size)]

    def complete(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of `requests`, at most `limits.concurrency` in flight. A failed request raises nothing.

        Raises:
            RemoteError: capabilities were not declared, and the probe failed.
        """
        capabilities = self.capabilities

        async def answers(client: httpx.AsyncClient) -> list[Answer]:
            call = self._call(client, capabilities)
            return await asyncio.gather(*(self._answer(request, call) for request in requests))

        return self._loop.run(answers) if requests else []

    # ---- one request, on the event loop

    def _call(self, client: httpx.AsyncClient, capabilities: Capabilities) -> _Call:
        deadline = asyncio.get_running_loop().time() + self.limits.call_seconds
        return _Call(client, capabilities, self._gate, deadline)

    async def _answer(self, request: Request, call: _Call) -> Answer:
        if call.capabilities.n or request.n == 1:
            return await self._collect(request, 0, call)
        parts = await asyncio.gather(*(self._collect(replace(request, n=1), i, call) for i in range(request.n)))
        return Answer(
            tuple(one for part in parts for one in part.completions),
            next((part.error for part in parts if part.error), None),
            max(part.cached_tokens for part in parts),
        )

    async def _collect(self, request: Request, first: int, call: _Call) -> Answer:
        """Ask until `n` choices have come: a server that ignores `n` is asked again. `first`: number of the first draw."""
        done: list[Completion] = []
        cached = 0
        while len(done) < request.n:
            part = replace(request, n=request.n - len(done), seed=draw_seed(request.seed, first + len(done)))
            try:
                found, hit = await self._ask(part, call)
            except RemoteError as error:
                return Answer(tuple(done), error, cached)
            done, cached = done + found, max(cached, hit)
        return Answer(tuple(done), None, cached)

    async def _ask(self, request: Request, call: _Call) -> tuple[list[Completion], int]:
        """1..n completions and the prompt tokens that a cache held; attempts until one succeeds.

        Raises:
            RemoteError: a status that no retry mends, no retries left, or the deadline of the call.
        """
        request = replace(request, max_tokens=request.max_tokens + call.capabilities.thinks)
        url = self.base_url + (COMPLETIONS if call.capabilities.completions else CHAT)
        body = self._body(request, call.capabilities)
        attempt, last = 0, _Retry("no answer")
        try:
            async with asyncio.timeout_at(call.deadline):
                while True:
                    try:
                        async with call.gate:
                            answer = await self._attempt(url, body, call.client)
                        return parse_answer(json.loads(answer), request, self.limits.text_chars)
                    except RemoteError as error:
                        if error.field is None or error.field in self._extra or instead(error.field, body) is None:
                            raise
                        self._note_refusal(error.field)
                        body = self._body(request, call.capabilities)
                        continue
                    except _Retry as failed:
                        last = failed
                    except (ValueError, RecursionError) as error:
                        last = _Retry(f"unreadable answer: {self._shown(str(error))}")
                    if attempt == self.limits.retries:
                        break
                    wait = max(last.wait, self._jitter(request.seed, attempt))
                    if asyncio.get_running_loop().time() + wait >= call.deadline:
                        last = _Retry(f"{last}, to wait {wait:.1f} s is beyond call_seconds", last.status)
                        break
                    await self._sleep(wait)
                    attempt += 1
        except TimeoutError:
            last = _Retry(f"{last} within call_seconds={self.limits.call_seconds:g}", last.status)
        mend = self._mend(last.status, "check that the server runs and keeps up")
        raise RemoteError(f"{url}: {last} (attempt {attempt + 1}): {mend}", last.status)

    def _body(self, request: Request, capabilities: Capabilities) -> dict[str, object]:
        return {**wire_body(self.model, request, capabilities, self._refused), **self._extra}

    def _note_refusal(self, field: str) -> None:
        if field not in self._refused:
            self._refused.append(field)
            if field == "seed":
                warnings.warn(f"{self.base_url}: the server takes no seed: no answer can be repeated", PolicyWarning, 2)

    def _mend(self, status: int | None, otherwise: str) -> str:
        return _MENDS.get(status or 0, otherwise).replace("KEY", self._key_name)

    async def _attempt(self, url: str, content: dict[str, object], client: httpx.AsyncClient) -> bytes:
        """The body of a good answer.

        Raises:
            _Retry: the wire, time, or a status that may pass.
            RemoteError: a status that no retry mends, or a body above the limit.
        """
        parts, size = [], 0
        try:
            async with (
                asyncio.timeout(self.limits.connect_seconds + self.limits.read_seconds),
                client.stream("POST", url, content=json.dumps(content).encode()) as response,
            ):
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise _Retry("unreadable answer: compressed, although that was not asked for")
                async for chunk in response.aiter_raw():
                    size += len(chunk)
                    if size > self.limits.body_bytes:
                        raise RemoteError(
                            f"{url}: answer above {self.limits.body_bytes} bytes: check that a model's server is there"
                        )
                    parts.append(chunk)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _Retry(f"no whole answer within {self.limits.read_seconds:g} s") from error
        except httpx.HTTPError as error:
            raise _Retry(f"connection failed ({type(error).__name__})") from error
        body, status = b"".join(parts), response.status_code
        if status == 200:
            return body
        said = f"HTTP {status} {self._shown(error_text(body))}".rstrip()
        if status in _RETRIED:
            raise _Retry(said, status, retry_after(response.headers.get("retry-after", "")))
        field = refused_field(body, content) if status in REFUSED else None
        mend = self._mend(status, "check the address and what the server logs")
        if field is not None:
            mend = f"the server does not take {field}: leave it at its default, or out of `extra`"
        raise RemoteError(f"{url}: {said}: {mend}", status, field)

    def _jitter(self, seed: int, attempt: int) -> float:
        """Full jitter (AWS Architecture Blog, Brooker 2015): seconds, uniform in 0..min(cap, base * 2^attempt)."""
        top = min(self.limits.max_backoff_seconds, self.limits.backoff_seconds * 2.0 ** min(attempt, 60))
        return top * float(np.random.default_rng([draw_seed(self.seed, seed), attempt]).random())

    def _shown(self, text: str) -> str:
        """A server's words on one line, without the key."""
        text = text.replace(self._key, "***") if self._key else text
        return "".join(c if c.isprintable() else " " for c in text[:SHOWN_CHARS])

    async def _probe(self, client: httpx.AsyncClient, ways: tuple[bool, ...]) -> Capabilities:
        error = RemoteError(f"{self.base_url}: no endpoint")
        for completions in ways:
            for logprobs, n in ((True, True), (True, False), (False, True), (False, False)):
                asked = Capabilities(logprobs=logprobs, n=n, completions=completions, chat=not completions)
                request, call = Request(_PROBE_PROMPT, n=1 + n, max_tokens=2), self._call(client, asked)
                try:
                    found, _ = await self._ask(request, call)
                    _, cached = await self._ask(request, call)
                except RemoteError as refused:
                    error = refused
                    if refused.status in _NO_ENDPOINT:
                        break
                    if refused.status in (None, 401, 403, 429):
                        raise
                    continue
                return replace(
                    asked,
                    token_ids=all(one.token_ids for one in found),
                    logprobs=logprobs and all(one.logprob is not None for one in found),
                    prefix_cache=cached > 0,
                    n=len(found) > 1,
                    thinks=ALLOWED if any(one.thought for one in found) else 0,
                )
        raise error

    def _open_client(self) -> httpx.AsyncClient:
        self._gate = asyncio.Semaphore(self.limits.concurrency)  # of one loop; waiting here is no part of an attempt
        return httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            timeout=httpx.Timeout(self.limits.read_seconds, connect=self.limits.connect_seconds, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=self.limits.concurrency),
            trust_env=not self._local,  # no proxy between a machine and itself
        )

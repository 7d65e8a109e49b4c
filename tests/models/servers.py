"""Servers on loopback that answer as they are told: well, late, wrongly, or not at all."""

from __future__ import annotations

import json
import socket
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DRIP_SECONDS = 0.02  # between two bytes


@dataclass(frozen=True)
class Call:
    """One request that has arrived."""

    number: int
    path: str
    headers: dict[str, str]  # names in lower case
    body: dict


@dataclass(frozen=True)
class Reply:
    """`fault`: "hang" sends nothing, "reset" closes at once, "cut" closes in mid-body, "drip" and "drip-head" send a byte at
    a time."""

    body: object = None  # bytes as they are, anything else as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""


class FakeServer:
    """A threaded server; `answer(call)` gives a `Reply` or the JSON of a good one. A context manager."""

    def __init__(self, answer: Callable[[Call], Reply | dict]):
        self.calls: list[Call] = []
        self.in_flight = self.most_in_flight = self.bytes_sent = self.connections = 0
        self._answer, self._lock, self._over = answer, threading.Lock(), threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with fake._lock:
                    fake.connections += 1

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with fake._lock:
                    call = Call(len(fake.calls), self.path, headers, json.loads(raw))
                    fake.calls.append(call)
                    fake.in_flight += 1
                    fake.most_in_flight = max(fake.most_in_flight, fake.in_flight)
                try:
                    reply = fake._answer(call)
                finally:
                    with fake._lock:
                        fake.in_flight -= 1
                try:
                    fake._send(self, reply if isinstance(reply, Reply) else Reply(reply))
                except OSError:  # the client has gone
                    self.close_connection = True

            def log_message(self, *unused) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

            def handle_error(self, *unused) -> None:  # a client that hangs up is no news
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *unused) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        if reply.fault in ("hang", "reset"):
            if reply.fault == "hang":
                self._over.wait(10.0)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if reply.fault == "drip-head":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                handler.wfile.write(bytes([byte]))
                if self._over.wait(DRIP_SECONDS):
                    break
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if reply.fault == "cut":
            body = body[: len(body) // 2]
            handler.close_connection = True
        if reply.fault == "drip":
            for byte in body:
                handler.wfile.write(bytes([byte]))
                if self._over.wait(DRIP_SECONDS):
                    return
            return
        for start in range(0, len(body), 1 << 16):
            self.bytes_sent += handler.connection.send(body[start : start + (1 << 16)])


def closed_port() -> str:
    """Address at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def vllm_choice(text: str, logprobs: list[float] | None, index: int = 0, finish: str = "stop") -> dict:
    """A choice as vLLM 0.11 writes it: one token a character, then the newline's, which is not in the text."""
    tokens = [*text, "\n"] if finish == "stop" else list(text)
    listed = logprobs and {
        "text_offset": list(range(len(tokens))),
        "token_logprobs": logprobs,
        "tokens": tokens,
        "top_logprobs": [{token: logprob} for token, logprob in zip(tokens, logprobs, strict=True)],
    }
    return {
        "index": index, "text": text, "logprobs": listed, "finish_reason": finish, "stop_reason": "\n",
        "token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None,
    }  # fmt: skip


def vllm_answer(choices: list[dict], completion_tokens: int, cached: int | None = None) -> dict:
    return {
        "id": "cmpl-0f4b", "object": "text_completion", "created": 1_760_000_000, "model": "small", "choices": choices,
        "service_tier": None, "system_fingerprint": None, "kv_transfer_params": None,
        "usage": {
            "prompt_tokens": 9, "total_tokens": 9 + completion_tokens, "completion_tokens": completion_tokens,
            "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
        },
    }  # fmt: skip


def vllm_chat_answer(text: str, tokens: list[tuple[str, float]]) -> dict:
    content = [
        {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": []}
        for token, logprob in tokens
    ]
    message = {
        "role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None, "function_call": None,
        "tool_calls": [], "reasoning_content": None,
    }  # fmt: skip
    choice = {
        "index": 0, "message": message, "logprobs": {"content": content}, "finish_reason": "stop", "stop_reason": None,
        "token_ids": None,
    }  # fmt: skip
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000, "model": "small", "choices": [choice],
        "usage": {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": len(tokens), "prompt_tokens_details": None},
        "prompt_logprobs": None, "prompt_token_ids": None, "kv_transfer_params": None,
    }  # fmt: skip


DIGITS = [*"123456789", "12", ""]  # what `TableModel` may say; the last two are illegal in `SumTask`


class TableModel:
    """A remote model that is a table: probabilities of `DIGITS` are a fixed random function of the prompt.

    `with_logprobs`, `with_n`: what the server knows of the protocol. `generated`: tokens of all choices so far.
    """

    def __init__(self, *, with_logprobs: bool = True, with_n: bool = True):
        self.with_logprobs, self.with_n = with_logprobs, with_n
        self.generated = 0
        self._lock = threading.Lock()

    @staticmethod
    def probabilities(prompt: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(prompt.encode())).dirichlet(np.full(len(DIGITS), 0.8))

    def __call__(self, call: Call) -> dict:
        body = call.body
        table = self.probabilities(body["prompt"])
        n = body.get("n", 1) if self.with_n else 1
        rng = np.random.default_rng(body["seed"])
        drawn = rng.choice(len(DIGITS), n, p=table) if body["temperature"] else np.full(n, table.argmax())
        choices, tokens = [], 0
        for index, digit in enumerate(drawn.tolist()):
            length = len(DIGITS[digit]) + 1
            logprobs = [float(np.log(table[digit])) / length] * length if self.with_logprobs else None
            choices.append(vllm_choice(DIGITS[digit], logprobs, index))
            tokens += length
        with self._lock:
            self.generated += tokens
        return vllm_answer(choices, tokens)

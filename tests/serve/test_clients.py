"""What real clients of OpenAI's API get: the official package, against a server in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.serve.running import BEARER, KEY, MODEL, ROOT, SECONDS, Server

PUZZLE = "3 7 8 8 = 24"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def until(condition) -> None:
    """Ask another process again and again."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end


def asked(**fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": PUZZLE}], **fields}


def test_the_official_client_gets_an_answer_its_cost_and_nothing_of_the_chain(server):
    client = openai.OpenAI(base_url=server.url, api_key=KEY)
    assert [model.id for model in client.models.list()] == [MODEL]
    answer = client.chat.completions.create(**asked(reasoning_effort="high"))
    (choice,) = answer.choices
    assert choice.message.content.splitlines()[-1].endswith("= 24")
    assert choice.finish_reason == "stop"
    assert not {"reasoning", "reasoning_content"} & set(choice.message.model_extra or {})
    used = answer.usage
    assert 0 < used.completion_tokens_details.reasoning_tokens < used.completion_tokens
    assert used.total_tokens == used.prompt_tokens + used.completion_tokens
    shown = client.chat.completions.create(
        **asked(reasoning_effort="high"), extra_body={"reasoning_visibility": "show"}
    )
    assert shown.choices[0].message.content == choice.message.content
    assert "back to step" in shown.choices[0].message.model_extra["reasoning"]


def test_a_stream_joins_to_the_answer_that_comes_whole_and_tells_the_same_cost(server):
    client = openai.OpenAI(base_url=server.url, api_key=KEY)
    whole = client.chat.completions.create(**asked(seed=3))
    events = list(client.chat.completions.create(**asked(seed=3), stream=True, stream_options={"include_usage": True}))
    assert (
        "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        == whole.choices[0].message.content
    )
    assert events[-1].usage == whole.usage
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"


def test_the_responses_api_tells_the_same_answer_in_items_and_in_events(server):
    client = openai.OpenAI(base_url=server.url, api_key=KEY)
    chat = client.chat.completions.create(**asked(reasoning_effort="high"))
    settings = {"model": MODEL, "input": PUZZLE, "reasoning": {"effort": "high", "summary": "auto"}}
    whole = client.responses.create(**settings, include=["reasoning.encrypted_content"])
    assert whole.output_text == chat.choices[0].message.content
    assert whole.usage.output_tokens_details.reasoning_tokens == chat.usage.completion_tokens_details.reasoning_tokens
    thoughts, message = whole.output
    assert thoughts.summary[0].text.startswith("Wrote ")
    assert thoughts.content is None
    turns = [
        {"role": "user", "content": "Hello"},
        thoughts.model_dump(exclude_none=True),
        message.model_dump(),
        *user(PUZZLE),
    ]
    assert client.responses.create(**settings | {"input": turns}).output_text == whole.output_text
    events = list(client.responses.create(**settings, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_many_at_once_get_each_their_own(server):
    texts = [
        f"{a} {b} 8 8 = {t}" for a, b, t in ((3, 7, 24), (1, 2, 30), (5, 6, 41), (2, 9, 13), (4, 4, 20), (1, 7, 16))
    ]

    async def ask_all() -> list:
        async with openai.AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
            calls = [
                client.chat.completions.create(**asked(messages=[{"role": "user", "content": text}]))
                for text in texts * 3
            ]
            return await asyncio.gather(*calls)

    answers = [answer.choices[0].message.content for answer in asyncio.run(ask_all())]
    assert answers[: len(texts)] == answers[len(texts) : 2 * len(texts)] == answers[2 * len(texts) :]
    for text, answer in zip(texts, answers, strict=False):
        assert answer == "" or answer.endswith(f"= {text.split()[-1]}")


def test_the_key_is_taken_as_people_and_browsers_send_it(server):
    for auth in (f"bearer {KEY}", f"Bearer  {KEY}", "Basic " + base64.b64encode(f"anybody:{KEY}".encode()).decode()):
        assert httpx.get(f"{server.url}/models", headers={"Authorization": auth}).status_code == 200
    asks = httpx.get(server.url.removesuffix("v1"))
    assert asks.status_code == 401
    assert asks.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY[:-1]}])
@pytest.mark.parametrize("route", ["/v1/models", "/health", "/metrics", "/openapi.json", "/nowhere"])
def test_no_route_answers_without_the_key(server, route, header):
    answer = httpx.get(server.url.removesuffix("/v1") + route, headers=header)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_errors_are_the_clients_own_kinds(server):
    client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
    with pytest.raises(openai.NotFoundError, match="use countdown4think"):
        client.chat.completions.create(**asked() | {"model": "gpt-4"})
    with pytest.raises(openai.BadRequestError, match="not a number"):
        client.chat.completions.create(**asked(messages=[{"role": "user", "content": "1 x = 3"}]))
    with pytest.raises(openai.AuthenticationError, match="send the header"):
        openai.OpenAI(base_url=server.url, api_key="wrong").models.list()


def test_a_client_that_hangs_up_gives_its_place_back(server):
    long = asked(
        search={"strategy": "best_of_n", "verify": "none", "tokens": 10**9}, reasoning_effort="max", stream=True
    )

    def state() -> dict:
        return httpx.get(server.url.removesuffix("/v1") + "/health", headers=BEARER).json()

    for _ in range(3):
        with httpx.stream(
            "POST", f"{server.url}/chat/completions", json=long, headers=BEARER, timeout=SECONDS
        ) as answer:
            lines = answer.iter_lines()  # to drop it is to hang up
            next(lines)
            until(lambda: state()["open"] == 1)
        until(lambda: state()["open"] == 0)


@pytest.mark.slow
def test_a_hundred_hang_ups_in_the_middle_leave_no_place_taken_and_no_thread_behind(server):
    long = asked(
        search={"strategy": "best_first", "verify": "none", "tokens": 10**6}, reasoning_effort="max", stream=True
    )
    tasks = Path(f"/proc/{server.process.pid}/task")
    server.post(asked())
    threads = len(list(tasks.iterdir()))
    lines = [httpx.Client(timeout=SECONDS) for _ in range(10)]
    for _ in range(10):
        answers = [
            line.send(
                line.build_request("POST", f"{server.url}/chat/completions", json=long, headers=BEARER), stream=True
            )
            for line in lines
        ]
        health = server.url.removesuffix("/v1") + "/health"
        until(lambda: httpx.get(health, headers=BEARER).json()["open"] == len(answers))  # noqa: B023
        began = time.monotonic()
        for answer in answers:
            answer.close()
        until(lambda: httpx.get(health, headers=BEARER).json()["open"] == 0)  # noqa: B023
        assert time.monotonic() - began < 10.0  # a second on a machine that has nothing else to do
    assert len(list(tasks.iterdir())) <= threads + 1
    for line in lines:
        line.close()


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_no_child():
    with Server() as server:
        server.post(asked())
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        server.process.kill()
        server.process.wait(SECONDS)
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_a_body_that_is_too_large_or_never_ends_is_refused_and_the_server_lives(server):
    host, port = server.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode())
        line.sendall(f"Content-Length: {10**9}\r\n\r\n".encode())
        assert b"413" in line.recv(1000)
    assert server.post(asked()).status_code == 200


def test_a_server_that_is_told_to_end_answers_those_that_it_has():
    with Server("drain=20") as server:
        found: list[httpx.Response] = []
        slow = asked(reasoning_effort="max", search={"strategy": "best_of_n", "verify": "none", "tokens": 20_000})
        asking = threading.Thread(target=lambda: found.append(server.post(slow)))
        asking.start()
        health = server.url.removesuffix("/v1") + "/health"
        while not httpx.get(health, headers=BEARER).json()["open"]:
            pass
        server.process.send_signal(signal.SIGTERM)
        asking.join(SECONDS)
        assert found[0].status_code == 200
        assert found[0].json()["usage"]["completion_tokens"] >= 20_000
        server.process.wait(SECONDS)


@pytest.mark.parametrize(("settings", "said"), [
    (("policy=null",), "nothing to serve"), (("host=0.0.0.0",), "lets other machines in"), (("slots=0",), "slots=0: 1 or more"),
    (("port=70000",), "cannot be opened"), (("reasoning_visibility=all",), "use one of hide, summary, show"),
    (("effort=max",), "no limit"), (("task=chain",), "is a checkpoint of task countdown"),
])  # fmt: skip
def test_what_cannot_be_served_is_refused_in_one_line(settings, said):
    environment = {name: value for name, value in os.environ.items() if name != "RO1_API_KEY"}
    command = [sys.executable, "-m", "serve", f"policy={MODEL}", "port=0", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told(server):
    port = server.url.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "serve", f"policy={MODEL}", f"port={port}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give another one, 0 for any" in done.stderr
    assert json.loads(server.post(asked()).content)["object"] == "chat.completion"

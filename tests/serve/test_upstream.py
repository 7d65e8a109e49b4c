"""Behind a model that is served elsewhere and thinks: what it thinks there is counted, and leaves this server by no way."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from fastapi.testclient import TestClient

from models.abilities import PolicyWarning
from models.remote.answers import Capabilities
from models.remote.client import Limits, RemoteClient
from models.remote.policy import RemotePolicy
from models.remote.thoughts import ALLOWED
from serve.api.app import create_app
from serve.api.served import Served
from serve.engine.engine import Engine
from serve.main import told_by_kind
from serve.thoughts import VISIBILITIES
from solve.policies import Shelved
from solve.solver import Solver
from tasks import make_task
from tests.models.servers import Call, FakeServer, Reply
from tests.serve.canary import leaks, words

THOUGHT_TOKENS = 77
FORMS = ("field", "both fields", "marks", "closed alone", "cut", "numbers alone")
REFUSALS = {"refused": 400, "key": 401, "broken": 500}


class Upstream:
    """A chat server whose model thinks in one of `FORMS` before a line; it keeps what it thought."""

    def __init__(self) -> None:
        self.thoughts: list[str] = []
        self.address = ""
        self.form, self._numbers, self._lock = "field", itertools.count(), threading.Lock()

    def __call__(self, call: Call) -> Reply | dict:
        with self._lock:
            thought = " ".join(words(f"thought {next(self._numbers)}", 12))
            self.thoughts.append(thought)
        if self.form in REFUSALS:  # in words that hold the prompt, and so the chain so far
            said = f"cannot: {json.dumps(call.body['messages'])} {thought}"
            return Reply({"error": {"message": said}}, status=REFUSALS[self.form])
        message: dict = {"role": "assistant", "content": "answer: 42\nand more"}
        if self.form in ("field", "both fields"):
            message["reasoning"] = thought
        if self.form == "both fields":
            message["reasoning_content"] = thought
        if self.form == "marks":
            message["content"] = f"<think>\n{thought}\n</think>\n\nanswer: 42\nand more"
        if self.form == "closed alone":
            message["content"] = f"{thought}</think>answer: 42\nand more"
        if self.form == "cut":
            message["content"] = f"<think>{thought}"
        if self.form == "numbers alone":
            message["content"] = ""
        usage = {"completion_tokens": THOUGHT_TOKENS, "completion_tokens_details": {"reasoning_tokens": THOUGHT_TOKENS}}
        finish = "length" if self.form in ("cut", "numbers alone") else "stop"
        return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


@pytest.fixture(scope="module")
def wire():
    upstream = Upstream()
    with FakeServer(upstream) as server:
        told = Capabilities(logprobs=False, completions=False, chat=True, n=False, thinks=ALLOWED)
        upstream.address = server.url
        client = RemoteClient(server.url, "r1", limits=Limits(retries=0), capabilities=told)
        solver = Solver.__new__(Solver)
        solver.shelved = Shelved(RemotePolicy(client, few_shot=0), make_task("text", max_tokens=400), {"name": "text"})
        solver.trust_value, solver._compiled = False, set()
        engine = Engine(solver, slots=4, queue=8)
        yield upstream, TestClient(create_app(Served(engine, "r1", default_strategy="best_of_n", most_visible="show")))
        engine.close()
        client.close()


@pytest.mark.filterwarnings("ignore::models.abilities.PolicyWarning")
@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("form", FORMS)
def test_what_a_served_model_thinks_is_paid_and_is_in_nothing_that_leaves(wire, form, visibility):
    upstream, client = wire
    upstream.form = form
    told = []
    for stream in (False, True):
        body = {
            "model": "r1", "messages": [{"role": "user", "content": "What is six times seven?"}], "stream": stream,
            "reasoning_visibility": visibility, "search": {"strategy": "best_of_n", "tokens": 200},
        }  # fmt: skip
        told.append(client.post("/v1/chat/completions", json=body))
    sent = b"".join(repr(one.headers.raw).encode() + one.content for one in told) + client.get("/metrics").content
    assert not leaks(sent, upstream.thoughts)
    whole = told[0].json()
    answered = form not in ("cut", "numbers alone")
    assert whole["choices"][0]["message"]["content"] == ("42" if answered else "")
    assert whole["usage"]["completion_tokens"] >= THOUGHT_TOKENS
    assert json.loads(told[1].text.split("data: ")[1].partition("\n")[0])["model"] == "r1"


@pytest.mark.filterwarnings("ignore::models.abilities.PolicyWarning")
@pytest.mark.parametrize("strategy", ["best_of_n", "puct"])
@pytest.mark.parametrize("form", REFUSALS)
def test_what_a_served_model_says_as_it_fails_is_told_to_nobody(wire, caplog, form, strategy):
    upstream, client = wire
    upstream.form = form
    body = {
        "model": "r1",
        "messages": [{"role": "user", "content": "Say it"}],
        "search": {"strategy": strategy, "tokens": 200},
    }
    told = [client.post("/v1/chat/completions", json=body | {"stream": stream}) for stream in (False, True)]
    assert not leaks(b"".join(one.content for one in told) + caplog.text.encode(), upstream.thoughts)
    if told[0].status_code != 200:
        assert told[0].status_code == 502
        assert told[0].json()["error"]["code"] == "upstream_error"
        assert upstream.address not in told[0].text + told[1].text


def test_a_warning_is_logged_without_its_words(caplog):
    told_by_kind(PolicyWarning("the server said: canary"), PolicyWarning, "policy.py", 7)
    assert "PolicyWarning at policy.py:7" in caplog.text
    assert "canary" not in caplog.text

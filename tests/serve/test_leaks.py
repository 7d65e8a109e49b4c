"""Not six words in a row of what was thought leave a server that hides it: no body, header, event, error, log line or metric.

The ways are those in which chains have leaked from other servers; a field or route that would open one is refused by name,
and that refusal is held here.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random

import pytest
from fastapi.testclient import TestClient

from serve.api.app import create_app
from serve.api.fields import REFUSED
from serve.api.response_fields import REFUSED as RESPONSE_REFUSED
from serve.api.response_fields import SEALED
from serve.api.served import Served
from serve.sealed import Seal, SealError
from serve.thoughts import VISIBILITIES
from tests.serve.canary import CanaryPolicy, canary_engine, leaks, words

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


class Wire:
    """A client that keeps every byte which it was sent."""

    def __init__(self, most_visible="show"):
        self.engine, self.policy = canary_engine()
        self.client = TestClient(
            create_app(Served(self.engine, "canary", default_strategy="best_of_n", most_visible=most_visible))
        )
        self.sent = b""

    def ask(self, body: dict | bytes, method: str = "POST", route: str = CHAT):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.request(method, route, content=content, headers={"Content-Type": "application/json"})
        self.sent += repr(answer.headers.raw).encode() + answer.content
        return answer

    def leaked(self) -> list[str]:
        self.sent += self.client.get("/metrics").content + self.client.get("/health").content
        return leaks(self.sent, self.policy.written)


@pytest.fixture
def wire():
    made = Wire()
    yield made
    made.engine.close()


def request(text: str = "What is six times seven?", **fields) -> dict:
    return {"model": "canary", "messages": [{"role": "user", "content": text}], **fields}


def test_the_search_for_leaks_finds_what_leaks_in_every_disguise():
    line = " ".join(words("seed", 9))
    for sent in (
        line.encode(), json.dumps({"a": f"{line}\n"}).encode(), line.replace(" ", "%20").encode(),
        base64.b64encode(line.encode()),
        gzip.compress(line.encode()), json.dumps({"a": base64.urlsafe_b64encode(line.encode()).decode()}).encode(),
    ):  # fmt: skip
        assert leaks(sent, [line])
    assert not leaks(" ".join(words("seed", 5)).encode(), [line])


def response(text: str = "What is six times seven?", **fields) -> dict:
    """The same of the Responses API."""
    return {"model": "canary", "input": text, **fields}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("visibility", ["hide", "summary", None])
@pytest.mark.parametrize("strategy", ["greedy", "best_of_n", "self_consistency"])
def test_a_hidden_chain_leaves_no_trace(wire, strategy, visibility, stream):
    asked = {"search": {"strategy": strategy}, "stream": stream, "seed": 7}
    if visibility is not None:
        asked["reasoning_visibility"] = visibility
    answer = wire.ask(request(**asked))
    assert answer.status_code == 200
    assert "42" in answer.text
    assert len(wire.policy.written) >= 4
    assert wire.leaked() == []
    assert ("reasoning" in answer.text.replace("reasoning_tokens", "")) == (visibility == "summary")


@pytest.mark.parametrize(
    "items", [[{"type": "reasoning"}], [{"role": "system", "content": "be short"}], [{"role": "user", "content": " "}]]
)
@pytest.mark.parametrize("instructions", [None, "be short"])
def test_items_that_ask_nothing_are_refused_in_one_line(wire, items, instructions):
    answer = wire.ask(response(items, instructions=instructions), route=RESPONSES)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "messages: the last one is of role user and asks something"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("reasoning", [None, {"effort": "low"}, {"summary": "auto"}])
def test_a_hidden_chain_leaves_no_trace_in_items_either(wire, reasoning, sealed, stream):
    include = ["reasoning.encrypted_content"] if sealed else None
    answer = wire.ask(response(reasoning=reasoning, include=include, stream=stream), route=RESPONSES)
    assert answer.status_code == 200
    assert "42" in answer.text
    assert len(wire.policy.written) >= 4
    assert wire.leaked() == []
    assert ('"encrypted_content"' in answer.text) == sealed
    assert ("Tried" in answer.text) == (reasoning == {"summary": "auto"})


def test_a_sealed_chain_may_come_back_any_number_of_times_and_is_read_by_nobody(wire):
    first = wire.ask(response(include=["reasoning.encrypted_content"]), route=RESPONSES).json()
    (thoughts, message), turn = first["output"], {"role": "user", "content": "Repeat the above."}
    for _ in range(2):
        again = wire.ask(response([{"role": "user", "content": "Hello"}, thoughts, message, turn]), route=RESPONSES)
        assert again.status_code == 200
    item = thoughts["encrypted_content"]
    for k in (0, 5, 14, 40, len(item) // 2, len(item) - 3):
        changed = item[:k] + ("A" if item[k] != "A" else "B") + item[k + 1 :]
        refused = wire.ask(response([{**thoughts, "encrypted_content": changed}, turn]), route=RESPONSES)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "invalid_encrypted_content"
    for forged in ("", "A", "not base64!", item[:-4], item * 2):
        assert wire.ask(response([{**thoughts, "encrypted_content": forged}, turn]), route=RESPONSES).status_code == 400
    assert wire.leaked() == []


def test_no_bit_of_a_sealed_item_can_be_changed():
    seal = Seal("m", seconds=60)
    for text in ("", "a", "a chain", "b" * 700):
        item = seal.close(text, "me")
        for k in (*range(40), *range(len(item) - 8, len(item))):
            for other in "A-_/=":
                if item[k] != other:
                    with pytest.raises(SealError):
                        seal.open(item[:k] + other + item[k + 1 :], "me")
        assert seal.open(item, "me") == text


def test_a_seal_is_of_one_owner_one_model_one_secret_and_one_time():
    now = [1000.0]
    seal = Seal("m", secret="s", seconds=60, clock=lambda: now[0])
    item, text = seal.close("a chain", "me"), "a chain"
    assert seal.open(item, "me") == Seal("m", secret="s", seconds=1, clock=lambda: now[0]).open(item, "me") == text
    assert seal.close("a chain", "me") != item
    assert len(seal.close("a", "me")) == len(item)
    others = [Seal("n", secret="s", seconds=60), Seal("m", secret="t", seconds=60), Seal("m", seconds=60)]
    for other, owner in [(seal, "you"), *((other, "me") for other in others)]:
        with pytest.raises(SealError):
            other.open(item, owner)
    now[0] += 61
    with pytest.raises(SealError):
        seal.open(item, "me")


@pytest.mark.parametrize("field", sorted(RESPONSE_REFUSED))
def test_a_field_of_the_responses_api_that_is_not_served_is_refused_by_its_name(wire, field):
    answer = wire.ask(response(**{field: "x"}), route=RESPONSES)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{field} is not served")
    assert all(wire.ask(response(**{field: ok}), route=RESPONSES).status_code == 200 for ok in RESPONSE_REFUSED[field])


def test_what_is_shown_is_the_whole_chain_so_the_canaries_do_sing(wire):
    shown = wire.ask(request(reasoning_visibility="show")).json()["choices"][0]["message"]
    assert leaks(shown["reasoning"].encode(), wire.policy.written)
    assert shown["reasoning"] == shown["reasoning_content"]
    assert not leaks(shown["content"].encode(), wire.policy.written)


@pytest.mark.parametrize("most", VISIBILITIES)
@pytest.mark.parametrize("asked", VISIBILITIES)
def test_a_server_shows_no_more_than_its_owner_lets_it(most, asked):
    wire = Wire(most)
    message = wire.ask(request(reasoning_visibility=asked)).json()["choices"][0]["message"]
    seen = min(VISIBILITIES.index(most), VISIBILITIES.index(asked))
    assert bool(wire.leaked()) == (VISIBILITIES[seen] == "show")
    assert ("reasoning" in message) == (seen > 0)
    wire.engine.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("question", ["no answer", "no answer, cut"])
def test_a_budget_that_ends_in_the_middle_of_thinking_gives_no_content(wire, question, stream):
    answer = wire.ask(request(question, max_completion_tokens=400, stream=stream))
    assert answer.status_code == 200
    assert wire.leaked() == []
    assert '"length"' in answer.text
    if not stream:
        assert answer.json()["choices"][0]["message"]["content"] == ""
        assert answer.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] >= 40


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_a_field_that_could_open_a_chain_is_refused_by_its_name(wire, field):
    answer = wire.ask(request(**{field: {"type": "json_object", "budget_tokens": 9}}))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{field} is not served")
    for harmless in REFUSED[field]:
        assert wire.ask(request(**{field: harmless})).status_code == 200
    assert wire.leaked() == []


@pytest.mark.parametrize("fields", [
    {"response_format": {"type": "json_object"}}, {"stop": ["a"] * 5}, {"n": 0}, {"n": 99}, {"max_tokens": 0},
    {"reasoning_effort": "huge"}, {"reasoning_effort": 3}, {"seed": -1}, {"temperature": 9},
    {"search": {"strategy": "no such"}}, {"search": {"verify": "task"}},
    {"search": {"tree": "t.json"}}, {"model": "other"}, {"messages": []}, {"messages": "hello"}, {"stream_options": {"a": 1}},
    {"reasoning_visibility": "all"}, {"unknown": 1}, {"messages": [{"role": "tool", "content": "x"}]},
    {"messages": [{"role": "assistant", "content": "<think>"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line_without_an_echo(wire, fields):
    answer = wire.ask(request(user="echo-me-not") | fields)
    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    assert "echo-me-not" not in answer.text
    assert wire.leaked() == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "\xc3\x28"}', b"[" * 100_000, b'{"model": NaN}']
)
def test_a_body_that_is_no_request_is_refused(wire, body):
    answer = wire.ask(body)
    assert answer.status_code == 400
    assert "error" in answer.json()


@pytest.mark.parametrize("route", [
    "/v1/completions/raw", "/v1/batches", "/v1/messages", "/generate", "/slots", "/props", "/tokenize",
    "/v1/chat/completions/render", "/separate_reasoning", "/docs", "/redoc", "/debug", "/v1/responses/resp_1",
    "/inference/v1/generate",
])  # fmt: skip
def test_there_is_no_side_door(wire, route):
    wire.ask(request())
    for method in ("GET", "POST"):
        assert wire.ask(request(), method, route).status_code in (404, 405)
    assert wire.leaked() == []


def test_what_a_client_sends_back_of_a_chain_is_read_by_nobody(wire):
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "42", "reasoning": "secret of old", "reasoning_content": "secret of old"},
        {"role": "user", "content": "Repeat the above."},
    ]
    wire.ask(request(messages=turns))
    plain = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    before = list(wire.policy.written)
    wire.policy.written.clear()
    wire.ask(request(messages=plain))
    assert wire.policy.written == before  # the canaries are those of the question that was read
    assert wire.leaked() == []


def test_logs_hold_no_word_of_what_people_or_models_wrote(wire, caplog, monkeypatch):
    def breaks(self, problem, sample):
        raise RuntimeError(" ".join(self.hidden(problem, sample)))

    monkeypatch.setattr(CanaryPolicy, "_chain", breaks)
    with caplog.at_level(0):
        answer = wire.ask(request("my own secret of six plain words here"))
    assert answer.status_code == 500
    assert leaks(caplog.text.encode(), [*wire.policy.written, "my own secret of six plain words here"]) == []
    assert wire.leaked() == []
    assert "RuntimeError" in caplog.text


def fuzz(wire: Wire, count: int, seed: int) -> None:
    """Random requests, good and bad, of which each answer is 42 or none, and whose streams join to what is told at once."""
    rng = random.Random(seed)
    for number in range(count):
        fields = {
            "search": {"strategy": rng.choice(["greedy", "best_of_n", "self_consistency", "beam"])},
            "reasoning_visibility": rng.choice(["hide", "summary"]),
            "reasoning_effort": rng.choice(["none", "minimal", "low"]),
            "seed": rng.randrange(3), "n": rng.choice([1, 1, 1, 2, 3]), "stop": rng.choice([None, ["2"], "x", ["4", "2"]]),
            "max_completion_tokens": rng.choice([None, 1, 40, 400]), "stream_options": {"include_usage": rng.random() < 0.5},
        }  # fmt: skip
        text = f"{rng.choice(['', 'no answer ', 'no answer, cut, '])}question {number}"
        body = request(text, **fields)
        for name in rng.sample(sorted(body), k=rng.choice([0, 0, 0, 1])):
            body[name] = rng.choice([None, 0, "", [], {}, "x" * 50, -1, 1e300])
        if rng.random() < 0.3:
            reasoning = {"effort": fields["reasoning_effort"], "summary": rng.choice([None, "auto"])}
            asked = response(text, reasoning=reasoning)
            wire.ask(asked | {"stream": rng.random() < 0.5, "include": rng.choice([None, [SEALED]])}, route=RESPONSES)
        whole = wire.ask(body)
        streamed = wire.ask(body | {"stream": True})
        if whole.status_code != 200:
            continue
        told = [choice["message"]["content"] for choice in whole.json()["choices"]]
        assert all(text in ("", "4", "42") for text in told)
        joined = dict.fromkeys(range(len(told)), "")
        for line in streamed.text.splitlines():
            if line.startswith("data: {") and "error" not in (event := json.loads(line[6:])):
                for choice in event["choices"]:
                    joined[choice["index"]] += choice["delta"].get("content", "")
        assert list(joined.values()) == told


def test_random_requests_leak_nothing(wire):
    fuzz(wire, 40, 0)
    assert wire.leaked() == []


@pytest.mark.slow
def test_ten_thousand_generations_leak_nothing():
    for seed in itertools.count():
        wire = Wire()
        fuzz(wire, 250, seed)
        assert wire.leaked() == []
        wire.engine.close()
        if (seed + 1) * 500 >= 10_000:
            break

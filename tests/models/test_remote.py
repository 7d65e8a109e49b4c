"""The client gets its answers through every fault that passes, gives up in time on those that do not, and keeps its key."""

from __future__ import annotations

import logging
import time

import pytest

from models.remote.answers import Capabilities, Request
from models.remote.client import Limits, RemoteClient, RemoteError
from tests.models.servers import (
    FakeServer,
    Reply,
    TableModel,
    closed_port,
    vllm_answer,
    vllm_chat_answer,
    vllm_choice,
)

KNOWN = Capabilities()
GOOD = vllm_answer([vllm_choice("1", [-0.5, -0.5])], 2)
QUICK = Limits(connect_seconds=1.0, read_seconds=2.0, call_seconds=5.0, retries=3)


class Waits(list):
    """A sleep that only notes how long it should have been."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def policy_for(url: str, **settings) -> RemoteClient:
    return RemoteClient(url, "small", **{"capabilities": KNOWN, "limits": QUICK, "sleep": Waits(), **settings})


def first_then_good(*replies: Reply):
    return lambda call: replies[call.number] if call.number < len(replies) else GOOD


def only_answer(policy: RemoteClient, request: Request | None = None):
    with policy:
        (answer,) = policy.complete([request or Request("p")])
    return answer


# ---- what is sent


def test_the_request_is_what_openai_s_completions_api_expects():
    with FakeServer(lambda call: GOOD) as server:
        with policy_for(server.url + "/v1/", extra={"top_k": 0}, api_key="k") as policy:
            policy.complete([Request("2 3 = 5\n", 1, 9, 0.7, 0.9, seed=4)])
        (call,) = server.calls
    assert call.path == "/v1/completions"
    assert 0 <= call.body.pop("seed") < 1 << 31
    assert call.body == {
        "model": "small", "prompt": "2 3 = 5\n", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "stop": ["\n"],
        "logprobs": 1, "top_k": 0,
    }  # fmt: skip
    assert call.headers["authorization"] == "Bearer k"


def test_chat_is_asked_where_only_chat_is_declared():
    with FakeServer(lambda call: vllm_chat_answer("7", [("7", -0.5), ("\n", -0.25)])) as server:
        answer = only_answer(policy_for(server.url, capabilities=Capabilities(completions=False, chat=True)))
        (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.body["messages"] == [{"role": "user", "content": "p"}]
    assert call.body["logprobs"] is True
    assert (answer.completions[0].text, answer.completions[0].logprob) == ("7", -0.75)


def test_answers_come_in_the_order_of_the_requests_and_no_more_are_in_flight_than_allowed():
    def late(call):
        time.sleep(0.02 if call.body["prompt"] in ("0", "5") else 0.005)
        return vllm_answer([vllm_choice(call.body["prompt"], None)], 1)

    with FakeServer(late) as server, policy_for(server.url, limits=Limits(concurrency=3)) as policy:
        answers = policy.complete([Request(str(i)) for i in range(12)])
        assert [answer.completions[0].text for answer in answers] == [str(i) for i in range(12)]
        assert 1 < server.most_in_flight <= 3


def test_a_server_that_ignores_n_gives_the_same_draws_as_one_asked_draw_by_draw():
    texts = []
    for capabilities in (Capabilities(), Capabilities(n=False)):
        with FakeServer(TableModel(with_n=False)) as server:
            answer = only_answer(policy_for(server.url, capabilities=capabilities), Request("p", n=5, seed=3))
            assert len(server.calls) == 5
            assert len({call.body["seed"] for call in server.calls}) == 5
        texts.append([one.text for one in answer.completions])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_one_request_brings_all_choices_of_a_server_that_knows_n():
    with FakeServer(TableModel()) as server:
        answer = only_answer(policy_for(server.url), Request("p", n=5))
        assert len(server.calls) == 1
    assert len(answer.completions) == 5


# ---- faults


@pytest.mark.parametrize(
    "fault",
    [
        Reply(GOOD, status=500),
        Reply(GOOD, status=503),
        Reply(b"", status=429),
        Reply(GOOD, fault="cut"),
        Reply(GOOD, fault="reset"),
        Reply(GOOD, fault="hang"),
        Reply(b"\xff{not json"),
        Reply(b"[" * 100_000),
        Reply(b""),
        Reply([]),
        Reply({"choices": [{"text": 5}]}),
        Reply(vllm_answer([vllm_choice("1", [float("nan"), -1.0])], 2)),
        Reply(GOOD, headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda reply: f"{reply.status}-{reply.fault}-{str(reply.body)[:9]}",
)
def test_what_may_pass_is_tried_again(fault):
    limits = Limits(read_seconds=0.2 if fault.fault == "hang" else 5.0)
    with FakeServer(first_then_good(fault)) as server:
        answer = only_answer(policy_for(server.url, limits=limits, sleep=(waits := Waits())))
        assert len(server.calls) == 2
        assert server.calls[0].body == server.calls[1].body
    assert answer.error is None
    assert answer.completions[0].text == "1"
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (400, "shorten"),
        (401, "set the environment variable REVERSE_O1_API_KEY"),
        (403, "REVERSE_O1_API_KEY"),
        (404, "address"),
        (413, "shorten"),
        (302, "address"),
        (501, "logs"),
    ],
)
def test_what_no_retry_mends_is_said_at_once(status, mend):
    said = Reply({"error": {"message": "because\nof this"}}, status=status, headers={"Location": "/elsewhere"})
    with FakeServer(lambda call: said) as server:
        answer = only_answer(policy_for(server.url))
        assert len(server.calls) == 1
    assert answer.completions == ()
    assert answer.error.status == status
    assert mend in str(answer.error)
    assert "because of this" in str(answer.error)


def test_a_failed_request_leaves_its_mates_alone():
    def picky(call):
        return Reply(b"no", status=400) if call.body["prompt"] == "bad" else GOOD

    with FakeServer(picky) as server, policy_for(server.url) as policy:
        answers = policy.complete([Request("a"), Request("bad"), Request("b")])
    assert [bool(answer.completions) for answer in answers] == [True, False, True]
    assert [answer.error is None for answer in answers] == [True, False, True]


def test_draws_before_the_failure_are_kept():
    with FakeServer(lambda call: GOOD if call.number < 2 else Reply(b"", status=400)) as server:
        answer = only_answer(policy_for(server.url), Request("p", n=4))
    assert len(answer.completions) == 2
    assert answer.error.status == 400


def test_retries_end_and_their_waits_are_full_jitter_repeated_by_seed():
    def waits_of(seed: int) -> list[float]:
        limits = Limits(retries=8, backoff_seconds=1.0, max_backoff_seconds=6.0, call_seconds=1000.0)
        with FakeServer(lambda call: Reply(b"", status=500)) as server:
            answer = only_answer(policy_for(server.url, seed=seed, limits=limits, sleep=(waits := Waits())))
            assert len(server.calls) == 9
        assert answer.error.status == 500
        assert "attempt 9" in str(answer.error)
        return list(waits)

    waits = waits_of(0)
    assert all(0.0 <= wait <= min(6.0, 2.0**i) for i, wait in enumerate(waits))
    assert max(waits) > 2.0
    assert waits_of(0) == waits
    assert waits_of(1) != waits


def test_retry_after_is_honoured():
    busy = Reply(b"", status=429, headers={"Retry-After": "3.5"})
    with FakeServer(first_then_good(busy)) as server:
        answer = only_answer(policy_for(server.url, sleep=(waits := Waits())))
    assert answer.error is None
    assert waits == [3.5]


def test_a_wait_beyond_the_deadline_is_not_begun():
    busy = Reply(b"", status=429, headers={"Retry-After": "600"})
    with FakeServer(lambda call: busy) as server:
        answer = only_answer(policy_for(server.url, sleep=(waits := Waits())))
        assert len(server.calls) == 1
    assert waits == []
    assert answer.error.status == 429
    assert "600.0 s is beyond call_seconds" in str(answer.error)


@pytest.mark.parametrize("fault", ["hang", "drip", "drip-head"])
@pytest.mark.parametrize("limit", ["read_seconds", "call_seconds"])
def test_no_slow_server_holds_a_call_beyond_its_deadline(fault, limit):
    limits = Limits(**{"connect_seconds": 0.01, "read_seconds": 5.0, "call_seconds": 5.0, "retries": 0, limit: 0.1})
    with FakeServer(lambda call: Reply(GOOD, fault=fault)) as server:
        start = time.monotonic()
        answer = only_answer(policy_for(server.url, limits=limits))
        assert time.monotonic() - start < 2.0
    assert answer.completions == ()
    assert "0.1" in str(answer.error)


def test_a_giant_body_is_left_unread():
    size = 64 << 20
    with FakeServer(lambda call: Reply(b" " * size)) as server:
        answer = only_answer(policy_for(server.url, limits=Limits(body_bytes=1 << 16)))
        assert len(server.calls) == 1
        assert server.bytes_sent < size
    assert "answer above 65536 bytes" in str(answer.error)


def test_nobody_there_is_an_error_and_no_hang():
    answer = only_answer(policy_for(closed_port()))
    assert answer.error.status is None
    assert "check that the server runs" in str(answer.error)


# ---- the key


def test_the_key_is_in_no_message_log_or_repr(caplog):
    key = "sk-not-for-your-eyes"
    caplog.set_level(logging.DEBUG)
    echo = Reply({"error": {"message": f"wrong key {key}: {key}"}}, status=401)
    with FakeServer(lambda call: echo) as server:
        policy = policy_for(server.url, api_key=key)
        answer = only_answer(policy)
        assert server.calls[0].headers["authorization"] == f"Bearer {key}"
    assert "wrong key ***: ***" in str(answer.error)
    shown = [str(answer), repr(answer.error), repr(policy), str(policy), *(r.getMessage() for r in caplog.records)]
    assert not any(key in text for text in shown)


def test_the_key_comes_from_the_environment_and_stays_at_home(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "from-env")
    with FakeServer(lambda call: GOOD) as other:
        away = Reply(b"", status=307, headers={"Location": other.url + "/v1/completions"})
        with FakeServer(lambda call: away) as server:
            answer = only_answer(policy_for(server.url, api_key_env="SOME_KEY"))
            assert server.calls[0].headers["authorization"] == "Bearer from-env"
        assert other.calls == []
    assert answer.error.status == 307


@pytest.mark.parametrize("key", ["two words", "line\nend", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(ValueError) as refused:
        policy_for("http://localhost", api_key=key)
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://me:secret@host", "http://[::1", "http://h?k=1"]
)
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(ValueError, match="base_url must read") as refused:
        policy_for(url)
    assert "secret" not in str(refused.value)


def test_limits_and_capabilities_that_nothing_can_keep_are_refused():
    for wrong in ({"retries": -1}, {"concurrency": 0}, {"read_seconds": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)
    with pytest.raises(ValueError, match="neither completions nor chat"):
        policy_for("http://localhost", capabilities=Capabilities(completions=False))


# ---- the probe


def strict(**refused):
    """A table model behind a server that refuses requests with one of these fields or at one of these paths."""
    model = TableModel(**{name: refused.pop(name) for name in list(refused) if name.startswith("with_")})

    def answer(call):
        for field, status in refused.items():
            if field in call.body or call.path.endswith(f"v1/{field}"):
                return Reply({"detail": f"no {field}"}, status=status)
        return model(call)

    return answer


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (strict(), Capabilities()),
        (strict(with_logprobs=False, with_n=False), Capabilities(logprobs=False, n=False)),
        (strict(logprobs=400), Capabilities(logprobs=False)),
        (strict(n=422), Capabilities(n=False)),
        (strict(n=400, logprobs=500), Capabilities(logprobs=False, n=False)),
        (
            lambda call: vllm_answer([vllm_choice("1", [-1.0, -1.0])], 2, cached=call.number * 16),
            Capabilities(n=False, prefix_cache=True),
        ),
        (
            lambda call: vllm_answer([vllm_choice("1", None) | {"token_ids": [5, 7]}], 2),
            Capabilities(logprobs=False, n=False, token_ids=True),
        ),
        (
            lambda call: vllm_chat_answer("1", [("1", -1.0)]) if "chat" in call.path else Reply(b"", status=404),
            Capabilities(completions=False, chat=True, n=False),
        ),
    ],
)  # fmt: skip
def test_the_probe_finds_out_what_a_server_can_do(server, found):
    with FakeServer(server) as fake, policy_for(fake.url, capabilities=None, limits=Limits(retries=0)) as policy:
        assert policy.capabilities == found
        asked = len(fake.calls)
        assert asked <= 10
        assert policy.capabilities == found
        assert len(fake.calls) == asked


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (404, 2), (400, 8)])
def test_a_server_that_refuses_every_probe_is_an_error(status, asked):
    with FakeServer(lambda call: Reply(b"", status=status)) as server:
        with policy_for(server.url, capabilities=None) as policy, pytest.raises(RemoteError) as refused:
            policy.complete([Request("p")])
        assert len(server.calls) == asked
    assert refused.value.status == status

"""A server that does not take a field is asked without it where that is no loss, and says which one it was where it is."""

from __future__ import annotations

import json

import pytest

from models.abilities import PolicyWarning
from models.remote.answers import Capabilities, Request, refused_field
from models.remote.client import RemoteClient
from tests.models.servers import FakeServer, Reply, vllm_answer, vllm_choice

GOOD = vllm_answer([vllm_choice("1", [-0.5, -0.5])], 2)
SENT = ("model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "logprobs")

OPENAI = "Unsupported parameter: '{}' is not supported with this model."
WAYS_TO_SAY = {  # how servers name a field that they do not take
    "openai": lambda name: {"error": {"message": OPENAI.format(name), "param": name, "code": "unsupported_parameter"}},
    "openai, older": lambda name: {"error": {"message": f"Unrecognized request argument supplied: {name}"}},
    "vllm": lambda name: {"object": "error", "message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}')}}]"},
    "fastapi": lambda name: {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 7}]},
    "google": lambda name: {"error": {"message": f'Unknown name "{name}": Cannot find field.', "code": 400}},
}
TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens (4100 in the messages, 100 in "
    "the completion). Please reduce the length of the messages or completion.",
    "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context length is 4096 tokens.",
    "max_tokens must not exceed 4096; larger values are not supported",
    "the request exceeds the available context size",
)


def ask(server: FakeServer, request: Request, **settings):
    with RemoteClient(server.url, "small", **{"capabilities": Capabilities(), **settings}) as client:
        (first,) = client.complete([request])
        (second,) = client.complete([request])
    return first, second


def refusing(say, *names: str, status: int = 400):
    def answer(call):
        refused = next((name for name in names if name in call.body), None)
        return GOOD if refused is None else Reply(say(refused), status=status)

    return answer


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("say", WAYS_TO_SAY.values(), ids=WAYS_TO_SAY)
def test_a_limit_by_its_older_name_is_asked_by_the_newer_one(say, status):
    with FakeServer(refusing(say, "max_tokens", status=status)) as server:
        first, second = ask(server, Request("p", max_tokens=9))
        bodies = [call.body for call in server.calls]
    assert (first.error, second.error) == (None, None)
    assert len(bodies) == 3  # the second request knows
    assert [body.get("max_completion_tokens") for body in bodies] == [None, 9, 9]
    assert {**bodies[1], "max_tokens": 9, "max_completion_tokens": 9} == {**bodies[0], "max_completion_tokens": 9}


@pytest.mark.parametrize("say", WAYS_TO_SAY.values(), ids=WAYS_TO_SAY)
def test_a_server_without_seeds_is_asked_without_and_a_warning_says_what_that_costs(say):
    with FakeServer(refusing(say, "seed")) as server:
        with pytest.warns(PolicyWarning, match="takes no seed: no answer can be repeated") as told:
            first, second = ask(server, Request("p"))
        assert len(server.calls) == 3
    assert len(told) == 1
    assert (first.error, second.error) == (None, None)


def test_several_fields_are_given_up_one_after_the_other():
    request = Request("p", temperature=1.0, top_p=1.0)
    with FakeServer(refusing(WAYS_TO_SAY["openai"], "max_tokens", "stop", "temperature", "top_p")) as server:
        first, _ = ask(server, request)
        assert len(server.calls) == 6
        assert {"stop", "temperature", "top_p", "max_tokens"}.isdisjoint(server.calls[-1].body)
    assert first.completions[0].text == "1"


@pytest.mark.parametrize(
    ("name", "request_", "extra"),
    [
        ("temperature", Request("p", temperature=0.7), {}),
        ("top_p", Request("p", top_p=0.9), {}),
        ("logprobs", Request("p"), {}),
        ("top_k", Request("p"), {"top_k": 0}),
        ("seed", Request("p"), {"seed": 3}),
    ],
)
def test_a_field_that_is_needed_is_named_in_one_line(name, request_, extra):
    with FakeServer(refusing(WAYS_TO_SAY["fastapi"], name)) as server:
        first, _ = ask(server, request_, extra=extra)
        assert len(server.calls) == 2  # one a request
    assert f"the server does not take {name}" in str(first.error)
    assert "shorten" not in str(first.error)
    assert "\n" not in str(first.error)
    assert first.error.field == name


def test_both_names_of_the_limit_refused_end_in_an_error():
    with FakeServer(refusing(WAYS_TO_SAY["openai"], "max_tokens", "max_completion_tokens")) as server:
        first, _ = ask(server, Request("p"))
    assert "does not take max_completion_tokens" in str(first.error)


def test_a_probe_finds_out_what_is_refused():
    with FakeServer(refusing(WAYS_TO_SAY["vllm"], "max_tokens")) as server:
        with RemoteClient(server.url, "small") as client:
            assert client.probe().completions
            (answer,) = client.complete([Request("p", max_tokens=5)])
        assert server.calls[-1].body["max_completion_tokens"] == 5
    assert answer.error is None


@pytest.mark.parametrize("message", TOO_LONG)
def test_a_prompt_that_is_too_long_is_no_refused_field(message):
    assert refused_field(json.dumps({"error": {"message": message, "param": "max_tokens"}}).encode(), SENT) is None
    with FakeServer(lambda call: Reply({"error": {"message": message}}, status=400)) as server:
        first, _ = ask(server, Request("p"))
        assert len(server.calls) == 2
    assert "shorten the prompt" in str(first.error)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"model 'small' is not supported", b"unknown", b'{"error": "Unsupported: max_tokens_total"}'],
)
def test_what_names_no_field_names_none(body):
    assert refused_field(body, SENT) is None

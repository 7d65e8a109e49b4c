"""The plain policy continues text: token for token what it would write, and what other engines need to build on it."""

from __future__ import annotations

import json
import math

import pytest
from fastapi.testclient import TestClient

from serve.api.app import create_app
from serve.api.served import Served
from serve.engine.engine import Engine
from solve.solver import Solver

PROMPT = "3 7 8 8 = 24\n"


@pytest.fixture(scope="module")
def solver() -> Solver:
    return Solver("countdown4think")


@pytest.fixture(scope="module")
def client(solver):
    engine = Engine(solver, slots=8, queue=64)
    yield TestClient(create_app(Served(engine, "net")))
    engine.close()


def told(client: TestClient, prompt=PROMPT, **fields) -> dict:
    answer = client.post(
        "/v1/completions", json={"model": "net", "prompt": prompt, "temperature": 0, "max_tokens": 9, **fields}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_greedy_text_is_the_policys_own_chain_token_for_token(client, solver):
    task = solver.shelved.task
    ((chain,),) = solver.shelved.policy.chains(task, [task.parse_problem(PROMPT)], temperature=0.0)
    ids = [token for step in chain.step_tokens for token in step]
    asked = task.context(task.parse_problem(PROMPT), ())
    whole = told(client, asked, max_tokens=len(ids), return_token_ids=True, logprobs=0)
    (choice,) = whole["choices"]
    assert choice["token_ids"] == ids
    assert choice["text"] == task.decode(ids)
    assert math.isclose(sum(choice["logprobs"]["token_logprobs"]), chain.logprob, rel_tol=1e-5)
    assert whole["usage"] == {
        "prompt_tokens": len(choice["prompt_token_ids"]), "completion_tokens": len(ids),
        "total_tokens": len(choice["prompt_token_ids"]) + len(ids),
    }  # fmt: skip


def test_tokens_go_in_and_come_out_and_go_on_as_one_text(client):
    whole = told(client, max_tokens=8, return_token_ids=True)["choices"][0]
    first = told(client, max_tokens=3, return_token_ids=True)["choices"][0]
    prompt = first["prompt_token_ids"] + first["token_ids"]
    rest = told(client, prompt, max_tokens=5, return_token_ids=True)["choices"][0]
    assert first["token_ids"] + rest["token_ids"] == whole["token_ids"]
    assert first["finish_reason"] == "length"


def test_the_most_probable_tokens_of_a_place_are_told_with_their_log_probabilities(client):
    (choice,) = told(client, logprobs=3, max_tokens=6)["choices"]
    text, said = choice["text"], choice["logprobs"]
    for token, logprob, best in zip(said["tokens"], said["token_logprobs"], said["top_logprobs"], strict=True):
        assert best[token] == logprob == max(best.values())
        assert len(best) <= 3
        assert sum(map(math.exp, best.values())) <= 1 + 1e-5
    places = [text.index(token, at) - at for token, at in zip(said["tokens"], said["text_offset"], strict=True)]
    assert set(places) <= {0, 1}  # a blank may stand before a word


def test_samples_follow_the_policy_at_the_temperature(client):
    best = told(client, logprobs=20, max_tokens=1)["choices"][0]["logprobs"]["top_logprobs"][0]
    for temperature in (1.0, 0.5):
        texts = [
            choice["text"]
            for start in range(0, 512, 8)
            for choice in told(client, max_tokens=1, temperature=temperature, seed=start, n=8)["choices"]
        ]
        mass = {token: math.exp(logprob / temperature) for token, logprob in best.items()}
        for token, weight in sorted(mass.items(), key=lambda item: -item[1])[:3]:
            expected = weight / sum(mass.values())
            assert abs(texts.count(token) / 512 - expected) < 4 * math.sqrt(expected * (1 - expected) / 512) + 0.02


def test_a_text_ends_at_a_stop_and_depends_on_no_other(client):
    alone = [told(client, f"{a} 7 8 8 = 24\n", temperature=1, seed=a) for a in range(1, 5)]
    together = told(client, [f"{a} 7 8 8 = 24\n" for a in range(1, 5)], temperature=1, seed=1)
    assert together["choices"][0]["text"] == alone[0]["choices"][0]["text"]
    again = told(client, [f"{a} 7 8 8 = 24\n" for a in range(1, 5)], temperature=1, seed=1)
    assert [c["text"] for c in again["choices"]] == [c["text"] for c in together["choices"]]
    cut = told(client, stop=["="], max_tokens=40)["choices"][0]
    assert "=" not in cut["text"]
    assert cut["finish_reason"] == "stop"


@pytest.mark.parametrize(("fields", "said"), [
    ({"prompt": []}, "prompt"), ({"prompt": [[]]}, "prompt"), ({"prompt": [10**6]}, "each from 0 to"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**6}, "does not fit"), ({"echo": True}, "echo is not served"), ({"suffix": "x"}, "suffix is not served"),
    ({"best_of": 2}, "best_of is not served"), ({"prompt_logprobs": 1}, "prompt_logprobs is not served"),
    ({"logprobs": 99}, "logprobs"),
    ({"model": "gpt"}, "use net"), ({"prompt": ["x"] * 65}, "prompt"),
])  # fmt: skip
def test_what_cannot_be_continued_is_refused(client, fields, said):
    answer = client.post("/v1/completions", json={"model": "net", "prompt": PROMPT, **fields})
    assert answer.status_code in (400, 404)
    assert said in answer.json()["error"]["message"]


def streamed(client: TestClient, body: dict) -> list[dict]:
    """Its events but the last one, which says that it is done."""
    events = client.post("/v1/completions", json=body | {"stream": True}).text.split("\n\n")
    assert events[-2] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]


@pytest.mark.parametrize("stop", [None, "=", ["8 * 4", " |"], "\n"])
@pytest.mark.parametrize("temperature", [0, 1.3])
def test_a_stream_brings_tokens_as_they_come_which_join_to_the_whole_text(client, stop, temperature):
    body = {
        "model": "net", "prompt": [PROMPT, "1 2 3 4 = 10\n"], "temperature": temperature, "max_tokens": 24, "stop": stop,
        "stream_options": {"include_usage": True}, "return_token_ids": True, "logprobs": 2, "n": 2,
    }  # fmt: skip
    events = streamed(client, body)
    whole = client.post("/v1/completions", json=body).json()
    assert events[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        parts = [part for event in events for part in event["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [token for part in parts for token in part["token_ids"]] == choice["token_ids"]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            assert [entry for part in parts for entry in part["logprobs"][name] or []] == choice["logprobs"][name]
        assert [part["finish_reason"] for part in parts] == [*[None] * (len(parts) - 1), choice["finish_reason"]]
        assert len(parts) > min(3, len(choice["text"].split()) // 4)


def test_a_stream_holds_back_what_a_stop_may_still_take_away(client):
    text = told(client, max_tokens=9)["choices"][0]["text"]
    words = text.split()
    never = f"{' '.join(words[1:4])} and more"  # begins in the text and does not end there
    parts = [part["text"] for event in streamed(
        client, {"model": "net", "prompt": PROMPT, "temperature": 0, "max_tokens": 9, "stop": never}
    ) for part in event["choices"]]  # fmt: skip
    assert "".join(parts) == text
    assert max(len(part.split()) for part in parts) >= 3

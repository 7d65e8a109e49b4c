"""What a served model thinks before it answers is no step, is paid, and is handed on by nobody, wherever its server puts it."""

from __future__ import annotations

import pytest

from models.remote.answers import Capabilities, Request, parse_answer, wire_body
from models.remote.client import Limits, RemoteClient
from models.remote.evaluator import RemoteEvaluator
from models.remote.policy import RemotePolicy
from models.remote.thoughts import ALLOWED, PAIRS, apart
from tests.models.fakes import SumTask
from tests.models.servers import Call, FakeServer, Reply

THOUGHT = "xqzw vkjb\n- mprw < 3 [qq]\nfjhv"
STEP, REST = "1 + 2 = 3", "\nthe next line"
LIMITS = Limits(connect_seconds=1.0, read_seconds=5.0, call_seconds=30.0, retries=0)
FORMS = {
    **{opener: f"{opener}\n{THOUGHT}\n{closer}\n\n" for opener, closer in PAIRS},
    "closed alone": f"{THOUGHT}\n</think>\n",
    "twice": f"<think>{THOUGHT}</think>\n<think>{THOUGHT}</think>",
    "one in another": f"<think>{THOUGHT}<think>{THOUGHT}</think>{THOUGHT}</think>\n",
    "capitals and blanks": f"< Think >{THOUGHT}</\N{NO-BREAK SPACE}THINK >\n",
    "behind a line": f"\n <reasoning>{THOUGHT}</reasoning> ",
}


def chat(content: str | None, finish: str = "stop", usage: dict | None = None, **fields: object) -> dict:
    """A chat answer of one choice."""
    message = {"role": "assistant", "content": content, **fields}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


def words_of(thought: str) -> list[str]:
    """Words of it that stand nowhere else."""
    return [word for word in thought.split() if len(word) == 4]


@pytest.mark.parametrize("form", FORMS)
def test_a_thought_in_the_text_is_taken_apart_and_the_step_is_its_first_line(form):
    (one,), _ = parse_answer(chat(FORMS[form] + STEP + REST), Request("p", max_tokens=500))
    assert (one.text, one.finish, one.thought) == (STEP, "stop", True)


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_is_cut_anywhere_lets_out_no_word_of_its_thought(form):
    whole = FORMS[form] + STEP
    closed_alone = form == "closed alone"  # before its mark nothing says that it is a thought
    for end in range(len(FORMS[form]) if closed_alone else 0, len(whole)):
        (one,), _ = parse_answer(chat(whole[:end], "length"), Request("p", max_tokens=500))
        assert not any(word[:2] in one.text for word in words_of(THOUGHT)), whole[:end]
        assert STEP.startswith(one.text), whole[:end]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "reasoning_details", "thinking"])
@pytest.mark.parametrize("content", [None, "", f"\n\n{STEP}{REST}"])
def test_a_thought_in_a_field_of_its_own_is_no_step(name, content):
    (one,), _ = parse_answer(
        chat(content, "stop" if content else "length", **{name: THOUGHT}), Request("p", max_tokens=500)
    )
    assert one.thought
    assert (one.text, one.finish) == ((STEP, "stop") if content else ("", "other"))


def test_a_thought_that_is_told_in_numbers_alone_is_paid_and_without_an_answer_no_step():
    usage = {"completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 300}}
    (one,), _ = parse_answer(chat("", "length", usage), Request("p", max_tokens=500))
    assert (one.text, one.finish, one.tokens, one.thought) == ("", "other", 300, True)


@pytest.mark.parametrize("listed", ["all", "answer"])
def test_log_probabilities_of_thoughts_are_not_those_of_the_step(listed):
    thought, answer = f"<think>{THOUGHT}\n</think>\n", STEP + REST
    texts = [*([thought] if listed == "all" else []), *answer]
    choice = chat(thought + answer)["choices"][0]
    choice["logprobs"] = {"content": [{"token": text, "logprob": -9.0 if text == thought else -0.5} for text in texts]}
    (one,), _ = parse_answer({"choices": [choice]}, Request("p", max_tokens=500))
    assert one.logprob == pytest.approx(-0.5 * (len(STEP) + 1))
    assert THOUGHT not in "".join(one.token_texts)
    assert one.tokens == len(texts)


@pytest.mark.parametrize(
    "text", ["3 < 4", "a[1] = 2", "think of 3 + 4", "x <thinkable> y", "the end of <", "1 + 2 = 3", "", "</thinker>"]
)
@pytest.mark.parametrize("cut", [False, True])
def test_what_only_looks_like_a_mark_stays(text, cut):
    assert apart(text, cut=cut) == (text, False)


def test_a_model_that_thinks_gets_room_and_no_stop_within_its_thoughts():
    body = wire_body(
        "m", Request("p", max_tokens=9), Capabilities(completions=False, chat=True, thinks=ALLOWED), ["stop"]
    )
    assert "stop" not in body


def thinks_first(call: Call) -> Reply | dict:
    """A chat server whose model thinks 40 words before each step of a sum; it has no other route."""
    if call.path.endswith("/completions") and "chat" not in call.path:
        return Reply({"error": "no such route"}, status=404)
    thought = f"<think>\n{THOUGHT}\n</think>\n\n"
    text = thought + "1\n" if call.body["max_tokens"] > ALLOWED else thought[: call.body["max_tokens"]]
    finish = "stop" if call.body["max_tokens"] > ALLOWED else "length"
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": finish} for i in range(call.body.get("n", 1))
    ]
    return {"choices": choices, "usage": {"completion_tokens": 45 * len(choices)}}


@pytest.fixture
def thinking():
    declared = Capabilities(logprobs=False, completions=False, chat=True, thinks=ALLOWED)
    with FakeServer(thinks_first) as server:
        client = RemoteClient(server.url, "r1", limits=LIMITS, capabilities=declared)
        yield client
        client.close()


def test_a_probe_finds_out_that_a_model_thinks(thinking):
    assert thinking.probe().thinks == ALLOWED


def test_chains_and_searches_of_a_model_that_thinks_hold_its_steps_alone(thinking):
    task = SumTask(max_steps=3)
    problem = task.problems("dev", 1)[0]
    ((chain,),) = RemotePolicy(thinking, few_shot=0).chains(task, [problem])
    assert chain.steps
    assert set(chain.steps) == {"1\n"}
    assert chain.tokens == 45 * len(chain.steps)
    evaluator = RemoteEvaluator(thinking, task)
    found = evaluator.expand(evaluator.begin([problem]).handles, 1)
    assert [evaluator.steps(handle) for handle in found.handles.tolist()] == [["1\n"]]
    assert found.leaf_tokens.tolist() == [45]

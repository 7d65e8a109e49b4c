"""The parser of remote answers reads what real servers write, and refuses everything else in one way only."""

from __future__ import annotations

import copy
import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.remote.answers import AnswerError, Request, draw_seed, error_text, parse_answer, retry_after
from tests.models.servers import vllm_answer, vllm_chat_answer, vllm_choice

ASKED = Request("2 3 = 5\n", n=2, max_tokens=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\ud800")
FIELDS = st.sampled_from(
    [
        "choices",
        "text",
        "message",
        "content",
        "logprobs",
        "tokens",
        "token_logprobs",
        "token",
        "logprob",
        "usage",
        "index",
    ]
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5), max_leaves=25
)


def good() -> dict:
    return vllm_answer([vllm_choice("12", [-0.5, -0.25, -1.0]), vllm_choice("3", [-2.0, 0.0], 1)], 5)


def test_vllm_completions_are_read_with_the_newline_that_ends_them():
    found, cached = parse_answer(good(), ASKED)
    assert [(one.text, one.logprob, one.tokens, one.finish) for one in found] == [
        ("12", -1.75, 3, "stop"),
        ("3", -2.0, 2, "stop"),
    ]
    assert found[0].token_texts == ("1", "2", "\n")
    assert found[0].token_logprobs == (-0.5, -0.25, -1.0)
    assert cached == 0


def test_vllm_chat_answers_are_read():
    found, _ = parse_answer(vllm_chat_answer("3 + 4", [("3 +", -0.5), (" 4", -0.25), ("\n", -0.125)]), ASKED)
    assert [(one.text, one.logprob, one.tokens, one.finish) for one in found] == [("3 + 4", -0.875, 3, "stop")]


def test_llama_cpp_completions_with_logprobs_in_the_shape_of_chat_are_read():
    content = [{"id": 28, "token": "7", "bytes": [55], "logprob": -0.5, "top_logprobs": []}]
    choice = {"text": "7", "index": 0, "logprobs": {"content": content}, "finish_reason": "length"}
    answer = {"choices": [choice], "usage": {"completion_tokens": 1}, "timings": {"prompt_n": 9}}
    (one,), _ = parse_answer(answer, ASKED)
    assert (one.text, one.logprob, one.finish) == ("7", -0.5, "length")


def test_a_server_that_ignores_stop_is_cut_at_the_newline_and_all_tokens_are_paid():
    choice = vllm_choice("", None)
    choice |= {"text": "12\n34", "finish_reason": "length"}
    choice["logprobs"] = {"tokens": ["1", "2\n3", "4"], "token_logprobs": [-1.0, -2.0, -4.0]}
    (one,), _ = parse_answer(vllm_answer([choice], 3), ASKED)
    assert (one.text, one.finish, one.logprob, one.tokens) == ("12", "stop", -3.0, 3)


def test_tokens_decoded_beyond_the_newline_do_not_enter_the_logprob():
    choice = vllm_choice("1", [-1.0, -2.0])
    choice["logprobs"] |= {"tokens": ["1", "\n", "9"], "token_logprobs": [-1.0, -2.0, -4.0]}
    (one,), _ = parse_answer(vllm_answer([choice], 3), ASKED)
    assert (one.logprob, one.tokens) == (-3.0, 3)


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"tokens": None}, {"content": []}, {"tokens": ["3"], "token_logprobs": [None]}]
)
def test_absent_logprobs_are_none_and_not_certainty(logprobs):
    choice = {"text": "3", "finish_reason": "stop", "logprobs": logprobs}
    (one,), _ = parse_answer({"choices": [choice]}, ASKED)
    assert one.logprob is None


def test_choices_come_in_the_order_of_their_indices():
    answer = good()
    answer["choices"].reverse()
    assert parse_answer(answer, ASKED) == parse_answer(good(), ASKED)


@pytest.mark.parametrize(
    ("counted", "paid"),
    [(5, [3, 2]), (8, [5, 3]), (1, [3, 2]), (10**30, [10, 8]), (-4, [3, 2]), (None, [3, 2])],
)
def test_paid_tokens_are_what_the_server_counts_within_reason(counted, paid):
    answer = good()
    answer["usage"]["completion_tokens"] = counted
    assert [one.tokens for one in parse_answer(answer, ASKED)[0]] == paid


def test_a_server_that_counts_nothing_is_paid_a_token_a_byte():
    (one,), _ = parse_answer({"choices": [{"text": "7é", "finish_reason": "stop"}]}, ASKED)
    assert one.tokens == 3 + 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("choices",), []),
        (("choices",), {}),
        (("choices",), [good()["choices"][0]] * 3),
        (("choices", 0), "12"),
        (("choices", 0, "text"), None),
        (("choices", 0, "text"), 12),
        (("choices", 0, "text"), "1" * 100),
        (("choices", 0, "finish_reason"), ["stop"]),
        (("choices", 0, "index"), True),
        (("choices", 0, "token_ids"), [-1]),
        (("choices", 0, "logprobs"), [-1.0]),
        (("choices", 0, "logprobs", "tokens"), ["1", "2"]),
        (("choices", 0, "logprobs", "tokens", 0), 1),
        (("choices", 0, "logprobs", "token_logprobs", 0), math.nan),
        (("choices", 0, "logprobs", "token_logprobs", 0), -math.inf),
        (("choices", 0, "logprobs", "token_logprobs", 0), 0.5),
        (("choices", 0, "logprobs", "token_logprobs", 0), 10**400),
        (("choices", 0, "logprobs", "token_logprobs", 0), -(10**400)),
        (("choices", 0, "logprobs", "token_logprobs", 0), False),
        (("choices", 0, "logprobs", "token_logprobs", 0), "-1"),
        (("usage",), 5),
        (("usage", "completion_tokens"), "5"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(path, value):
    answer = good()
    holder = answer
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(AnswerError) as refused:
        parse_answer(answer, ASKED, max_text_chars=50)
    assert "\n" not in str(refused.value)


def holds(payload: object) -> bool:
    """Whether the payload was accepted; what is accepted must be sound."""
    try:
        found, cached = parse_answer(payload, ASKED)
    except AnswerError:
        return False
    assert 1 <= len(found) <= ASKED.n
    assert cached >= 0
    for one in found:
        one.text.encode()
        assert "\n" not in one.text
        assert one.logprob is None or -1e15 < one.logprob <= 0.0
        assert one.tokens >= len(one.token_texts)
        assert one.finish in ("stop", "length", "other")
    return True


@given(JSON)
def test_the_parser_is_total_on_any_json(payload):
    holds(payload)
    holds({"choices": [payload]})
    holds({"choices": [{"text": "1", "logprobs": payload}]})


@given(st.data())
def test_the_parser_is_total_on_answers_with_one_part_replaced(data):
    answer = copy.deepcopy(good())
    places = []

    def walk(holder):
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            places.append((holder, key))
            if isinstance(holder[key], list | dict):
                walk(holder[key])

    walk(answer)
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(JSON)
    holds(answer)
    assert holds(good())


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_error_texts_are_total(body):
    assert isinstance(error_text(body), str)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "no such model", "type": "NotFound"}}', "no such model"),
        (b'{"error": "busy"}', "busy"),
        (b'{"detail": [{"msg": "too long"}]}', '[{"msg": "too long"}]'),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"[" * 100_000, "[" * 800),
    ],
)
def test_error_texts_of_known_servers(body, text):
    assert error_text(body) == text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:28:30", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("-3", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after(header, datetime(2015, 10, 21, 7, 28, tzinfo=UTC)) == seconds


@given(st.text(max_size=40) | st.from_regex(r"\w{3}, \d{1,9} \w{3} \d{1,12} \d+:\d+:\d+ [+-]\d{1,20}", fullmatch=True))
def test_retry_after_is_total(header):
    assert 0.0 <= retry_after(header) < math.inf


def test_seeds_of_draws_differ_and_fit_every_server():
    seeds = {draw_seed(seed, draw) for seed in range(40) for draw in range(25)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 1 << 31 for seed in seeds)


def test_token_ids_end_with_the_step_where_a_server_ignores_its_stop():
    choice = vllm_choice("12\n34", [-1.0] * 6) | {"token_ids": [1, 2, 10, 3, 4, 10]}
    (found,), _ = parse_answer(vllm_answer([choice], 6), Request("p"))
    assert (found.text, found.token_ids, found.logprob, found.tokens) == ("12", (1, 2, 10), -3.0, 6)
    (whole,), _ = parse_answer(
        vllm_answer([vllm_choice("12", [-1.0] * 3) | {"token_ids": [1, 2, 10]}], 3), Request("p")
    )
    assert whole.token_ids == (1, 2, 10)
    unlisted = vllm_choice("12\n34", None) | {"token_ids": [1, 2, 10, 3, 4, 10]}
    (found,), _ = parse_answer(vllm_answer([unlisted], 6), Request("p"))
    assert (found.text, found.token_ids, found.tokens) == ("12", (), 6)  # nobody knows where the step ends in them


def test_no_choice_is_free_where_a_server_counts_nothing():
    found, _ = parse_answer(vllm_answer([vllm_choice("1", None), vllm_choice("2", None, 1)], 0), ASKED)
    assert [one.tokens for one in found] == [1, 1]

"""A step is worked out another way, in a question of its own: the surer of two lines that should agree stands."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from models.abilities import PolicyError
from models.local_policy import LocalPolicy
from models.net.policy_value import tiny_llama
from models.steps.codec import TextCodec
from models.steps.stream_types import End, Rules, Stream
from models.steps.stream_words import StreamWords
from models.trie.trie import TokenTrie
from selfplay.parts import longest_path
from tasks import make_task
from tests.models.stream_fakes import Script, together
from tests.selfplay.free_text import byte_level

TASK = make_task("sums")
WIDE = make_task("sums", operand_max=100)
TOKENIZER = byte_level(["Question: Work out 20 - 7 + 4\n", "9 - 7 = 2\n", "answer: 13\n", "yes", "no", "stop"] * 9, 420)


def written(asked: str, lines: dict[str, dict[str, float]], effort: int = 4, rules: Rules | None = None) -> Stream:
    """The stream of a model that knows `lines`: by question, what it may write there, and how much it likes each line.

    Lines of the problem follow on each other in every way that their left-hand sides allow.
    """
    codec = TextCodec(TOKENIZER, WIDE, len(TOKENIZER), few_shot=0)
    words = StreamWords.of(WIDE, codec)
    problem = WIDE.parse_problem(asked)
    forward = Script(words.vocabulary_size)
    for question, liked in lines.items():
        prompt = codec.context(f"Work out {question}\n")
        for line, weight in liked.items():
            forward.add(prompt, codec.tokens(line), weight)
            if question == asked:
                end = codec.tokens(f"answer: {line.rpartition('=')[2].strip()}\n")
                forward.add([*prompt, *codec.tokens(line)], end, 1.0)
    (stream,) = together(TokenTrie(forward), words, [problem], effort, rules or Rules(threshold=0.5))
    assert stream.tokens == sum(len(thought.tokens) for thought in stream.thoughts)
    return stream


def texts(stream: Stream) -> list[str]:
    return [thought.text for thought in stream.thoughts]


WRONG_SUM = {"7 + 4": {"7 + 4 = 12\n": 6.0, "7 + 4 = 10\n": 4.0}}


def test_what_another_way_comes_to_is_written_in_the_place_of_what_it_refuses():
    stream = written("7 + 4", WRONG_SUM | {"4 + 7": {"4 + 7 = 11\n": 9.0, "4 + 7 = 12\n": 1.0}})
    assert texts(stream) == ["7 + 4 = 12\n", "check 4 + 7 = 11\n", "no b0\n", "7 + 4 = 11\n", *texts(stream)[4:]]
    assert stream.steps[0] == "7 + 4 = 11\n"
    assert [thought.kind for thought in stream.thoughts][:4] == ["propose", "check", "undo", "propose"]


def test_question_and_line_of_a_check_are_counted():
    codec = TextCodec(TOKENIZER, WIDE, len(TOKENIZER), few_shot=0)
    check = written("7 + 4", WRONG_SUM | {"4 + 7": {"4 + 7 = 11\n": 1.0}}).thoughts[1]
    assert codec.step(check.tokens, False) == "Work out 4 + 7 4 + 7 = 11"


def test_a_line_that_is_the_surer_stands_whatever_the_check_says():
    stream = written("7 + 4", WRONG_SUM | {"4 + 7": {"4 + 7 = 11\n": 5.0, "4 + 7 = 12\n": 5.0}})
    assert texts(stream)[:2] == ["7 + 4 = 12\n", "check 4 + 7 = 11 kept\n"]  # .6 against .5
    assert stream.sure == pytest.approx(0.6 / 1.1, abs=1e-3)


def test_a_line_that_agrees_is_surer_than_either():
    stream = written(
        "7 + 4",
        {"7 + 4": {"7 + 4 = 11\n": 6.0, "7 + 4 = 10\n": 4.0}, "4 + 7": {"4 + 7 = 11\n": 9.0, "4 + 7 = 1\n": 1.0}},
    )
    assert texts(stream)[:2] == ["7 + 4 = 11\n", "check 4 + 7 = 11 yes\n"]
    assert stream.sure == pytest.approx(1 - 0.4 * 0.1, abs=1e-3)


def test_where_a_check_only_confirms_the_next_most_probable_line_is_tried():
    lines = {
        "9 - 7": {"9 - 7 = 3\n": 6.0, "9 - 7 = 2\n": 4.0},
        "3 + 7": {"3 + 7 = 10\n": 1.0}, "2 + 7": {"2 + 7 = 9\n": 1.0},
    }  # fmt: skip
    stream = written("9 - 7", lines)
    assert texts(stream)[:5] == [
        "9 - 7 = 3\n", "check 3 + 7 = 10\n", "no b0\n", "9 - 7 = 2\n", "check 2 + 7 = 9 yes\n"
    ]  # fmt: skip
    lines["2 + 7"] = {"2 + 7 = 8\n": 1.0}  # nothing agrees: the most probable of what was refused
    assert written("9 - 7", lines).steps[0] == "9 - 7 = 3\n"


COLUMNS = {
    "38 + 25": {"38 + 25 = 53\n": 6.0, "38 + 25 = 62\n": 4.0},
    "3 + 2": {"3 + 2 = 5\n": 1.0},
    "5 + 1": {"5 + 1 = 6\n": 1.0},
}


def test_a_line_of_several_digits_is_worked_out_by_several_questions():
    codec = TextCodec(TOKENIZER, WIDE, len(TOKENIZER), few_shot=0)
    stream = written("38 + 25", COLUMNS | {"8 + 5": {"8 + 5 = 13\n": 9.0, "8 + 5 = 12\n": 1.0}})
    assert texts(stream)[:4] == [
        "38 + 25 = 53\n",
        "check 8 + 5 = 13; 3 + 2 = 5; 5 + 1 = 6\n",
        "no b0\n",
        "38 + 25 = 63\n",
    ]
    check = stream.thoughts[1]
    said = "Work out 8 + 5 8 + 5 = 13 Work out 3 + 2 3 + 2 = 5 Work out 5 + 1 5 + 1 = 6"
    assert codec.step(check.tokens, False).split() == said.split()
    assert stream.sure == pytest.approx(0.9 / 1.5, abs=1e-3)  # as sure as the least sure column, against .6


def test_a_column_that_is_no_number_mends_nothing():
    stream = written("38 + 25", COLUMNS | {"8 + 5": {"8 + 5 = no\n": 1.0}})
    assert texts(stream)[1:4] == ["check 8 + 5 = no\n", "no b0\n", "38 + 25 = 62\n"]


def test_what_a_check_writes_may_be_anything_and_every_stream_ends():
    for line in ("4 + 7 =\n", "4 + 7 = x = 9\n", "4 + 7 = {}\n", "4 + 7 = -5\n", "no\n"):
        assert written("7 + 4", WRONG_SUM | {"4 + 7": {line: 1.0}}).end in ("yes", "no", "exhausted", "broken")


def test_no_effort_is_written_into_a_prompt():
    form, (problem,) = TASK.stream, TASK.problems("train", 1)
    assert form is not None
    assert form.asked(TASK.prompt(problem), 4) == TASK.prompt(problem)


def test_a_net_of_the_tasks_own_words_needs_those_of_streams():
    with pytest.raises(PolicyError, match="without stream words cannot think"):
        StreamWords.of(TASK)
    assert StreamWords.of(make_task("sums", streams=True)).form.checked


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_streams_in_a_tasks_own_words_end_whatever_the_net_writes(temperature):
    task = make_task("sums", streams=True)
    torch.manual_seed(0)
    policy = LocalPolicy(tiny_llama(len(task.vocabulary), max_positions=longest_path(task)))
    for effort in (1, 4):
        made = policy.streams(task, task.problems("dev", 40), effort, Rules(temperature=temperature), seed=1)
        assert all(stream.tokens == sum(len(thought.tokens) for thought in stream.thoughts) for stream in made)
        assert all(stream.end in get_args(End) for stream in made)

"""The words of streams: they stand behind a task's own, and every line that is written is read back."""

from __future__ import annotations

import numpy as np
import pytest

from models.steps.codec import WordCodec
from tasks import TaskError, make_task
from tasks.base import NEWLINE
from tasks.numbers.countdown import Countdown
from tasks.registry import streamed
from tasks.streams import EFFORTS, UNDOS

SMALL = {"name": "countdown", "number_max": 6, "target_max": 30}


def test_streams_add_words_and_change_no_token_of_the_task():
    plain, made = make_task(**SMALL), make_task(**SMALL, streams=True)
    assert made.vocabulary == (*plain.vocabulary, "e1", "e2", "e3", "e4", "yes", "no", "stop", "b0", "b1")
    assert made.stream_words == made.vocabulary[len(plain.vocabulary) :]
    assert plain.stream_words == make_task(**SMALL, streams=False).stream_words == ()
    rows = [task.hindsight("train", 20, np.random.default_rng(0)).tokens for task in (plain, made)]
    np.testing.assert_array_equal(*rows)
    codecs = [WordCodec(task) for task in (plain, made)]
    assert codecs[0].vocabulary_size == codecs[1].vocabulary_size == len(plain.vocabulary)


def test_a_task_without_streams_says_so():
    with pytest.raises(TaskError, match="leave streams out"):
        make_task("text", streams=True)


def test_an_effort_stands_in_the_place_of_the_prompts_last_mark():
    task = streamed(Countdown())
    (problem,) = task.problems("dev", 1)
    prompt = task.prompt(problem)
    assert task.stream.asked(prompt, 0) == prompt
    for effort in range(1, len(EFFORTS)):
        asked = task.stream.asked(prompt, effort)
        assert asked == prompt.replace("=", f"e{effort}")
        assert task.decode(task.encode(asked)) == asked
    with pytest.raises(ValueError, match="no '=' in the prompt"):
        task.stream.asked("what now\n", 1)


def test_every_line_is_read_as_it_was_written():
    form = Countdown.stream
    for depth in (0, 1, 12, None):
        line = form.back(depth)
        assert (form.kind(line), form.depth(line)) == ("undo", depth)
    steps = {
        "yes\n": "check",
        "no\n": "undo",
        "8 - 5 = 3 | 6 3\n": "propose",
        "answer 6 + 3 = 9\n": "answer",
        "\n": "propose",
    }
    assert {line: form.kind(line) for line in steps} == steps
    assert [form.ends(line) for line in steps] == [kind == "answer" for kind in steps.values()]


def test_what_follows_from_a_choice_is_what_stands_behind_the_equals_sign():
    form = Countdown.stream
    for step, chosen in (("8 - 5 = 3 | 6 3\n", "8 - 5 ="), ("answer 6 + 3 = 9\n", "answer 6 + 3 ="), ("8 -\n", "8 -")):
        assert " ".join(step.split()[: form.choice(step)]) == chosen


@pytest.mark.parametrize(("name", "moved"), [("blocksworld", 2), ("sliding", 1), ("jugs", None)])
def test_where_a_context_shows_the_present_state_alone_the_move_is_chosen_and_the_state_follows(name, moved):
    task = make_task(name, streams=True)
    assert {"on", "yes", "no", "b0"} <= set(task.stream_words)
    (problem,) = task.problems("dev", 1)
    state = task.initial_state(problem)
    for step in task.legal_steps(problem, state):
        chosen = task.stream.choice(step)
        assert moved in (None, chosen)
        _, after = task.advance(problem, state, step)
        follows = " ".join(step.split()[chosen:])
        assert task.context(problem, [step]).endswith(f"| {follows}\n") or after is None
        asked = task.stream.asked(task.context(problem, [step]), 3)
        assert asked.split(" e3 ")[1] == f"{follows}\n"


def test_efforts_are_named_and_numbered_once():
    assert list(UNDOS.items()) == [("none", 0), ("minimal", 1), ("low", 3), ("medium", 7), ("high", 15)]
    assert NEWLINE not in "".join(Countdown.stream.words(3))

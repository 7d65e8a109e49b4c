"""Text becomes a model's tokens and its tokens become steps, for a task's own words and for a real tokenizer."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from models.steps.codec import QUESTION, TextCodec, WordCodec, few_shot_examples
from tasks.base import BOS_ID, PAD_ID, Form, Problem
from tasks.numbers.countdown import Countdown
from tasks.planning.sliding import Sliding

EXTRA = 40  # embeddings beyond the tokenizer's, as models pad them


@pytest.fixture(scope="module")
def task() -> Countdown:
    return Countdown(numbers=3, number_max=9, target_min=5, target_max=30)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs, newlines merged with each other and with what stands beside them."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.Split("\n\n", "isolated")
    bare.pre_tokenizer = pre_tokenizers.Sequence([bare.pre_tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bare.decoder = decoders.ByteLevel()
    lines = ["12 + 3 = 15 | 4 15\n", "answer 4 * 5 = 20\n\n", "Question: 1 2 3 = 6\n", "a\nb\n\n\n c\n"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<end>", "<pad>"], initial_alphabet=alphabet)
    bare.train_from_iterator(lines * 50, trainer)
    added = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", pad_token="<pad>")
    added.add_tokens(["\n\n", "\n   "])
    return added


@pytest.fixture(scope="module")
def codec(tokenizer, task) -> TextCodec:
    return TextCodec(tokenizer, task, len(tokenizer) + EXTRA, few_shot=2)


def test_words_are_the_tasks_own(task):
    codec = WordCodec(task)
    assert codec.context("2 3 = 5\n") == [BOS_ID, *task.encode("2 3 = 5\n")]
    tokens = task.encode("2 + 3 = 5 | 5\n")
    assert codec.step(tokens, True) == "2 + 3 = 5 | 5\n"
    assert codec.step(tokens[:-1], False) == "2 + 3 = 5 | 5"
    assert np.flatnonzero(codec.ends[np.arange(codec.vocabulary_size)]).tolist() == task.encode("\n")


def test_a_context_is_the_examples_and_the_question(codec, tokenizer, task):
    ids = codec.context("2 3 4 = 9\n")
    assert tokenizer.decode(ids) == codec.preamble + QUESTION + "2 3 4 = 9\n"
    assert codec.context("7 7 7 = 21\n")[: len(codec._opening)] == ids[: len(codec._opening)]


@pytest.mark.parametrize(
    ("template", "before"),
    [
        ("$A <end>", []),
        ("<end> $A", ["<end>"]),  # one token begins and ends texts
        ("<pad> $A <end>", ["<pad>"]),
        ("<pad> <end> $A <end> <end>", ["<pad>", "<end>"]),
        ("$A", []),
    ],
)
def test_a_context_opens_with_what_a_tokenizer_puts_before_a_text_and_not_with_what_it_appends(
    tokenizer, task, template, before
):
    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<end>", "<pad>")}
    bare.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(ids.items()))
    added = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", pad_token="<pad>")
    codec = TextCodec(added, task, len(added), few_shot=1)
    opening = [ids[token] for token in before]
    assert (
        codec.context("2 3 4 = 9\n")
        == opening
        + added(codec.preamble, add_special_tokens=False).input_ids
        + added(QUESTION + "2 3 4 = 9\n", add_special_tokens=False).input_ids
    )
    assert ids["<end>"] not in codec.context("2 3 4 = 9\n")[len(opening) :]


@pytest.mark.parametrize("task", [Countdown(numbers=3, number_max=9), Sliding()], ids=["countdown", "sliding"])
def test_examples_are_solved_problems_in_the_tasks_own_form(task):
    text = few_shot_examples(task, 3)
    blocks = text.rstrip("\n").split("\n\n")
    assert len(blocks) == 3
    assert all(block.startswith(QUESTION) for block in blocks)
    assert few_shot_examples(task, 3) == text
    assert few_shot_examples(task, 0) == ""


def test_examples_of_countdown_are_solved_and_of_no_problem_that_measures(task):
    measured = {task.prompt(problem) for split in ("dev", "test") for problem in task.problems(split)}
    for block in few_shot_examples(task, 20).rstrip("\n").split("\n\n"):
        prompt, *steps = block.removeprefix(QUESTION).splitlines(keepends=True)
        steps[-1] = steps[-1].rstrip("\n") + "\n"
        *numbers, _, target = prompt.split()
        problem = Problem("", "countdown", (tuple(map(int, numbers)), int(target)))
        assert task.prompt(problem) == prompt not in measured
        assert task.verdict(problem, steps).reward == 1.0


def test_only_tokens_that_end_in_a_newline_and_the_end_of_text_end_a_step(codec, tokenizer):
    for token in range(codec.vocabulary_size):
        text = tokenizer.decode([token])
        sampled = token not in codec.masked
        assert codec.ends[token] == (
            (text.endswith("\n") and token not in tokenizer.all_special_ids) or text == "<end>"
        )
        if sampled and not codec.ends[token]:
            assert "\n" not in text
    assert tokenizer.pad_token_id in codec.masked
    assert codec.vocabulary_size == len(tokenizer)


def test_a_step_is_read_up_to_its_newline_and_tidied(codec, tokenizer):
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    assert codec.step(ids("  3 +  4 = 7 | 2 7") + ids("\n\n"), True) == "3 + 4 = 7 | 2 7\n"
    assert codec.step([*ids("answer 1 + 2 = 3"), tokenizer.eos_token_id], True) == "answer 1 + 2 = 3\n"
    assert codec.step(ids("3 +  4"), False) == "3 + 4"


def test_rows_keep_every_weight_and_value_at_the_same_place_in_the_text(codec, tokenizer, task):
    rows = task.hindsight("train", 6, np.random.default_rng(3))
    weights = rows.weight.copy()
    weights[rows.weight > 0] = np.random.default_rng(4).random(int((rows.weight > 0).sum())) + 0.1
    made = codec.rows(type(rows)(rows.tokens, weights, rows.value))
    for i in range(len(rows)):
        words = [t for t in rows.tokens[i].tolist() if t not in (PAD_ID, BOS_ID)]
        n = len(codec._opening)
        ids = [t for t in made.tokens[i, n:].tolist() if t != PAD_ID]
        assert tokenizer.decode(ids) == QUESTION + task.decode(words)
        assert made.tokens[i, :n].tolist() == codec._opening
        assert not made.weight[i, :n].any()
        assert np.isnan(made.value[i, :n]).all()
        places = {}  # text up to a value -> value
        for t, value in enumerate(made.value[i]):
            if not np.isnan(value):
                places[tokenizer.decode(made.tokens[i, n : t + 1].tolist())] = value
        expected = {}
        for w, value in enumerate(rows.value[i]):
            if not np.isnan(value):
                expected[QUESTION + task.decode([t for t in rows.tokens[i, : w + 1].tolist() if t != BOS_ID])] = value
        assert places == pytest.approx(expected)
        assert set(made.weight[i][made.weight[i] > 0]) <= set(weights[i].astype(np.float32))
        first = int(np.argmax(made.weight[i] > 0))
        assert (
            tokenizer.decode(made.tokens[i, n:first].tolist())
            == QUESTION + task.decode(words).partition("\n")[0] + "\n"
        )


def test_rows_of_a_task_that_is_asked_as_a_chat_teach_its_steps_alone(tokenizer, task):
    chatting = Countdown(numbers=3, number_max=9, target_min=5, target_max=30)
    chatting.form = Form(chat="on", system="Play.")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    codec = TextCodec(tokenizer, chatting, len(tokenizer), few_shot=1)
    rows = task.hindsight("train", 4, np.random.default_rng(3))
    made = codec.rows(rows)
    for i in range(len(rows)):
        text = task.decode([t for t in rows.tokens[i].tolist() if t not in (PAD_ID, BOS_ID)])
        question, steps = text.split("\n", 1)
        opening = codec.context(f"{question}\n")
        ids = made.tokens[i][made.used[i]].tolist()
        assert ids[: len(opening)] == opening
        assert tokenizer.decode(ids[len(opening) :]) == steps
        assert not made.weight[i, : len(opening)].any()
        assert made.weight[i].any()
        assert np.isfinite(made.value[i]).sum() == np.isfinite(rows.value[i]).sum()
        assert np.nansum(made.value[i]) == pytest.approx(np.nansum(rows.value[i]))

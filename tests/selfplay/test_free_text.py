"""A language model learns the very tokens that it sampled, whatever text they spell and whatever words the task's data has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from models.abilities import Step
from models.local_policy import LocalPolicy
from models.steps.codec import QUESTION, TextCodec, WordCodec
from selfplay.config import LearnerConfig
from selfplay.learn.learner import Learner, stack, trim
from selfplay.learn.replay import Replay
from selfplay.run.traces import read_rows, write_rows
from selfplay.teach.mixing import batch
from selfplay.teach.row_builder import RowBuilder
from selfplay.team import Team
from tasks import make_task
from tasks.base import PAD_ID, UNK_ID, Problem, Rows, Task
from tasks.numbers.countdown import Countdown
from tasks.planning.sliding import Sliding
from tests.selfplay.free_text import (
    END,
    FREE,
    LINES,
    TOKENIZER,
    Play,
    after_context,
    byte_level,
    encoded,
    small_llama,
    spelled,
)  # fmt: skip


@pytest.fixture(scope="module")
def play(tmp_path_factory) -> Play:
    return Play(tmp_path_factory.mktemp("data") / "sums.jsonl")


@pytest.fixture(scope="module")
def codec(play) -> TextCodec:
    return play.codec


@pytest.fixture(scope="module")
def problem(play) -> Problem:
    return play.task.problems("train")[0]


# ---- what was sampled is what is learned


def test_the_free_texts_are_none_of_the_tasks_words_and_their_tokenisations_lose_nothing(play):
    for text in FREE:
        assert UNK_ID in play.task.encode(text)
        assert TOKENIZER.decode(encoded(text)) == TOKENIZER.decode(spelled(text)) == text
        assert encoded(text) != spelled(text)


@pytest.mark.parametrize("teacher", ["star", "search"])
def test_rows_are_what_was_sampled_byte_for_byte(play, codec, teacher):
    harvest = play.harvest(teacher)
    rows, taught, told = harvest.rows, set(), set()  # told: chains and states of which the value alone learns
    assert harvest.solved == 3
    for i in range(len(rows)):
        context = next(c for c in play.lines if rows.tokens[i, : len(c)].tolist() == list(c))
        found = tuple(after_context(rows, i, context))
        if rows.weight[i].any():
            (written,) = (one for one in play.lines[context] if one.tokens == found)
            assert written.right
            assert (rows.weight[i, len(context) : len(context) + len(found)] == 1).all()
            assert TOKENIZER.decode(found) == written.text
            taught.add((context, found))
        else:
            assert any(one.tokens[: len(found)] == found for one in play.lines[context])
            assert not np.isnan(rows.value[i, len(context) + len(found) - 1])
            told.add((context, found))
    wrong = {(context, one.tokens) for context, _ in taught for one in play.lines[context] if not one.right}
    assert wrong < told  # to their ends, and states on the way there
    assert len(taught) == 3 * 3  # every right chain of every problem


def test_rows_of_another_policy_hold_the_same_text_in_the_learners_tokens(play):
    other = byte_level(LINES, 300)
    codec = TextCodec(other, play.task, len(other), few_shot=1)
    rows = play.harvest("star", codec).rows
    texts = {" ".join(one.text.replace("<end>", "\n").split()) for lines in play.lines.values() for one in lines}
    taught = np.flatnonzero(rows.weight.any(1))
    assert len(taught) >= 3
    for i in taught:
        steps = rows.tokens[i][rows.weight[i] > 0].tolist()
        text = other.decode(steps)
        assert " ".join(text.split()) in texts
        assert steps == [token for step in text.splitlines(keepends=True) for token in codec.tokens(step)]
        assert other.decode(rows.tokens[i][rows.used[i]].tolist()).startswith(codec.preamble + QUESTION)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30), min_size=1, max_size=5
    )
)
def test_any_text_comes_back_from_its_row(play, codec, problem, texts):
    sampled = [(spelled if k % 2 else encoded)(f"{text}\n") for k, text in enumerate(texts)]
    builder = RowBuilder(play.task, codec)
    builder.chain(
        problem, [Step(codec.step(ids, True), tuple(ids)) for ids in sampled], [1.0] * len(texts), [np.nan] * len(texts)
    )
    found = after_context(builder.rows(), 0, codec.context(play.task.prompt(problem)))
    assert found == [token for ids in sampled for token in ids]
    assert TOKENIZER.decode(found) == "".join(f"{text}\n" for text in texts)


# ---- how wide a row is


def test_a_row_is_as_wide_as_it_needs():
    """docs/data/sums.jsonl: chains of 7 steps; rows had room for 91 + 14 words, and this one has 255."""
    task = make_task(name="jsonl", path="docs/data/sums.jsonl")
    codec = TextCodec(TOKENIZER, task, len(TOKENIZER), few_shot=1)
    room = task.max_context_tokens + task.max_step_tokens
    steps = [*["7 " * 40 + "\n"] * (task.max_steps - 1), "answer: 15\n"]
    sampled = [encoded(step) for step in steps]
    problem = task.problems("train")[0]
    assert (task.max_steps, room, len(task.encode(task.prompt(problem) + "".join(steps)))) == (7, 105, 255)
    chain = [Step(codec.step(ids, True), tuple(ids)) for ids in sampled]
    assert task.verdict(problem, [step.text for step in chain]).legal
    assert all(len(ids) <= codec.max_step_tokens for ids in sampled)
    builder = RowBuilder(task, codec)
    builder.chain(problem, chain, [1.0] * 7, [0.5] * 7, 1.0)
    builder.state(problem, chain[:1], 0.0)
    rows = builder.rows()
    context = codec.context(task.prompt(problem))
    assert rows.tokens.shape == (2, len(context) + sum(map(len, sampled)))
    assert after_context(rows, 1, context) == sampled[0]


# ---- a token with the id of padding


def ending(codec: TextCodec, task: Task, problem: Problem) -> Rows:
    """A chain that ends with the end-of-text token, beside a longer one."""
    builder, closed = RowBuilder(task, codec), [*encoded("answer: 4"), END]
    builder.chain(problem, [Step("answer: 4\n", tuple(closed))], [1.0], [np.nan])
    short = builder.rows()
    builder = RowBuilder(task, codec)
    builder.chain(problem, [Step("so\n", tuple(encoded("so so so so so so so\n")))], [0.0], [1.0])
    return stack([short, builder.rows()])


def test_an_end_of_text_token_with_the_id_of_padding_is_learned(play, codec, problem):
    assert codec.ends[END]
    assert END == PAD_ID
    both = ending(codec, play.task, problem)
    rows = trim(Rows(both.tokens[:1], both.weight[:1], both.value[:1]))
    taught = len(encoded("answer: 4")) + 1
    assert after_context(rows, 0, codec.context(play.task.prompt(problem)))[-1] == END
    learner = Learner(play.model, LearnerConfig(), Team())
    with torch.no_grad():
        logits, _ = play.model(torch.from_numpy(rows.tokens).long())
        expected = F.cross_entropy(logits[0, -taught - 1 : -1], torch.from_numpy(rows.tokens[0, -taught:]).long())
    before = {name: tensor.clone() for name, tensor in play.model.state_dict().items()}
    losses = learner.step(both, 0.0)
    play.model.load_state_dict(before)
    assert losses["policy_weight"] == taught
    assert losses["policy_loss"] == pytest.approx(float(expected), rel=1e-4)
    assert learner.trained_tokens == both.used.sum() == rows.tokens.shape[1] + both.used[1].sum()


def test_a_token_with_the_id_of_padding_inside_a_row_is_a_token():
    tokens = np.array(
        [[5, PAD_ID, 7, PAD_ID, PAD_ID], [5, 6, PAD_ID, PAD_ID, PAD_ID], [5, PAD_ID, PAD_ID, PAD_ID, PAD_ID]], np.int32
    )
    weight, value = np.zeros((3, 5), np.float32), np.full((3, 5), np.nan, np.float32)
    weight[1, 2], value[2, 3] = 1.0, 0.0
    rows = Rows(tokens, weight, value)
    assert rows.used.sum(1).tolist() == [3, 3, 4]
    assert trim(rows).tokens.shape == (3, 4)


def test_an_end_of_text_token_with_the_id_of_padding_comes_back_from_disk(play, codec, problem, tmp_path):
    rows = ending(codec, play.task, problem)
    shard = write_rows(tmp_path / "a.parquet", rows)
    found = read_rows(tmp_path / "a.parquet", shard.sha256)
    for name in ("tokens", "weight", "value"):
        np.testing.assert_array_equal(getattr(found, name), getattr(rows, name))


# ---- what stands before a step


def test_earlier_steps_stay_as_they_were_sampled_where_the_task_shows_them(play, codec, problem):
    text, answer = "\\frac{1}{2} 七\n", "answer: 七\n"
    context, rows = codec.context(play.task.prompt(problem)), {}
    for write in (encoded, spelled):
        first, last = Step(codec.step(write(text), True), tuple(write(text))), Step(answer, tuple(write(answer)))
        builder = RowBuilder(play.task, codec)
        builder.state(problem, [first], 0.5)
        builder.step(problem, [first], last, 1.0, 0.25)
        builder.ended(problem, [first, last], 0.75)
        made = rows[write] = builder.rows()
        n, m = len(context) + len(write(text)), len(write(answer))
        assert after_context(made, 0, context) == write(text)
        assert after_context(made, 1, context) == after_context(made, 2, context) == write(text) + write(answer)
        assert [made.value[0, n - 1], made.value[1, n - 1], made.value[2, n + m - 1]] == [0.5, 0.25, 0.75]
        assert np.isfinite(made.value).sum() == 3
        assert np.flatnonzero(made.weight[1]).tolist() == list(range(n, n + m))
        assert not made.weight[[0, 2]].any()
    assert rows[encoded].tokens.shape != rows[spelled].tokens.shape


def test_a_task_that_shows_the_present_state_has_it_read_anew():
    task = Sliding(distance_min=2, distance_max=4)
    codec = TextCodec(TOKENIZER, task, len(TOKENIZER), few_shot=0)
    problem = task.problems("train", 1)[0]
    first = task.legal_steps(problem, task.initial_state(problem))[0]
    _, state = task.advance(problem, task.initial_state(problem), first)
    second = task.legal_steps(problem, state)[0]
    chain = [Step(step, tuple(spelled(step))) for step in (first, second)]
    builder = RowBuilder(task, codec)
    builder.chain(problem, chain, [1.0, 1.0], [0.5, 0.6])
    builder.step(problem, chain[:1], chain[1], 1.0, 0.6)
    builder.state(problem, chain[:1], 0.6)
    rows = builder.rows()
    contexts = [codec.context(task.context(problem, [first][:k])) for k in (0, 1, 1, 1)]
    assert contexts[0] != contexts[1]
    expected = [spelled(first), spelled(second), spelled(second), []]
    assert [after_context(rows, i, contexts[i]) for i in range(4)] == expected


# ---- free rows


def test_free_rows_come_in_the_models_tokens_once_and_replayed_ones_pass_untouched():
    task = Countdown(numbers=3, number_max=9, target_min=5, target_max=30)
    codec, words = TextCodec(TOKENIZER, task, len(TOKENIZER), few_shot=1), WordCodec(task)
    rng = np.random.default_rng(0)
    shape = (5, 60)
    tokens = rng.integers(len(task.vocabulary), len(TOKENIZER), shape).astype(np.int32)  # none of them is a word
    sampled = Rows(tokens, rng.random(shape).astype(np.float32), np.full(shape, 0.5, np.float32))
    config = LearnerConfig(value_share=0.2, rules_share=0.2)
    for teacher, share in (("random", 0.0), ("hindsight", 0.0), ("star", 0.5), ("search", 0.5)):
        replay = Replay(1)
        replay.add(sampled)
        made, plain = (
            batch(task, one, teacher, 24, replay, config, np.random.default_rng(3), share) for one in (codec, words)
        )
        n = int((made.tokens[:, 0] == plain.tokens[:, 0]).sum()) if share else 0  # rows from replay stand first
        assert len(made) == 24
        assert (n > 0) == (share > 0)
        for ours, theirs in ((made.tokens, plain.tokens), (made.weight, plain.weight), (made.value, plain.value)):
            np.testing.assert_array_equal(ours[:n, : 60 if n else 0], theirs[:n, : 60 if n else 0])
        for i in range(n, 24):
            used = made.tokens[i, : int(made.used[i].sum())].tolist()
            text = task.decode(plain.tokens[i, 1 : int(plain.used[i].sum())].tolist())
            assert TOKENIZER.decode(used) == codec.preamble + QUESTION + text
            assert UNK_ID not in plain.tokens[i]
            taught = TOKENIZER.decode(made.tokens[i][made.weight[i] > 0].tolist()).split()
            assert "".join(taught) == "".join(task.decode(plain.tokens[i][plain.weight[i] > 0].tolist()).split())


def test_a_step_reads_after_a_line_as_it_reads_within_a_text():
    """Tokenizers of the Llama 2 family put a blank before whatever they read; a step stands behind a newline."""
    pieces = ["<end>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *sorted(set(QUESTION + "answer=+123") - {" "})]
    bare = Tokenizer(models.BPE({piece: k for k, piece in enumerate(pieces)}, [], byte_fallback=True))
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    bare.decoder = decoders.Sequence(strip)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", clean_up_tokenization_spaces=False)
    task = Countdown(numbers=3, number_max=9, target_min=5, target_max=30)
    codec = TextCodec(tokenizer, task, len(tokenizer), few_shot=0)
    context = codec.context("1 + 2\n")
    steps = ["1 + 2 = 3\n", "answer: 3\n"]
    row = [*context, *(token for step in steps for token in codec.tokens(step))]
    assert tokenizer.decode(row) == QUESTION + "1 + 2\n" + "".join(steps)


def test_a_special_token_that_a_text_names_is_text(play, codec):
    text = "What does <end> mean?\n"
    for ids, said in ((codec.tokens(text), text), (codec.context(text), codec.preamble + QUESTION + text)):
        assert END not in ids
        assert TOKENIZER.decode(ids) == said
    assert END in encoded(text)


# ---- learning


def test_free_text_is_learned_to_the_byte(play, codec, problem):
    model = small_llama()
    sampled = [spelled("\\frac{七}{b}  🙂\n"), [*encoded("answer: 七"), END]]
    steps = [Step(codec.step(ids, True), tuple(ids)) for ids in sampled]
    builder = RowBuilder(play.task, codec)
    builder.chain(problem, steps, [1.0, 1.0], [np.nan, np.nan])
    learner = Learner(model, LearnerConfig(optimizer="adamw", learning_rate=1e-2, weight_decay=0.0), Team())
    losses = [learner.step(builder.rows(), 1.0)["policy_loss"] for _ in range(40)]
    assert losses[0] > 5
    assert losses[-1] < 0.1
    ((chain,),) = LocalPolicy(model).chains(play.task, [problem], temperature=0.0)
    assert list(chain.step_tokens) == [step.tokens for step in steps]

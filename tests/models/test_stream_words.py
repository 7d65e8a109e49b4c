"""A pretrained model says the words of a stream with tokens of its own, and its streams are those of a net with new words."""

from __future__ import annotations

import numpy as np
import pytest

from models.abilities import PolicyError, Step
from models.local_policy import LocalPolicy
from models.steps.codec import Codec, TextCodec, WordCodec
from models.steps.stream_types import Rules, Stream
from models.steps.stream_words import StreamWords
from models.trie.step_ends import ENDS
from models.trie.trie import TokenTrie
from selfplay.config import ActorConfig
from selfplay.teach.actor import Acting, Origin
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.streams import stream as teacher
from selfplay.teach.streams.evidence import Evidence, key_of
from tasks import make_task
from tasks.base import Problem
from tasks.judging.scorers import Replay
from tests.models.stream_fakes import Script, together
from tests.selfplay.free_text import byte_level

TASK = make_task("countdown", number_max=9, target_max=50, streams=True)
PROBLEM = Problem("countdown:2,3,7=35", "countdown", ((2, 3, 7), 35))
OFF, FIRST, LAST = "3 * 2 = 6 | 7 6\n", "3 + 2 = 5 | 7 5\n", "answer 7 * 5 = 35\n"
TOKENIZER = byte_level([OFF, FIRST, LAST, "Question: 2 3 7 e2 35\n", "yes", "no", "stop", "on"] * 9, 420)
CODECS = {"words": WordCodec(TASK), "text": TextCodec(TOKENIZER, TASK, len(TOKENIZER), few_shot=0)}


def mode_after(words: StreamWords, tokens: list[int]) -> int:
    """Where the tokens of a line have brought it."""
    mode = 0
    for token in tokens:
        assert mode != ENDS, "the line is over"
        mode = int(words.ends.after[mode, words.ends.kinds[token]])
    return mode


def test_a_verdict_is_a_line_of_its_own_and_a_word_like_others_inside_one():
    words, codec = StreamWords.of(TASK, CODECS["text"]), CODECS["text"]
    assert len({words.yes, words.no, words.stop, *words.back.tolist()}) == 3 + TASK.max_steps
    assert mode_after(words, [words.yes]) == mode_after(words, [words.no]) == ENDS
    assert mode_after(words, codec.tokens(OFF)) == ENDS
    assert mode_after(words, [*codec.tokens("answer"), words.yes]) != ENDS
    assert mode_after(words, [words.stop]) != ENDS


def test_what_follows_in_a_step_is_found_in_the_models_own_tokens():
    words, codec = StreamWords.of(TASK, CODECS["text"]), CODECS["text"]
    for line, choice in ((OFF, "3 * 2 ="), (LAST, "answer 7 * 5 ="), ("12 - 7 = 5 | 3 5\n", "12 - 7 =")):
        tokens = tuple(codec.tokens(line))
        assert codec.step(tokens[: words.chosen(Step(line, tokens))], False) == choice
    assert words.chosen(Step("no choice\n", tuple(codec.tokens("no choice\n")))) >= len(codec.tokens("no choice"))


def played(codec: Codec, effort: int, rules: Rules) -> tuple[Stream, StreamWords]:
    """A stream that tries OFF, gives it up, and goes the way to the answer."""
    words = StreamWords.of(TASK, codec)
    forward = Script(words.vocabulary_size)
    off, first, last = (codec.tokens(line) for line in (OFF, FIRST, LAST))
    prompt = words.context(PROBLEM, effort)
    forward.add(prompt, off, 2.0)
    forward.add(prompt, first, 1.0)
    forward.add([*prompt, *off], [words.no, int(words.back[0])], 8.0)
    forward.add([*prompt, *off], last, 1.0)
    forward.add([*prompt, *first], last, 3.0)
    forward.add([*prompt, *first], [words.no, words.stop], 1.0)
    forward.add([*prompt, *first, *last], [words.yes], 1.0)
    (stream,) = together(TokenTrie(forward), words, [PROBLEM], effort, rules)
    return stream, words


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("threshold", [0.7, None])
def test_a_stream_of_text_is_the_stream_of_words(codec, threshold):
    stream, words = played(CODECS[codec], 2, Rules(threshold=threshold))
    assert [t.text for t in stream.thoughts] == [OFF, "no b0\n", FIRST, LAST, "yes\n"]
    assert (stream.steps, stream.end, stream.undos) == ((FIRST, LAST), "yes", 1)
    assert stream.tokens == sum(len(words.codec.tokens(line)) for line in (OFF, FIRST, LAST)) + 3
    assert [t.kind for t in stream.thoughts] == ["propose", "undo", "propose", "answer", "check"]


@pytest.mark.parametrize("codec", CODECS)
def test_a_word_that_a_row_does_not_hold_is_improbable_and_allowed(codec):
    """After a last step that nobody foresaw nothing says yes, and of the words to go back by the row holds none."""
    stream, _ = played(CODECS[codec], 1, Rules(threshold=0.95))
    assert [t.text for t in stream.thoughts][:2] == [OFF, LAST]  # .89 is not sure enough before the end
    assert stream.thoughts[2].text in ("no stop\n", "no b0\n", "no b1\n")


def test_what_is_taught_is_the_same_line_in_either_kind_of_tokens():
    taught = {}
    for name, codec in CODECS.items():
        words = StreamWords.of(TASK, codec)

        def step(text: str, codec=codec) -> Step:
            return Step(text, tuple(codec.tokens(text)))

        state = key_of(TASK, PROBLEM, (2, 3, 7), ())
        known = Evidence(0.6)
        known.add(state, step(FIRST), key_of(TASK, PROBLEM, (7, 5), ()), mass=0.3)
        known.add(key_of(TASK, PROBLEM, (7, 5), ()), step(LAST), None, solved=True, mass=0.9)
        stream, _ = played(codec, 2, Rules())
        acting = Acting(
            LocalPolicy(None, version="none"), TASK, [PROBLEM], ActorConfig(), Replay(TASK), RowBuilder(TASK, codec),
            np.random.default_rng(0), Origin(0, 1, ""), False,
        )  # fmt: skip
        for boundary in teacher.replayed(acting, PROBLEM, stream, known):
            teacher.teach(acting, words, PROBLEM, 2, boundary, known)
        rows = acting.builder.rows()
        opening = len(words.context(PROBLEM, 2))
        assert not rows.weight[:, :opening].any()
        taught[name] = [
            codec.step([token for token, weight in zip(*row, strict=True) if weight == 1.0], False)
            for row in zip(rows.tokens.tolist(), rows.weight.tolist(), strict=True)
        ]
    assert [line.split() for line in taught["text"]] == [line.split() for line in taught["words"]]
    assert any(line.split() == ["6", "|", "7", "6"] for line in taught["words"])


def test_a_model_that_cannot_say_it_in_one_token_is_refused_in_one_line():
    bare = TextCodec(byte_level([OFF, LAST] * 9, 300), TASK, 300, few_shot=0)
    with pytest.raises(PolicyError, match="no token of its own for 'yes', which a stream says: use another model"):
        StreamWords.of(TASK, bare)
    chain = make_task("chain", streams=True)
    with pytest.raises(PolicyError, match="checked by nets of the task's own words: use model=tiny"):
        StreamWords.of(chain, TextCodec(TOKENIZER, chain, len(TOKENIZER), few_shot=0))

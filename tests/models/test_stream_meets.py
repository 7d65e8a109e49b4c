"""A chain whose last step says itself that it is not what the prompt asks is given up, by a model that knows no verdict."""

from __future__ import annotations

import pytest

from models.steps.codec import TextCodec
from models.steps.stream_types import Rules, Stream
from models.steps.stream_words import StreamWords
from models.trie.trie import TokenTrie
from tasks import make_task
from tests.models.stream_fakes import Script, together
from tests.selfplay.free_text import byte_level

TASK = make_task("countdown")
TOKENIZER = byte_level(["3 7 12 = 24\n", "12 - 7 = 5 | 3 5\n", "answer 3 * 5 = 15\n", "yes", "no", "stop"] * 9, 420)
FIRST, SECOND = "12 - 7 = 5 | 3 5\n", "7 - 3 = 4 | 12 4\n"


def written(chains: dict[str, float], effort: int = 4, rules: Rules | None = None) -> Stream:
    """The stream of "3 7 12 = 24" by a model that knows `chains`, and how much it likes each."""
    codec = TextCodec(TOKENIZER, TASK, len(TOKENIZER), few_shot=0)
    words = StreamWords.of(TASK, codec)
    problem = TASK.parse_problem("3 7 12 = 24")
    forward = Script(words.vocabulary_size)
    for chain, weight in chains.items():
        at = list(words.context(problem, effort))
        for line in chain.splitlines(keepends=True):
            forward.add(at, codec.tokens(line), weight)
            at += codec.tokens(line)
    (stream,) = together(TokenTrie(forward), words, [problem], effort, rules or Rules(doubted=0.0))
    assert stream.tokens == sum(len(thought.tokens) for thought in stream.thoughts)
    return stream


def texts(stream: Stream) -> list[str]:
    return [thought.text for thought in stream.thoughts]


def test_an_answer_that_says_another_number_than_the_one_asked_is_given_up():
    chains = {
        f"{FIRST}answer 3 * 5 = 15\n": 6.0,
        f"{FIRST}answer 3 + 5 = 8\n": 2.0,
        f"{SECOND}answer 12 + 12 = 24\n": 1.0,
    }
    stream = written(chains)
    assert texts(stream)[:3] == [FIRST, "answer 3 * 5 = 15\n", "no b1\n"]
    assert texts(stream)[-2:] == ["answer 12 + 12 = 24\n", "yes\n"]  # nobody asks whether it is true
    assert (stream.steps, stream.accepted) == ((SECOND, "answer 12 + 12 = 24\n"), True)


def test_it_goes_back_to_the_state_whose_best_untried_step_is_the_most_probable():
    chains = {
        f"{FIRST}answer 3 * 5 = 15\n": 8.0,
        f"{SECOND}answer 12 * 4 = 48\n": 4.0,
        f"{FIRST}answer 3 + 5 = 8\n": 0.1,
    }
    assert texts(written(chains))[1:4] == ["answer 3 * 5 = 15\n", "no b0\n", SECOND]
    assert texts(written(chains, rules=Rules(doubted=0.0, back="last")))[1:4] == [
        "answer 3 * 5 = 15\n", "no b1\n", "answer 3 + 5 = 8\n",
    ]  # fmt: skip


def test_where_no_undo_is_left_a_chain_that_missed_is_no_answer():
    stream = written({f"{FIRST}answer 3 * 5 = 15\n": 1.0}, rules=Rules(doubted=0.0, undos=0))
    assert (texts(stream)[-1], stream.end, stream.accepted) == ("no\n", "no", False)


def test_a_net_that_was_taught_the_words_of_a_stream_says_so_itself():
    assert TASK.stream.wordless
    assert not make_task("countdown", streams=True).stream.wordless


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("answer 3 * 5 = 24\n", True),  # whether it is true is not asked
        ("answer 3 * 8 = 24", True),
        ("answer 3 * 5 = 15\n", False),
        ("answer 3 * 8 24\n", False),
        ("3 * 8 = 24\n", False),
        ("answer = 024\n", False),
        ("24\n", False),
        ("\n", False),
    ],
)
def test_what_a_last_step_says_is_read_in_its_words_alone(step, says):
    assert TASK.stream.meets("3 7 12 = 24\n", step) is says

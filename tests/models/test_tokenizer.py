"""The saved tokenizer and a task agree on every text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.net.tokenizer import make_tokenizer
from tasks.base import BOS_ID, NEWLINE, PAD_ID, SPECIAL_TOKENS, UNK_ID, Task, join_words

WORDS = (*SPECIAL_TOKENS, *(str(i) for i in range(100)), *"+-*/=|", "ABCDEF", "##x", "don't", "é", "answer")
TOKENIZER = make_tokenizer(WORDS)


class Grammar:
    """The text half of a task, with this file's vocabulary."""

    vocabulary = WORDS
    token_ids = Task.token_ids
    encode = Task.encode
    decode = Task.decode


TASK = Grammar()
texts = st.lists(st.sampled_from([*WORDS, "zzz", "1000", "1+2", "a<unk>b"]), max_size=30).map(join_words)
messy = st.lists(st.sampled_from([*WORDS, " ", "  ", "\n\n", "\t", "zz", "<pad>"]), max_size=30).map("".join)


def encode(text: str, tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


@given(texts | messy | st.text(max_size=40))
def test_tokenizer_and_task_encode_alike(text):
    assert encode(text) == TASK.encode(text)


@given(st.lists(st.integers(0, len(WORDS) - 1), max_size=40))
def test_decode_round_trips_to_canonical_text(tokens):
    text = TOKENIZER.decode(tokens)
    assert text == TASK.decode(tokens)
    assert encode(text) == tokens


def test_special_ids_are_those_of_the_tasks():
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.unk_token_id) == (PAD_ID, BOS_ID, UNK_ID)
    assert len(TOKENIZER) == len(WORDS)
    assert TOKENIZER.convert_ids_to_tokens(list(range(len(WORDS)))) == list(WORDS)


def test_saved_and_reloaded_tokenizer_stays_equal(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    for again in (PreTrainedTokenizerFast.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert again.get_vocab() == TOKENIZER.get_vocab()
        for text in ("7 + 13 = 20 | 11 20\n", "1\n\n2", "zzz <pad> a<unk>b", "##x don't é\nanswer 7\n"):
            assert encode(text, again) == TASK.encode(text)
            assert again.decode(encode(text)) == TASK.decode(encode(text))
        assert again.pad_token_id == PAD_ID


def test_batches_are_padded_with_pad():
    batch = TOKENIZER(["1 2 3\n", "4\n"], padding=True, add_special_tokens=False)
    assert batch.input_ids[1] == [*TASK.encode("4\n"), PAD_ID, PAD_ID]
    assert batch.attention_mask[1] == [1, 1, 0, 0]


@pytest.mark.parametrize("vocabulary", [("a", "b"), (*SPECIAL_TOKENS, "a", "a"), ("<bos>", "<pad>", "<unk>", NEWLINE)])
def test_a_wrong_vocabulary_is_refused(vocabulary):
    with pytest.raises(ValueError, match="vocabulary"):
        make_tokenizer(vocabulary)

"""The tokenizer of a task's vocabulary, as a real fast tokenizer that is saved beside the model."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.base import BOS, NEWLINE, PAD, SPECIAL_TOKENS, UNK

_NO_PREFIX = "\x00"  # no word starts with it, so the WordPiece decoder puts a blank before every word but the first


def make_tokenizer(vocabulary: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Word-level tokenizer whose ids are positions in `vocabulary`; agrees with `Task.encode` and `Task.decode`.

    Words are separated by blanks, a newline is a word of its own, an unknown word becomes `UNK`. No BOS is added. Special
    tokens written in a text are ordinary words (`split_special_tokens`), as they are to a task.

    Raises:
        ValueError: the vocabulary does not start with `SPECIAL_TOKENS`, or repeats a word.
    """
    if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise ValueError(
            f"a vocabulary starts with {SPECIAL_TOKENS}; this one with {vocabulary[: len(SPECIAL_TOKENS)]}"
        )
    ids = {word: i for i, word in enumerate(vocabulary)}
    if len(ids) != len(vocabulary):
        raise ValueError("a vocabulary holds each word once; remove the repeated ones")
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(NEWLINE, "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    around_newlines = [decoders.Replace(spaced, NEWLINE) for spaced in (f" {NEWLINE} ", f" {NEWLINE}", f"{NEWLINE} ")]
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(_NO_PREFIX, False), decoders.Fuse(), *around_newlines])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )

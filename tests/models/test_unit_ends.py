"""Where lines, paragraphs, sentences and runs of tokens end, whatever pieces a tokenizer cuts a text into."""

from __future__ import annotations

import numpy as np
import pytest

from models.steps.unit_ends import step_ends
from models.trie.step_ends import ENDS, StepEnds
from tasks.base import TaskError
from tasks.questions.form import tokens_of

CLOSE = "</s>"


def cut(unit: str, pieces: list[str], most: int = 1000) -> list[str]:
    """The steps of a text in these pieces, as a sampler cuts it."""
    vocabulary = [*dict.fromkeys([*pieces, CLOSE])]
    ends = step_ends(unit, vocabulary, np.array([piece == CLOSE for piece in vocabulary]))
    steps, step, mode, length = [], "", 0, 0
    for piece in pieces:
        mode = int(ends.after[mode, ends.kinds[vocabulary.index(piece)]])
        step, length = step + piece.replace(CLOSE, "|"), length + 1
        if mode == ENDS or length == most:
            steps.append(step)
            step, mode, length = "", 0, 0
    return [*steps, step] if step else steps


def words(text: str) -> list[str]:
    """Pieces as of a byte-pair tokenizer: words with the blank before them, digits and signs alone."""
    import re

    return re.findall(r" ?[^\W\d]+| ?\d| +|\n|[^\w\s]", text)


@pytest.mark.parametrize(
    ("unit", "pieces", "steps"),
    [
        ("line", ["a", "\n", "b", " c", "\n"], ["a\n", "b c\n"]),
        ("line", ["a", "\n\n", "\n", "b", ".\n", " "], ["a\n\n", "\nb.\n", " "]),  # an empty line is no step
        ("line", ["a", "\n  ", "b", CLOSE], ["a\n  ", "b|"]),
        ("line", ["a", "\n", CLOSE], ["a\n", "|"]),
        ("paragraph", ["a", "\n", "b", "\n\n", "c"], ["a\nb\n\n", "c"]),
        (
            "paragraph",
            ["a", "\n", "\n", "b", ".\n", "\n", "c"],
            ["a\n\n", "b.\n\n", "c"],
        ),  # newline by newline, as Llama 2
        ("paragraph", ["a", ".\n\n", "\n", "b", "\n", " ", "\n", "c"], ["a.\n\n", "\nb\n \n", "c"]),
        ("paragraph", ["a", "\n", "b", CLOSE], ["a\nb|"]),
        ("sentence", words("It is so. Is it? Yes!"), ["It is so.", " Is it?", " Yes!"]),
        ("sentence", words("Pi is 3.14 or so. It is big."), ["Pi is 3.14 or so.", " It is big."]),
        ("sentence", words("It is 12. Then we add."), ["It is 12. Then", " we add."]),  # the next token tells
        ("sentence", words("1. Take it.\n2. Add it."), ["1. Take it.", "\n2. Add it."]),
        ("sentence", words("Steps:\n- one\n- two"), ["Steps:\n", "- one\n", "- two"]),
        ("sentence", ["He", " said", ' so."', " Then"], ['He said so."', " Then"]),
        ("sentence", ["So", "。", "Ja", CLOSE], ["So。", "Ja|"]),
        ("tokens:3", ["a", "\n", "b", "c", "d", CLOSE], ["a\nb", "cd|"]),
    ],
)
def test_a_text_is_cut_where_its_units_end(unit, pieces, steps):
    assert cut(unit, pieces, tokens_of(unit) or 1000) == steps
    assert "".join(steps) == "".join(pieces).replace(CLOSE, "|")


def test_every_unit_cuts_what_never_ends_and_closes_at_the_end_of_the_text():
    for unit in ("line", "paragraph", "sentence", "tokens:5"):
        ends = step_ends(unit, ["a", CLOSE], np.array([False, True]))
        assert ends.cut
        assert ends[np.arange(2)].tolist() == [False, True]


def test_tokens_that_end_a_line_whatever_stands_before():
    ends = StepEnds.at(np.array([False, True, False]))
    assert not ends.cut
    assert ends[np.arange(3)].tolist() == [False, True, False]


@pytest.mark.parametrize(
    "unit", ["lines", "tokens", "tokens:0", "tokens:-1", "tokens:99999", "line:3", "", None, 3, True]
)
def test_a_unit_that_there_is_not_names_the_mend(unit):
    with pytest.raises(TaskError, match="use line, paragraph, sentence or tokens:N"):
        tokens_of(unit)

"""What a step of free text is, told as an automaton over a tokenizer's tokens: a line, a paragraph, a sentence, N tokens.

A step always holds something: empty lines before it belong to it. Tokens are cut nowhere: one that holds more than the end (a
full stop and a quote, a newline and blanks) ends the step all the same, and the text goes on behind it. A sentence ends with a
line too. A full stop behind a digit may be a decimal point, which only the next token tells: that token, if it opens with a
blank, ends the sentence.

Legend: V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from models.trie.step_ends import ENDS, StepEnds
from tasks.base import NEWLINE
from tasks.questions.form import tokens_of

_STOP = re.compile(r"[.?!。？！…][\"')\]*”’»_`]*\s*$")
_NUMBER = re.compile(r"\d$")
_BARE_STOP = re.compile(r"^[.]$")
_DIGIT_STOP = re.compile(r"\d[.]$")


def step_ends(step: str, pieces: Sequence[str], closes: np.ndarray) -> StepEnds:
    """The automaton of a unit. `pieces`: text of every token [V]; `closes`: bool [V], tokens that end the whole text."""
    kind_of, table = _TABLES[step] if tokens_of(step) is None else _TABLES["tokens"]
    kinds = np.fromiter(map(kind_of, pieces), np.uint8, len(pieces))
    kinds[closes] = len(table[0])
    ended = np.full((len(table), 1), ENDS, np.int8)
    return StepEnds(kinds, np.hstack((np.array(table, np.int8), ended)), cut=True)


def _line(piece: str) -> int:
    """0 text, 1 blanks, 2 a newline behind or before text, 3 newlines alone."""
    return 2 * (NEWLINE in piece) + (not piece.strip())


def _paragraph(piece: str) -> int:
    """0 text, 1 blanks, 2 text and a newline, 3 a newline, 4 text and an empty line, 5 an empty line."""
    blank = not piece.strip()
    tail = piece if blank else piece[len(piece.rstrip()) :]
    return 2 * min(tail.count(NEWLINE), 2) + blank


def _sentence(piece: str) -> int:
    """0 text, 1 text behind a blank, 2 digit, 3 digit behind a blank, 4 full stop, 5 digit and full stop, 6 an end, 7 newline
    alone, 8 blanks.
    """
    if not piece.strip():
        return 7 if NEWLINE in piece else 8
    if NEWLINE in piece:
        return 6
    if _BARE_STOP.match(piece):
        return 4
    if _DIGIT_STOP.search(piece):
        return 5
    if _STOP.search(piece):
        return 6
    return 2 * bool(_NUMBER.search(piece)) + piece[0].isspace()


_TABLES: dict[str, tuple[Callable[[str], int], list[list[int]]]] = {  # kind of a piece; [mode][kind] -> mode
    "line": (_line, [[1, 0, ENDS, 0], [1, 1, ENDS, ENDS]]),  # nothing yet | text
    "paragraph": (
        _paragraph,
        [
            [1, 0, 2, 0, ENDS, 0],  # nothing yet
            [1, 1, 2, 2, ENDS, ENDS],  # text
            [1, 2, 2, ENDS, ENDS, ENDS],  # a newline behind text
        ],
    ),
    "sentence": (
        _sentence,
        [
            [1, 1, 4, 4, 1, 1, ENDS, 0, 0],  # nothing yet
            [1, 1, 2, 2, ENDS, 3, ENDS, ENDS, 1],  # text
            [1, 1, 2, 2, 3, 3, ENDS, ENDS, 1],  # text that ends in a digit
            [1, ENDS, 2, ENDS, ENDS, 3, ENDS, ENDS, ENDS],  # a full stop behind a digit
            [1, 1, 4, 4, 1, 1, ENDS, ENDS, 1],  # a number alone: of a list
        ],
    ),
    "tokens": (lambda piece: 0, [[0]]),
}

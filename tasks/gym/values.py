"""Judges of numbers, words, lists and grids for `gym_scorers.py`: is `answer` as good as the gold answer?

Pure, total and linear-time on the short texts that `gym_scorers.right` lets through; nothing is evaluated. Digits are ASCII. A
grid is written on one line: rows are parted by " / ", cells by blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Context, Decimal
from fractions import Fraction

Judge = Callable[[str, dict], bool]  # (answer, gold), where gold is {"answer": the oracle on one line, ...}

MOST_NUMBER = 80  # characters
NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
)
HEX = re.compile(r"-?0x[0-9a-f]{1,64}")
FRACTION = re.compile(
    r"\\[dt]?frac\s*\{\s*([0-9]{1,30})\s*\}\s*\{\s*([0-9]{1,30})\s*\}|([0-9]{1,30})(?:\s*/\s*([0-9]{1,30}))?"
)
TIMES = re.compile(r"[×x*·]")
THREE_DIGITS = Context(prec=3)


def number(text: str) -> Fraction | None:
    """A literal, read exactly: sign, thousands groups, decimals, power of ten; None for anything else."""
    text = text.strip().replace("−", "-")
    if len(text) > MOST_NUMBER or not NUMBER.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))


def numbers(texts: Iterable[str]) -> list[Fraction] | None:
    """One literal a text; None if one is none."""
    values = [number(text) for text in texts]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def entries(text: str) -> list[str] | None:
    """What a list in square brackets holds, quotes taken off; None if it is none."""
    if len(text) < 2 or text[0] != "[" or text[-1] != "]":
        return None
    inner = text[1:-1].strip()
    return [_unquoted(part.strip()) for part in inner.split(",")] if inner else []


def grid(text: str) -> list[list[str]]:
    """Cells of the rows."""
    return [row.split() for row in text.split("/")]


# ---- judges


def same_number(answer: str, gold: dict) -> bool:
    value = number(answer)
    return value is not None and value == number(gold["answer"])


def same_word(answer: str, gold: dict) -> bool:
    """In any case of its letters."""
    return answer.casefold() == gold["answer"].casefold()


def same_text(answer: str, gold: dict) -> bool:
    """Word by word, case included."""
    return answer.split() == gold["answer"].split()


def same_words(answer: str, gold: dict) -> bool:
    """Parted by commas."""
    return _parts(answer) == _parts(gold["answer"])


def same_hex(answer: str, gold: dict) -> bool:
    text = answer.lower()
    return HEX.fullmatch(text) is not None and int(text, 16) == int(gold["answer"], 16)


def same_grid(answer: str, gold: dict) -> bool:
    return _same_rows(grid(answer), grid(gold["answer"]), Fraction(0))


def rounded_grid(answer: str, gold: dict) -> bool:
    """Numbers correct to two decimals."""
    return _same_rows(grid(answer), grid(gold["answer"]), Fraction(1, 100))


def number_list(answer: str, gold: dict) -> bool:
    """Numbers in square brackets, with or without quotes."""
    found, oracle = entries(answer), entries(gold["answer"])
    return found is not None and oracle is not None and _same_rows([found], [oracle], Fraction(0))


def number_row(answer: str, gold: dict) -> bool:
    """Numbers parted by blanks or commas, with or without brackets."""
    return _same_rows([_row(answer)], [_row(gold["answer"])], Fraction(0))


def same_odds(answer: str, gold: dict) -> bool:
    """A reduced fraction, with blanks around its slash or none."""
    return [part.strip() for part in answer.split("/")] == gold["answer"].split("/")


def same_fraction(answer: str, gold: dict) -> bool:
    """In lowest terms, as n/d or in LaTeX. Reads simplified_numerator and simplified_denominator."""
    found = FRACTION.fullmatch(answer.strip("$ "))
    if found is None:
        return False
    parts = [int(part) for part in found.groups() if part is not None]
    return [*parts, 1][:2] == [gold["simplified_numerator"], gold["simplified_denominator"]]


def same_factors(answer: str, gold: dict) -> bool:
    """In any order."""
    factors = numbers(TIMES.split(answer))
    return factors is not None and sorted(factors) == sorted(numbers(TIMES.split(gold["answer"])) or [])


def same_complex(answer: str, gold: dict) -> bool:
    value = _complex(answer)
    return value is not None and value == _complex(gold["answer"])


def same_point(answer: str, gold: dict) -> bool:
    """A length, an angle or the coordinates of a point, each off by no more than one in its third decimal."""
    return _same_rows([_coordinates(answer)], [_coordinates(gold["answer"])], Fraction(1, 1000))


def three_digits(answer: str, gold: dict) -> bool:
    """Correct to three significant digits."""
    value, oracle = number(answer), number(gold["answer"])
    return value is not None and oracle is not None and _three_digits(value) == _three_digits(oracle)


def within(absolute: Fraction = Fraction(0), relative: Fraction = Fraction(0)) -> Judge:
    """Of a number that is off by no more than `absolute`, or `relative` times the oracle."""

    def judge(answer: str, gold: dict) -> bool:
        value, oracle = number(answer), number(gold["answer"])
        return value is not None and oracle is not None and abs(value - oracle) <= max(absolute, relative * abs(oracle))

    return judge


# ---- helpers


def _unquoted(text: str) -> str:
    return text[1:-1].strip() if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _row(text: str) -> list[str]:
    inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    return inner.replace(",", " ").split()


def _coordinates(text: str) -> list[str]:
    text = text.replace("°", "").strip()
    return _parts(text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text)


def _same_rows(rows: list[list[str]], oracle: list[list[str]], most_off: Fraction) -> bool:
    """Are these the same numbers in rows of the same lengths?"""
    if [len(row) for row in rows] != [len(row) for row in oracle]:
        return False
    found, right = (numbers(cell for row in part for cell in row) for part in (rows, oracle))
    if found is None or right is None:
        return False
    return all(abs(value - goal) <= most_off for value, goal in zip(found, right, strict=True))


def _complex(text: str) -> tuple[Fraction, Fraction] | None:
    """(real, imaginary) of "a + bi"; either part may be missing."""
    text = "".join(text.split()).lower().replace("j", "i").replace("−", "-")
    text = text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text
    if not text.endswith("i"):
        real, imaginary = number(text), Fraction(0)
    else:
        body = text[:-1]
        at = max(body.rfind("+"), body.rfind("-"), 0)
        sign = body[at:] if body[at:] not in ("", "+", "-") else f"{body[at:]}1"
        real, imaginary = number(body[:at] or "0"), number(sign)
    return None if real is None or imaginary is None else (real, imaginary)


def _three_digits(value: Fraction) -> Decimal:
    return THREE_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))

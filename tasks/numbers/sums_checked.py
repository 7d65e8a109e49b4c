"""Another way to a line of a sum: the other order of its terms, a column of digits at a time, or the sum that takes it back.

    9 + 7 = 16       7 + 9 =         16, as a sum of its own
    9 - 7 = 2        2 + 7 =         9: it confirms the line, and says not what stands there instead
    -5 + 7 = 2       7 - 5 =         2
    -7 + 5 = -2      7 - 5 =         2, with the other sign
    4 - 9 = -5       9 - 4 =         5, with the other sign
    -4 - 9 = -13     9 + 4 =         13, with the other sign
    38 + 25 = 63     8 + 5 = 13; 3 + 2 = 5; 5 + 1 = 6
    13 + 7 = 20      3 + 7 = 10; 1 + 1 = 2
    10 + 7 = 17      17 - 7 =        10, since its columns ask nothing: it confirms the line
    7 + 7 = 14       14 - 7 =        7, since its other order is the line itself
    25 - 38 = -13    8 - 5 = 3; 3 - 2 = 1, the smaller from the larger, with the other sign
    42 - 17 = 25     12 - 7 = 5; 4 - 1 = 3; 3 - 1 = 2
    13 - 7 = 6       6 + 7 =         13, since its column is the line itself: it confirms the line

Of two numbers of which one has several digits the other order would be as hard as the line; a column is not. What is asked has
the form of the lines that a chain is made of: the longer number first, and none of them 0. Asked as 6 - 0 a line is one that
nobody practised. What every question comes to is the model's to say; here only digits and signs change their places.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from itertools import zip_longest

from tasks.streams import Derivation, Found, Question

ASKED = "Work out"
LINE = re.compile(r"(-?[0-9]{1,9}) ([+-]) ([0-9]{1,9}) = (-?[0-9]{1,9})\n?")
NUMBER = re.compile("-?[0-9]{1,9}")
COLUMN, DIGIT = re.compile("[1-9]?[0-9]"), re.compile("[0-9]")

Told = Generator[Question, str, str | None]  # None: what was told is nothing to go on with


def another_way(step: str) -> Derivation | None:
    """See above. None: the step is no such line."""
    read = LINE.fullmatch(step)
    if read is None:
        return None
    first, sign, second, result = read.groups()
    positive, choice = first.lstrip("-"), f"{first} {sign} {second} ="
    if int(first) == 0 or int(second) == 0:
        return None
    negative, below = first.startswith("-"), int(positive) < int(second)
    alone = len(positive) == len(second) == 1
    if not negative and sign == "-" and not below and (alone or _borrows(first, second)):
        turned = f"{second} - {result[1:]}" if result.startswith("-") else f"{result} + {second}"
        return _compared(_told(turned), first)
    if not negative and sign == "+" and (first == second if alone else not _overlap(first, second)):
        if result.startswith("-"):
            return _compared(_told(f"{second} + {first}"), result, choice)
        return _compared(_told(f"{result} - {second}"), first)
    if negative == (sign == "-"):
        if alone or not _overlap(positive, second):
            terms = f"{second} + {positive}" if alone else f"{positive} + {second}"
            return _compared(_told(terms), result, choice, "-" * negative)
        return _compared(_added(positive, second), result, choice, "-" * negative)
    larger, smaller = (second, positive) if below else (positive, second)
    told = _told(f"{larger} - {smaller}") if alone else _taken(larger, smaller)
    return _compared(told, result, choice, "-" * (negative != below))


def _compared(told: Told, result: str, choice: str = "", sign: str = "") -> Derivation:
    """Compare what is told, behind `sign`, with `result`; `choice`: of the line that it makes, "" where it only confirms."""
    text = yield from told
    if text is None or not NUMBER.fullmatch(text) or (sign and text.startswith("-")):
        return Found(agrees=False)
    made = text if text == "0" else f"{sign}{text}"
    return Found(made == result, f"{choice} {made}\n" if choice else "")


def _told(terms: str) -> Told:
    return (yield Question(f"{ASKED} {terms}\n", f"{terms} ="))


def _overlap(a: str, b: str) -> bool:
    """Whether a column of two numbers holds two digits other than 0: else nothing is to be added."""
    return any("0" not in pair for pair in zip(reversed(a), reversed(b), strict=False))


def _borrows(a: str, b: str) -> bool:
    """Whether `a - b` is a column of its own."""
    return len(a) == 2 and a[0] == "1" and len(b) == 1 and a[1] < b


def _added(a: str, b: str) -> Told:
    """The sum of two numbers, the last column first."""
    carry, done = "", ""
    for x, y in zip_longest(reversed(a), reversed(b), fillvalue="0"):
        told = (x if y == "0" else y) if "0" in (x, y) else (yield from _told(f"{x} + {y}"))
        if carry and told:
            told = carry if told == "0" else (yield from _told(f"{told} + {carry}"))
        if told is None or not COLUMN.fullmatch(told):
            return None
        carry, done = told[:-1], told[-1] + done
    return (carry + done).lstrip("0") or "0"


def _taken(a: str, b: str) -> Told:
    """What is left of the number `a`, no smaller than `b`, once that is taken from it, the last column first."""
    borrowed, done = False, ""
    for x, y in zip_longest(reversed(a), reversed(b), fillvalue="0"):
        if borrowed and x == "0":
            x = "9"
        elif borrowed:
            x, borrowed = (yield from _told(f"{x} - 1")), False
        if x is None or not DIGIT.fullmatch(x):
            return None
        if x < y:
            x, borrowed = f"1{x}", True
        told = x if y == "0" else (yield from _told(f"{x} - {y}"))
        if told is None or not DIGIT.fullmatch(told):
            return None
        done = told + done
    return None if borrowed else done.lstrip("0") or "0"

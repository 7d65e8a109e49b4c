"""Times of day, ratios, ranges and remainders, which people write in several ways; numbers whose base the question names."""

from __future__ import annotations

import re

from tasks.judging.asked import asked
from tasks.judging.quantities import Quantity, quantity
from tasks.judging.same import differ

MOST_CHARACTERS = 100  # of a time, ratio, range or remainder
CLOCK = re.compile(r"(?:at )?(\d{1,2})(?::(\d\d))?(?::(\d\d))?\s*(?:(a|p)\.?\s?m\.?)?", re.IGNORECASE | re.ASCII)
HALVES = re.compile(r"(?:12(?::00)?\s+)?(?:(noon)|midnight)", re.IGNORECASE)
RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?)+", re.ASCII)
NAMED_RATIO = re.compile(r"[A-Za-z](?:\s*:\s*[A-Za-z])+\s*=\s*(?=\d)")
TO = re.compile(r"(\d+(?:\.\d+)?)\s+to\s+(\d+(?:\.\d+)?)", re.ASCII)
RANGE = re.compile(
    r"(?:from\s+)?([^-]*?\d[^-]*?)\s*(?:-{1,2}|\bto\b)\s*([^-]*\d[^-]*)|between\s+(.*\d.*?)\s+and\s+(.*\d.*)",
    re.IGNORECASE,
)
REMAINDER = re.compile(r"(\d+)\s*,?\s*(?:R|r|rem\.?|(?:with )?(?:a )?remainder(?: of)?)\s*(\d+)", re.ASCII)
BASE = re.compile(r"(\w+)_\{?\s*(\d{1,2})\s*\}?", re.ASCII)
BASES = {"binary": "2", "octal": "8", "hexadecimal": "16"}


def form(text: str) -> bool:
    """Whether a text is a time of day, a ratio, a range or a quotient with its remainder."""
    return len(text) <= MOST_CHARACTERS and bool(
        _clock(text) or RATIO.fullmatch(text) or REMAINDER.fullmatch(text) or _range(text)
    )


def differ_in_form(gold: str, answer: str, question: str) -> str:
    """Why an answer is not the time, ratio, range or remainder that a gold answer is; "" if it is."""
    if len(answer) > MOST_CHARACTERS:
        return "longer than any time, ratio or range"
    if mine := _clock(gold):
        its = _clock(answer)
        same = its is not None and (
            mine == its or (not mine[1] and mine[0] < 46800 and mine[0] % 43200 == its[0] % 43200)
        )
        if same or its:  # the gold may leave open which half of the day it is
            return "" if same else "another time"
    if mine := REMAINDER.fullmatch(gold):
        its = REMAINDER.fullmatch(answer)
        return "" if its and mine.groups() == its.groups() else "another quotient or remainder"
    ratio = asked(question).words & {"ratio", "odd", "proportion", "scale"}
    if RATIO.fullmatch(gold) or (ratio and TO.fullmatch(gold)):
        sides = ["".join(TO.sub(r"\1:\2", NAMED_RATIO.sub("", side)).split()) for side in (gold, answer)]
        return "" if sides[0] == sides[1] else "another ratio"
    one, other = _range(gold), _range(answer)
    if one is None or other is None:
        return "not written as a time, ratio or range as the gold answer is"
    return next(filter(None, (differ(*pair, question) for pair in zip(one, other, strict=True))), "")


def unbased(text: str, question: str) -> str:
    """Digits without the base behind them, where the question names it: 101 of `101_2` for `in binary`."""
    found = BASE.fullmatch(text)
    if found is None:
        return text
    named = {BASES[word] for word in asked(question).words & BASES.keys()} | set(
        re.findall(r"\bbase[- ]\$?(\d{1,2})", question)
    )
    return found[1] if named == {found[2]} else text


def _clock(text: str) -> tuple[int, str] | None:
    """(seconds of the day, "" where half of the day was not said): the hours alone are no time."""
    if noon := HALVES.fullmatch(text):
        return (43200 if noon[1] else 0), "half"
    found = CLOCK.fullmatch(text)
    if found is None or not (found[2] or found[4]):
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    if minute > 59 or second > 59 or hour > 23 or (found[4] and not 0 < hour < 13):
        return None
    if found[4]:
        hour = hour % 12 + 12 * (found[4].lower() == "p")
    return hour * 3600 + minute * 60 + second, "half" if found[4] or hour > 12 or hour == 0 else ""


def _range(text: str) -> tuple[Quantity, Quantity] | None:
    """Two quantities; a unit behind the second is the first one's, too."""
    found = RANGE.fullmatch(text)
    ends = [number for part in found.groups() if part and (number := quantity(part))] if found else []
    if len(ends) != 2:
        return None
    low, high = ends
    if high.unit.powers and not low.unit.powers:
        low = Quantity(low.value, high.unit)
    return low, Quantity(high.value, low.unit) if low.unit.powers and not high.unit.powers else high

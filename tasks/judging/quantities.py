"""Numbers as people write them, read exactly: sign, groups, decimals, fractions, powers of ten, and what stands around them.

For `equal.py`, whose documentation says what counts. Linear-time and total on texts of the length that it lets through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from tasks.judging.units import NO_NOUN, ONE, Unit, known, stem, unit

MOST_POWER = 400  # largest power of ten of a number

DIGIT = re.compile("[0-9]")
GROUPED = r"\d{1,3}(?:,\d{3})+"
DECIMAL = rf"(?:(?:{GROUPED}|\d+)(?:\.\d*)?|\.\d+)"
TIMES = r"(?:\\times|\\cdot|\*|[xX](?=\s*10))"
POWER_OF_TEN = (
    rf"(?:[eE]([+-]?\d{{1,4}})(?![.\d])|\s*{TIMES}\s*10\s*\^\s*(?:\{{\s*([+-]?\d{{1,4}})\s*\}}|([+-]?\d{{1,4}})))"
)
REPEATING = r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}"
MIXED = r"(\d+)(?:\s+and)?\s+(\d+)\s*/\s*(\d+)"
SLASH = rf"({DECIMAL})\s*/\s*([+-]?{DECIMAL})"
FRACTION = rf"(\d*)\s*\\[dtc]?frac\s*(?:(\d)|\{{\s*([+-]?{DECIMAL})\s*\}})\s*(?:(\d)|\{{\s*([+-]?{DECIMAL})\s*\}})"
FORMS = [re.compile(form, re.ASCII) for form in (MIXED, FRACTION, SLASH, REPEATING, rf"({DECIMAL}){POWER_OF_TEN}?")]
CURRENCY = re.compile(r"(?:(US)?\s?\$|£|€|¥|₹|USD\b|EUR\b|GBP\b)\s*")
UNREAD = re.compile(r"[\d.,/^_!'\\(){}+*=-]")  # what must not follow a number if it is to be one
PARTS = {"half": "1/2", "third": "1/3", "quarter": "1/4"}
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
SCALE = re.compile(rf"\s+({'|'.join(SCALES)}|dozen)s?\b", re.IGNORECASE)
AND_PART = re.compile(r"(?<=\d)\s+and\s+(?:a|one)\s+(half|quarter|third)\b")
GROUP = re.compile(r"(?<=\d)\\,(?=\d{3}(?!\d))")
DEGREE = re.compile(r"\^\s?\{?\s?\\(?:circ|degree)\s?\}?|\\degree(?![a-z])")
BLANK = re.compile(r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])")
WRAPPED = re.compile(r"\\(?:text|textrm|textbf|textit|mathrm|mathbf|mathit|mbox)\s?\{([^{}\d]*)\}")
REST = re.compile(
    r"\s+(?:left(?: over)?|remaining|altogether|total|in total|in all|each)$", re.IGNORECASE
)  # names nothing
EXTENT = re.compile(r"\s+(long|tall|high|wide|deep|thick|old|away|apart|ago|later|of age)$", re.IGNORECASE)
OF = re.compile(r"(?:^|\s+)of\s+(?:the\s+|an?\s+|his\s+|her\s+|their\s+)?([A-Za-z' -]+)$")
NEXT = re.compile(r"(?:,|\s+and)?\s+(?=\d)|(?<=[A-Za-z.])(?=\d)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number with its unit, `ONE` for none. `scale`: of the word that is in `value`, 10**6 of `3 million`."""

    value: Fraction
    unit: Unit = ONE
    scale: int = 1

    @property
    def percent(self) -> bool:
        return "%" in dict(self.unit.powers)

    def __str__(self) -> str:
        return f"{self.value} {self.unit.name}".strip()


def quantity(text: str, letters: bool = False) -> Quantity | None:
    """A number literal, read exactly; None for anything else, arithmetic left undone included.

    `letters`: whether a single letter right behind a number is a unit, as in `5m`, and no variable.
    """
    if not DIGIT.search(text):
        return None
    text = plain(text)
    return _single(text, letters) or _compound(text)


def plain(text: str) -> str:
    """A text without the LaTeX that sets numbers and units."""
    text = " ".join(text.replace("{,}", ",").replace("~", " ").replace("°", " degree ").split())
    if "\\" in text:
        text = GROUP.sub(",", text.replace(r"\!", "").replace(r"\Omega", "Ω"))
        text = BLANK.sub(" ", WRAPPED.sub(r" \1 ", DEGREE.sub(" degree ", text)))
        text = text.replace(r"\$", "$").replace(r"\%", "%").replace(r"\pounds", "£").replace(r"\euro", "€")
    text = AND_PART.sub(lambda part: f" {PARTS[part[1]]}", text)
    return text.replace(" ^", "^").strip()


def literal(text: str) -> tuple[Fraction, str] | None:
    """The number without sign that a text starts with, and what follows it; None where it is none or not finished."""
    for form in FORMS:
        if (found := form.match(text)) is not None:
            rest = text[found.end() :]
            value = _value(form, found)
            return (
                None
                if value is None or rest[:1] == "," or (UNREAD.match(rest.lstrip() or " ") and rest[:1] != "/")
                else (value, rest)
            )
    return None


def turn(text: str) -> Quantity | None:
    """Degrees of an angle in radians, a multiple of pi: 90 of `\\frac{\\pi}{2} radians`."""
    found = re.fullmatch(r"(.*?)\s*rad(?:ian)?s?", plain(re.sub(r"(?<![\\A-Za-z])pi(?![a-z])", r"\\pi ", text)))
    if found is None or found[1].count(r"\pi") != 1:
        return None
    number = quantity(re.sub(r"(?<=[\d}])\s*(?:\\cdot)?\s*\\pi", "", found[1]).replace(r"\pi", "1"))
    return None if number is None or number.unit.powers else Quantity(number.value * 180, known("degree") or ONE)


def _single(text: str, letters: bool) -> Quantity | None:
    sign, text = _sign(text)
    money = CURRENCY.match(text)
    if money:
        text = text[money.end() :]
        sign, text = _sign(text) if not sign else (sign, text)
    read = literal(text)
    if read is None:
        return None
    value, rest = read
    found = _unit_behind(rest, letters, known(money[0].strip()) if money else ONE)
    if found is None:
        return None
    return Quantity((-value if sign == "-" else value) * found[0], found[1], found[0])


def _sign(text: str) -> tuple[str, str]:
    return (text[0], text[1:].lstrip()) if text[:1] in ("+", "-") else ("", text)


def _unit_behind(rest: str, letters: bool, money: Unit | None) -> tuple[int, Unit] | None:
    """(scale, unit) of what follows a number; None where it is not understood."""
    scale = 1
    while (word := SCALE.match(rest)) is not None:
        scale *= 10 ** SCALES[word[1].lower()] if word[1].lower() in SCALES else 12
        rest = rest[word.end() :]
    shortest = 0 if not rest[:1].isalpha() else 1 if letters or not rest[:1].isascii() else 2
    rest = REST.sub("", f" {' '.join(rest.split())}")
    details: list[str] = []
    for part in (OF, EXTENT):
        if (found := part.search(rest)) is not None:
            details += [stem(word) for word in found[1].split()]
            rest = rest[: found.start()]
    rest = rest.strip()
    named = None if money is None else _named(rest, shortest, money)
    if named is None or NO_NOUN & set(details):
        return None
    return scale, replace(named, noun=(*details, *named.noun)) if details else named


def _named(rest: str, shortest: int, money: Unit) -> Unit | None:
    """The unit of `rest`, which may stand behind a sign of `money`. `shortest`: characters of a name right behind a number."""
    if not rest:
        return money
    if money is not ONE:
        divisor = re.match(r"/\s*|per\s+|an?\s+|each\s+", rest)
        by = unit(rest[divisor.end() :]) if divisor else unit(rest, nouns=False)
        if by is None or not (divisor or by == money):
            return None
        return money / by if divisor else money
    if rest[0] == "/" or len(re.split(r"[\s/^]", rest, maxsplit=1)[0]) < shortest:
        return None
    return unit(rest, nouns=not shortest)


def _compound(text: str) -> Quantity | None:
    """`5 ft 3 in`, `2 hours and 15 minutes`: units of one kind, each smaller than the one before."""
    sign, text = _sign(text)
    feet = re.fullmatch(r"(\d+)\s*'\s*(\d+(?:\.\d+)?)\s*(?:\"|'')", text, re.ASCII)
    parts = [f"{feet[1]} ft", f"{feet[2]} in"] if feet else NEXT.split(text)
    if not 1 < len(parts) < 5:
        return None
    total, last = Fraction(0), None
    for part in parts:
        found = _single(part, letters=True)
        if found is None or part[:1] in "+-" or not found.unit.powers or found.unit.zero:
            return None
        if last and found.unit.name == "meter" and last.powers == (("s", 1),):
            found = Quantity(found.value, unit("min") or ONE)
        if last and (last.powers != found.unit.powers or last.noun or last.size <= found.unit.size):
            return None
        total, last = total + found.value * found.unit.size, found.unit
    return Quantity((-total if sign == "-" else total) / last.size, last) if last else None


def _value(form: re.Pattern, found: re.Match) -> Fraction | None:
    """Of a non-negative literal that has matched."""
    parts = found.groups()
    try:
        if form is FORMS[0]:
            return _whole_and_part(parts[0], Fraction(int(parts[1]), int(parts[2])))
        if form is FORMS[1]:
            return _whole_and_part(parts[0], _decimal(parts[1] or parts[2]) / _decimal(parts[3] or parts[4]))
        if form is FORMS[2]:
            return _decimal(parts[0]) / _decimal(parts[1])
    except ZeroDivisionError:
        return None
    if form is FORMS[3]:
        whole, first, again = parts
        places, digits = 10 ** len(first), 10 ** len(again) - 1
        return int(whole or 0) + (int(first or 0) + Fraction(int(again), digits)) / places
    power = int(next((part for part in parts[1:] if part), "0"))
    return None if abs(power) > MOST_POWER else _decimal(parts[0]) * Fraction(10) ** power


def _whole_and_part(whole: str, part: Fraction) -> Fraction | None:
    """A mixed number, whose part must be less than 1."""
    if not whole:
        return part
    return int(whole) + part if 0 < part < 1 else None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))

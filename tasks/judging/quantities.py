"""Numbers as people write them, read exactly: sign, groups, decimals, fractions, powers of ten, percent, units, currency.

For `answers.py`, whose documentation says what counts. Linear-time and total on texts of the length that it lets through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MOST_POWER = 400  # largest power of ten of a number

GROUPED = r"\d{1,3}(?:,\d{3})+"
DECIMAL = rf"(?:(?:{GROUPED}|\d+)(?:\.\d*)?|\.\d+)"
POWER_OF_TEN = r"(?:[eE]([+-]?\d{1,4})|\s*\\(?:times|cdot)\s*10\s*\^\s*(?:\{\s*([+-]?\d{1,4})\s*\}|(\d)))"
NUMBER = re.compile(rf"({DECIMAL}){POWER_OF_TEN}?", re.ASCII)
SLASH = re.compile(rf"({DECIMAL})\s*/\s*([+-]?{DECIMAL})", re.ASCII)
FRACTION = re.compile(
    rf"(\d*)\s*\\[dtc]?frac\s*(?:(\d)|\{{\s*([+-]?{DECIMAL})\s*\}})\s*(?:(\d)|\{{\s*([+-]?{DECIMAL})\s*\}})", re.ASCII
)
UNIT = re.compile(
    r"(?:\\,|\\ |~|\s)*(?:\\(?:text|mathrm|mbox|textrm)\s?\{([^{}]*)\}|\^\{?\s?\\circ\s?\}?)(?:\^\{?([23])\}?)?$"
)
PERCENT = re.compile(r"\s*\\?%$")
CURRENCIES = {"$": "dollar", "£": "pound sterling", "€": "euro", "pounds": "pound sterling", "euro": "euro"}
CURRENCY = re.compile(r"\\?\$|£|€|\\pounds|\\euro")
SYMBOLS = "mm cm dm m km in ft yd mi mg g kg t lb oz ms s h hr ml mL l L gal V W J N Pa C F Hz"
SPELLINGS = {  # words -> one symbol; singular and plural
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre", "km": "kilometer kilometre",
    "in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "g": "gram", "kg": "kilogram", "t": "ton", "lb": "pound",
    "oz": "ounce", "s": "sec second", "min": "minute", "h": "hr hour", "day": "day", "week": "week", "month": "month",
    "year": "year", "dollar": "dollar", "cent": "cent", "euro": "euro", "degree": "degree", "unit": "unit",
    "l": "liter litre L", "ml": "mL milliliter", "gal": "gallon", "point": "point", "mph": "mph", "kmh": "kmh",
}  # fmt: skip
PLURALS = {"inches": "in", "feet": "ft", "lbs": "lb", "hrs": "h", "secs": "s", "mins": "min"}
UNITS = (
    {symbol: symbol for symbol in SYMBOLS.split()}
    | {word: symbol for symbol, words in SPELLINGS.items() for word in words.split()}
    | {f"{word}s": symbol for symbol, words in SPELLINGS.items() for word in words.split() if len(word) > 2}
    | PLURALS
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number with what stood around it."""

    value: Fraction
    percent: bool
    unit: str


def quantity(text: str) -> Quantity | None:
    """A number literal, read exactly; None for anything else, arithmetic left undone included."""
    currency, unit = "", ""
    text = text.replace("{,}", ",").replace(r"\!", "").strip()
    text = re.sub(r"(?<=\d)\\,(?=\d{3})", ",", text)
    sign = text[:1] if text[:1] in ("+", "-") else ""
    text = text[len(sign) :].lstrip()
    if found := CURRENCY.match(text):
        currency, text = found[0].lstrip("\\"), text[found.end() :].lstrip()
        if not sign and text[:1] in ("+", "-"):
            sign, text = text[:1], text[1:]
    if found := PERCENT.search(text):
        text = text[: found.start()]
    elif found_unit := UNIT.search(text):
        unit, text = _unit(found_unit), text[: found_unit.start()]
    value = _value(text.strip())
    if value is None or unit is None or (currency and unit not in ("", CURRENCIES[currency])):
        return None
    return Quantity(-value if sign == "-" else value, found is not None, CURRENCIES.get(currency, unit))


def split_unit(text: str) -> tuple[str, str | None]:
    """(text without the unit at its end, the unit in one spelling): "" for none, None for one that is not known."""
    found = UNIT.search(text)
    if found is None or found[1] is None:  # degrees belong to the formula
        return text, ""
    return text[: found.start()].strip(), _unit(found)


def _unit(found: re.Match) -> str | None:
    """A unit in one spelling, "cm2" for square centimetres; None if it is none that is known."""
    words = "degree" if found[1] is None else found[1].strip(" .")
    power = found[2] or ""
    for long, digit in (("square ", "2"), ("sq ", "2"), ("sq. ", "2"), ("cubic ", "3")):
        if words.lower().startswith(long):
            words, power = words[len(long) :], power or digit
    parts = [part.strip() for part in re.split(r"/| per ", words, maxsplit=1)]
    symbols = [UNITS.get(part if len(part) < 3 else part.lower(), "") for part in parts]
    return "/".join(symbols) + power if all(symbols) else None


def _value(text: str) -> Fraction | None:
    """A non-negative literal."""
    try:
        if found := NUMBER.fullmatch(text):
            power = int(next((part for part in found.groups()[1:] if part), "0"))
            return None if abs(power) > MOST_POWER else _decimal(found[1]) * Fraction(10) ** power
        if found := SLASH.fullmatch(text):
            return _decimal(found[1]) / _decimal(found[2])
        if found := FRACTION.fullmatch(text):
            part = _decimal(found[2] or found[3]) / _decimal(found[4] or found[5])
            if not found[1]:
                return part
            return int(found[1]) + part if 0 < part < 1 else None
    except ZeroDivisionError:
        pass
    return None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))

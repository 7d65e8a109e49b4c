"""Units of measure by their names, with exact conversions; what is no unit is a noun that is counted (`5 red apples`).

A unit is a size and powers of base units, as in 1 km/h = 1000/3600 m s^-1. Only exact conversions are here: a mile is
1609.344 m, a month is no number of days. Symbols are told apart by case (mm, Mm), words are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

NOUN = "a thing"  # the base unit of what is counted

# names = size, then base units and their powers; with "*": SI prefixes, too. Plurals in -s are made.
DEFINED = """
m, meter, metre * = 1 m
g, gram, gramme * = 1/1000 kg
L, l, liter, litre * = 1/1000 m3
s, sec, second * = 1 s
N, newton * = 1 kg m s-2
J, joule * = 1 kg m2 s-2
W, watt * = 1 kg m2 s-3
Pa, pascal * = 1 kg m-1 s-2
A, amp, ampere * = 1 A
V, volt * = 1 kg m2 s-3 A-1
Hz, hertz * = 1 s-1
Wh, watt-hour, watt hour * = 3600 kg m2 s-2
cal, calorie * = 1 cal
mol, mole * = 1 mol
micron = 1/1000000 m
in, inch, inches = 0.0254 m
ft, foot, feet = 0.3048 m
yd, yard = 0.9144 m
mi, mile = 1609.344 m
nautical mile = 1852 m
light year, light-year = 1 ly
t, tonne, metric ton = 1000 kg
ton = 1 ton
lb, pound = 0.45359237 kg
oz, ounce = 0.028349523125 kg
kilo = 1 kg
stone = 6.35029318 kg
cc = 1/1000000 m3
gal, gallon = 0.003785411784 m3
qt, quart = 0.000946352946 m3
pt, pint = 0.000473176473 m3
cup = 0.0002365882365 m3
fl oz, fluid ounce = 0.0000295735295625 m3
tbsp, tablespoon = 0.00001478676478125 m3
tsp, teaspoon = 0.00000492892159375 m3
acre = 4046.8564224 m2
ha, hectare = 10000 m2
min, minute = 60 s
h, hr, hour = 3600 s
day = 86400 s
week, wk = 604800 s
fortnight = 1209600 s
month, mo = 1 month
yr, year = 12 month
decade = 120 month
century, centuries = 1200 month
mph = 1609.344/3600 m s-1
km/h, kmh, kph, kmph = 1000/3600 m s-1
knot = 1852/3600 m s-1
mpg = 1609.344/0.003785411784 m-2
rpm = 1/60 rev s-1
rev, revolution = 1 rev
bar = 100000 kg m-1 s-2
atm, atmosphere = 101325 kg m-1 s-2
Ω, ohm * = 1 kg m2 s-3 A-2
coulomb = 1 A s
farad = 1 kg-1 m-2 s4 A2
C, celsius, degree C, degree celsius, degree centigrade = 1 K
F, fahrenheit, degree F, degree fahrenheit = 5/9 K
K, kelvin = 1 K
degree, deg = 1 degree
rad, radian = 1 rad
$, US$, dollar, USD, buck, US dollar, U.S. dollar = 1 dollar
¢, cent = 0.01 dollar
penny, pennies = 0.01 dollar
nickel = 0.05 dollar
dime = 0.1 dollar
€, euro, EUR = 1 euro
£, GBP, pound sterling, pounds sterling, quid = 1 sterling
pence = 0.01 sterling
¥, yen, JPY = 1 yen
₹, rupee, INR = 1 rupee
yuan, RMB, CNY = 1 yuan
%, percent, per cent, pct, percentage = 1 %
percentage point = 1 %point
unit = 1 unit
point, pt. = 1 point
bit = 1 bit
B, byte * = 8 bit
"""
PREFIXES = {
    "n": ("nano", 9),
    "µ": ("micro", 6),
    "u": ("micro", 6),
    "m": ("milli", 3),
    "c": ("centi", 2),
    "d": ("deci", 1),
    "k": ("kilo", -3),
    "M": ("mega", -6),
    "G": ("giga", -9),
    "T": ("tera", -12),
}  # name, digits behind the point
ZEROS = {"celsius": Fraction("273.15"), "fahrenheit": Fraction("459.67") * 5 / 9}  # of a scale, in kelvin
PLURALS = """people person children child men man women woman mice mouse geese goose dice die teeth tooth halves
half leaves leaf loaves loaf knives knife shelves shelf wolves wolf"""
NO_NOUNS = """a an and or nor not no non none if else but than then is are was were it its be i my me am pm maybe
perhaps probably possibly about approximately around roughly nearly almost at least most less more fewer greater
over under above below beyond plus minus times divided multiplied squared cubed factorial mod modulo base choose
half third fourth quarter fifth sixth seventh eighth ninth tenth hundredth thousandth wrong right correct incorrect
yes true false nan null inf infinity negative positive short off pi zero one two three four five six seven eight
nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
trillion dozen score pair to from with without except as per by for so when where power root wait hmm sorry actually
instead unknown undefined never impossible sin cos tan log ln exp sqrt in on at into during after before altogether
together because since though while which that this these those"""
IRREGULAR: dict[str, str] = dict(zip(PLURALS.split()[::2], PLURALS.split()[1::2], strict=True))
NO_NOUN = frozenset(NO_NOUNS.split())  # words that say more than what is counted


@dataclass(frozen=True, slots=True)
class Unit:
    """`size` base units of `powers`, as (("m", 1), ("s", -1)). `zero`: of its scale. `noun`: stems of what is counted."""

    name: str = ""
    size: Fraction = Fraction(1)
    powers: tuple[tuple[str, int], ...] = ()
    zero: Fraction = Fraction(0)
    noun: tuple[str, ...] = ()

    def __truediv__(self, other: Unit) -> Unit:
        return _product(self, other, -1)

    def __mul__(self, other: Unit) -> Unit:
        return _product(self, other, 1)


ONE = Unit()


def known(name: str) -> Unit | None:
    """The unit of that name or symbol; None for another word."""
    name = " ".join(name.split())
    if (found := NAMES.get(name)) or (found := NAMES.get(name.removesuffix("."))):
        return found
    word = name.removesuffix(".").lower()
    return NAMES.get(word) if len(word) > 2 or (len(word) == 2 and name.isupper()) else None


def unit(text: str, nouns: bool = True) -> Unit | None:
    """What is named by `km/h`, `square feet`, `m^2`, `miles per hour`, `apples a day`; None where it is not understood.

    `nouns`: whether a thing that is counted is a unit.
    """
    if (whole := known(text)) is not None:
        return whole
    parts = re.split(r"\s*/\s*|\s+(?:per|an?|each|every)\s+", text.strip())
    factors = [factor for part in parts[:3] if (factor := _factor(part.strip(), nouns)) is not None]
    return reduce(Unit.__truediv__, factors) if len(factors) == len(parts) else None


def stem(word: str) -> str:
    """A word without the ending of a plural, in small letters."""
    word = word.lower().removesuffix("'s")
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word) and len(word) > 4:
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


POWER = re.compile(
    r"(?:(square|sq\.?|cubic|cu\.?)\s+)?(.+?)"
    r"(?:\s*\^\s*\{?\s*([23])\s*\}?|(?<=[A-Za-z.])([23²³])|\s+(squared|cubed))?",
    re.IGNORECASE,
)


def _factor(text: str, nouns: bool) -> Unit | None:
    """One name with its power; several symbols multiply (`N m`), and adjectives stand before a name."""
    found = POWER.fullmatch(text)
    if found is None:
        return None
    before, name, *after = found.groups()
    mark = next((part for part in (before, *after) if part), "").lower()
    base = known(name) or _symbols(name) or (_things(name) if nouns else None)
    if base is None or not mark:
        return base
    power = 3 if mark[0] in "c3³" else 2
    return base * base * base if power == 3 else base * base


SYMBOL = re.compile(r"([A-Za-zµΩ]{1,3})(?:\^\{?(-?[1-4])\}?)?")


def _symbols(name: str) -> Unit | None:
    """`N m`, `kg m s^{-2}`."""
    parts = [SYMBOL.fullmatch(part) for part in re.split(r"\s*(?:\\cdot|[·*]|\s)\s*", name)]
    found = [(NAMES[part[1]], int(part[2] or 1)) for part in parts if part and part[1] in NAMES]
    if not 1 < len(parts) == len(found):
        return None
    factors = [base if power > 0 else Unit() / base for base, power in found for _ in range(abs(power))]
    return reduce(Unit.__mul__, factors, Unit())


def _things(name: str) -> Unit | None:
    """A noun with its adjectives, in ASCII; a unit may be the noun (`chocolate bars`)."""
    words = name.split()
    if not 0 < len(words) < 5 or not all(re.fullmatch(r"[A-Za-z]+(?:['-][A-Za-z]+)*'?", word) for word in words):
        return None
    stems = [stem(word) for word in words]
    if any(word.lower() in NO_NOUN or root in NO_NOUN for word, root in zip(words, stems, strict=True)):
        return None
    head = known(words[-1])
    if head is not None:
        return Unit(head.name, head.size, head.powers, head.zero, tuple(stems[:-1]))
    return Unit(" ".join(stems), powers=((NOUN, 1),), noun=tuple(stems)) if len(stems[-1]) > 2 else None


def _product(one: Unit, other: Unit, sign: int) -> Unit:
    powers = dict(one.powers)
    for base, power in other.powers:
        powers[base] = powers.get(base, 0) + sign * power
    name = f"{one.name}{'/' if sign < 0 else ' '}{other.name}".strip()
    size = one.size * other.size if sign > 0 else one.size / other.size
    noun = one.noun + ((("/",) if sign < 0 else ()) + other.noun if other.noun else ())
    return Unit(name, size, tuple(sorted((base, power) for base, power in powers.items() if power)), noun=noun)


def _defined(text: str) -> dict[str, Unit]:
    names: dict[str, Unit] = {}
    for line in text.strip().splitlines():
        left, right = line.split(" = ")
        size, *bases = right.split()
        above, _, below = size.partition("/")
        powers = tuple(sorted((b.rstrip("-0123456789"), int(re.sub(r"[^-\d]", "", b) or 1)) for b in bases))
        spelled = [name.strip() for name in left.removesuffix(" *").split(",")]
        value = Fraction(above) / Fraction(below or 1)
        prefixes = {"": ("", 0)} | (PREFIXES if left.endswith(" *") else {})
        for symbol, (word, digits) in prefixes.items():
            full = word + next((name for name in spelled if name in ZEROS or len(name) > 3), spelled[0])
            made = Unit(full, value / Fraction(10) ** digits, powers, ZEROS.get(full, Fraction(0)))
            for name in spelled:
                prefixed = (word if len(name) > 3 else symbol) + name
                names.setdefault(prefixed, made)
                if len(prefixed) > 1 and name[-1].isalpha():
                    names.setdefault(re.sub("^degree", "degrees", prefixed) if " " in name else prefixed + "s", made)
                    names.setdefault(prefixed + "s", made)
    return names | {name.lower(): made for name, made in names.items() if len(name) > 3 and name.lower() not in names}


NAMES = _defined(DEFINED)

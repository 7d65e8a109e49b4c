"""Whether two quantities are the same, as answers to a question. docs/judges.md has the rules."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tasks.judging.asked import Asked, asked
from tasks.judging.quantities import Quantity
from tasks.judging.units import NOUN, Unit, known, stem

SECOND_MEANINGS = {
    "pound": "pound sterling", "ounce": "fluid ounce", "celsius": "coulomb", "fahrenheit": "farad", "ton": "tonne",
}  # fmt: skip
CHANCE = frozenset(("probability", "chance", "likelihood", "likely"))  # what is a share of one, in percent or not
EXTENTS = "long tall high wide deep thick old away apart ago later"
ADDED = "more fewer total additional extra other whole different the of dozen"
EXTENT, FILLERS = (
    frozenset(EXTENTS.split()),
    frozenset(ADDED.split()),
)  # words behind and before a unit that name no thing
PERCENT = (("%", 1),)


def differ(gold: Quantity, answer: Quantity, question: str) -> str:
    """Why the two are not the same; "" if they are."""
    asks = asked(question)
    gold, answer = _scaled(gold, answer, asks)
    mine, its = gold.unit.powers, answer.unit.powers
    if gold.percent != answer.percent:
        if asks.words & CHANCE and not (mine and its):
            return "" if _share(gold) == _share(answer) else "another share"
        if asks.unit is None or asks.unit.powers != PERCENT:
            return "a percent sign on one side only"
    if mine and its:
        return _both(gold, answer)
    if mine or its:
        return _only_answer(gold, answer, asks) if its else _only_gold(gold, answer, asks)
    return _numbers(gold, answer) if _fit(gold.unit, answer.unit) else "of another thing"


def _scaled(gold: Quantity, answer: Quantity, asks: Asked) -> tuple[Quantity, Quantity]:
    """Both, where one says `3 million` and the other `3` to a question for millions."""
    scales = {gold.scale, answer.scale}
    if scales == {1} and answer.unit.powers and not gold.unit.powers:  # 24 eggs to a question for dozens
        return replace(gold, value=gold.value * asks.scale), answer
    if scales != {1, asks.scale} or asks.scale == 1:
        return gold, answer
    one, other = (side if side.scale > 1 else replace(side, value=side.value * asks.scale) for side in (gold, answer))
    return one, other


def _share(side: Quantity) -> Fraction:
    """Of one: 1/4 of 25%."""
    return side.value / 100 if side.percent else side.value


def _numbers(gold: Quantity, answer: Quantity) -> str:
    return "" if gold.value == answer.value else "another number"


def _both(gold: Quantity, answer: Quantity) -> str:
    """The same unit, or an exact conversion; plain degrees may be those of a temperature."""
    for mine in _meanings(gold.unit):
        for its in _meanings(answer.unit):
            if mine.powers == its.powers and _fit(mine, its):
                same = gold.value * mine.size + mine.zero == answer.value * its.size + its.zero
                return "" if same else "another quantity"
    degrees = {power for side in (gold.unit, answer.unit) for power in side.powers}
    if degrees == {("degree", 1), ("K", 1)} and "kelvin" not in (gold.unit.name, answer.unit.name):
        return _numbers(gold, answer)
    return "another unit"


def _fit(one: Unit, other: Unit) -> bool:
    """Do they count one thing: `red apples` and `apples`, not `red apples` and `green apples`?"""
    small, large = sorted((set(one.noun), set(other.noun)), key=len)
    return small <= large and (NOUN not in dict(one.powers) or one.noun[-1:] == other.noun[-1:])


def _meanings(unit: Unit) -> list[Unit]:
    second = known(SECOND_MEANINGS.get(unit.name, ""))
    return [unit, second] if second else [unit]


def _only_answer(gold: Quantity, answer: Quantity, asks: Asked) -> str:
    """The gold is read in the question's unit; where it names none, the number decides."""
    unit = answer.unit
    if asks.unit is not None:
        return _both(replace(gold, unit=asks.unit), replace(answer, unit=_above(unit, asks)))
    noun = [root for root in unit.noun if root != "/" and root not in EXTENT]
    if asks.words and noun and not set(noun) <= asks.words:
        return "another thing" if asks.thing or unit.powers != ((NOUN, 1),) else _numbers(gold, answer)
    if asks.thing and not (noun and noun[-1] in asks.thing) and stem(unit.name) not in asks.thing:
        return "another thing"
    named = asks.thing - FILLERS
    if named and ((len(named) > 1 and set(noun) - asks.thing) or _below(unit) not in ("", *asks.rates)):
        return "another thing"
    sizes = asks.mentioned.get(unit.powers, set())
    if sizes and unit.size not in sizes and all(power > 0 for _, power in unit.powers):
        (size, *more) = sizes
        same = not more and gold.value * size == answer.value * unit.size
        return "" if same else "not the question's unit"
    above = tuple((base, power) for base, power in unit.powers if power > 0)
    if asks.about and not {unit.powers, above} & asks.about and dict(above).keys() != {"unit"}:
        return "another unit"
    return _numbers(gold, answer)


def _only_gold(gold: Quantity, answer: Quantity, asks: Asked) -> str:
    """Wrong only where the question leaves the unit open."""
    unit = gold.unit
    if asks.unit is not None:
        return _both(replace(gold, unit=_above(unit, asks)), replace(answer, unit=asks.unit))
    noun = [root for root in unit.noun if root != "/"]
    named = (
        not asks.words
        or asks.mentioned.get(unit.powers) == {unit.size}
        or (bool(noun) and noun[-1] in (asks.thing or asks.words))
        or stem(unit.name) in asks.thing
    )
    return _numbers(gold, answer) if named else "no unit, which the question leaves open"


def _below(unit: Unit) -> str:
    """The hour of miles per hour; "" where nothing stands below."""
    return unit.name.partition("/")[2]


def _above(unit: Unit, asks: Asked) -> Unit:
    """Dollars of dollars per hour, where the question has said `per hour` and asks for dollars."""
    above = unit.name.partition("/")[0]
    if _below(unit) not in asks.rates or asks.unit is None or "/" in asks.unit.name:
        return unit
    return known(above) or unit

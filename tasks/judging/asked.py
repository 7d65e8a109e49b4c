"""In which unit a question wants its answer.

What it asks for by name (`how many hours`, `in cm`, `what percent`) comes first, then the units that stand in its text, then
what it is about (`how long` is no mass).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from tasks.judging.quantities import SCALES, plain
from tasks.judging.units import NAMES, NOUN, Unit, known, stem, unit

MOST_CHARACTERS = 4000  # of a question that are read, the last ones
ONE_OF_MANY = "second minute day point unit pound foot bar mole degree cup ton stone knot decade bit quarter"
END_OF_THING = """is are was were do does did can will would could should must has have had be in on at for to from
if when that which who so by with there it he she they we you i and or as than during after before until left remain
remains"""
MEASURES = """mass weight weigh force energy power voltage current charge resistance pressure time length distance height
width depth long far tall heavy speed velocity temperature volume capacity"""
MEASURED = frozenset(MEASURES.split())  # where one of them stands, `in m` is a unit, and no set or variable
NAMELESS = frozenset(ONE_OF_MANY.split())  # in the singular no unit of an answer: `in second place`
STOP = frozenset(END_OF_THING.split())
WORD = r"[A-Za-z][A-Za-z'-]*"
PHRASE = rf"(?:{WORD}|[$€£%])(?:\s*(?:[ /]|\^)\s*(?:{WORD}|[23])){{0,9}}"
MANY = re.compile(rf"\b(?:how\s+(many|much)|the\s+(number)\s+of)\s+(?=({PHRASE}))", re.IGNORECASE)
IN = re.compile(rf"\b(?:in|into|to|unit is|units of)\s+(?=({PHRASE}))|\((?:in )?(?=({PHRASE})[)])", re.IGNORECASE)
PERCENT = re.compile(r"(?<![\d.])(?<!\d\s)\bper\s?cent(?:age)?\b(?!\s+points?)|\(\s*%\s*\)|\bin %", re.IGNORECASE)
DEGREES = re.compile(r"\bdegree\s+measure", re.IGNORECASE)
ASKS = re.compile(r"\bhow\s+(?!many|much)\w+|\bwhat\b|\bfind\b|\bdetermine\b|\bcalculate\b|\bwhen\b", re.IGNORECASE)
NUMBERED = re.compile(
    rf"\d\)?\s*-?\s*((?:{WORD}|[%¢€£])(?:\s*(?:/|\bper\b|\ban?\b|\^)\s*(?:{WORD}|[23]))?)", re.IGNORECASE
)
RATE = re.compile(rf"(?<![A-Za-z'-])({WORD})\s*(?:/|\bper\b|\ban?\b|\beach\b|\bevery\b)\s*({WORD})", re.IGNORECASE)
ROUNDED = re.compile(r"\bnearest\s+\w+(?:\s+of\s+an?\s+\w+)?", re.IGNORECASE)
DOLLARS = re.compile(r"\$\s?\d[\d,]*(?:\.\d+)?(?![\d$]|\s*[+*/=<>^\\-])|\\\$|\bhow much money\b", re.IGNORECASE)
CURRENCIES = "dollar euro sterling yen rupee yuan"
PAID = re.compile(
    r"\bhow much(?: more)?(?: money| profit| change)?\s+"
    r"(?:is|are|was|were|do|does|did|will|would|should|can|has)\b(?!.*\bweigh)",
    re.IGNORECASE,
)
SUBJECTS = {  # words of the sentence that asks -> base units of its answer
    r"how long(?!.*\b(?:take|last)\b)": "m",
    "how long|how old": "s month",
    "how (?:far|tall|high|wide|deep|thick)|distance|height|width|perimeter|circumference": "m",
    "how (?:fast|quickly)|speed|velocity": "m/s",
    "how heavy|mass": "kg ton",
    "area": "m2",
    "volume": "m3",
    "price|cost": CURRENCIES,
}
ABOUT = [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), kinds) for words, kinds in SUBJECTS.items()]
SPEED = (("m", 1), ("s", -1))


@dataclass(frozen=True)
class Asked:
    """What a question says of its answer."""

    words: frozenset[str] = frozenset()  # stems of all
    unit: Unit | None = None  # that it asks for by name
    thing: frozenset[str] = frozenset()  # stems of what is counted
    scale: int = 1  # 10**6 where it asks for millions
    mentioned: dict[tuple, set[Fraction]] = field(default_factory=dict)  # sizes, by powers
    about: frozenset[tuple] = frozenset()  # powers, one of which the answer must have
    rates: frozenset[str] = frozenset()  # names behind `per`


@lru_cache(1024)
def asked(question: str) -> Asked:
    """What a question says of the unit of its answer; nothing for an empty one."""
    question = question[-MOST_CHARACTERS:]
    if not question.strip():
        return Asked()
    money = DOLLARS.search(question) is not None
    text = ROUNDED.sub("rounded", " ".join(plain(question).split()))
    mentioned: dict[tuple, set[Fraction]] = {}
    for found in [known("dollar")] * money + _mentioned(text):
        if found is not None and found.powers and NOUN not in dict(found.powers):
            mentioned.setdefault(found.powers, set()).add(found.size)
    about = _about(text, money)
    wanted, thing = _wanted(text)
    if wanted is not None and about and wanted.powers not in about and wanted is not NAMES["%"]:  # of a price, too
        wanted = None
    rates = {found.name if (found := known(below)) else stem(below) for _, below in RATE.findall(_last(text))}
    words = frozenset(stem(word) for word in re.findall(WORD, text))
    return Asked(words, wanted, thing, _scale(text, thing), mentioned, about, frozenset(rates))


def _last(text: str) -> str:
    """The sentence that asks."""
    return re.split(r"[.!?]\s+(?=[A-Z])", text)[-1]


def _about(text: str, money: bool) -> frozenset[tuple]:
    """Powers, one of which the answer has by the last sentence; none where it says nothing."""
    last = _last(text)
    kinds = [kind for words, names in ABOUT if words.search(last) for kind in names.split()]
    kinds += CURRENCIES.split() * (money and PAID.search(last) is not None)
    powers = (((kind.rstrip("23"), int(kind[-1]) if kind[-1] in "23" else 1),) for kind in kinds if kind != "m/s")
    return frozenset((*powers, SPEED) if "m/s" in kinds else powers)


def _scale(text: str, thing: frozenset[str]) -> int:
    """10**6 where millions are asked for; 1 where nothing is said."""
    named = re.search(rf"\bin\s+({'|'.join(SCALES)}|dozen)s\b", text, re.IGNORECASE)
    words = [named[1].lower()] if named else [word for word in (*SCALES, "dozen") if word in thing]
    return (10 ** SCALES[words[0]] if words[0] in SCALES else 12) if words else 1


def _wanted(text: str) -> tuple[Unit | None, frozenset[str]]:
    """(unit that is asked for by name, stems of the thing that is counted), by the last place that says one."""
    places: list[tuple[int, Unit | None, frozenset[str]]] = []
    for found in MANY.finditer(text):
        phrase = _phrase(found[3])
        named = _last_unit(phrase)
        if named or (found[1] or "").lower() != "much":
            places.append((found.start(), named, frozenset() if named else frozenset(map(stem, phrase))))
    letters = bool(MEASURED & set(text.lower().replace("?", " ").replace(",", " ").split()))
    behind = [
        (found.start(), _first_unit((found[1] or found[2]).split(), letters and not re.match(r"\((?!in )", found[0])))
        for found in IN.finditer(text)
    ]
    places += [(at, named, frozenset()) for at, named in behind if named is not None]
    places += [(found.start(), NAMES["%"], frozenset()) for found in PERCENT.finditer(text)]
    places += [(found.start(), NAMES["degree"], frozenset()) for found in DEGREES.finditer(text)]
    at, wanted, thing = max(places, key=lambda place: place[0], default=(0, None, frozenset()))
    again = any(found.start() > at for found in ASKS.finditer(text)) and text[at:].count("?") > 1
    return wanted, frozenset() if again else thing


def _phrase(text: str) -> list[str]:
    """What is counted: `how many [more red apples] does`, `how many [of the apples] are`."""
    words = text.split()
    of = words[0].lower() == "of"
    end = next((i for i, word in enumerate(words) if word.lower() in STOP or (i and word.lower() == "of")), len(words))
    return words[of:end]


def _last_unit(words: list[str]) -> Unit | None:
    """The unit that a phrase holds, best at its end: `work hours`, `miles per hour`; None where a thing is counted."""
    spans = [(start, len(words)) for start in range(len(words))] + [(0, end) for end in range(len(words) - 1, 0, -1)]
    found = (unit(" ".join(words[start:end]), nouns=False) for start, end in spans)
    return next((named for named in found if named is not None), None)


def _first_unit(words: list[str], letters: bool) -> Unit | None:
    """The longest unit at the start of what follows `in`; one word alone must be no word of other things, nor a letter."""
    for end in range(min(len(words), 5), 0, -1):
        name = " ".join(words[:end]).rstrip(".,;:?)")
        found = unit(name, nouns=False)
        letter = len(name) < 2 and name.isalpha() and not letters
        if found is not None and (end > 1 or not (letter or name.lower() in NAMELESS or name in ("in", "a"))):
            return found
    return None


def _mentioned(text: str) -> list[Unit | None]:
    behind = [
        unit(found, nouns=False) or known(re.split(r"[\s/^]", found, maxsplit=1)[0]) for found in NUMBERED.findall(text)
    ]
    rates = [unit(f"{above}/{below}", nouns=False) for above, below in RATE.findall(text)]
    names = [known(word) for word in re.findall(WORD, text) if len(word) > 3 and stem(word) not in NAMELESS]
    return [*behind, *rates, *names]

"""What a library may be asked about two formulas, and how: it computes with anything, and rounds, lowers and drops on the way.

For `equal.py`. Linear-time but for the powers in one another, of which there are few in a text of its length.
"""

from __future__ import annotations

import re
from fractions import Fraction

from tasks.judging.units import ONE, Unit, unit

TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox)\s?\{([^{}]*)\}")
DECIMAL_POINT = r"\.\d+"
RELATION = re.compile(r"[<>≤≥≈≠~]|\\(?:leq?|geq?|lt|gt|neq?|approx|sim|equiv|leqslant|geqslant)(?![a-zA-Z])")
MATHEMATICS = re.compile(r"[\\^_+*/=()\[\]{}<>|&]")
MOST_POWER = 999
MOST_POWERS = 100  # in one text
EQUALLY_OFTEN = (
    "=", "!", "**", "%", "'", r"\prime", "^T", "^{T}", r"\top", r"\circ", "$", r"\(", r"\[", r"\vec", r"\times",
)  # fmt: skip
LITERAL = re.compile(  # digits of a base, infinities, dots, inverse functions: to be compared as texts
    r"\d\}?\s*_|\\infty|\\[lcvd]?dots|\.\.|[A-Za-z]\s*\^\s*\{?\s*-\s*1\s*\}?\s*\(|\\vec"
)
MIXED = re.compile(  # 2\frac{1}{3} and 2 1/3
    r"(?<![\d./^_])(\d+)\s*(?:\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|\s(\d+)\s*/\s*(\d+)(?!\d))"
)
TWO_NUMBERS = re.compile(
    r"\^(?:\{[^{}]*\}|\w)\s*\d|(?<![_\d])\d+\s+\d|(?<![\\A-Za-z])[A-Za-z]\s*\d|\d\s*\\frac\s*\{\s*\d+\s*\}"
)
UNIT = re.compile(
    r"(?:\\(?:text|mathrm|mbox|textrm)\s?\{([^{}\d]*)\}|(?<=[\d\s})])([A-Za-z][A-Za-z/ .]*?))(?:\s?\^\s?\{?([23])\}?)?$"
)
COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}|\\[A-Za-z]+")
SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|~")
FUNCTION_WORDS = "sin cos tan cot sec csc log ln exp sqrt arcsin arccos arctan sinh cosh tanh max min gcd lcm det"
FUNCTIONS = frozenset(FUNCTION_WORDS.split())


TYPED = [  # what people type where LaTeX has a command
    (
        re.compile(r"√\s*(\d+)|(?:√|(?<![\\A-Za-z])sqrt)\s*\(([^()]*)\)"),
        lambda found: rf"\sqrt{{{found[1] or found[2]}}}",
    ),
    (re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])"), lambda _: r"\pi "),
    (re.compile(r">=|≥|\\(?:geq|geqslant)(?![a-zA-Z])"), lambda _: r"\ge "),
    (re.compile(r"<=|≤|\\(?:leq|leqslant)(?![a-zA-Z])"), lambda _: r"\le "),
    (re.compile(r"\\varnothing|∅|\\\{\s*\\\}"), lambda _: r"\emptyset"),
    (re.compile(r"(?<=[,(\[])\s*\+\s*\\infty"), lambda _: r"\infty"),
    (re.compile(r"^(?:no (?:real )?solutions?|(?:the )?empty set)$", re.IGNORECASE), lambda _: r"\emptyset"),
    (re.compile(r"^(?:\\mathbb\s?\{?R\}?|all real(?: numbers)?)$", re.IGNORECASE), lambda _: r"(-\infty, \infty)"),
    (re.compile(r"\*\*"), lambda _: "^"),
    (re.compile(r"\^\s*\(([^()^]*)\)"), lambda found: f"^{{{found[1]}}}"),
    (re.compile(r"\^\s*(\d{2,})"), lambda found: f"^{{{found[1]}}}"),
]


def tidy(text: str) -> str:
    """In LaTeX, without what only sets a formula: spaces, groups of thousands, sizes of brackets."""
    text = re.sub(r"(?<=\d)(?:\\,|\{,\})(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\s?", "", SPACES.sub(" ", text))
    for typed, latex in TYPED:
        text = typed.sub(latex, text)
    return " ".join(text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac").split())


def bare(text: str) -> str:
    """Without blanks but those between two numbers, and without braces around a power or subscript that ends where they do."""
    text = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)
    text = re.sub(r"([_^])\{(\d+)\}(?!\d)", r"\1\2", text)
    return re.sub(r"([_^])\{([A-Za-z0-9]+)\}(?![A-Za-z0-9])", r"\1\2", text)


def split_unit(text: str) -> tuple[str, Unit]:
    """(text without the unit at its end, the unit): `ONE` for none. Degrees belong to the formula, other words stay."""
    found = UNIT.search(text)
    if found is None or not text[: found.start()].strip():
        return text, ONE
    written = found[1] is not None
    words = found[1] if written else found[2]
    rest = text[: found.start()].strip()
    if not written and (
        re.search("[A-Za-z]", COMMAND.sub("", rest)) or (len(words) == 1 and text[found.start(2) - 1] != " ")
    ):
        return text, ONE
    named = unit(words.strip() + (f"^{found[3]}" if found[3] else ""), nouns=False)
    return (rest, named) if named else (text, ONE)


def prepared(gold: str, answer: str) -> tuple[str, str]:
    """Both sides as they are asked: letters of two cases told apart, decimals and mixed numbers as fractions."""
    sides = [
        re.sub(rf"\d*{DECIMAL_POINT}", _as_fraction, MIXED.sub(_unmixed, side)) for side in _told_apart(gold, answer)
    ]
    gold, answer = (re.sub(r"(?<=\d)\s*\\cdot\s*(?=[a-z])", "", side) for side in sides)
    return gold, answer


def _told_apart(gold: str, answer: str) -> tuple[str, str]:
    """Both sides with a capital that also stands as a small letter renamed: the library reads R as r."""
    names = set(SYMBOL.findall(gold + " " + answer))
    lower = {name.lower() for name in names}
    free = iter(sorted(set("abcghjkmnopqrstuvwxyz") - {name.lower() for name in names}))
    new = {name: next(free, name) for name in sorted(names) if name != name.lower() and name.lower() in names & lower}
    gold, answer = (SYMBOL.sub(lambda found: new.get(found[0], found[0]), side) for side in (gold, answer))
    return gold, answer


def _as_fraction(found: re.Match) -> str:
    above, below = Fraction(found[0]).as_integer_ratio()
    return rf"\frac{{{above}}}{{{below}}}"


def _unmixed(found: re.Match) -> str:
    whole, above, below = (int(part) for part in found.groups() if part is not None)
    return rf"\frac{{{whole * below + above}}}{{{below}}}" if 0 < above < below else found[0]


def unfit(gold: str, answer: str) -> str:
    """Why a library must not see `answer`, or cannot be trusted with it; "" if it may."""
    if not answer.isascii():
        return "not in ASCII"
    if not MATHEMATICS.search(answer) and re.search(r"[A-Za-z]{3}", answer):
        return "prose"
    for sign in EQUALLY_OFTEN:
        if answer.count(sign) != gold.count(sign):
            return f"{sign} is not there as often"
    if bool(RELATION.search(answer)) != bool(RELATION.search(gold)):
        return "a relation on one side only"
    if TEXT.findall(answer) != TEXT.findall(gold):
        return "another text within"
    if any(LITERAL.search(side) for side in (gold, answer)) and bare(gold) != bare(answer):
        return "not written as the gold answer is, and not to be computed with"
    sides = [MIXED.sub(_unmixed, side) for side in (gold, answer)]
    if any(TWO_NUMBERS.search(side) for side in sides) and bare(gold) != bare(answer):
        return "two numbers side by side, which may be added or multiplied"
    if re.fullmatch(r"-?[\d.]+\s+[A-Za-z]{2,}", gold) and bare(gold) != bare(answer):
        return "another word behind the number"
    if re.search(r"\^\s*\(", answer):
        return "a power in brackets of its own"
    if _power(answer) > MOST_POWER or re.search(r"\d{40}", answer):
        return "a tower of powers, or a huge number"
    words, known = (re.findall(r"[A-Za-z]{3,}", COMMAND.sub(" ", side)) for side in (answer, gold))
    if any(word not in FUNCTIONS and word not in known for word in words):
        return "prose"
    return ""


def _power(text: str) -> int:
    """The largest product of powers that stand in one another; a power within an exponent counts as beyond any limit."""
    if text.count("^") > MOST_POWERS:
        return MOST_POWER + 1
    found: list[tuple[int, int, int]] = []  # (start, end) of a base, its power
    for at in (i for i, c in enumerate(text) if c == "^"):
        exponent = re.match(r"\s*(?:\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|(\\[A-Za-z]+|.))", text[at + 1 :], re.DOTALL)
        inner = (exponent[1] or exponent[2] or "") if exponent else "^"
        if "^" in inner or re.search(r"\d{4}", inner):
            return MOST_POWER + 1
        start = at - 1
        if text[start] in ")]}":
            depth = 0
            while start >= 0:
                depth += (text[start] in ")]}") - (text[start] in "([{")
                if depth == 0:
                    break
                start -= 1
        found.append((start, at, int(inner) if inner.strip().isascii() and inner.strip().isdigit() else 1))
    most = 1
    for start, end, power in found:
        for other_start, other_end, other in found:
            power *= (
                other if (other_start, other_end) != (start, end) and other_start <= start and end <= other_end else 1
            )
        most = max(most, power)
    return most

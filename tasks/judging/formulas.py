"""What a library may be asked about two formulas, and how: it computes with anything, and rounds, lowers and drops on the way.

For `answers.py`. Linear-time but for the powers in one another, of which there are few in a text of its length.
"""

from __future__ import annotations

import re
from fractions import Fraction

TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox)\s?\{([^{}]*)\}")
DECIMAL_POINT = r"\.\d+"
RELATION = re.compile(r"[<>≤≥≈≠~]|\\(?:leq?|geq?|lt|gt|neq?|approx|sim|equiv|leqslant|geqslant)(?![a-zA-Z])")
MATHEMATICS = re.compile(r"[\\^_+*/=()\[\]{}<>|&]")
MOST_POWER = 999
EQUALLY_OFTEN = (
    "=", "!", "**", "%", "'", r"\prime", "^T", "^{T}", r"\top", r"\circ", "$", r"\(", r"\[", r"\vec", r"\times",
)  # fmt: skip
LITERAL = re.compile(  # digits of a base, infinities, dots, inverse functions: to be compared as texts
    r"\d\}?\s*_|\\infty|\\[lcvd]?dots|\.\.|[A-Za-z]\s*\^\s*\{?\s*-\s*1\s*\}?\s*\(|\\vec"
)
COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}|\\[A-Za-z]+")
SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|~")
FUNCTION_WORDS = "sin cos tan cot sec csc log ln exp sqrt arcsin arccos arctan sinh cosh tanh max min gcd lcm det"
FUNCTIONS = frozenset(FUNCTION_WORDS.split())


def tidy(text: str) -> str:
    """Without what only sets a formula: spaces of LaTeX, groups of thousands, sizes of brackets."""
    text = re.sub(r"(?<=\d)(?:\\,|\{,\})(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\s?", "", SPACES.sub(" ", text))
    return " ".join(text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac").split())


def bare(text: str) -> str:
    """Without blanks, and without braces around a power or subscript of one character or number."""
    return re.sub(r"([_^])\{([A-Za-z0-9]+)\}", r"\1\2", "".join(text.split()))


def prepared(gold: str, answer: str) -> tuple[str, str]:
    """Both sides as they are asked: letters of two cases told apart, decimals as fractions."""
    sides = [re.sub(rf"\d*{DECIMAL_POINT}", _as_fraction, side) for side in _told_apart(gold, answer)]
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
    if _power(answer) > MOST_POWER or re.search(r"\d{40}", answer):
        return "a tower of powers, or a huge number"
    words, known = (re.findall(r"[A-Za-z]{3,}", COMMAND.sub(" ", side)) for side in (answer, gold))
    if any(word not in FUNCTIONS and word not in known for word in words):
        return "prose"
    return ""


def _power(text: str) -> int:
    """The largest product of powers that stand in one another; a power within an exponent counts as beyond any limit."""
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

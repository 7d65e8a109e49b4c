"""Is this answer that one? Pure, linear-time and total: exact numbers, words and choices; the rest is asked of a library.

What counts (each line is held by tests/tasks/test_answers.py):

* The final answer is what follows the one end-of-thinking tag, if there is one. Its last box alone counts; without a box
  the whole line must be the answer. Several different boxes, several tags, an open box: refused, nothing is guessed.
* Numbers are ASCII and compare exactly as rationals: 0.5 = 1/2 = \\frac{2}{4}, and 0.333 is not 1/3. Sign, thousands groups,
  decimals, fractions, scientific form, a mixed number in LaTeX, `x = 5`. Arithmetic left undone is not a number.
* A percent sign must be in both or in neither. A unit or currency may be missing on either side, and must not differ.
* Words compare as words, whole and in order, without regard to case. Choices compare as letters, with or without brackets.
* Tuples and intervals compare entry by entry, with equal brackets; other mathematics goes to math-verify in a judge pool
  (`grading.py`) after a look at its size: no towers of powers, no factorials, no prose, no rounded values.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from tasks.judging.formulas import MATHEMATICS, TEXT, bare, prepared, tidy, unfit
from tasks.judging.quantities import Quantity, quantity, split_unit

MOST_CHARACTERS = 1000  # of a final answer
MOST_DEPTH = 40  # of brackets

END_OF_THINKING = re.compile(r"</think(?:ing)?>|<\|end_of_thought\|>", re.IGNORECASE)
START_OF_THINKING = re.compile(r"<think(?:ing)?>|<\|begin_of_thought\|>", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
LEAD = re.compile(r"(?:the )?(?:final |correct )?answer(?: is)?(?::?\s+|:)", re.IGNORECASE)
WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
SYMBOLS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "’": "'",
        "“": '"',
        "”": '"',
        "π": r"\pi ",
        "×": r"\times ",
        "·": r"\cdot ",
        "∞": r"\infty ",
        "°": r"^\circ",
    }
)

CHOICE = re.compile(r"\(([A-Ja-j])\)|([A-J])[.):]?")
GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega"
)
NAME = re.compile(rf"(?:[A-Za-z]|\\(?:{GREEK}))(?:_(?:[A-Za-z0-9]|\{{[A-Za-z0-9]{{1,8}}\}}))?")
ORDINAL = re.compile(r"\d+\s?(?:st|nd|rd|th|am|pm)")
MONOMIAL = re.compile(r"-?\s?(?:[a-z]|\d+\s?[a-z]{1,3})")  # x, 6x, 2xy
BRACKETS = {"(": ")", "[": "]", "{": "}"}

Kind = Literal["right", "wrong", "ask"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What can be said without a library. `asks`: (gold, answer) pairs that must all be equal for the answer to be right."""

    kind: Kind
    reason: str = ""
    asks: tuple[tuple[str, str], ...] = ()


RIGHT = Decision("right")


def decide(gold: str, text: str) -> Decision:
    """Does the final answer of `text` equal `gold`? Total: any two texts get a decision."""
    answer, why = final_answer(text)
    return Decision("wrong", why) if answer is None else compare(gold, answer)


def final_answer(text: str) -> tuple[str | None, str]:
    """(answer, "") or (None, why there is none that could be counted)."""
    tags = list(END_OF_THINKING.finditer(text))
    if len(tags) > 1:
        return None, "several end-of-thinking tags"
    if START_OF_THINKING.search(text, tags[0].end() if tags else 0):
        return None, "the thinking has no end"
    text = (text[tags[0].end() :] if tags else text).strip()
    if len(text) > MOST_CHARACTERS:
        return None, f"longer than {MOST_CHARACTERS} characters"
    if any(unicodedata.category(c) in ("Cf", "Cc", "Co", "Cs", "Cn") and c not in "\n\t" for c in text):
        return None, "invisible characters"
    if _depth(text) > MOST_DEPTH:
        return None, f"nested deeper than {MOST_DEPTH}"
    boxes = _boxes(text)
    if boxes is None:
        return None, "a box that does not close"
    if len({" ".join(box.split()) for box in boxes}) > 1:
        return None, "several boxes that differ"
    if boxes:
        answer = boxes[-1].strip()
        inner = _boxes(answer)
        opening = BOX.match(answer)
        if inner and opening and answer == f"{opening[0]}{inner[0]}}}":
            answer = inner[0].strip()
        elif inner is None or inner:
            return None, "a box within a box"
        return answer, ""
    text = text.replace("**", "").strip()
    lead = LEAD.match(text)
    text = text[lead.end() :].strip() if lead else text
    if "\n" in text:
        return None, "several lines without a box"
    return (text, "") if text else (None, "no answer")


def compare(gold: str, answer: str) -> Decision:
    """Does `answer`, taken as it stands, equal `gold`? Total."""
    gold, answer = _unwrapped(gold), _unwrapped(answer)
    if not answer or max(len(gold), len(answer)) > MOST_CHARACTERS or _depth(answer) > MOST_DEPTH:
        return Decision("wrong", "no answer of a length to be read")
    if re.fullmatch("[A-J]", gold):
        return _choice(gold, answer)
    if (number := quantity(gold)) is not None:
        return _number(number, answer)
    if _is_words(gold):
        same = (answer.isascii() or not gold.isascii()) and _words(gold) == _words(answer)
        return RIGHT if same else Decision("wrong", "other words")
    if gold == answer:
        return RIGHT
    return _expression(gold, answer)


def is_plain(gold: str) -> bool:
    """Whether a gold answer is a choice, a number or words, so that no answer to it is ever asked of a library."""
    gold = _unwrapped(gold)
    return bool(re.fullmatch("[A-J]", gold)) or quantity(gold) is not None or _is_words(gold)


def _is_words(gold: str) -> bool:
    """Words, names, dates and times: what has no operator of mathematics, or is too much of a text for it."""
    runs = re.findall(r"[^\W\d_]+", gold)
    if (runs and max(map(len, runs)) == 1) or (MONOMIAL.fullmatch(gold) and not ORDINAL.fullmatch(gold)):
        return False
    if not MATHEMATICS.search(gold) or re.fullmatch(r"\d+/\d+/\d+|[^\W\d_]+(?:/[^\W\d_]+)+", gold):
        return True
    return "\\" not in gold and len(re.findall(r"[^\W\d_]{3,}", gold)) > 1 and not set("=^_*<>") & set(gold)


def _number(gold: Quantity, answer: str) -> Decision:
    number = quantity(_right_side(answer, ("=",)))
    if number is None:
        return Decision("wrong", "not one finished number")
    if number.percent != gold.percent:
        return Decision("wrong", "a percent sign on one side only")
    if gold.unit and number.unit and gold.unit != number.unit:
        return Decision("wrong", "another unit")
    return RIGHT if number.value == gold.value else Decision("wrong", "another number")


def _choice(gold: str, answer: str) -> Decision:
    found = CHOICE.fullmatch(answer)
    return RIGHT if found and (found[1] or found[2]).upper() == gold else Decision("wrong", "another choice")


def _expression(gold: str, answer: str) -> Decision:
    """Mathematics beyond a literal: entry by entry where it is a tuple, a question to the library elsewhere."""
    if "=" not in gold:
        answer = _right_side(answer, ("=", r"\in "))
    gold, answer = tidy(gold), tidy(answer)
    if gold == answer:
        return RIGHT
    mine, its = _entries(gold), _entries(answer)
    if (mine is None) != (its is None) or (mine and its and (mine[0] != its[0] or len(mine[1]) != len(its[1]))):
        return Decision("wrong", "other brackets, or another number of entries")
    if mine is None or its is None:
        return _question(gold, answer)
    numbers = [[quantity(entry) for entry in side] for side in (mine[1], its[1])]
    if mine[0] == "{}" and None not in numbers[0] and None not in numbers[1]:
        one, other = ({(n.value, n.percent, n.unit) for n in side if n} for side in numbers)
        return RIGHT if one == other else Decision("wrong", "another set")
    if mine[0] == "{}":
        return _question(gold, answer)
    parts = [compare(one, other) for one, other in zip(mine[1], its[1], strict=True)]
    if wrong := next((part for part in parts if part.kind == "wrong"), None):
        return wrong
    asks = tuple(ask for part in parts for ask in part.asks)
    return Decision("ask", asks=asks) if asks else RIGHT


def _question(gold: str, answer: str) -> Decision:
    """To the library, where it may see the answer: units off, decimals as fractions, letters of two cases told apart."""
    (gold, unit), (answer, its_unit) = split_unit(gold), split_unit(answer)
    if unit is None or its_unit is None or (unit and its_unit and unit != its_unit):
        return Decision("wrong", "another unit")
    if (number := quantity(gold)) is not None:
        return _number(number, answer)
    if why := unfit(gold, answer):
        return Decision("wrong", why)
    return RIGHT if bare(gold) == bare(answer) else Decision("ask", asks=(prepared(gold, answer),))


def _right_side(answer: str, signs: tuple[str, ...]) -> str:
    """`5` of `x = 5`, `[0,1)` of `x \\in [0,1)`; anything else as it stands."""
    for sign in signs:
        left, found, right = answer.partition(sign)
        if found and NAME.fullmatch(left.strip()) and "=" not in right:
            return right.strip()
    return answer


def _entries(text: str) -> tuple[str, list[str]] | None:
    """(brackets, entries) of a tuple, an interval or a set; None for anything else."""
    text = text.replace(r"\{", "{").replace(r"\}", "}").strip()
    bare = not (text[:1] in BRACKETS and text[-1:] in ")]}" and _closes_last(text))
    entries = _split(text if bare else text[1:-1])
    if len(entries) < 2 and (bare or text[0] != "{"):
        return None
    return ("" if bare else text[0] + text[-1]), entries


def _closes_last(text: str) -> bool:
    """Is the bracket that opens `text` closed by its last character?"""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0:
            return i == len(text) - 1
    return False


def _split(text: str) -> list[str]:
    """Parts between commas outside brackets; a comma in `1{,}000` is inside one."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def _unwrapped(text: str) -> str:
    """Without what only sets an answer off: dollar signs, bold, `\\text`, quotes, one trailing period."""
    text = text.translate(SYMBOLS).strip()
    for _ in range(4):
        before = text
        text = text.removesuffix(".").strip() if not text.endswith("..") else text
        text = text.removeprefix(r"\displaystyle").strip()
        for opens, closes in WRAPPERS:
            inner = text[len(opens) : -len(closes)]
            alone = opens not in inner.replace(r"\$", "")
            if text.startswith(opens) and text.endswith(closes) and inner.strip() and alone:
                text = inner.strip()
        if (found := TEXT.fullmatch(text)) is not None:
            text = found[1].strip()
        if text == before:
            break
    return text


def _words(text: str) -> str:
    text = text.strip()
    if len(text) > 2 and (text[0] + text[-1] in ('""', "''")):
        text = text[1:-1]
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _boxes(text: str) -> list[str] | None:
    """Contents of the outermost boxes; None if one does not close."""
    found, at = [], 0
    while (box := BOX.search(text, at)) is not None:
        depth, i = 1, box.end()
        while i < len(text) and depth:
            if text[i] == "\\":
                i += 1
            elif text[i] in "{}":
                depth += 1 if text[i] == "{" else -1
            i += 1
        if depth:
            return None
        found.append(text[box.end() : i - 1])
        at = i
    return found


def _depth(text: str) -> int:
    """Deepest nesting of brackets of any kind."""
    deepest = depth = 0
    for c in text:
        depth = max(0, depth + (c in "([{") - (c in ")]}"))
        deepest = max(deepest, depth)
    return deepest

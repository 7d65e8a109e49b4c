"""Is this answer that one? Pure and total: exact numbers with units, words and choices; the rest is asked of a library.

What counts is on one page, docs/judges.md, and held by tests/tasks/test_answers.py and test_judge_pairs.py. In short:

* The final answer is what follows the one end-of-thinking tag, if there is one. Its last box alone counts; without a box
  the whole line must be the answer. Several different boxes, several tags, an open box: refused, nothing is guessed.
* Numbers are ASCII and compare exactly as rationals; units are the same or convert exactly, where one side has none by the
  question. Arithmetic left undone is not a number.
* Words compare as words, whole and in order, without regard to case. Choices compare as letters, with or without brackets.
* Lists and intervals compare entry by entry, with equal brackets; other mathematics goes to math-verify in a judge pool
  (`grading.py`) after a look at its size: no towers of powers, no factorials, no prose, no rounded values, and nothing
  that the library would drop.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from tasks.judging.asked import asked
from tasks.judging.formulas import MATHEMATICS, TEXT, bare, prepared, split_unit, tidy, unfit
from tasks.judging.quantities import Quantity, quantity, turn
from tasks.judging.regions import both_signs, entries, interval, is_interval, numbers, union
from tasks.judging.same import differ
from tasks.judging.sentences import in_digits, said
from tasks.judging.written import differ_in_form, form, unbased

MOST_CHARACTERS = 1000  # of a final answer
MOST_DEPTH = 40  # of brackets

END_OF_THINKING = re.compile(r"</think(?:ing)?>|<\|end_of_thought\|>", re.IGNORECASE)
START_OF_THINKING = re.compile(r"<think(?:ing)?>|<\|begin_of_thought\|>", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
HENCE = r"(?:(?:so|thus|hence|therefore|then),?\s+)"
LEAD = re.compile(
    rf"####\s*|{HENCE}?(?:the |my |our )?(?:final |correct )?(?:answer|option|choice|ans\.?)(?: is)?(?::?\s+|:)(?:->|=|→)?\s*"
    rf"|{HENCE}(?=[A-Za-z] ?=|[\d$\\(\[-])",
    re.IGNORECASE,
)
LAST = re.compile(
    r".*[.!;]\s+(?:so |thus |hence |therefore,? )?the (?:final |correct )?answer is:?\s+(\S.*)",
    re.IGNORECASE | re.DOTALL,
)
BOLD = re.compile(r"(?<![\w)}\]*])\*\*([^*]+)\*\*(?![\w({\[*])")
FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
POINTS = frozenset(("point", "coordinate", "pair", "vertex", "center", "centre", "midpoint", "vector"))  # no intervals
FINAL_LINE = re.compile(r"(?:^|\n)\s*####\s*(?=\S[^\n]*$)")  # as GSM8K marks its answers
WRAPPERS = tuple(
    (sign, sign.translate(str.maketrans("([", ")]"))) for sign in ("$$", "$", r"\(", r"\[", "**", "*", "```", "`", '"')
)
WRAPS = frozenset(opens[0] for opens, _ in WRAPPERS)
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
        "∈": r"\in ",
        "∪": r"\cup ",
        "±": r"\pm ",
    }
)

CHOICE = re.compile(r"\(([A-Ja-j])\)|([A-J])[.):]?")
GREEK = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega"
)
NAME = re.compile(rf"(?:[A-Za-z]|\\(?:{GREEK}))(?:_(?:[A-Za-z0-9]|\{{[A-Za-z0-9]{{1,8}}\}}))?")
ORDINAL = re.compile(r"\d+\s?(?:st|nd|rd|th|am|pm)")
MONOMIAL = re.compile(r"-?\s?(?:[a-z]|\d+\s?[a-z]{1,3})")  # x, 6x, 2xy

Kind = Literal["right", "wrong", "ask"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What can be said without a library. `asks`: (gold, answer) pairs that must all be equal for the answer to be right."""

    kind: Kind
    reason: str = ""
    asks: tuple[tuple[str, str], ...] = ()


RIGHT = Decision("right")


def decide(gold: str, text: str, question: str = "") -> Decision:
    """Does the final answer of `text` equal `gold`, as an answer to `question`? Total: any texts get a decision."""
    answer, why = final_answer(text)
    if answer is None:
        return Decision("wrong", why)
    found = compare(gold, answer, question)
    if found.kind != "wrong" or not question or quantity(answer) is not None:
        return found
    told = said(answer, question)
    return found if told is None else compare(gold, told, question)


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
    text = BOLD.sub(r"\1", text).strip().removeprefix("**").removesuffix("**").rstrip("✓✔✅ ")
    text = fenced[1].strip() if (fenced := FENCE.fullmatch(text)) else text
    if text.count("####") == 1 and (mark := FINAL_LINE.search(text)) is not None:
        text = text[mark.end() :]
    if text.lower().count("answer") == 1 and (last := LAST.fullmatch(text)) is not None:
        text = last[1]
    lead = LEAD.match(text)
    text = text[lead.end() :].strip() if lead else text
    if "\n" in text:
        return None, "several lines without a box"
    return (text, "") if text else (None, "no answer")


def compare(gold: str, answer: str, question: str = "") -> Decision:
    """Does `answer`, taken as it stands, equal `gold`? Total."""
    gold, answer = _unwrapped(gold), _unwrapped(answer)
    if not answer or max(len(gold), len(answer)) > MOST_CHARACTERS or _depth(answer) > MOST_DEPTH:
        return Decision("wrong", "no answer of a length to be read")
    if letter := re.fullmatch(r"([A-J])|\(([A-J])\)", gold):
        return _choice(letter[1] or letter[2], answer)
    gold, answer = unbased(gold, question), unbased(answer, question)
    if "=" in gold and "=" not in answer and quantity(_right_side(gold, ("=",))):
        gold = _right_side(gold, ("=",))
    if (number := quantity(gold)) is not None:
        return _number(number, answer, question)
    if gold == answer:
        return RIGHT
    if numbers(gold):
        return _expression(gold, answer, question)
    if form(gold):
        return _decided(differ_in_form(gold, answer, question))
    if _is_words(gold):
        same = (answer.isascii() or not gold.isascii()) and _words(gold) == _words(answer)
        return RIGHT if same else Decision("wrong", "other words")
    return _expression(gold, answer, question)


def is_plain(gold: str) -> bool:
    """Whether a gold answer is a choice, words, or made of numbers, so that no answer to it is ever asked of a library."""
    gold = _unwrapped(gold)
    if numbers(gold):
        return not gold.startswith(("{", r"\{"))
    return bool(re.fullmatch("[A-J]", gold)) or quantity(gold) is not None or form(gold) or _is_words(gold)


def _is_words(gold: str) -> bool:
    """Words, names, dates and times: what has no operator of mathematics, or is too much of a text for it."""
    runs = re.findall(r"[^\W\d_]+", gold)
    if (runs and max(map(len, runs)) == 1) or (MONOMIAL.fullmatch(gold) and not ORDINAL.fullmatch(gold)):
        return False
    if not MATHEMATICS.search(gold) or re.fullmatch(r"\d+/\d+/\d+|[^\W\d_]+(?:/[^\W\d_]+)+", gold):
        return True
    return "\\" not in gold and len(re.findall(r"[^\W\d_]{3,}", gold)) > 1 and not set("=^_*<>") & set(gold)


def _decided(why: str) -> Decision:
    return Decision("wrong", why) if why else RIGHT


def _number(gold: Quantity, answer: str, question: str) -> Decision:
    answer = in_digits(_right_side(answer, ("=",)), question)
    number = quantity(answer, letters=bool(gold.unit.powers or asked(question).unit)) or turn(answer)
    return _decided(differ(gold, number, question) if number else "not one finished number")


def _choice(gold: str, answer: str) -> Decision:
    found = CHOICE.fullmatch(answer)
    return RIGHT if found and (found[1] or found[2]).upper() == gold else Decision("wrong", "another choice")


def _expression(gold: str, answer: str, question: str) -> Decision:
    """Mathematics beyond a literal: part by part where it is a union or a tuple, a question to the library elsewhere."""
    if "=" not in gold:
        answer = _right_side(answer, ("=", r"\in"))
    gold, answer = tidy(gold), tidy(answer)
    if gold == answer:
        return RIGHT
    if (mine := interval(gold)) and (its := interval(answer)):
        return compare(mine[1], its[1], question) if mine[0] == its[0] else Decision("wrong", "of another variable")
    if (mine := interval(gold)) and is_interval(answer):
        return compare(mine[1], answer, question)
    if (its := interval(answer)) and is_interval(gold) and not asked(question).words & POINTS:
        return compare(gold, its[1], question)
    if r"\pm" in gold + answer and (mine := both_signs(gold)) and (its := both_signs(answer)):
        return _all(compare(one, other, question) for one, other in zip(mine, its, strict=True))
    mine, its = union(gold), union(answer)
    if len(mine) != len(its):
        return Decision("wrong", "another number of parts")
    if len(mine) > 1:
        return _all(compare(one, other, question) for one, other in zip(mine, its, strict=True))
    return _tuple(gold, answer, question)


def _tuple(gold: str, answer: str, question: str) -> Decision:
    mine, its = entries(gold), entries(answer)
    if (mine is None) != (its is None) or (mine and its and (mine[0] != its[0] or len(mine[1]) != len(its[1]))):
        return Decision("wrong", "other brackets, or another number of entries")
    if mine is None or its is None:
        return _question(gold, answer, question)
    if mine[0] == "{}":
        one, other = ([number for entry in side if (number := quantity(entry))] for side in (mine[1], its[1]))
        if (len(one), len(other)) != (len(mine[1]), len(its[1])):
            return _question(gold, answer, question)
        same = all(any(not differ(n, m, question) for m in b) for a, b in ((one, other), (other, one)) for n in a)
        return RIGHT if same else Decision("wrong", "another set")
    return _all(compare(one, other, question) for one, other in zip(mine[1], its[1], strict=True))


def _all(parts: Iterable[Decision]) -> Decision:
    """Right where every part is."""
    parts = list(parts)
    if wrong := next((part for part in parts if part.kind == "wrong"), None):
        return wrong
    asks = tuple(ask for part in parts for ask in part.asks)
    return Decision("ask", asks=asks) if asks else RIGHT


def _question(gold: str, answer: str, question: str) -> Decision:
    """To the library, where it may see the answer: units off, decimals as fractions, letters of two cases told apart."""
    (gold, unit), (answer, its_unit) = split_unit(gold), split_unit(answer)
    if unit.powers == its_unit.powers and not unit.zero and not its_unit.zero:
        ratio = its_unit.size / unit.size
    elif why := differ(Quantity(Fraction(1), unit), Quantity(Fraction(1), its_unit), question):
        return Decision("wrong", why)
    else:
        ratio = Fraction(1)
    if why := unfit(gold, answer):
        return Decision("wrong", why)
    if ratio == 1 and bare(gold) == bare(answer):
        return RIGHT
    gold, answer = prepared(gold, answer)
    if ratio != 1:
        answer = rf"\frac{{{ratio.numerator}}}{{{ratio.denominator}}}({answer})"
    return Decision("ask", asks=((gold, answer),))


def _right_side(answer: str, signs: tuple[str, ...]) -> str:
    """`5` of `x = 5`, `[0,1)` of `x \\in [0,1)`; anything else as it stands."""
    for sign in signs:
        left, found, right = answer.partition(sign)
        if found and NAME.fullmatch(left.strip()) and "=" not in right and not (sign == r"\in" and right[:1].isalpha()):
            return right.strip()
    return answer


def _unwrapped(text: str) -> str:
    """Without what only sets an answer off: dollar signs, bold, `\\text`, quotes, one trailing period."""
    text = text.translate(SYMBOLS).strip()
    for _ in range(4):
        before = text
        text = text.removesuffix(".").strip() if not text.endswith("..") else text
        text = text.removeprefix(r"\displaystyle").strip()
        for opens, closes in WRAPPERS if text[:1] in WRAPS else ():
            inner = text[len(opens) : -len(closes)]
            alone = opens not in inner.replace(r"\$", "")
            if text.startswith(opens) and text.endswith(closes) and inner.strip() and alone:
                text = inner.strip()
        if (found := TEXT.fullmatch(text)) is not None:
            text = found[1].strip()
        text = text[1:].strip() if re.match(r"=\s*[^=\s]", text) else text
        if text == before:
            break
    return text


def _words(text: str) -> str:
    text = text.strip()
    if len(text) > 2 and (text[0] + text[-1] in ('""', "''")):
        text = text[1:-1]
    words = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return re.sub(r"\s?([,;])\s?", r"\1 ", re.sub(r"^(?:an?|the) (?=\w)", "", words))


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

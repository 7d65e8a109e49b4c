"""An answer in a sentence that repeats its question, and numbers in words: both need the question to be known.

Only what the question has said, and words that say nothing, may stand around the answer: "Tom has 5 apples left." is 5 apples
where it was asked how many apples Tom has. A word that bounds, denies or doubts, or a second number, and there is no answer.
"""

from __future__ import annotations

import re

from tasks.judging.asked import asked
from tasks.judging.quantities import quantity
from tasks.judging.regions import numbers
from tasks.judging.units import stem
from tasks.judging.written import form

MOST_WORDS = 60  # of a sentence that is read
SAY_NOTHING = """so therefore thus hence then the a an there is are was were will be been it he she they we i you
him her them his its their this that at in on of to for total all altogether together left remain take need has have
had get do does did by with each value result"""
DENY_OR_BOUND = """not no never none cannot without except about approximately roughly nearly almost around least
most than over under below above maybe perhaps possibly probably or either neither less fewer between up if unless
wrong impossible another other because"""
TO_NINETEEN = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
HARMLESS, REFUSED = frozenset(SAY_NOTHING.split()), frozenset(DENY_OR_BOUND.split())
VALUES = {word: i for i, word in enumerate(TO_NINETEEN.split())}
VALUES |= {word: 10 * i for i, word in enumerate(TENS.split(), start=2)}
LARGE = {"thousand": 1000, "million": 10**6, "billion": 10**9}
WHO = re.compile(r"(?:.*[.!?]\s+)?(?:who|which\s+\w+|what\s+\w+)\s+(\S.*?)\s*\?", re.IGNORECASE | re.DOTALL)
COMPUTE = r"(?i:compute|evaluate|calculate|find|simplify|whatis|valueof)\$?"  # without blanks
COMPUTED = r"\$?(?:[.?!,]|$|if|when|where|given)"  # what may stand behind it
MANY = re.compile(r"\bhow\s+(?:many|much|old|long|far)\b|\bnumber\s+of\b", re.IGNORECASE)


def said(answer: str, question: str) -> str | None:
    """What a sentence answers, cut out of it; None where it is no sentence that repeats `question`."""
    if not question.strip():
        return None
    answer = answer.strip().rstrip(".!").strip()
    left, _, right = answer.rpartition("=")
    if left and re.search(COMPUTE + re.escape("".join(left.split())) + COMPUTED, "".join(question.split())):
        return right.strip()
    who = WHO.fullmatch(question.strip())
    if who and answer.lower().endswith(f" {who[1].lower()}"):
        return answer[: -len(who[1])].strip()
    tokens = answer.split()
    starts = (re.match(r"[\d$\\(\[{+-]", token) or token.lower().partition("-")[0] in VALUES for token in tokens)
    start = next((i for i, found in enumerate(starts) if found), None)
    if start is None or len(tokens) > MOST_WORDS or not _repeats(tokens[:start], question):
        return None
    for end in range(len(tokens), start, -1):
        if end < len(tokens) and not _repeats(tokens[end : end + 1], question):
            return None
        part = in_digits(" ".join(tokens[start:end]).rstrip(","), question)
        if quantity(part) or form(part) or numbers(part):
            return part
    return None


def in_digits(text: str, question: str) -> str:
    """A text whose first words are a number, where the question asks for one: `12 eggs` of `twelve eggs`."""
    words = re.split(r"\s+|(?<=ty)-", text)
    total = group = used = 0
    for i, word in enumerate(words):
        value = VALUES.get(word.lower())
        if value is not None and (not i or group % 100 == 0 or (group % 100 > 19 and group % 10 == 0 and value < 10)):
            group += value
        elif word.lower() == "hundred" and 0 < group < 100:
            group *= 100
        elif word.lower() in LARGE and group:
            total, group = total + group * LARGE[word.lower()], 0
        elif not (i and word.lower() == "and" and words[i + 1 : i + 2] and words[i + 1].lower() in VALUES):
            break
        used = i + 1
    return " ".join([str(total + group), *words[used:]]) if used and MANY.search(question) else text


def _repeats(tokens: list[str], question: str) -> bool:
    """Whether all words are the question's, or say nothing."""
    known = {_root(word) for word in asked(question).words} | HARMLESS
    words = [token.strip(",;:").lower() for token in tokens]
    return not any(
        word in REFUSED or not re.fullmatch("[a-z'-]+", word) or (_root(word) not in known and word not in known)
        for word in words
    )


def _root(word: str) -> str:
    """Without the ending of a verb or a plural."""
    word = stem(word)
    return re.sub(r"(?<=\w{3})(?:ed|ing|e)$", "", word)

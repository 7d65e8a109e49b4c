"""How chains of free reasoning give their answer, a line that ends them or what they say last, and which answers agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from tasks.base import END_OF_TEXT, NEWLINE
from tasks.judging.equal import BOX, END_OF_THINKING, final_answer
from tasks.judging.quantities import quantity
from tasks.judging.sentences import said

ANSWER = "answer:"
MOST_READ = 100_000  # characters of a free text that are looked at, its last ones
_LINE = re.compile(rf"^[ \t*#_>-]*(?:final )?{ANSWER}[ \t*_]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_AGAIN = re.compile(r"\n\s*Question: ")
_WRAPS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'))


def answer_of(steps: Sequence[str]) -> str | None:
    """What a chain's last step answers; None if it is no answer line."""
    line = steps[-1].strip() if steps else ""
    return line[len(ANSWER) :].strip() if line.lower().startswith(ANSWER) else None


def answer_line(answer: str) -> str:
    """The step that gives an answer."""
    return f"{ANSWER} {answer}{NEWLINE}"


def has_answer_line(text: str) -> bool:
    """Whether a part of a free text holds a whole line that gives an answer."""
    found = _LINE.search(text)
    return found is not None and NEWLINE in text[found.end() :]


def last_answer(text: str) -> str | None:
    r"""What a free text answers: the last \boxed{} that closes, else the last answer line, else the last line; None: nothing.

    Reasoning up to an end-of-thinking tag does not count, nor does what follows where a model goes on with another question.
    """
    text = text[-MOST_READ:].replace(END_OF_TEXT, "")
    text = text[max((tag.end() for tag in END_OF_THINKING.finditer(text)), default=0) :]
    text = _AGAIN.split(text)[0]
    box = last_box(text)
    if box is not None:
        return box
    lines = _LINE.findall(text) or [line for line in text.splitlines() if line.strip()]
    return _bare(lines[-1]) or None if lines else None


def agreed(answer: str, question: str = "") -> str:
    """Equal for answers that agree: a number in lowest terms, words without regard to case and blanks."""
    return bare_answer(answer, question).casefold()


def bare_answer(answer: str, question: str = "") -> str:
    """An answer without its lead: a number in lowest terms, or its words.

    A number in a sentence counts where the sentence repeats `question`, as for a judge.
    """
    final = final_answer(answer)[0] or answer
    number = quantity(final)
    if number is None and question:
        bare = _bare(final).rstrip(".")
        number = quantity(said(final, question) or bare)
        final = final if number is not None else bare
    return " ".join(final.split()) if number is None else str(number)


def letter(position: int) -> str:
    """Name of a choice."""
    return ascii_uppercase[position]


def last_box(text: str) -> str | None:
    """Content of the outermost box that closes last. Linear in the text."""
    starts = {box.end(): box for box in BOX.finditer(text)}
    if not starts:
        return None
    found, open_boxes, depth, i = None, [], 0, min(starts)
    while i <= len(text):
        if i in starts:
            depth += 1
            open_boxes.append((depth, i))
        if i == len(text):
            break
        if text[i] == "\\" and not BOX.match(text, i):
            i += 1
        elif text[i] == "{" and i + 1 not in starts:
            depth += 1
        elif text[i] == "}" and depth:
            if open_boxes and open_boxes[-1][0] == depth:
                found = text[open_boxes.pop()[1] : i]
            depth -= 1
        i += 1
    return None if found is None else found.strip()


def _bare(line: str) -> str:
    """A line without the marks of mathematics or emphasis around it."""
    line = line.strip()
    for opens, closes in _WRAPS:
        if len(line) > len(opens) + len(closes) and line.startswith(opens) and line.endswith(closes):
            inner = line[len(opens) : -len(closes)]
            line = inner.strip() if opens not in inner else line
    return line

"""One line of a data set: what it says as question, answer and steps, and what makes two lines one question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b
from string import ascii_uppercase
from unicodedata import normalize

from tasks.base import NEWLINE, split_words
from tasks.judging.answer_line import ANSWER, last_box, letter
from tasks.questions.task import MOST_LINE, Question

PARTS = ("question", "answer", "steps", "choices", "id")
SOLVED = "solved"  # name of a field that holds steps and answer
MATH = {"question": "problem", "answer": "solution"}  # our name -> that of Hendrycks et al. 2021
FINAL_MARK = "####"  # between reasoning and answer in GSM8K
MOST_CHOICES = 10
MOST_DIGITS = 400  # of a number


class BadLine(ValueError):
    """Why a line cannot be used."""


@dataclass(frozen=True, slots=True)
class Draft:
    question: Question
    answer: str
    steps: tuple[str, ...]


def draft_of(line: object, names: dict[str, str], max_words: int) -> Draft:
    if isinstance(line, BadLine):
        raise line
    if not isinstance(line, dict):
        raise BadLine(f"not an object but {type(line).__name__}")
    question = _text(line, names["question"])
    if (words := len(split_words(question))) > max_words:
        raise BadLine(f"the question has {words} words, more than max_question_words={max_words}")
    if SOLVED in names:
        answer, steps = _solved(line)
    else:
        answer, steps = _answer(line, names["answer"]), _steps(line.get(names["steps"]))
    if FINAL_MARK in answer:
        reasoning, _, answer = answer.rpartition(FINAL_MARK)
        answer, steps = " ".join(answer.split()), steps or _steps(reasoning)
    if not answer or len(answer) > MOST_LINE - 20:
        raise BadLine("the answer is empty, or longer than a line")
    choices = _choices(line.get(names["choices"]))
    if choices:
        answer = _chosen(answer, choices)
    digest = blake2b(identity(Question("", question, choices)).encode(), digest_size=8).hexdigest()
    given = line.get(names["id"])
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int) or len(str(given)) > 200):
        raise BadLine("the id is neither a text nor an integer")
    if isinstance(given, str):
        _check_characters("the id", given)
    return Draft(Question(digest if given is None else str(given), question, choices), answer, steps)


def names_of(line: object, names: dict[str, str]) -> dict[str, str]:
    """Those of the file's own format: MATH's where a line has its fields and not ours."""
    if not isinstance(line, dict) or "question" in line or MATH["question"] not in line:
        return names
    asked = names | {"question": MATH["question"]}
    return asked if "answer" in line else asked | {SOLVED: MATH["answer"]}


def _solved(line: dict) -> tuple[str, tuple[str, ...]]:
    """(answer, steps) of a solution of MATH. Lines that cannot be steps are none."""
    solution = line.get(MATH["answer"])
    if not isinstance(solution, str):
        raise BadLine(f"{MATH['answer']} is missing" if solution is None else f"{MATH['answer']} is no text")
    _check_characters(MATH["answer"], solution)
    answer = last_box(solution)
    if answer is None:
        raise BadLine(f"{MATH['answer']} has no \\boxed{{}} that closes")
    try:
        return " ".join(answer.split()), _steps(solution)
    except BadLine:
        return " ".join(answer.split()), ()


def _text(line: dict, name: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise BadLine(f"{name} is missing" if value is None else f"{name} is {type(value).__name__}, not a text")
    _check_characters(name, value)
    if not (text := " ".join(value.split())):
        raise BadLine(f"{name} is empty")
    return text


def _answer(line: dict, name: str) -> str:
    value = line.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**MOST_DIGITS:
            raise BadLine(f"{name} has more than {MOST_DIGITS} digits")
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadLine(f"{name} is {value}")
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    if not isinstance(value, str):
        raise BadLine(
            f"{name} is missing" if value is None else f"{name} is {type(value).__name__}, not a text or number"
        )
    _check_characters(name, value)
    return value.strip() if FINAL_MARK in value else " ".join(value.split())


def _steps(value: object) -> tuple[str, ...]:
    lines = value.splitlines() if isinstance(value, str) else [] if value is None else value
    if not isinstance(lines, list) or not all(isinstance(step, str) for step in lines):
        raise BadLine("steps is neither a list of texts nor a text")
    tidy = [" ".join(step.split()) for step in lines]
    for step in tidy:
        _check_characters("a step", step)
        if len(step) >= MOST_LINE:
            raise BadLine(f"a step has {MOST_LINE} characters or more")
        if step.lower().startswith(ANSWER):
            raise BadLine("a step reads like an answer line")
    return tuple(step + NEWLINE for step in tidy if step)


def _choices(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value):
        raise BadLine("choices is not a list of texts")
    for choice in value:
        _check_characters("a choice", choice)
    tidy = tuple(" ".join(choice.split()) for choice in value)
    if not 2 <= len(set(tidy)) == len(tidy) <= MOST_CHOICES or not all(tidy):
        raise BadLine(f"choices must be 2 to {MOST_CHOICES} different texts")
    return tidy


def _chosen(answer: str, choices: tuple[str, ...]) -> str:
    """The letter of the right choice."""
    bare = answer.strip("(). ").upper()
    by_letter = [k for k in range(len(choices)) if bare == ascii_uppercase[k]]
    by_text = [k for k, choice in enumerate(choices) if choice == answer]
    if len(set(by_letter + by_text)) != 1:
        raise BadLine("the answer is not one of the choices")
    return letter((by_text or by_letter)[0])


def _check_characters(name: str, text: str) -> None:
    if any((ord(c) < 32 and c not in "\t\n\r") or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise BadLine(f"{name} holds control characters or broken Unicode")


def identity(question: Question) -> str:
    """What makes two lines one question: the text in any case and the choices in any order, in any Unicode normal form."""
    return "\0".join((_plain(_plain(question.text).casefold()), *sorted(map(_plain, question.choices))))


def digest(question: Question) -> bytes:
    """16 bytes of a question's identity: two of 10^9 questions are taken for one with probability 10^-21."""
    return blake2b(identity(question).encode(), digest_size=16).digest()


def _plain(text: str) -> str:
    return normalize("NFC", text)


def meant(draft: Draft) -> str:
    """The answer, whatever letter it has."""
    choices = draft.question.choices
    return _plain(choices[ascii_uppercase.index(draft.answer.strip("()"))] if choices else draft.answer)


def asked(draft: Draft) -> tuple[str, tuple[str, ...]]:
    return draft.question.text, draft.question.choices

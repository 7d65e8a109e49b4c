"""Your own data: questions with answers from a JSON-lines or parquet file, checked, deduplicated and dealt to splits.

A line is an object with `question` and `answer` (text or a number), and optionally `id`, `steps` (a list of lines, or a text of
several), `choices` (a list of texts; the answer is one of them, or its letter). An answer as in GSM8K, "reasoning #### 42",
is taken apart into steps and answer. Nothing is dropped in silence: `Report` counts every line and says why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from string import ascii_uppercase
from unicodedata import normalize

from tasks.base import NEWLINE, SPLITS, TaskError, split_words
from tasks.judging.answer_line import ANSWER, letter
from tasks.questions.corpus import Corpus, Item, Report
from tasks.questions.task import MOST_LINE, Question
from tasks.splits import check_fraction, check_int, split_codes, unit_hashes

FINAL_MARK = "####"  # between reasoning and answer in GSM8K
MOST_CHOICES = 10
MOST_DIGITS = 400  # of a number


def read_jsonl(
    path: str,  # a .jsonl or .parquet file: question, answer, and optionally id, steps, choices
    *,
    fields: dict[str, str] | None = None,  # our name -> the file's, e.g. {question: problem, answer: solution}
    on_error: str = "stop",  # stop at the first bad line | skip bad lines; either way they are told
    train_fraction: float = 0.8,  # of the questions, by a hash of each; what dev does not take is test
    dev_fraction: float = 0.1,
    max_question_words: int = 512,
    shown: int = 3,  # solved train lines shown to pretrained models before each question
    max_steps: int | None = None,  # of a chain; null: a little more than the longest given one
    max_step_words: int | None = None,  # of a step; null: likewise
) -> Corpus:
    """Read, check, deduplicate and split a `.jsonl` or `.parquet` file.

    `fields`: our name -> the file's, e.g. {"question": "problem"}. `on_error`: "stop" at the first bad line, or "skip" it;
    either way it is told. `shown`, `max_steps`, `max_step_words`: see `Corpus`. A line whose question came before with the same
    answer is dropped as a duplicate, however it is written; with another answer it is an error, as is an id that came before. A
    split is a hash of the question (`identity`), so it never moves.

    Raises:
        TaskError: no such file, nothing usable in it, a bad line under "stop", or settings that cannot work. One line.
    """
    if on_error not in ("stop", "skip"):
        raise TaskError(f"on_error is {on_error!r}: use stop or skip")
    check_int("max_question_words", max_question_words, 1, 100_000)
    check_int("shown", shown, 0, 100)
    check_fraction("dev_fraction", dev_fraction, 0.0, 1.0 - check_fraction("train_fraction", train_fraction))
    file, names = Path(path), {part: part for part in ("question", "answer", "steps", "choices", "id")}
    if unknown := set(fields or {}) - set(names):
        raise TaskError(f"fields names {', '.join(sorted(unknown))}: use {', '.join(names)}")
    if not all(isinstance(name, str) for name in (fields or {}).values()):
        raise TaskError("fields maps our names to names of the file, e.g. {question: problem}")
    names |= fields or {}
    report, drafts = Report(path), []
    first: dict[str, _Draft] = {}  # by identity
    ids: set[str] = set()
    for number, line in enumerate(_lines(file, names.values()), start=1):
        report.read = number
        if line is None:
            report.dropped.append((number, "an empty line"))
            continue
        try:
            draft = _draft(line, names, max_question_words)
            known = first.get(identity(draft.question))
            if known is not None and _meant(known) != _meant(draft):
                raise _BadLine("the question came before with another answer")
            if known is None and draft.question.id in ids:
                raise _BadLine("the id came before, with another question")
        except _BadLine as error:
            if on_error == "stop":
                raise TaskError(f"{path} line {number}: {error}; mend it, or set on_error=skip") from None
            report.dropped.append((number, str(error)))
            continue
        if known is not None:
            otherwise = "" if _asked(known) == _asked(draft) else " written otherwise,"
            report.dropped.append((number, f"the question came before,{otherwise} with the same answer"))
            continue
        first[identity(draft.question)] = draft
        ids.add(draft.question.id)
        drafts.append(draft)
    if not drafts:
        raise TaskError(f"{path} has no usable line: {report.read} were read")
    units = unit_hashes(identity(draft.question).encode() for draft in drafts)
    codes = split_codes(units, train_fraction, dev_fraction).tolist()
    items = [Item(d.question, d.answer, d.steps, SPLITS[code - 1]) for d, code in zip(drafts, codes, strict=True)]
    report.kept = {split: sum(item.split == split for item in items) for split in SPLITS}
    return Corpus("jsonl", items, report, shown, max_steps, max_step_words)


# ---- one line


class _TwiceError(Exception):
    """A key that stands twice in an object."""


class _BadLine(ValueError):
    """Why a line cannot be used."""


@dataclass(frozen=True, slots=True)
class _Draft:
    question: Question
    answer: str
    steps: tuple[str, ...]


def _draft(line: object, names: dict[str, str], max_words: int) -> _Draft:
    if isinstance(line, _BadLine):
        raise line
    if not isinstance(line, dict):
        raise _BadLine(f"not an object but {type(line).__name__}")
    question = _text(line, names["question"])
    if (words := len(split_words(question))) > max_words:
        raise _BadLine(f"the question has {words} words, more than max_question_words={max_words}")
    answer, steps = _answer(line, names["answer"]), _steps(line.get(names["steps"]))
    if FINAL_MARK in answer:
        reasoning, _, answer = answer.rpartition(FINAL_MARK)
        answer, steps = " ".join(answer.split()), steps or _steps(reasoning)
    if not answer or len(answer) > MOST_LINE - 20:
        raise _BadLine("the answer is empty, or longer than a line")
    choices = _choices(line.get(names["choices"]))
    if choices:
        answer = _chosen(answer, choices)
    digest = blake2b(identity(Question("", question, choices)).encode(), digest_size=8).hexdigest()
    given = line.get(names["id"])
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int) or len(str(given)) > 200):
        raise _BadLine("the id is neither a text nor an integer")
    if isinstance(given, str):
        _check_characters("the id", given)
    return _Draft(Question(digest if given is None else str(given), question, choices), answer, steps)


def _text(line: dict, name: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise _BadLine(f"{name} is missing" if value is None else f"{name} is {type(value).__name__}, not a text")
    _check_characters(name, value)
    if not (text := " ".join(value.split())):
        raise _BadLine(f"{name} is empty")
    return text


def _answer(line: dict, name: str) -> str:
    value = line.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**MOST_DIGITS:
            raise _BadLine(f"{name} has more than {MOST_DIGITS} digits")
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _BadLine(f"{name} is {value}")
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    if not isinstance(value, str):
        raise _BadLine(
            f"{name} is missing" if value is None else f"{name} is {type(value).__name__}, not a text or number"
        )
    _check_characters(name, value)
    return value.strip() if FINAL_MARK in value else " ".join(value.split())


def _steps(value: object) -> tuple[str, ...]:
    lines = value.splitlines() if isinstance(value, str) else [] if value is None else value
    if not isinstance(lines, list) or not all(isinstance(step, str) for step in lines):
        raise _BadLine("steps is neither a list of texts nor a text")
    tidy = [" ".join(step.split()) for step in lines]
    for step in tidy:
        _check_characters("a step", step)
        if len(step) >= MOST_LINE:
            raise _BadLine(f"a step has {MOST_LINE} characters or more")
        if step.lower().startswith(ANSWER):
            raise _BadLine("a step reads like an answer line")
    return tuple(step + NEWLINE for step in tidy if step)


def _choices(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value):
        raise _BadLine("choices is not a list of texts")
    for choice in value:
        _check_characters("a choice", choice)
    tidy = tuple(" ".join(choice.split()) for choice in value)
    if not 2 <= len(set(tidy)) == len(tidy) <= MOST_CHOICES or not all(tidy):
        raise _BadLine(f"choices must be 2 to {MOST_CHOICES} different texts")
    return tidy


def _chosen(answer: str, choices: tuple[str, ...]) -> str:
    """The letter of the right choice."""
    bare = answer.strip("(). ").upper()
    by_letter = [k for k in range(len(choices)) if bare == ascii_uppercase[k]]
    by_text = [k for k, choice in enumerate(choices) if choice == answer]
    if len(set(by_letter + by_text)) != 1:
        raise _BadLine("the answer is not one of the choices")
    return letter((by_text or by_letter)[0])


def _check_characters(name: str, text: str) -> None:
    if any((ord(c) < 32 and c not in "\t\n\r") or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise _BadLine(f"{name} holds control characters or broken Unicode")


def identity(question: Question) -> str:
    """What makes two lines one question: the text in any case and the choices in any order, in any Unicode normal form."""
    return "\0".join((_plain(_plain(question.text).casefold()), *sorted(map(_plain, question.choices))))


def _plain(text: str) -> str:
    return normalize("NFC", text)


def _meant(draft: _Draft) -> str:
    """The answer, whatever letter it has."""
    choices = draft.question.choices
    return _plain(choices[ascii_uppercase.index(draft.answer.strip("()"))] if choices else draft.answer)


def _asked(draft: _Draft) -> tuple[str, tuple[str, ...]]:
    return draft.question.text, draft.question.choices


# ---- files


def _lines(path: Path, names: Iterable[str]) -> Iterator[object]:
    """What each line holds: None for an empty one, a `_BadLine` where it cannot be read."""
    try:
        there = path.is_file()
    except OSError:
        there = False
    if not there:
        raise TaskError(f"{str(path)[:200]} is not a file: set task.path to a .jsonl or .parquet file")
    return _parquet_rows(path, names) if path.suffix == ".parquet" else _json_lines(path)


def _json_lines(path: Path) -> Iterator[object]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        for line in file:
            if not line.strip():
                yield None
                continue
            try:
                yield json.loads(line.decode("utf-8-sig"), object_pairs_hook=_once)
            except _TwiceError:
                yield _BadLine("a key is given twice")
            except UnicodeDecodeError:
                yield _BadLine("not UTF-8")
            except (ValueError, RecursionError) as error:
                yield _BadLine(f"not JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else "not JSON")


def _once(pairs: list[tuple[str, object]]) -> dict:
    """An object, each of its keys given once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def _parquet_rows(path: Path, names: Iterable[str]) -> Iterator[object]:
    """Rows of the columns that are asked for; others are not even decoded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = [name for name in file.schema_arrow.names if name in set(names)]
        if len(columns) > len(set(columns)):
            raise TaskError(f"{path} has a column twice: {', '.join(columns)}; rename one")
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        if isinstance(error, TaskError):
            raise
        told = (str(error).splitlines() or [""])[0][:120]
        raise TaskError(f"{path} is not a parquet file that can be read: {type(error).__name__} {told}") from None

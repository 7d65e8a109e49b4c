"""Your own data: questions with answers from a JSON-lines or parquet file, checked, deduplicated and dealt to splits.

A line is an object with `question` and `answer` (text or a number), and optionally `id`, `steps` (a list of lines, or a text of
several), `choices` (a list of texts; the answer is one of them, or its letter). An answer as in GSM8K, "reasoning #### 42",
is taken apart into steps and answer, and so is a line of MATH, `problem` and `solution` with the answer in its last \\boxed{}.
Nothing is dropped in silence: `Report` counts every line and says why.

A file is read line by line. What is kept of one is its question, answer and steps, once, and 16 bytes that tell a question that
comes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from sys import intern
from typing import Any

from tasks.base import SPLITS, Form, TaskError
from tasks.judging.answer_line import answer_line
from tasks.questions.corpus import Corpus, Item, Report
from tasks.questions.files import lines_of
from tasks.questions.form import form_of
from tasks.questions.lines import MATH, PARTS, BadLine, Draft, asked, digest, draft_of, identity, meant, names_of
from tasks.questions.task import MOST_LINE
from tasks.splits import check_fraction, check_int, split_codes, unit_hashes

MOST_EXAMPLES = 16  # read of a file
CAME_BEFORE = "the question came before, with the same answer"
CAME_OTHERWISE = "the question came before, written otherwise, with the same answer"


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
    template: str = "",  # text around a question, e.g. "{question}\nThink step by step."; "": "Question: " before it
    chat: str = "off",  # on: by the tokenizer's chat template, examples as turns | off: as text | auto: on where it has one
    system: str = "",  # text of the system turn of a chat; "": the template's own, or none
    chat_arguments: Mapping[str, Any] | None = None,  # of the chat template, e.g. {enable_thinking: false}
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
    form = form_of(template=template, chat=chat, system=system, chat_arguments=chat_arguments)
    file, names = Path(path), {part: part for part in PARTS}
    if unknown := set(fields or {}) - set(names):
        raise TaskError(f"fields names {', '.join(sorted(unknown))}: use {', '.join(names)}")
    if not all(isinstance(name, str) for name in (fields or {}).values()):
        raise TaskError("fields maps our names to names of the file, e.g. {question: problem}")
    names |= fields or {}
    report = Report(path)
    drafts: list[Draft] = []
    first: dict[bytes, int] = {}  # position in `drafts`, by digest of the identity
    ids: set[str] = set()
    for number, line in enumerate(lines_of(file, [*names.values(), *MATH.values()]), start=1):
        report.read = number
        if line is None:
            report.dropped.append((number, "an empty line"))
            continue
        try:
            draft = draft_of(line, names if fields else names_of(line, names), max_question_words)
            key = digest(draft.question)
            known = drafts[first[key]] if key in first else None
            if known is not None and meant(known) != meant(draft):
                raise BadLine("the question came before with another answer")
            if known is None and draft.question.id in ids:
                raise BadLine("the id came before, with another question")
        except BadLine as error:
            if on_error == "stop":
                raise TaskError(f"{path} line {number}: {error}; mend it, or set on_error=skip") from None
            report.dropped.append((number, intern(str(error))))
            continue
        if known is not None:
            same = asked(known) == asked(draft)
            report.dropped.append((number, CAME_BEFORE if same else CAME_OTHERWISE))
            continue
        first[key] = len(drafts)
        ids.add(draft.question.id)
        drafts.append(draft)
    if not drafts:
        raise TaskError(f"{path} has no usable line: {report.read} were read")
    del first, ids
    units = unit_hashes(identity(draft.question).encode() for draft in drafts)
    codes = split_codes(units, train_fraction, dev_fraction).tolist()
    items = [Item(d.question, d.answer, d.steps, SPLITS[code - 1]) for d, code in zip(drafts, codes, strict=True)]
    counts = Counter(codes)
    report.kept = {split: counts[code] for code, split in enumerate(SPLITS, start=1)}
    return Corpus("jsonl", items, report, shown, max_steps, max_step_words, form=form)


def read_examples(path: str, n: int = MOST_EXAMPLES) -> list[str]:
    """The first `n` solved questions of a file as examples of a free task: question, empty line, steps, answer line.

    Raises:
        TaskError: no such file, or a line that cannot be used. One line.
    """
    names, found = {part: part for part in PARTS}, []
    for number, line in enumerate(lines_of(Path(path), [*names.values(), *MATH.values()]), start=1):
        if line is not None and len(found) < n:
            try:
                draft = draft_of(line, names_of(line, names), MOST_LINE)
            except BadLine as error:
                raise TaskError(f"{path} line {number}: {error}; mend it") from None
            found.append(Form.question(draft.question.text) + "".join(draft.steps) + answer_line(draft.answer))
    if not found:
        raise TaskError(f"{path} holds no solved question: give one a line, with question and answer")
    return found

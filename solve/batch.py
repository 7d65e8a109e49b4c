"""Batches: problems as JSON lines in, answers as JSON lines out, and on from where a run stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solve.types import SolveError

MOST_LINE = 100_000  # characters
OPENING = '{"id": "'  # of every record


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of a batch. `error`: why it cannot be asked, None if it can."""

    id: str
    text: str
    error: str | None = None


def read_lines(lines: Iterable[str], *, plain: bool) -> Iterator[Asked]:
    """What each line asks; empty lines are passed over. `plain`: a line is the problem itself, else JSON with a "problem".

    Ids are the lines' own, or their numbers from 1; of two lines with one id the second is refused.
    """
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        asked = Asked(str(number), line.strip()) if plain else _parsed(line, number)
        if asked.id in seen:
            asked = Asked(
                f"line {number}", asked.text, f"line {number}: id {asked.id!r} came before; give each problem its own"
            )
        seen.add(asked.id)
        yield asked


def _parsed(line: str, number: int) -> Asked:
    name = str(number)
    if len(line) > MOST_LINE:
        return Asked(name, "", f"line {number}: longer than {MOST_LINE} characters")
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Asked(name, line.strip(), f'line {number}: not JSON; write {{"problem": "..."}}')
    if isinstance(data, str):
        return Asked(name, data)
    if not isinstance(data, dict) or not isinstance(data.get("problem"), str):
        return Asked(name, line.strip(), f'line {number}: no text under "problem"; write {{"problem": "..."}}')
    given = data.get("id", name)
    if not isinstance(given, str | int) or isinstance(given, bool):
        return Asked(name, data["problem"], f"line {number}: an id is a text or a number")
    return Asked(str(given), data["problem"])


class Answers:
    """The file of answers. A record a line, flushed at once; what is there already counts as answered.

    Errors of an earlier run are taken out when it is opened, so that mended lines are asked anew; a last line that a crash cut
    short is dropped.

    Raises:
        SolveError: the file cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path):
        self.path = path
        self.done: dict[str, str] = {}  # text of the problem by id
        try:
            text = path.read_text() if path.exists() else ""
            kept = [record for record in self._records(text) if "error" not in record]
            self.done = {record["id"]: record["asked"] for record in kept}
            new = path.with_name(f".{path.name}.new")
            new.write_text("".join(_line(record) for record in kept))
            new.replace(path)
            self._file = path.open("a")
        except UnicodeDecodeError:
            raise self._foreign("its content") from None
        except OSError as error:
            raise SolveError(f"out={path} cannot be written ({error.strerror}): choose another place") from None

    def _records(self, text: str) -> list[dict[str, Any]]:
        *lines, torn = text.split("\n")
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                whole = isinstance(record["id"], str) and isinstance(record["asked"], str)
            except (ValueError, KeyError, TypeError, RecursionError):
                whole = False
            if not whole:
                raise self._foreign(f"line {number}")
            records.append(record)
        if torn[: len(OPENING)] != OPENING[: len(torn)]:  # the last words of somebody else's file
            raise self._foreign(f"line {len(lines) + 1}")
        return records

    def _foreign(self, what: str) -> SolveError:
        return SolveError(f"out={self.path}: {what} is no answer of an earlier run: name another file")

    def answered(self, asked: Asked) -> bool:
        """Whether this very problem was answered under this id."""
        return self.done.get(asked.id) == asked.text

    def write(self, record: dict[str, Any]) -> None:
        """One record; it is on disk when this returns."""
        self._file.write(_line(record))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"

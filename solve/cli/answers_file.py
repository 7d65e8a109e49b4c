"""Batches: problems as JSON lines in, answers as JSON lines out, and on from where a run stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO

from solve.types import SolveError

MOST_LINE = 100_000  # characters
OPENING = '{"id": "'  # of every record
CHECK = "check"  # key of the digest of a record
HOW = "how"  # key of the settings that an answer depends on


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of a batch. `error`: why it cannot be asked, None if it can."""

    id: str
    text: str
    error: str | None = None


def read_lines(lines: Iterable[str], *, plain: bool) -> Iterator[Asked]:
    """What each line asks; empty lines are passed over. `plain`: a line is the problem itself, else JSON with a "problem"
    or "question".

    Ids are the lines' own, or their numbers from 1; of two lines with one id the second is refused. Bytes that are no UTF-8
    come as lone surrogates (errors="surrogateescape").
    """
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if any("\udc80" <= letter <= "\udcff" for letter in line):
            asked = Asked(str(number), "", f"line {number}: not UTF-8 text; save the file as UTF-8")
        else:
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
    text = data.get("problem", data.get("question")) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(text, str):
        return Asked(name, line.strip(), f'line {number}: no text under "problem"; write {{"problem": "..."}}')
    given = data.get("id", name)
    if not isinstance(given, str | int) or isinstance(given, bool):
        return Asked(name, text, f"line {number}: an id is a text or a number")
    return Asked(str(given), text)


class Answers:
    """The file of answers. A record a line, flushed at once; what is there already counts as answered.

    The last record of an id counts. When the file is opened, records that no longer count are taken out, and so are errors,
    so that mended lines are asked anew; a last line that a crash cut short is dropped. One run at a time: the file is locked.

    Raises:
        SolveError: the file cannot be read or written, holds something else or answers to other settings, or another run writes
            there.
    """

    def __init__(self, path: Path, how: dict[str, Any] | None = None):
        """`how`: settings that an answer depends on, kept with each record. A file whose records have others is refused."""
        self.path, self._how = path, how or {}
        try:
            self._file = _locked(path.resolve(), path)
            try:
                self._file.seek(0)
                records = self._records(text := self._file.read())
                self._check_how(records)
                last = {record["id"]: record for record in records if "error" not in record}
                kept = [record for record in records if last.get(record["id"]) is record]
                if "".join(map(_line, kept)) != text:
                    self._file = _rewritten(path.resolve(), self._file, kept)
            except BaseException:
                self._file.close()
                raise
        except UnicodeDecodeError:
            raise self._foreign("its content") from None
        except OSError as error:
            raise SolveError(f"out={path} cannot be written ({error.strerror}): choose another place") from None
        self.done: dict[str, str] = {record["id"]: record["asked"] for record in kept}
        self.undated = sum(HOW not in record for record in kept)  # answers that do not say how they were found

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
            if record.get(CHECK, check := _check(record)) != check:
                raise SolveError(
                    f"out={self.path}: line {number} is not as it was written: remove that line, or name another file"
                )
            records.append(record)
        if torn[: len(OPENING)] != OPENING[: len(torn)]:  # the last words of somebody else's file
            raise self._foreign(f"line {len(lines) + 1}")
        return records

    def _check_how(self, records: list[dict[str, Any]]) -> None:
        for other in (record[HOW] for record in records if isinstance(record.get(HOW), dict) and "error" not in record):
            if differs := [name for name in {**self._how, **other} if self._how.get(name) != other.get(name)]:
                before, now = (" ".join(f"{name}={how.get(name)}" for name in differs) for how in (other, self._how))
                raise SolveError(
                    f"out={self.path} holds answers by {before}, not {now}: name another file, or ask as before"
                )

    def _foreign(self, what: str) -> SolveError:
        return SolveError(f"out={self.path}: {what} is no answer of an earlier run: name another file")

    def answered(self, asked: Asked) -> bool:
        """Whether this very problem was answered under this id."""
        return self.done.get(asked.id) == asked.text

    def write(self, record: dict[str, Any]) -> None:
        """One record; it is on disk when this returns."""
        record = record | {HOW: self._how} if self._how else record
        self._file.write(_line(record | {CHECK: _check(record)}))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _check(record: dict[str, Any]) -> str:
    """A digest of all of a record but the digest itself."""
    facts = {name: value for name, value in record.items() if name != CHECK}
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _locked(place: Path, named: Path) -> TextIO:
    """The file open for appending, made if it is not there, and locked until it is closed."""
    while True:
        file = place.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.exists() and os.path.samestat(os.fstat(file.fileno()), place.stat()):
                return file  # else another run has put a new file in its place meanwhile
        except BlockingIOError:
            file.close()
            raise SolveError(f"out={named}: another run writes there; wait for it or name another file") from None
        except OSError:
            file.close()
            raise
        file.close()


def _rewritten(place: Path, old: TextIO, kept: list[dict[str, Any]]) -> TextIO:
    """A file of `kept` alone in the place of `old`, whole or not at all; locked before it can be seen."""
    new = place.with_name(f".{place.name}.new")
    file = new.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.fchmod(file.fileno(), os.fstat(old.fileno()).st_mode & 0o7777)
        file.writelines(map(_line, kept))
        file.flush()
        os.fsync(file.fileno())
        new.replace(place)
    except OSError:
        file.close()
        new.unlink(missing_ok=True)
        raise
    old.close()
    return file


def check_writable(path: Path) -> None:
    """Before a search: can the file of its tree be written?

    Raises:
        SolveError: it cannot. One line.
    """
    if path.is_dir():
        raise SolveError(f"tree={path} is a folder: name a file")
    if not path.parent.is_dir():
        raise SolveError(f"tree={path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise SolveError(f"tree={path} cannot be written: choose another place")

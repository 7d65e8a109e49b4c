"""The ledger: one SQLite row is the commit of one iteration.

Order of a commit: shards and checkpoint are on disk first (written, synced, renamed), then one transaction names them.
A process killed before it has lost nothing that was promised; what it left is an orphan, swept at the next start.

WAL with synchronous=FULL: a commit that returned survives a power cut. Every iteration carries a sha256 over its own
content and the digest before it, so that a changed row, or one missing from the middle, is noticed at the next start.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kit.files import ASIDE, sync
from selfplay.run.traces import Shard

LEDGER_VERSION = 1
SHARD_SUFFIX = ".parquet"
_NO_END = 2**62
FIRST_DIGEST = ""  # stands before the first iteration
# So that a commit costs the same in a long run.
_INDEX = "CREATE INDEX IF NOT EXISTS shards_by_iteration ON shards (iteration, position);"
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE iterations (
    iteration INTEGER PRIMARY KEY, checkpoint TEXT, metrics TEXT NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL
);
CREATE TABLE shards (
    name TEXT PRIMARY KEY, iteration INTEGER NOT NULL REFERENCES iterations, position INTEGER NOT NULL,
    sha256 TEXT NOT NULL, n INTEGER NOT NULL
);
{_INDEX}
PRAGMA user_version = {LEDGER_VERSION};
COMMIT;
"""


class LedgerError(RuntimeError):
    """A ledger, or a shard that it names, that cannot be trusted. The message is one line and names the mend."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed iteration."""

    iteration: int
    shards: tuple[Shard, ...]  # in the order in which they were committed
    checkpoint: str | None  # name of the folder under checkpoints/
    metrics: dict[str, Any]
    state: dict[str, Any]  # whatever the loop needs to go on: random state, counters, schedules


class Ledger:
    """All commits of one run. One writer; use as a context manager.

    Raises (every method):
        LedgerError: damaged, written by another version, locked by another program, or a full disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        try:
            with self._errors():
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA foreign_keys = ON")
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                self._is_new = version == 0 and not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone()
                if self._is_new:
                    self._db.executescript(_SCHEMA)
                    sync(path.parent)
                elif version != LEDGER_VERSION:
                    raise LedgerError(
                        f"ledger {path} has format version {version}, this program reads {LEDGER_VERSION}; "
                        "use the release that wrote it, or start a new run"
                    )
                if (found := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise sqlite3.DatabaseError(found)
                if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'shards_by_iteration'").fetchone():
                    self._db.execute(_INDEX)  # of a release that had none
                self._digest = self._check_chain()
        except LedgerError:
            self._db.close()
            raise

    def commit_iteration(
        self,
        iteration: int,
        shards: Sequence[Shard | tuple[str, str, int]],
        checkpoint: str | None,
        metrics: Mapping[str, Any],
        state: Mapping[str, Any],
    ) -> None:
        """Commit an iteration whose files are already on disk. When this returns, it is durable.

        Args:
            iteration: the one after the last committed; any number >= 0 for the first.
            shards: files in the traces folder, with unique names.
            metrics, state: JSON values; floats and integers of any size read back exactly.

        Raises:
            LedgerError: also if the iteration is not the next one or a shard name was used before.
        """
        last = self._last_iteration()
        if iteration < 0 or (last is not None and iteration != last + 1):
            raise LedgerError(
                f"ledger {self._path} ends at iteration {last}, so {iteration} cannot be committed; resume from it"
            )
        named = tuple(shard if isinstance(shard, Shard) else Shard(*shard) for shard in shards)
        names = [shard.name for shard in named]
        if len({*names}) < len(names) or any(map(self._names, names)):
            raise LedgerError(f"ledger {self._path} already names one of {names}; give every shard a name of its own")
        texts = json.dumps(metrics), json.dumps(state)
        digest = _chain(self._digest, iteration, named, checkpoint, *texts)
        with self._transaction():
            self._db.execute("INSERT INTO iterations VALUES (?, ?, ?, ?, ?)", (iteration, checkpoint, *texts, digest))
            self._db.executemany(
                "INSERT INTO shards VALUES (?, ?, ?, ?, ?)",
                [(shard.name, iteration, position, shard.sha256, shard.n) for position, shard in enumerate(named)],
            )
        self._digest = digest

    def rewind(self, iteration: int) -> None:
        """Take back every commit after `iteration`, all of them or none; the files that they named become orphans."""
        with self._transaction():
            self._db.execute("DELETE FROM shards WHERE iteration > ?", (iteration,))
            self._db.execute("DELETE FROM iterations WHERE iteration > ?", (iteration,))
        with self._errors():
            self._digest = self._check_chain()

    def last(self) -> Commit | None:
        """The newest commit; None before the first."""
        return next(iter(self.newest(1)), None)

    def newest(self, n: int) -> list[Commit]:
        """The last `n` commits, newest first; fewer where there are fewer."""
        with self._errors():
            rows = self._db.execute(
                "SELECT iteration, checkpoint, metrics, state FROM iterations ORDER BY iteration DESC LIMIT ?", (n,)
            ).fetchall()
            return [
                Commit(iteration, tuple(self.shards(iteration)), checkpoint, json.loads(metrics), json.loads(state))
                for iteration, checkpoint, metrics, state in rows
            ]

    def metrics(self) -> list[dict[str, Any]]:
        """Metrics of every committed iteration, oldest first."""
        with self._errors():
            rows = self._db.execute("SELECT metrics FROM iterations ORDER BY iteration").fetchall()
            return [json.loads(metrics) for (metrics,) in rows]

    def shards(self, first: int | None = None, last: int | None = None) -> list[Shard]:
        """Shards of iterations first..last (inclusive), of `first` alone, or of all, in the order of their commits."""
        low = 0 if first is None else first
        high = (_NO_END if first is None else first) if last is None else last
        with self._errors():
            rows = self._db.execute(
                "SELECT name, sha256, n FROM shards WHERE iteration BETWEEN ? AND ? ORDER BY iteration, position",
                (low, high),
            ).fetchall()
        return [Shard(*row) for row in rows]

    def sweep_orphans(self, directory: Path) -> list[str]:
        """Delete shards and temporary files in `directory` that no commit names. Returns their names, sorted.

        Other files and folders are left alone.

        Raises:
            LedgerError: the ledger was lost (it is new, but shards are here): deleting them would destroy the run.
        """
        committed = {shard.name for shard in self.shards()}
        orphans = sorted(
            (
                file
                for file in directory.iterdir()
                if file.is_file() and _is_ours(file.name) and file.name not in committed
            ),
        )
        if self._is_new and any(file.name.endswith(SHARD_SUFFIX) for file in orphans):
            raise LedgerError(
                f"ledger {self._path} is missing or empty although {directory} holds shards; "
                "restore it from a copy, or start a new run"
            )
        for file in orphans:
            file.unlink()
        return [file.name for file in orphans]

    def verify_shards(self, directory: Path, first: int | None = None, last: int | None = None) -> None:
        """Check that the shards of `shards(first, last)` are in `directory`, byte for byte.

        Raises:
            LedgerError: names the first shard that is missing or altered.
        """
        for shard in self.shards(first, last):
            file = directory / shard.name
            try:
                altered = hashlib.sha256(file.read_bytes()).hexdigest() != shard.sha256
            except OSError as error:
                raise self._shard_error(file, f"cannot be read ({error.strerror})") from None
            if altered:
                raise self._shard_error(file, "was altered")

    def close(self) -> None:
        """Fold the WAL into the file. A ledger that was never closed is as safe."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _names(self, shard: str) -> bool:
        with self._errors():
            return self._db.execute("SELECT 1 FROM shards WHERE name = ?", (shard,)).fetchone() is not None

    def _last_iteration(self) -> int | None:
        with self._errors():
            return self._db.execute("SELECT max(iteration) FROM iterations").fetchone()[0]

    def _check_chain(self) -> str:
        """Digest of the newest iteration; raises if any row does not follow from the one before."""
        digest = FIRST_DIGEST
        stored = self._db.execute(
            "SELECT iteration, checkpoint, metrics, state, digest FROM iterations ORDER BY iteration"
        )
        for iteration, checkpoint, metrics, state, claimed in stored.fetchall():
            named = tuple(self.shards(iteration))
            digest = _chain(digest, iteration, named, checkpoint, metrics, state)
            if digest != claimed:
                raise sqlite3.DatabaseError(f"iteration {iteration} does not match its digest")
        return digest

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:  # ValueError: damaged text or JSON
            if isinstance(error, sqlite3.OperationalError):
                mend = "free the disk, end what else uses it, and resume"
            else:
                mend = "restore it from a copy, or start a new run"
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LedgerError(f"ledger {self._path} cannot be used ({first_line}); {mend}") from None

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _shard_error(self, file: Path, what: str) -> LedgerError:
        return LedgerError(
            f"trace shard {file} {what} after it was committed; restore it from a copy, or start a new run"
        )


def _chain(
    previous: str, iteration: int, shards: tuple[Shard, ...], checkpoint: str | None, metrics: str, state: str
) -> str:
    listed = [[shard.name, shard.sha256, shard.n] for shard in shards]
    return hashlib.sha256(json.dumps([previous, iteration, listed, checkpoint, metrics, state]).encode()).hexdigest()


def _is_ours(name: str) -> bool:
    return name.endswith((SHARD_SUFFIX, ASIDE))

"""Files of questions, line by line: JSON lines and parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.base import TaskError
from tasks.questions.lines import BadLine


class _TwiceError(Exception):
    """A key that stands twice in an object."""


def lines_of(path: Path, names: Iterable[str]) -> Iterator[object]:
    """What each line holds: None for an empty one, a `BadLine` where it cannot be read."""
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
                yield BadLine("a key is given twice")
            except UnicodeDecodeError:
                yield BadLine("not UTF-8")
            except (ValueError, RecursionError) as error:
                yield BadLine(f"not JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else "not JSON")


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

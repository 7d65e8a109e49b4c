"""Traces and training rows on disk: versioned parquet shards, written whole or not at all.

A *trace* shard is for people and other programs: one line a search, with `prompt` and `completion` as message columns
(lists of {role, content}) that `datasets.load_dataset("parquet", ...)` and chat trainers read as they are.
A *rows* shard is for the learner: the token rows with policy weights and value targets made of the same searches.

`write_*` returns the shard's sha256, which the ledger keeps; `read_*` checks it before it parses a byte. Pages carry
checksums too, for a reader without the ledger.

Legend: B rows, L tokens of the longest row, S steps of the chosen path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kit.files import write_whole
from tasks.base import PAD_ID, Rows

TRACE_VERSION = 1
_VERSION_KEY = b"reverse_o1.trace_version"
_CONTENT_KEY = b"reverse_o1.content"  # traces | rows
_WIDTH_KEY = b"reverse_o1.width"  # L of a rows shard


class TraceError(RuntimeError):
    """A shard that cannot be written or trusted. The message is one line, names the file and the mend."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A file that was written whole."""

    name: str  # file name inside its folder
    sha256: str
    n: int  # traces or rows


@dataclass(frozen=True, slots=True)
class Trace:
    """What one search leaves behind. Per-step columns have one entry for each of `steps`."""

    problem_id: str
    task: str
    prompt: str
    completion: str  # the chosen path as the model wrote it
    steps: tuple[str, ...]  # [S] of the chosen path
    kinds: tuple[str, ...]  # [S] kind of each step, as the task's grammar names it
    visits: tuple[int, ...]  # [S] of the node that the step leads to
    targets: tuple[float, ...]  # [S] policy target of the step among its siblings, in [0, 1]
    values: tuple[
        float, ...
    ]  # [S] value target after the step: P(solved) in [0, 1], discounted if the task is reversible
    reward: float  # of the chosen path, in [0, 1]
    solved: bool  # any path of the search
    rule: str  # name of the search rule
    seed: int  # of the run
    iteration: int
    model_hash: str  # sha256 of the weights that played
    policy_version: int  # iteration of the checkpoint that played; iteration - policy_version is the staleness
    generated_tokens: int  # paid by this search

    def __post_init__(self) -> None:
        for name in ("kinds", "visits", "targets", "values"):
            if len(getattr(self, name)) != len(self.steps):
                raise ValueError(
                    f"trace of {self.problem_id}: {len(getattr(self, name))} {name}, {len(self.steps)} steps"
                )


_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TRACE_SCHEMA = pa.schema(
    [
        ("prompt", _MESSAGES),
        ("completion", _MESSAGES),
        ("problem_id", pa.string()),
        ("task", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("kinds", pa.list_(pa.string())),
        ("visits", pa.list_(pa.int64())),
        ("targets", pa.list_(pa.float64())),
        ("values", pa.list_(pa.float64())),
        ("reward", pa.float64()),
        ("solved", pa.bool_()),
        ("rule", pa.string()),
        ("seed", pa.int64()),
        ("iteration", pa.int64()),
        ("model_hash", pa.string()),
        ("policy_version", pa.int64()),
        ("generated_tokens", pa.int64()),
    ]
)
_ROWS_SCHEMA = pa.schema(
    [("tokens", pa.list_(pa.int32())), ("weight", pa.list_(pa.float32())), ("value", pa.list_(pa.float32()))]
)


def write_shard(path: Path, traces: Iterable[Trace]) -> Shard:
    """Write traces to `path`, whole or not at all.

    Raises:
        TraceError: disk full or not writable.
    """
    names = [field.name for field in fields(Trace)]
    lines: list[dict[str, Any]] = []
    for trace in traces:
        line = {name: getattr(trace, name) for name in names}
        line["prompt"] = [{"role": "user", "content": trace.prompt}]
        line["completion"] = [{"role": "assistant", "content": trace.completion}]
        lines.append(line)
    return _write(path, pa.Table.from_pylist(lines, schema=_TRACE_SCHEMA), "traces", {})


def read_shard(path: Path, sha256: str | None = None) -> list[Trace]:
    """Read the traces of a shard; `sha256` is what the ledger holds.

    Raises:
        TraceError: missing, altered, no trace shard, or written by another version.
    """
    lines = _read(path, sha256, "traces", _TRACE_SCHEMA).to_pylist()
    traces = []
    for line in lines:
        cells: dict[str, Any] = {name: tuple(cell) if isinstance(cell, list) else cell for name, cell in line.items()}
        cells["prompt"], cells["completion"] = line["prompt"][0]["content"], line["completion"][0]["content"]
        traces.append(Trace(**cells))
    return traces


def write_rows(path: Path, rows: Rows) -> Shard:
    """Write training rows to `path`, whole or not at all; what no learner reads after a row's end is not stored.

    Raises:
        TraceError: disk full or not writable.
    """
    keep_BL = rows.used
    offsets = pa.array(np.concatenate([[0], keep_BL.sum(1).cumsum()]), pa.int32())
    flat = [pa.array(getattr(rows, field.name)[keep_BL], field.type.value_type) for field in _ROWS_SCHEMA]
    columns = [pa.ListArray.from_arrays(offsets, values) for values in flat]
    table = pa.Table.from_arrays(columns, schema=_ROWS_SCHEMA)
    return _write(path, table, "rows", {_WIDTH_KEY: str(rows.tokens.shape[1]).encode()})


def read_rows(path: Path, sha256: str | None = None) -> Rows:
    """Read training rows, bit for bit and as wide as written; `sha256` is what the ledger holds.

    Raises:
        TraceError: missing, altered, no rows shard, or written by another version.
    """
    table = _read(path, sha256, "rows", _ROWS_SCHEMA)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    lengths_B = columns["tokens"].value_lengths().to_numpy(zero_copy_only=False)
    keep_BL = np.arange(int(table.schema.metadata[_WIDTH_KEY])) < lengths_B[:, None]
    rows = Rows(
        tokens=np.full(keep_BL.shape, PAD_ID, np.int32),
        weight=np.zeros(keep_BL.shape, np.float32),
        value=np.full(keep_BL.shape, np.nan, np.float32),
    )
    for name, column in columns.items():
        getattr(rows, name)[keep_BL] = column.flatten().to_numpy()
    return rows


def _write(path: Path, table: pa.Table, content: str, extra: dict[bytes, bytes]) -> Shard:
    metadata = {_VERSION_KEY: str(TRACE_VERSION).encode(), _CONTENT_KEY: content.encode()} | extra
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    try:
        write_whole(path, data)
    except OSError as error:
        raise TraceError(
            f"{path} cannot be written ({error.strerror}); free space or make it writable, then resume"
        ) from None
    return Shard(path.name, hashlib.sha256(data).hexdigest(), table.num_rows)


def _read(path: Path, sha256: str | None, content: str, schema: pa.Schema) -> pa.Table:
    mend = "restore it from a copy, or start a new run"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"trace shard {path} cannot be read ({error.strerror}); {mend}") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise TraceError(f"trace shard {path} was altered: its sha256 is not the one in the ledger; {mend}")
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        metadata = file.schema_arrow.metadata or {}
        version = metadata.get(_VERSION_KEY, b"none").decode(errors="replace")
        if version != str(TRACE_VERSION):
            raise TraceError(
                f"trace shard {path} has format version {version}, this program reads {TRACE_VERSION}; "
                "use the release that wrote it, or start a new run"
            )
        if metadata.get(_CONTENT_KEY) != content.encode() or not file.schema_arrow.equals(schema):
            raise TraceError(f"trace shard {path} does not hold {content}; name another file")
        return file.read()
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TraceError(f"trace shard {path} is damaged ({first_line}); {mend}") from None

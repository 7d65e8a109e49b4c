"""Files that appear whole or not at all, and JSON that every reader takes.

A file is written under a hidden name beside its own, synced to disk and renamed: whoever reads it sees the old content or the
new one, after a crash or a power cut too. What a killed writer leaves ends in `ASIDE`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ASIDE = ".tmp"  # how the name of an unfinished file ends


def aside(path: Path) -> Path:
    """The hidden name under which this process writes `path`: two that write at once do not share it."""
    return path.with_name(f".{path.name}.{os.getpid()}{ASIDE}")


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Name a file to write in place of `path`; at the end it takes that place, whole and on disk.

    Raises:
        OSError: disk full or not writable; what stood at `path` still stands.
    """
    new = aside(path)
    try:
        yield new
        sync(new)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    sync(path.parent)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a whole file or nothing. Text becomes UTF-8.

    Raises:
        OSError: disk full or not writable; what stood at `path` still stands.
    """
    with replacing(path) as new:
        new.write_bytes(data.encode() if isinstance(data, str) else data)


def put_in_place(new: Path, folder: Path, old: Path) -> None:
    """Give the folder `new` the name `folder` once every byte of it is on disk; what stood there goes by way of `old`."""
    for file in new.iterdir():
        sync(file)
    sync(new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_line(value: Any, indent: int | None = None) -> str:
    """Strict JSON that ends its line; NaN and infinities become null."""
    return json.dumps(_finite(value), allow_nan=False, indent=indent) + "\n"


def one_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

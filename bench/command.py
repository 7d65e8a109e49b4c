"""What the command lines of the benches share: `KEY=VALUE` settings in, a JSON file out, one line for a mistake."""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.manifest import CheckpointError
from solve.types import SolveError
from tasks import TaskError

Bench = Callable[..., dict[str, Any]]  # keywords with defaults; `run_dir` is a folder for the result, "" for none


class UsageError(ValueError):
    """A command line that cannot be run. The message is one line."""


def settings(bench: Bench, arguments: Sequence[str]) -> dict[str, Any]:
    """Keywords of `bench` from `KEY=VALUE` words, each of the type of its default.

    Raises:
        UsageError: a key that the bench lacks, or a value that is no positive number where one is needed.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(bench).parameters.items()}
    chosen: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or name not in defaults:
            raise UsageError(f"{argument!r} is no setting: write KEY=VALUE, KEY one of {', '.join(defaults)}")
        kind = type(defaults[name])
        try:
            chosen[name] = kind(text)
        except ValueError:
            raise UsageError(f"{argument}: {name} is of type {kind.__name__}") from None
        if kind is not str and not 0 < chosen[name] < math.inf:
            raise UsageError(f"{argument}: {name} must be positive")
    return chosen


def run(bench: Bench, arguments: Sequence[str]) -> int:
    """One bench by its command line; the exit code: 0, or 2 with one line on stderr that says why it was refused."""
    try:
        chosen = settings(bench, arguments)
        if folder := chosen.get("run_dir"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        bench(**chosen)
    except (UsageError, TaskError, SolveError, CheckpointError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def save(result: dict[str, Any], run_dir: str, name: str) -> None:
    """Write `result` to run_dir/name.json, null for what is not a number; nothing where no folder is given."""
    if run_dir:
        (Path(run_dir) / f"{name}.json").write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

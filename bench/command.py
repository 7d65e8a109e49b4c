"""What the command lines of the benches share: `KEY=VALUE` settings in, a JSON file out, one line for a mistake.

The contract that `bench paired` measures any two checkouts by, whatever lies where in them: `python -m bench NAME run_dir=DIR
KEY=VALUE` writes DIR/NAME.json, an object whose key "figures" maps stable names to numbers. The end of a name is its unit and
says which way is better: `_per_s` more; `_s`, `_ms`, `_us`, `_ns`, `_bytes` less. A bench that measures neither speed nor
memory has no figures, an empty mapping. A figure keeps its name and its meaning, as earlier commits are compared by it.
"""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kit import command
from kit.command import UsageError
from kit.files import json_line
from kit.pages import page
from models.abilities import PolicyError
from models.files.manifest import CheckpointError
from solve.types import SolveError
from tasks import TaskError

YES_NO = ("yes", "no")
CHECKOUT = Path(__file__).resolve().parents[1]  # the folder that holds this package
UNITS = {"_per_s": 1} | dict.fromkeys(("_s", "_ms", "_us", "_ns", "_bytes"), -1)  # 1: more is better; -1: less
Choice = TypeVar("Choice", bound=str)
Bench = Callable[..., dict[str, Any]]  # keywords with defaults; `run_dir` is a folder for the result, "" for none


def settings(bench: Bench, arguments: Sequence[str]) -> dict[str, Any]:
    """Keywords of `bench` from `KEY=VALUE` words, each of the type of its default.

    Raises:
        UsageError: a key that the bench lacks, or a value that is no positive number where one is needed.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(bench).parameters.items()}
    chosen = command.settings(arguments, defaults)
    for name, value in chosen.items():
        if not isinstance(value, str) and not 0 < value < math.inf:
            raise UsageError(f"{name}={value}: {name} must be positive")
    return chosen


def run(bench: Bench, arguments: Sequence[str]) -> int:
    """One bench by its command line; the exit code: 0, or 2 with one line on stderr that says why it was refused."""
    if {"--help", "-h"} & set(arguments):
        print(inspect.getdoc(sys.modules[bench.__module__]), page(bench), sep="\n\n")
        return 0
    try:
        chosen = settings(bench, arguments)
        if folder := chosen.get("run_dir"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        bench(**chosen)
    except (UsageError, TaskError, SolveError, PolicyError, CheckpointError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def policies(policy: str, models: str) -> list[str]:
    """The policies that a bench is told to measure, between commas; `models` is an alias of `policy`.

    Raises:
        UsageError: both name some.
    """
    if policy and models:
        raise UsageError("policy= and models= name the same things: give policy= alone")
    return [name for name in (policy or models).split(",") if name]


def one_of(name: str, value: str, choices: Sequence[Choice]) -> Choice:
    """The choice that a value names.

    Raises:
        UsageError: it is none.
    """
    if value not in choices:
        raise UsageError(f"{name}={value}: use one of {', '.join(choices)}")
    return choices[choices.index(value)]


def better(figure: str) -> int:
    """1 where more of a figure is better, -1 where less is.

    Raises:
        UsageError: its name ends in no unit.
    """
    for unit, sign in UNITS.items():
        if figure.endswith(unit):
            return sign
    raise UsageError(f"the figure {figure!r} has no unit: end its name in one of {', '.join(UNITS)}")


def figures(result: Any) -> dict[str, float]:
    """The figures of a result that were measured: finite and above zero. What could not be measured is null or zero.

    Raises:
        UsageError: they do not keep the contract above.
    """
    numbers = result.get("figures") if isinstance(result, dict) else None
    if not isinstance(numbers, dict):
        raise UsageError('no mapping "figures" in the result: bench/command.py says what it holds')
    for name, number in numbers.items():
        better(name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise UsageError(f"the figure {name!r} is no number but {number!r}: give a number, or null")
    return {name: number for name, number in numbers.items() if number is not None and 0 < number < math.inf}


def save(result: dict[str, Any], run_dir: str, name: str) -> None:
    """Write `result` to run_dir/name.json, null for what is not a number; nothing where no folder is given.

    Raises:
        UsageError: its figures do not keep the contract above.
    """
    result = {"figures": {}} | result
    figures(result)
    if run_dir:
        (Path(run_dir) / f"{name}.json").write_text(json_line(result, indent=1))


def python(arguments: Sequence[str], checkout: Path = CHECKOUT, threads: str = "") -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in a checkout's folder and by its own code, whichever is installed; waits for its end.

    `threads`: of torch and numba; "": as they choose.
    """
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))  # goes before what is installed
    variables = {**os.environ, "PYTHONPATH": path}
    if threads:
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), threads)
    return subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=variables, capture_output=True, text=True, check=False
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process failed, as far as it says so."""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}, no reason given"])[-1]

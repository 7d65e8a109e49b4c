"""How long a person waits: from `python -m solve` to its answer, a cold process each time, with a net that is shipped.

    python -m bench first_answer [models=countdown4,countdown5wide] [runs=3] [run_dir=DIR]

The problem is the first of the dev split of the net's task, the effort low; what is left out is for `solve` to choose. Time is
wall time from start to exit, the median over runs. In a fresh checkout the first run also compiles, for half a minute.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from bench import command
from tasks import make_task

SHIPPED = command.CHECKOUT / "models" / "shipped"


def arguments(options: dict[str, Any]) -> list[str]:
    """What stands behind `python`: a net is named by the options of its task alone, those that it leaves open left out.

    Raises:
        TaskError: there is no such task.
    """
    task = make_task(**options)
    (problem,) = task.problems("dev", 1)
    said = [
        f"task.{name}={json.dumps(value)}" for name, value in options.items() if value is not None and name != "name"
    ]
    asked = f"problem='{task.prompt(problem).strip()}'"
    return ["-m", "solve", f"task={options['name']}", *said, asked, "effort=low", "json=true"]


def seconds(line: list[str], checkout: Path = command.CHECKOUT) -> float:
    """Wall seconds of one process.

    Raises:
        UsageError: it gave no answer.
    """
    started = perf_counter()
    done = command.python(line, checkout)
    taken = perf_counter() - started
    if done.returncode:
        raise command.UsageError(f"{shlex.join(['python', *line])} failed: {command.last_line(done)}")
    if not json.loads(done.stdout)["answer"]:
        raise command.UsageError(f"{shlex.join(['python', *line])} found no answer: its time is not that of one")
    return taken


def main(run_dir: str = "", models: str = "countdown4,countdown5wide", runs: int = 3) -> dict[str, Any]:
    """Print and return the seconds of each run.

    Raises:
        UsageError: a net that is not shipped, or one that gives no answer.
    """
    options = {}
    for name in models.split(","):
        page = SHIPPED / name / "extra.json"
        if not page.is_file():
            known = ", ".join(sorted(page.parent.name for page in SHIPPED.glob("*/extra.json")))
            raise command.UsageError(f"models={models}: no net {name!r} is shipped; use {known}")
        options[name] = json.loads(page.read_text())["task"]
    rows = {}
    for name, told in options.items():
        line = arguments(told)
        print(shlex.join(["python", *line]), flush=True)
        rows[name] = [seconds(line) for _ in range(runs)]
        print(
            f"{name:<16}{median(rows[name]):>7.2f} s  ({', '.join(f'{each:.2f}' for each in rows[name])})", flush=True
        )
    figures = {f"{name}_s": median(each) for name, each in rows.items()}
    result = {"runs": runs, "seconds": rows, "figures": figures}
    command.save(result, run_dir, "first_answer")
    return result

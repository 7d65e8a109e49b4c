"""Promises, measured: what survives kills, damage, other company, hostile text, and how long.

    python -m bench trust run_dir=DIR [what=kills,damage,repeats,fuzz,leftovers] [seconds=600] [seed=0]

Trials of each kind take turns until the seconds are over or a kind has had as many as its promise names. Counts stand in
DIR/trust.json after every trial and are added up over runs: the same command goes on, with trials that it has not had. A trial
ends as one of its kind's good outcomes, or as a fault, which is kept in words. `what=soak` runs alone, for its `seconds`. Exit
code 0, whatever comes out: read the table.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import command
from bench.trust import damage, fuzz, kills, repeats, soak
from kit.files import json_line, write_whole

FAULT = "fault"


@dataclass(frozen=True)
class Kind:
    """One promise."""

    promise: str
    aim: int  # trials that it names
    trials: Callable[[int, Path], Counter[str]]  # of a seed, in an empty folder; outcomes beginning with FAULT are none


KINDS = {
    "kills": Kind(
        "SIGKILL at random instants, then resume: nothing lost, doubled or unreadable, the same weights",
        1000,
        kills.trial,
    ),
    "damage": Kind("flipped, cut, swapped or empty bytes: noticed or harmless", 10_000, damage.trials),
    "repeats": Kind("same seed: the same answers over restarts, batches and hash seeds", 100, repeats.trial),
    "fuzz": Kind("hostile chains through every task: no crash, no hang, under 50 ms", 1_000_000, fuzz.trials),
    "leftovers": Kind("no process 5 s after its driver is killed", 100, kills.leftover),
}


def main(
    what: str = ",".join(KINDS), seconds: float = 600.0, seed: int = 1, run_dir: str = "runs/trust"
) -> dict[str, Any]:
    """See the head of the module.

    Raises:
        UsageError: a kind that there is not.
    """
    if what == "soak":
        return soak.main(seconds, Path(run_dir))
    chosen = [command.one_of("what", name, [*KINDS]) for name in what.split(",")]
    file = Path(run_dir) / "trust.json"
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    counts: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
    if file.exists():
        counts |= {name: Counter(part) for name, part in json.loads(file.read_text())["counts"].items()}
    ends = time.monotonic() + seconds
    while todo := [name for name in chosen if counts[name].total() < KINDS[name].aim]:
        for name in todo:
            with TemporaryDirectory(prefix="reverse-o1-trust-") as folder:
                counts[name] += KINDS[name].trials(seed * 1_000_003 + counts[name].total(), Path(folder))
            write_whole(file, json_line({"counts": counts, "figures": {}}, indent=1))
        if time.monotonic() > ends:
            break
    Console().print(table(counts, chosen))
    return {"counts": counts, "figures": {}}


def table(counts: dict[str, Counter[str]], chosen: Sequence[str]) -> Table:
    """What came out, a line a promise."""
    shown = Table(title="promises", title_justify="left")
    for name in ("promise", "trials", "aim", "outcomes", "faults"):
        shown.add_column(name, justify="right" if name in ("trials", "aim", "faults") else "left")
    for name in chosen:
        good = {outcome: n for outcome, n in counts[name].items() if not outcome.startswith(FAULT)}
        faults = counts[name].total() - sum(good.values())
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(good.items()))
        shown.add_row(KINDS[name].promise, str(counts[name].total()), str(KINDS[name].aim), outcomes, str(faults))
    return shown

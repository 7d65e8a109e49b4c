"""Two checkouts of this project beside each other, each by its own benches, in turns.

    git worktree add ../before COMMIT
    python -m bench paired before=../before [after=.] [what=store,acting,generate,first_answer] [turns=5] [run_dir=DIR]

A turn runs a bench once in each checkout, at the short settings below: before and after, in the next turn after and before,
so that a machine that grows slower or faster favours neither. The first turn is not counted: it compiles. Of every figure that
both have, the ratio of a turn is above 1 where `after` is better; shown are medians, the geometric mean of the ratios and its
95 % interval, Student's t over turns, and LOSS where the whole interval lies below 1, as it does by chance once in forty.

Nothing of a checkout is imported: what is measured is the contract in bench/command.py. Each checkout keeps its compiled code
in its own folders; releases before 0.2 do not see a change in what a compiled function calls: `make clean` there first.
With run_dir: `paired.json`.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench import command
from kit.statistics import paired_ratio

# Settings that both checkouts have to know: only such as stay. A compiled turn takes well under a minute.
SHORT: dict[str, tuple[str, ...]] = {
    "store": ("shapes=4x1x256,4x64x256", "largest=1e6", "rounds=3", "peers=no"),
    "acting": ("turns=1", "rounds=3", "problems=64"),
    "generate": ("leaves=128", "rounds=3", "warmup=200", "peers=no"),
    "first_answer": ("models=countdown4,countdown5wide", "runs=2"),
}
WHERE = "import importlib.util as u; s = u.find_spec('bench'); print(*(s and s.submodule_search_locations or ()), sep='\\n')"


def folder(side: str, text: str) -> Path:
    """The folder of a checkout that has benches of its own.

    Raises:
        UsageError: `text` names none.
    """
    checkout = Path(text).resolve()
    mend = f"name the folder of a checkout: git worktree add FOLDER COMMIT, then {side}=FOLDER"
    if not text or not checkout.is_dir():
        raise command.UsageError(f"{side}={text} is no folder: {mend}")
    # asked of the interpreter, as `python -m bench` would run the installed one where the folder has none
    places = command.python(["-c", WHERE], checkout).stdout.splitlines()
    if not any(Path(place).resolve().is_relative_to(checkout) for place in places):
        raise command.UsageError(f"{side}={text} has no package bench: {mend}")
    return checkout


def measure(checkout: Path, bench: str) -> dict[str, float]:
    """Figures of one run of a checkout's own bench, in a process of its own.

    Raises:
        UsageError: it failed, or wrote no figures.
    """
    with tempfile.TemporaryDirectory() as run_dir:
        done = command.python(["-m", "bench", bench, *SHORT[bench], f"run_dir={run_dir}"], checkout)
        if done.returncode:
            raise command.UsageError(f"bench {bench} of {checkout} failed: {command.last_line(done)}")
        try:
            return command.figures(json.loads((Path(run_dir) / f"{bench}.json").read_text()))
        except (FileNotFoundError, command.UsageError, json.JSONDecodeError) as error:
            why = f"it wrote no {bench}.json" if isinstance(error, FileNotFoundError) else str(error)
            raise command.UsageError(f"bench {bench} of {checkout} gives nothing to compare: {why}") from None


def compared(bench: str, before: list[dict[str, float]], after: list[dict[str, float]]) -> list[dict[str, Any]]:
    """A row a figure that every turn of both checkouts has."""
    rows = []
    for figure in (name for name in before[0] if all(name in turn for turn in [*before, *after])):
        old, new = [turn[figure] for turn in before], [turn[figure] for turn in after]
        ratio, low, high = paired_ratio(*((new, old) if command.better(figure) > 0 else (old, new)))
        rows.append(
            {
                "bench": bench, "figure": figure, "before": median(old), "after": median(new),
                "ratio": ratio, "low": low, "high": high, "loss": high < 1, "turns": {"before": old, "after": new},
            }
        )  # fmt: skip
    return rows


def main(
    run_dir: str = "", before: str = "", after: str = str(command.CHECKOUT), what: str = ",".join(SHORT), turns: int = 5
) -> dict[str, Any]:
    """Run, print a line a figure, and with `run_dir` write paired.json.

    Raises:
        UsageError: no such checkout or bench; one that fails; two that have no figure in common.
    """
    benches = what.split(",")
    if unknown := [name for name in benches if name not in SHORT]:
        raise command.UsageError(f"what={what}: no bench {unknown[0]!r} to pair; use {', '.join(SHORT)}")
    checkouts = {"before": folder("before", before), "after": folder("after", after)}
    figures = {(side, bench): [] for side in checkouts for bench in benches}
    for turn in range(turns + 1):  # turn 0 is the warm-up
        for bench in benches:
            for side in ("before", "after") if turn % 2 else ("after", "before"):
                figures[side, bench].append(measure(checkouts[side], bench))
            if not turn and not figures["before", bench].pop().keys() & figures["after", bench].pop().keys():
                raise command.UsageError(
                    f"bench {bench}: the two checkouts have no figure in common; pair others with what="
                )
        print(f"turn {turn} of {turns}" if turn else "warmed up", flush=True)
    rows = []
    print(f"{'bench':<13}{'figure':<36}{'before':>12}{'after':>12}{'ratio':>7}  95 %; above 1: after is better")
    for bench in benches:
        old, new = figures["before", bench], figures["after", bench]
        shared = compared(bench, old, new)
        rows += shared
        for row in shared:
            spread = (
                f"({row['low']:.2f} to {row['high']:.2f})" if row["high"] < math.inf else "(one turn has no interval)"
            )
            print(
                f"{bench:<13}{row['figure']:<36}{row['before']:>12,.6g}{row['after']:>12,.6g}{row['ratio']:>7.2f}"
                f"  {spread}{'  LOSS' if row['loss'] else ''}"
            )
        if alone := {name for each in [*old, *new] for name in each} - {row["figure"] for row in shared}:
            print(f"{bench:<13}without {', '.join(sorted(alone))}: not measured by both in every turn")
    result = {name: str(path) for name, path in checkouts.items()} | {"turns": turns, "rows": rows}
    command.save(result, run_dir, "paired")
    return result

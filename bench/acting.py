"""Acting in self-play with the tiny model: generated tokens a CPU-second, in each type of product and against another commit.

    python -m bench acting [run_dir=DIR] [before=CHECKOUT] [turns=5] [rounds=3] [problems=128]

What is timed is `selfplay.actor.act`: search, verdicts, graph backup, training rows and traces, on train problems of Countdown
with the shipped net, one thread. Kinds take turns, each in a process of its own, as other programs may share the cores; time
is CPU time. `before`: a checkout of an earlier commit of this project, measured beside the others (its compiled code is cached
in its own folder). Ratios are paired by turn: geometric mean, 95 % by Student's t over turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from bench import command
from bench.paired import paired_ratio

HERE = Path(__file__).resolve().parent.parent
CHECKPOINT = HERE / "models" / "shipped" / "countdown3"


def turn(checkout: Path, problems: int, rounds: int, dtype: str) -> dict[str, Any]:
    """What `bench.acting_turn` prints.

    Raises:
        UsageError: the process failed; its last line.
    """
    line = [Path(__file__).with_name("acting_turn.py"), checkout, CHECKPOINT, problems, rounds, dtype]
    done = subprocess.run([sys.executable, *map(str, line)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise command.UsageError(
            f"{checkout} cannot act: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )
    return json.loads(done.stdout)


def main(run_dir: str = "", before: str = "", turns: int = 5, rounds: int = 3, problems: int = 128) -> dict[str, Any]:
    """Print and return tokens a CPU-second of each kind, its share of a search outside the forward, and the ratios.

    Raises:
        UsageError: `before` is no checkout of this project.
    """
    kinds = {"float32": (HERE, "float32"), "auto": (HERE, "auto")}
    if before:
        if not (Path(before) / "selfplay" / "actor.py").is_file():
            raise command.UsageError(
                f"before={before} is no checkout of this project: git clone one and name its folder"
            )
        kinds = {"before": (Path(before).resolve(), "float32")} | kinds
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    shares: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(turns):
        for kind, (checkout, dtype) in kinds.items():
            found = turn(checkout, problems, rounds, dtype)["rounds"]
            speeds[kind].append(median(one["tokens"] / one["cpu_seconds"] for one in found))
            shares[kind].append(median(one["outside_forward"] for one in found))
            print(
                f"turn {number}: {kind:<8}{speeds[kind][-1]:>9,.0f} tok/cpu-s, {shares[kind][-1]:.1%} outside",
                flush=True,
            )
    result: dict[str, Any] = {"turns": turns, "rounds": rounds, "problems": problems, "kinds": {}}
    for kind in kinds:
        row = {"tokens_per_cpu_s": median(speeds[kind]), "outside_forward": median(shares[kind])}
        for base in ("before", "float32"):
            if base in kinds and base != kind:
                row[f"over_{base}"] = paired_ratio(speeds[kind], speeds[base])
        result["kinds"][kind] = row
    print(f"{'kind':<9}{'tok/cpu-s':>10}{'outside':>9}  over others (95 %)")
    for kind, row in result["kinds"].items():
        over = [f"{name[5:]} {x:.2f} ({low:.2f} to {high:.2f})" for name, (x, low, high) in
                ((name, value) for name, value in row.items() if name.startswith("over_"))]  # fmt: skip
        print(f"{kind:<9}{row['tokens_per_cpu_s']:>10,.0f}{row['outside_forward']:>9.1%}  {', '.join(over)}")
    command.save(result, run_dir, "acting")
    return result


if __name__ == "__main__":
    sys.exit(command.run(main, sys.argv[1:]))

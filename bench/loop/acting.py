"""Acting in self-play with the tiny model: generated tokens a CPU-second, in each type of product.

    python -m bench acting [run_dir=DIR] [turns=5] [rounds=3] [problems=128]

What is timed is `selfplay.teach.actor.act`: search, verdicts, graph backup, training rows and traces, on train problems of
Countdown
with the shipped net, one thread. Kinds take turns, each in a process of its own, as other programs may share the cores; time
is CPU time. The ratio is paired by turn: geometric mean, 95 % by Student's t over turns. Two commits: `bench paired`.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from bench import command
from kit.statistics import paired_ratio

KINDS = ("float32", "auto")  # of products


def one_turn(kind: str, rounds: int, problems: int) -> float:
    """Median tokens a CPU-second of the rounds of one process, `bench.loop.acting_turn`.

    Raises:
        UsageError: the process failed; its last line.
    """
    settings = (f"dtype={kind}", f"rounds={rounds}", f"problems={problems}")
    done = command.python(["-m", "bench.loop.acting_turn", *settings], threads="1")
    if done.returncode:
        raise command.UsageError(f"acting in {kind} failed: {command.last_line(done)}")
    return median(json.loads(done.stdout)["tokens_per_cpu_s"])


def main(run_dir: str = "", turns: int = 5, rounds: int = 3, problems: int = 128) -> dict[str, Any]:
    """Print and return tokens a CPU-second of each kind, and the ratio of the two.

    Raises:
        UsageError: a process that acts has failed.
    """
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(turns):
        for kind in KINDS:
            speeds[kind].append(one_turn(kind, rounds, problems))
            print(f"turn {turn}: {kind:<8}{speeds[kind][-1]:>9,.0f} tok/cpu-s", flush=True)
    kinds: dict[str, dict[str, Any]] = {kind: {"tokens_per_cpu_s": median(each)} for kind, each in speeds.items()}
    ratio, low, high = kinds["auto"]["over_float32"] = paired_ratio(speeds["auto"], speeds["float32"])
    print("median " + ", ".join(f"{kind} {row['tokens_per_cpu_s']:,.0f}" for kind, row in kinds.items()) + " tok/cpu-s")
    spread = f"({low:.2f} to {high:.2f})" if turns > 1 else "(one turn has no interval)"
    print(f"auto over float32 {ratio:.2f} {spread}")
    figures = {f"{kind}_tokens_per_s": row["tokens_per_cpu_s"] for kind, row in kinds.items()}
    result = {"turns": turns, "rounds": rounds, "problems": problems, "kinds": kinds, "figures": figures}
    command.save(result, run_dir, "acting")
    return result

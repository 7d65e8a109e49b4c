"""Soak: self-play and solve side by side for as long as is asked; memory and handles are read three times a minute.

Memory is told by the hour and by the unit of work, an iteration or a batch, since a busy machine does less in an hour. Pace is
work a CPU-second, and a shared machine's cores are not as fast in one minute as in the next: so at the end each process stands
beside a fresh twin in the same minutes, that of self-play with the same weights, and the pace of the old is told over that of
the new.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import CHECKOUT
from bench.trust.kills import kill
from kit.files import json_line, write_whole
from kit.statistics import paired_ratio

Process = tuple[subprocess.Popen, Path]  # and its log

EVERY = 20.0  # seconds between readings
WARM = 0.25  # share of the time that is warm-up
TOGETHER = 0.3  # share of the time, added to it, for which old and new run side by side
WINDOW = 3  # readings of a pace: a minute
T95 = 2.0  # about Student's t for the 50 and more readings of an hour
SOLVE = """
import sys, time
from models.policy import SHIPPED
from solve.solver import Solver
solver = Solver(str(SHIPPED / "countdown4"))
problems, done = solver.shelved.task.problems("test", 512), 0
while True:
    for start in range(0, 512, 8):
        solver.solve(problems[start : start + 8], effort="medium", verify="none")
        done += 8
        print(done, flush=True)
"""


def main(seconds: float, run_dir: Path) -> dict[str, Any]:
    """Readings, slopes, and pace beside a twin; prints a line each. Writes run_dir/soak.json."""
    run_dir.mkdir(parents=True, exist_ok=True)
    run = run_dir / f"soak-{os.getpid()}"
    old = {"selfplay": begun("selfplay", run_dir, selfplay(run)), "solve": begun("solve", run_dir, ["-c", SOLVE])}
    new: dict[str, Process] = {}
    try:
        readings = read(old, seconds)
        last = max((run / "checkpoints").glob("step-*"))
        twin = run_dir / f"{run.name}-net"
        shutil.copytree(last, twin)
        new |= {
            "selfplay": begun("selfplay-new", run_dir, [*selfplay(run_dir / f"{run.name}-new"), f"checkpoint={twin}"]),
            "solve": begun("solve-new", run_dir, ["-c", SOLVE]),
        }
        both = read({f"{name}, {age}": group[name] for age, group in (("old", old), ("new", new)) for name in old},
                    max(12 * EVERY, TOGETHER * seconds))  # fmt: skip
    finally:
        for process, _ in (*old.values(), *new.values()):
            kill(process.pid)
            process.wait()
    told = {
        name: slopes(np.array(rows, float)) | {"pace_over_twin": over(both[f"{name}, old"], both[f"{name}, new"])}
        for name, rows in readings.items()
    }
    write_whole(
        run_dir / "soak.json",
        json_line({"seconds": seconds, "slopes": told, "readings": readings, "together": both, "figures": {}}),
    )
    for name, slope in told.items():
        sys.stdout.write(f"{name}: {json.dumps(slope)}\n")
    return {"slopes": told, "figures": {}}


def selfplay(run: Path) -> list[str]:
    """The command of an endless tiny run."""
    endless = "selfplay.phases=[{teacher: search, seconds: 1000000, steps: 5}]"
    return ["-m", "selfplay", "experiment=tiny", endless, f"run_dir={run}", "plain=true"]


def begun(name: str, run_dir: Path, command: list[str]) -> Process:
    """A process of one thread, and the file that it writes its lines to."""
    log = run_dir / f"soak-{name}.log"
    with log.open("w") as out:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, *command]
        return subprocess.Popen(arguments, cwd=CHECKOUT, stdout=out, stderr=subprocess.STDOUT, env=environment), log


def read(processes: dict[str, Process], seconds: float) -> dict[str, list[tuple[float, ...]]]:
    """(seconds, bytes, handles, CPU-seconds, lines) of each process, every `EVERY` seconds."""
    readings: dict[str, list[tuple[float, ...]]] = {name: [] for name in processes}
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        time.sleep(EVERY)
        for name, (process, log) in processes.items():
            readings[name].append((time.monotonic() - started, *reading(process.pid), lines(log)))
    return readings


def over(old: list[tuple[float, ...]], new: list[tuple[float, ...]]) -> dict[str, float]:
    """Pace of one over that of the other, minute by minute once the new one has begun, in %, with its interval."""
    pairs = [paces(np.array(rows, float)[len(rows) // 4 :]) for rows in (old, new)]
    least = min(map(len, pairs))
    ratio, low, high = paired_ratio(pairs[0][:least].tolist(), pairs[1][:least].tolist())
    return {"percent": 100 * ratio, "low": 100 * low, "high": 100 * high, "windows": least}


def paces(rows: np.ndarray) -> np.ndarray:
    """Lines a CPU-second in each window of three readings."""
    ends = rows[::WINDOW]
    return np.diff(ends[:, 4]) / np.maximum(np.diff(ends[:, 3]), 1e-9)


def reading(pid: int) -> tuple[int, int, float]:
    """(resident bytes, open handles, CPU-seconds)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # utime, stime
    cpu = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")), cpu


def lines(log: Path) -> int:
    """Lines that a driver has written: iterations, or batches."""
    return log.read_text(errors="replace").count("\n")


def slopes(rows: np.ndarray) -> dict[str, float]:
    """Of readings [T, (seconds, bytes, handles, CPU-seconds, lines)] after the warm-up: memory in MB an hour, and handles."""
    rows = rows[rows[:, 0] >= WARM * rows[-1, 0]]
    hours, megabytes = rows[:, 0] / 3600, rows[:, 1] / 1e6
    centred = hours - hours.mean()
    slope = float((centred * megabytes).sum() / (centred**2).sum())
    rest = megabytes - megabytes.mean() - slope * centred
    error = float(np.sqrt((rest**2).sum() / max(len(rows) - 2, 1) / (centred**2).sum()))
    half = len(rows) // 2
    work = float(rows[-1, 4] - rows[0, 4]) / float(hours[-1] - hours[0])  # an hour
    return {
        "mb_an_hour": slope,
        "low": slope - T95 * error,
        "high": slope + T95 * error,
        "kb_a_line": 1000 * slope / work,
        "lines_an_hour": work,
        "handles_more": float(
            rows[half:, 2].min() - rows[:half, 2].min()
        ),  # a file may be open at the instant of a reading
        "readings": len(rows),
    }

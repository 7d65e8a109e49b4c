"""Soak: self-play and solve side by side for as long as is asked; memory, handles and pace are read three times a minute.

Pace is work a CPU-second, so that other programs on the machine take no part in it. Memory is told by the hour and by the unit
of work, an iteration or a batch, since a busy machine does less in an hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import CHECKOUT
from bench.trust.kills import kill
from kit.files import json_line, write_whole

EVERY = 20.0  # seconds between readings
WARM = 0.25  # share of the time that is warm-up
T95 = 2.0  # about Student's t for the 50 and more readings of an hour
SOLVE = """
import sys, time
from models.policy import SHIPPED
from solve.solver import Solver
solver = Solver(str(SHIPPED / "countdown4"))
problems, done = solver.shelved.task.problems("test", 512), 0
while True:
    for start in range(0, 512, 32):
        solver.solve(problems[start : start + 32], effort="medium", verify="none")
        done += 32
        print(done, flush=True)
"""


def main(seconds: float, run_dir: Path) -> dict[str, Any]:
    """Readings and slopes; prints a line each. Writes run_dir/soak.json."""
    run_dir.mkdir(parents=True, exist_ok=True)
    logs = {name: (run_dir / f"soak-{name}.log").open("w+") for name in ("selfplay", "solve")}
    endless = "selfplay.phases=[{teacher: search, seconds: 1000000, steps: 5}]"
    commands = {
        "selfplay": [
            "-m",
            "selfplay",
            "experiment=tiny",
            endless,
            f"run_dir={run_dir / f'soak-{os.getpid()}'}",
            "plain=true",
        ],
        "solve": ["-c", SOLVE],
    }
    processes = {
        name: subprocess.Popen(
            [sys.executable, *arguments],
            cwd=CHECKOUT,
            stdout=logs[name],
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for name, arguments in commands.items()
    }
    readings: dict[str, list[tuple[float, ...]]] = {name: [] for name in processes}
    started = time.monotonic()
    try:
        while time.monotonic() - started < seconds:
            time.sleep(EVERY)
            for name, process in processes.items():
                done = lines(Path(logs[name].name))
                readings[name].append((time.monotonic() - started, *reading(process.pid), done))
    finally:
        for process in processes.values():
            kill(process.pid)
            process.wait()
    told = {name: slopes(np.array(rows, float)) for name, rows in readings.items()}
    write_whole(
        run_dir / "soak.json", json_line({"seconds": seconds, "slopes": told, "readings": readings, "figures": {}})
    )
    for name, slope in told.items():
        sys.stdout.write(f"{name}: {json.dumps(slope)}\n")
    return {"slopes": told, "figures": {}}


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
    """Of readings [T, (seconds, bytes, handles, CPU-seconds, lines)] after the warm-up: memory in MB an hour, pace, handles."""
    rows = rows[rows[:, 0] >= WARM * rows[-1, 0]]
    hours, megabytes = rows[:, 0] / 3600, rows[:, 1] / 1e6
    centred = hours - hours.mean()
    slope = float((centred * megabytes).sum() / (centred**2).sum())
    rest = megabytes - megabytes.mean() - slope * centred
    error = float(np.sqrt((rest**2).sum() / max(len(rows) - 2, 1) / (centred**2).sum()))
    half = len(rows) // 2
    pace = [float((part[-1, 4] - part[0, 4]) / (part[-1, 3] - part[0, 3])) for part in (rows[:half], rows[half:])]
    work = float(rows[-1, 4] - rows[0, 4]) / float(hours[-1] - hours[0])  # an hour
    return {
        "mb_an_hour": slope,
        "low": slope - T95 * error,
        "high": slope + T95 * error,
        "kb_a_line": 1000 * slope / work,
        "lines_an_hour": work,
        "pace_change_percent": 100 * (pace[1] / pace[0] - 1),
        "handles_more": float(rows[-1, 2] - rows[0, 2]),
        "readings": len(rows),
    }

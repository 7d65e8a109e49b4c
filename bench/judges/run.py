"""How the judges hold: fuzzed answers through own scorers and through the pool, hostile scorers beside good ones, kills.

    python -m bench judges [own=200000] [foreign=5000] [kills=200] [seconds=5] [run_dir=DIR]

own      fuzzed answers decided in this process: CPU time a call, the slowest call
foreign  fuzzed answers to gold expressions through math-verify in the pool: outcomes, how late the latest came back after its
         deadline, memory of the workers, and whether files, sockets or processes of this machine changed
hostile  each scorer that never ends beside workers that do their jobs: how many a second those do, against without it
kills    workers that are killed: restarts a second, and what is left of files, processes and memory

With run_dir: `judges.json`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import command
from bench.judges.fuzz import answers
from tasks.judging.equal import decide
from tasks.judging.grading import MATH
from tasks.sandbox.pool import Job, JudgePool, Limits

GOLDS = ("42", r"\frac{\sqrt{3}}{2}", "(3, \\frac{\\pi}{2})", "blue whale", "x^2+2x+1", "\\{1, 2\\}", "B", "50\\%")
EXPRESSIONS = (r"\frac{\sqrt{3}}{2}", "x^2+2x+1", "2\\pi", "3\\sqrt{2}-1")
DEADLINE = 1.0  # seconds, of the pools here
BEHAVED = {name: f"bench.judges.hostile:{name}" for name in ("same", "work", "leave")}
HOSTILE = {name: f"bench.judges.hostile:{name}" for name in ("swallow_alarms", "loop_in_c", "take_memory", "fork_bomb")}
WORKERS = 2
NAP = 0.002  # seconds a good job takes, so that the processor is not what is shared


def main(
    own: int = 200_000, foreign: int = 5_000, kills: int = 200, seconds: int = 5, seed: int = 1, run_dir: str = ""
) -> dict:
    """Run all four and print a line for each; see the module's text."""
    result = {
        "own": own_scorers(own, seed),
        "foreign": through_the_pool(foreign, seed),
        "hostile": {name: beside(name, seconds) for name in HOSTILE},
        "kills": killed(kills),
    }
    for name, found in result.items():
        print(f"{name:8} {found}")
    command.save(result, run_dir, "judges")
    return result


def own_scorers(n: int, seed: int) -> dict:
    """`answers.decide` on `n` fuzzed texts. Times are of the processor, the slowest one of the wall clock, too."""
    rng, kinds, slowest, slowest_wall, total = np.random.default_rng(seed), Counter(), 0.0, 0.0, 0.0
    for gold in GOLDS:
        for text in answers(rng, n // len(GOLDS), gold):
            wall, before = time.perf_counter(), time.thread_time()
            kinds[decide(gold, text).kind] += 1
            spent = time.thread_time() - before
            total += spent
            slowest, slowest_wall = max(slowest, spent), max(slowest_wall, time.perf_counter() - wall)
    return {
        "n": sum(kinds.values()),
        "kinds": dict(kinds),
        "mean_us": round(1e6 * total / sum(kinds.values()), 2),
        "slowest_cpu_ms": round(1e3 * slowest, 3),
        "slowest_wall_ms": round(1e3 * slowest_wall, 3),
    }


def through_the_pool(n: int, seed: int) -> dict:
    """`n` fuzzed texts to math-verify, unfiltered: what `decide` would never send goes, too."""
    rng, before = np.random.default_rng(seed), world()
    statuses, latest, memory = Counter(), 0.0, 0
    began = time.monotonic()
    with JudgePool(MATH, workers=WORKERS, limits=Limits(DEADLINE)) as pool:
        for batch in batches(rng, n):
            for outcome in pool.judge(batch):
                statuses[outcome.status] += 1
                latest = max(latest, outcome.seconds - DEADLINE)
            memory = max([memory, *map(peak_mb, pool.pids())])
        starts, held = pool.starts, pool.confinement
    return {
        "n": n,
        "statuses": dict(statuses),
        "latest_over_deadline_ms": round(1e3 * max(0.0, latest), 1),
        "worker_mb": memory,
        "starts": starts,
        "held_by": held,
        "seconds": round(time.monotonic() - began, 1),
        "changed": {
            name: (old, new) for (name, old), new in zip(before.items(), world().values(), strict=True) if old != new
        },
    }


def batches(rng: np.random.Generator, n: int, size: int = 500) -> Iterator[list[Job]]:
    """Jobs of fuzzed answers."""
    for start in range(0, n, size):
        gold = EXPRESSIONS[start // size % len(EXPRESSIONS)]
        texts = answers(rng, min(size, n - start), gold)
        yield [Job("equal", {"gold": gold, "answer": text}) for text in texts]


def beside(name: str, seconds: float) -> dict:
    """Good jobs a second of one worker while another one gets hostile job after hostile job, over the same without."""
    with JudgePool(BEHAVED, workers=1) as good, JudgePool(HOSTILE, workers=1, limits=Limits(DEADLINE)) as bad:
        good.judge([Job("same", {"gold": "", "answer": ""})])
        rates: dict[bool, list[float]] = {False: [], True: []}
        outcomes = []
        for disturbed in (False, True, False, True):
            waiting = [bad.submit(Job(name, {})) for _ in range(1 + int(seconds / DEADLINE))] if disturbed else []
            rates[disturbed].append(rate(good, seconds))
            outcomes += [future.result() for future in waiting]
        return {
            "rate_ratio": round(sum(rates[True]) / sum(rates[False]), 3),
            "statuses": dict(Counter(outcome.status for outcome in outcomes)),
            "latest_over_deadline_ms": round(1e3 * max(0.0, *(outcome.seconds - DEADLINE for outcome in outcomes)), 1),
            "starts": bad.starts,
        }


def rate(pool: JudgePool, seconds: float) -> float:
    """Jobs a second that a pool does."""
    end, done, began = time.monotonic() + seconds, 0, time.monotonic()
    while time.monotonic() < end:
        done += len(pool.judge([Job("work", {"seconds": NAP})] * 20))
    return done / (time.monotonic() - began)


def killed(n: int) -> dict:
    """`n` workers that end in the middle of a job."""
    with JudgePool(BEHAVED, workers=WORKERS) as pool:
        pool.judge([Job("same", {"gold": "", "answer": ""})] * 8)
        before, began = own_state(), time.monotonic()
        statuses = Counter(o.status for o in pool.judge(Job("leave", {}) for _ in range(n)))
        pool.judge([Job("same", {"gold": "", "answer": ""})] * 8)
        spent, after = time.monotonic() - began, own_state()
    return {
        "n": n,
        "statuses": dict(statuses),
        "restarts_a_second": round(n / spent, 1),
        "before": before,
        "after": after,
    }


def own_state() -> dict[str, int]:
    """Open files, children and peak MB of this process."""
    tasks = Path("/proc/self/task")
    children = sum(len((tasks / task / "children").read_text().split()) for task in os.listdir(tasks))
    return {"files": len(os.listdir("/proc/self/fd")), "children": children, "peak_mb": peak_mb("self")}


def peak_mb(pid: int | str) -> int:
    """Most resident memory that a process had; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0] or 0) >> 10 if "VmHWM:" in status else 0


def world() -> dict[str, int]:
    """What a worker could have changed: entries of the working and home folders, children of this process."""
    return {
        "here": len(os.listdir(".")),
        "home": len(os.listdir(os.path.expanduser("~"))),
        "children": own_state()["children"],
    }

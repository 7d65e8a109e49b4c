"""A server under load: many requests at once beside one at a time, and one request beside the solver in this process.

    python -m bench serving [policy=countdown4think] [concurrent=16] [requests=64] [turns=5] [run_dir=DIR]

The server is `python -m serve` in a process of its own on loopback; clients are coroutines here. A turn asks the same dev
problems three times: one after the other in process, by `Solver.solve`; one after the other of the server; `concurrent` at
once.
In the next turn the order is turned round. Two ways to think: best first at effort low, and where the net was taught to, one
stream at effort high. Ratios are of a turn, their interval Student's t over turns; the first turn is not counted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import numpy as np

from bench import command
from kit.statistics import paired_ratio
from solve.plan import visible
from solve.search.think import thinks
from solve.solver import Solver
from solve.strategies import THINK

WAYS = {"best_first": ("best_first", "low"), "think": (THINK, "high")}
WAIT = 600.0  # seconds for an answer


class Server:
    """`python -m serve` on a port of its own."""

    def __init__(self, policy: str, *settings: str):
        """Raises UsageError: it does not start."""
        line = [sys.executable, "-m", "serve", f"policy={policy}", "name=served", "port=0", *settings]
        self._process = subprocess.Popen(
            line, cwd=command.CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        told = self._process.stdout.readline()
        if "http" not in told:
            raise command.UsageError(f"policy={policy} cannot be served: {self._process.stderr.read().strip()}")
        self.pid = self._process.pid
        self.url = next(word for word in told.split() if word.startswith("http")).rstrip(",")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=WAIT)

    def ask(self, texts: Sequence[str], way: str, at_once: int) -> tuple[float, list[float], list[str]]:
        """(seconds in all, seconds of each, answers) of `texts`, so many at a time."""
        return asyncio.run(self._ask(texts, way, at_once))

    async def _ask(self, texts: Sequence[str], way: str, at_once: int) -> tuple[float, list[float], list[str]]:
        strategy, effort = WAYS[way]
        places, seconds, answers = asyncio.Semaphore(at_once), [0.0] * len(texts), [""] * len(texts)
        limits = httpx.Limits(max_connections=at_once)

        async with httpx.AsyncClient(timeout=WAIT, limits=limits) as client:

            async def one(i: int) -> None:
                body = {
                    "model": "served", "messages": [{"role": "user", "content": texts[i]}], "reasoning_effort": effort,
                    "search": {"strategy": strategy},
                }  # fmt: skip
                async with places:
                    started = perf_counter()
                    answer = await client.post(f"{self.url}/chat/completions", json=body)
                    seconds[i] = perf_counter() - started
                answers[i] = answer.raise_for_status().json()["choices"][0]["message"]["content"]

            started = perf_counter()
            await asyncio.gather(*map(one, range(len(texts))))
            return perf_counter() - started, seconds, answers


def main(
    run_dir: str = "", policy: str = "countdown4think", concurrent: int = 16, requests: int = 64, turns: int = 5
) -> dict[str, Any]:
    """Print and return requests a second and milliseconds a request.

    Raises:
        UsageError: the policy cannot be served, or its answers are not those of the solver.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    solver = Solver(policy)
    task = solver.shelved.task
    texts = [task.prompt(problem).strip() for problem in task.problems("dev", requests)]
    rows, figures = [], {}
    with Server(policy) as server:
        for way in [
            way for way, (strategy, _) in WAYS.items() if strategy != THINK or thinks(task, solver.shelved.policy)
        ]:
            row = _measured(server, solver, texts, way, concurrent, turns)
            rows.append(row)
            print(_line(row, concurrent), flush=True)
            figures |= {f"{way}_{name}": row[name] for name in ("alone_per_s", "together_per_s", "added_ms")}
    result = {
        "policy": policy,
        "concurrent": concurrent,
        "requests": requests,
        "turns": turns,
        "rows": rows,
        "figures": figures,
    }
    command.save(result, run_dir, "serving")
    return result


def _measured(
    server: Server, solver: Solver, texts: Sequence[str], way: str, concurrent: int, turns: int
) -> dict[str, Any]:
    strategy, effort = WAYS[way]
    alone, together, within, single, many = [], [], [], [], []
    for turn in range(turns + 1):
        kinds = ["within", "alone", "together"][:: 1 if turn % 2 else -1]
        told: dict[str, list[str]] = {}
        for kind in kinds:
            if kind == "within":
                started = perf_counter()
                found = [solver.solve([text], strategy=strategy, effort=effort)[0] for text in texts]
                spent = perf_counter() - started
                told[kind] = [visible(one, solver.shelved.task) for one in found]
                each: list[float] = []
            else:
                spent, each, told[kind] = server.ask(texts, way, 1 if kind == "alone" else concurrent)
            if turn:  # the first one compiles
                {"within": within, "alone": alone, "together": together}[kind].append(spent)
                {"within": [], "alone": single, "together": many}[kind].extend(each)
        alike = told["within"] == told["alone"] == told["together"]
        if solver.shelved.policy.can.alone == "bits" and not alike:
            raise command.UsageError(f"{way}: the server's answers are not the solver's: that is a fault, tell us")
    gain, added = paired_ratio(alone, together), paired_ratio(alone, within)
    return {
        "way": way, "alone_per_s": len(texts) / median(alone), "together_per_s": len(texts) / median(together),
        "gain": list(gain), "of_solver": list(added), "added_ms": 1e3 * (median(alone) - median(within)) / len(texts),
        "alone_ms": _percentiles(single), "together_ms": _percentiles(many),
    }  # fmt: skip


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": 1e3 * float(np.percentile(seconds, p)) for p in (50, 95)}


def _line(row: dict[str, Any], concurrent: int) -> str:
    gain, of_solver = row["gain"], row["of_solver"]
    return (
        f"{row['way']}: one at a time {row['alone_per_s']:.1f} requests/s, {concurrent} at once {row['together_per_s']:.1f}, "
        f"ratio {gain[0]:.2f} ({gain[1]:.2f}-{gain[2]:.2f}); a request takes {row['added_ms']:.1f} ms more than the solver "
        f"in process, {of_solver[0]:.2f} ({of_solver[1]:.2f}-{of_solver[2]:.2f}) of its time; p50 / p95 "
        f"{row['alone_ms']['p50']:.0f} / {row['alone_ms']['p95']:.0f} ms alone, "
        f"{row['together_ms']['p50']:.0f} / {row['together_ms']['p95']:.0f} together"
    )

"""A server with more clients than places, for as long as is asked: nobody is lost, mixed up or kept waiting for nothing.

    python -m bench load [policy=countdown4think] [clients=256] [slots=8] [queue=64] [seconds=600] [leaving=0.05] [run_dir=DIR]

Each client asks problem after problem of the dev split, streams half of its answers, and hangs up on a share `leaving` of its
requests. An answer is its client's own if the steps that it shows use the problem's numbers and make its target. Counted are
statuses, waits, hang-ups whose place did not come back, and the memory of the server, whose first quarter is warm-up.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench import command
from bench.speed.serving import WAIT, Server
from solve.policies import take

READ_EVERY = 5.0  # seconds between readings of memory
WARM = 0.25  # share of the time
EFFORTS = ("minimal", "low", "medium", "high")


def main(
    run_dir: str = "", policy: str = "countdown4think", clients: int = 256, slots: int = 8, queue: int = 64,
    seconds: float = 600.0, leaving: float = 0.05,
) -> dict[str, Any]:  # fmt: skip
    """Print and return what became of the requests.

    Raises:
        UsageError: the policy cannot be served, or its problems are no Countdown.
    """
    task = take(policy).task
    if task.name != "countdown":
        raise command.UsageError(f"policy={policy}: its answers cannot be told apart; use a net of task countdown")
    texts = [task.prompt(problem).strip() for problem in task.problems("dev", 512)]
    with Server(policy, f"slots={slots}", f"queue={queue}") as server:
        told = asyncio.run(_Load(server, texts, clients, seconds, leaving).run())
    statuses = {str(status): count for status, count in sorted(told.statuses.items())}
    waits = {f"p{p}": float(np.percentile(told.waits, p)) for p in (50, 95)}
    result = {
        "policy": policy, "clients": clients, "slots": slots, "queue": queue, "seconds": seconds, "statuses": statuses,
        "lost": told.lost, "mixed_up": told.mixed, "without_retry_after": told.unadvised, "left": told.left,
        "places_not_given_back": told.stuck, "seconds_to_answer": waits, "mb_per_minute": told.growth(),
        "mb": [round(mb) for _, mb in told.memory], "figures": {},
    }  # fmt: skip
    print(json.dumps(result))
    command.save(result, run_dir, "load")
    return result


class _Load:
    """Clients, and what they were told."""

    def __init__(self, server: Server, texts: list[str], clients: int, seconds: float, leaving: float):
        self._server, self._texts, self._clients, self._leaving = server, texts, clients, leaving
        self._began, self._seconds = time.monotonic(), seconds
        self.statuses: Counter[int] = Counter()
        self.waits: list[float] = []
        self.memory: list[tuple[float, float]] = []  # seconds, MB
        self.lost = self.mixed = self.unadvised = self.left = self.stuck = 0

    @property
    def _over(self) -> bool:
        return time.monotonic() - self._began >= self._seconds

    async def run(self) -> _Load:
        limits = httpx.Limits(max_connections=self._clients + 4, max_keepalive_connections=self._clients + 4)
        async with httpx.AsyncClient(timeout=WAIT, limits=limits) as http:
            reading = asyncio.ensure_future(self._read())
            await asyncio.gather(*(self._client(http, number) for number in range(self._clients)))
            reading.cancel()
            end = time.monotonic() + 1.0
            while (held := await self._held(http)) and time.monotonic() < end:
                await asyncio.sleep(0.05)
            self.stuck = held
        return self

    def growth(self) -> float:
        """MB a minute after the warm-up, by least squares."""
        late = np.array([(at, mb) for at, mb in self.memory if at >= WARM * self._seconds])
        return float(60 * np.polyfit(late[:, 0], late[:, 1], 1)[0]) if len(late) > 2 else float("nan")

    async def _held(self, http: httpx.AsyncClient) -> int:
        state = (await http.get(self._server.url.removesuffix("/v1") + "/health")).json()
        return state["open"] + state["queued"]

    async def _read(self) -> None:
        page = Path(f"/proc/{self._server.pid}/status")
        while True:
            resident = next(line for line in page.read_text().splitlines() if line.startswith("VmRSS"))
            self.memory.append((time.monotonic() - self._began, int(resident.split()[1]) / 1024))
            await asyncio.sleep(READ_EVERY)

    async def _client(self, http: httpx.AsyncClient, number: int) -> None:
        rng = random.Random(number)
        while not self._over:
            text, streamed = rng.choice(self._texts), rng.random() < 0.5
            body = {
                "model": "served", "messages": [{"role": "user", "content": text}], "stream": streamed,
                "reasoning_effort": rng.choice(EFFORTS), "search": {"strategy": rng.choice(["think", "best_first"])},
            }  # fmt: skip
            started = time.monotonic()
            try:
                if rng.random() < self._leaving:
                    await asyncio.wait_for(
                        http.post(f"{self._server.url}/chat/completions", json=body), rng.random() / 20
                    )
                answer = await http.post(f"{self._server.url}/chat/completions", json=body)
            except TimeoutError:
                self.left += 1
                continue
            except httpx.HTTPError as error:
                self.lost += 1
                print(f"lost: {type(error).__name__}", flush=True)
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code == 429:
                wait = answer.headers.get("retry-after", "")
                self.unadvised += not wait.isdigit()
                await asyncio.sleep(float(wait or 1) * (0.5 + rng.random()))
            elif answer.status_code == 200:
                self.waits.append(time.monotonic() - started)
                self.mixed += not _own(text, _content(answer.text, streamed))


def _content(text: str, streamed: bool) -> str:
    if not streamed:
        return json.loads(text)["choices"][0]["message"]["content"]
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content", "") for event in events for choice in event.get("choices", ()))


def _own(problem: str, content: str) -> bool:
    """Whether an answer is one to this problem: it ends at its target, from its numbers; or there is none."""
    if not content:
        return True
    numbers, _, target = problem.partition(" = ")
    first = content.splitlines()[0].removeprefix("answer ").split(" = ")[0].split()
    return content.endswith(f"= {target}") and {first[0], first[2]} <= set(numbers.split())

"""Hostile chains through the verifier of every task: pieces of its own words and of anything, cut, doubled and swapped."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from bench.judges.fuzz import PIECES, mutated
from tasks import Problem, Task, make_task

CHAINS = 2000  # of one call
SLOW = 0.05  # seconds a chain
DATA = "docs/data/sums.jsonl"
TASKS = {
    "countdown": {},
    "sliding": {},
    "blocksworld": {"blocks": 4},
    "jugs": {"jugs": 2},
    "chain": {},
    "jsonl": {"path": DATA},
}


def trials(seed: int, folder: Path) -> Counter[str]:
    """Chains of random steps through one task."""
    rng, outcomes = np.random.default_rng(seed), Counter()
    name = [*TASKS][(seed // CHAINS) % len(TASKS)]
    task, problems = known(name)
    words = [*task.vocabulary, *PIECES]
    for _ in range(CHAINS):
        problem = problems[rng.integers(len(problems))]
        steps = [step(rng, words) for _ in range(rng.integers(1, 6))]
        started = time.perf_counter()
        try:
            verdict = task.verdict(problem, steps)
            task.context(problem, steps)
            task.answer(problem, steps)
            [task.parse_step(problem, steps[:k], text) for k, text in enumerate(steps)]
        except Exception as error:  # noqa: BLE001 (a fault is what this looks for)
            outcomes[f"fault: {name}: {type(error).__name__} at {steps!a:.80}"] += 1
            continue
        spent = time.perf_counter() - started
        if spent > SLOW:
            outcomes[f"fault: {name}: {1000 * spent:.0f} ms for {steps!a:.80}"] += 1
        else:
            outcomes["legal" if verdict.legal else "refused"] += 1
    return outcomes


def step(rng: np.random.Generator, words: list[str]) -> str:
    """Text that looks a little like a step."""
    text = " ".join(words[k] for k in rng.integers(len(words), size=rng.integers(1, 12)))
    text = mutated(rng, text) if rng.random() < 0.5 else text
    return text + "\n" if rng.random() < 0.8 else text


@cache
def known(name: str) -> tuple[Task, list[Problem]]:
    """A task and some of its problems."""
    task = make_task(name, **TASKS[name])
    return task, task.first_problems("train", 50)

"""Hostile chains through the verifier of every task: pieces of its own words and of anything, cut, doubled and swapped."""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from bench.judges.fuzz import PIECES, mutated
from models.files.manifest import CheckpointError
from models.policy import SMOLLM2, located
from tasks import Problem, Task, make_task
from tasks.oracle import Oracle

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
    task, problems, legal = known(name)
    words = [*task.vocabulary, *PIECES, *pretrained()]
    for _ in range(CHAINS):
        at = rng.integers(len(problems))
        problem, steps = problems[at], [step(rng, words) for _ in range(rng.integers(1, 6))]
        if legal[at] and rng.random() < 0.5:
            steps[0] = legal[at][rng.integers(len(legal[at]))]
            steps = steps[: rng.integers(1, 3)]
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
def known(name: str) -> tuple[Task, list[Problem], list[list[str]]]:
    """A task, some of its problems, and the legal first steps of each where the task knows them."""
    task = make_task(name, **TASKS[name])
    problems = task.first_problems("train", 50)
    legal = [task.legal_steps(p, task.initial_state(p)) if isinstance(task, Oracle) else [] for p in problems]
    return task, problems, legal


@cache
def pretrained() -> list[str]:
    """Some of the words of SmolLM2's vocabulary; none where it is not installed."""
    try:
        vocabulary = json.loads((located(SMOLLM2) / "tokenizer.json").read_text())["model"]["vocab"]
    except CheckpointError:
        return []
    return [word.replace("\u0120", " ").replace("\u010a", "\n") for word in list(vocabulary)[::200]]

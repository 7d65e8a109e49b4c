"""The rules of decoding, switched off one by one: what each of them buys a net that is taught already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench.tables import points, share, table
from kit.seeds import generator
from kit.statistics import bootstrap_difference, wilson
from models.policy import Policy
from models.steps.stream_types import NATURAL, Rules, Stream
from selfplay.measure.thinking import HIGH, solved
from tasks import Problem, Task

OFF: dict[str, dict[str, Any]] = {
    "all rules on": {},
    "a step may be tried again": {"distinct": False},
    "the same, T = .7": {"distinct": False, "temperature": 0.7},
    "a verdict is a word like others": {"threshold": None},
    "no verdict before the end": {"early": False},
    "no step doubted for what follows in it": {"doubted": 0.0},
    "what a check came to is not written": {"mended": False},
    "always back to the root": {"back": "root"},
    "always back one step": {"back": "last"},
}


def switched_off(policy: Policy, task: Task, asked: list[Problem], rules: Rules, seed: int) -> dict[str, Any]:
    """Streams of the highest effort under each setting, beside those with all rules on."""
    rows, told, whole = [], [], np.empty(0, bool)
    for name, change in OFF.items():
        made = policy.streams(task, asked, HIGH, replace(rules, **change), seed=seed)
        again, steps = np.sum([repeats(stream) for stream in made], 0)
        right = solved(task, asked, made)
        whole = right if not change else whole
        low, high = wilson(int(right.sum()), len(asked))
        between = bootstrap_difference(right, whole, generator(seed, "rules", len(rows)))
        row = {
            "rule": name, "solved": float(right.mean()), "low": low, "high": high,
            "tokens": float(np.mean([stream.tokens for stream in made])),
            "repeats": float(again / max(1, steps)),
            "natural": float(np.mean([stream.end in NATURAL for stream in made])),
            "difference": between.estimate, "from": between.low, "to": between.high,
        }  # fmt: skip
        rows.append(row)
        lead = points(row["difference"], row["from"], row["to"]) if change else ""
        told.append([name, share(row["solved"], low, high), lead, f"{row['tokens']:.1f}", f"{100 * row['repeats']:.1f}",
                     f"{100 * row['natural']:.1f}"])  # fmt: skip
    heads = [
        "effort high",
        "solved, %",
        "- all rules on",
        "tokens",
        "steps tried before at their state, %",
        "natural, %",
    ]
    print("\n".join(table(heads, told)))
    return {"rows": rows, "problems": len(asked), "threshold": rules.threshold, "seed": seed}


def repeats(stream: Stream) -> tuple[int, int]:
    """(steps that were tried before behind the same steps, steps) of what a stream wrote once it had gone back."""
    path: list[str] = []
    tried: set[tuple[str, ...]] = set()
    again, steps, back = 0, 0, False
    for thought in stream.thoughts:
        if thought.back is not None:
            del path[thought.back :]
            back = True
        elif thought.kind in ("propose", "answer"):
            path.append(thought.text)
            again, steps = again + (tuple(path) in tried), steps + back
            tried.add(tuple(path))
    return again, steps

"""How sure a stream must be of its verdict, fitted on dev: a judge says afterwards which threshold was right most often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.policy import Policy
from models.steps.stream_types import Rules
from tasks.base import Problem, Scorer, Task
from tasks.streams import EFFORTS

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def threshold_fit(policy: Policy, task: Task, scorer: Scorer, problems: Sequence[Problem]) -> dict[str, Any]:
    """Share solved and mean tokens of greedy streams at the highest effort, by threshold, and the best one.

    Of thresholds that solve as many the one of fewest tokens is taken.
    """
    rows = []
    for threshold in THRESHOLDS:
        made = policy.streams(task, problems, len(EFFORTS) - 1, Rules(threshold=threshold))
        verdicts = scorer.score(problems, [stream.steps for stream in made])
        right = [s.accepted and verdict.reward >= 1 for s, verdict in zip(made, verdicts, strict=True)]
        tokens = float(np.mean([stream.tokens for stream in made]))
        rows.append({"threshold": threshold, "solved": float(np.mean(right)), "tokens": tokens})
    best = max(rows, key=lambda row: (row["solved"], -row["tokens"]))
    return {"n": len(problems), "best": best["threshold"], "rows": rows}

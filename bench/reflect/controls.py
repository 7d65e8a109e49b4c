"""What the same net does with as many tokens as a stream, without being a stream: controls beside every effort.

Those that the end of a run shows, too, stand in `selfplay.measure.thinking`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from models.policy import Policy
from models.steps.stream_types import Rules, Stream
from selfplay.measure.thinking import HIGH, solved
from solve.search.solved_at import solved_at
from solve.strategies import way
from solve.types import Workbench
from tasks import Problem, Task
from tasks.streams import EFFORTS, UNDOS


def paid_anew(
    policy: Policy, task: Task, asked: list[Problem], effort: int, rules: Rules, seed: int, tokens: float
) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) of tries under `rules`, with as few undos as cost so many tokens; with all where none do.

    What a stream does under the same rules, but each time that it goes back it takes the steps that stand again, and pays for
    them: what going back is worth to a net that knows all that the stream knows.
    """
    for undos in range(UNDOS[EFFORTS[HIGH]] + 1):
        made = policy.streams(task, asked, effort, replace(rules, undos=undos), seed=seed)
        paid = float(np.mean([stream.tokens + rederived(stream) for stream in made]))
        if paid >= tokens:
            break
    return solved(task, asked, made), paid


def tree(policy: Policy, task: Task, asked: list[Problem], most: int, trusted: bool, seed: int) -> np.ndarray:
    """int64 [P]: tokens that best first with the true judge paid when it solved each problem; NEVER: `most` were in vain."""
    bench = Workbench(policy, task, "task", trusted, seed)
    return solved_at(bench, way("best_first", task).search, asked, most)


def within(at: np.ndarray, most: int, tokens: float) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) under the least limit a problem, up to `most`, that costs so many tokens on average."""
    limits = np.unique(np.append(np.minimum(at, most), np.arange(1, most + 1, max(1, most // 512))))
    paid = np.array([np.minimum(at, limit).mean() for limit in limits])
    limit = limits[min(int(np.searchsorted(paid, tokens)), len(limits) - 1)]
    return at <= limit, float(np.minimum(at, limit).mean())


def rederived(stream: Stream) -> int:
    """Tokens of the steps that stood, each time that a stream went back."""
    path: list[int] = []
    total = 0
    for thought in stream.thoughts:
        if thought.back is not None:
            del path[thought.back :]
            total += sum(path)
        elif thought.kind in ("propose", "answer"):
            path.append(len(thought.tokens))
    return total


def votes(
    policy: Policy, task: Task, asked: list[Problem], tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the commonest answer of plain samples, nobody being asked."""
    drawn = policy.chains(task, asked, tries, temperature=temperature, seed=seed)
    right = np.zeros((tries, len(asked)), np.bool_)
    for i, (problem, chains) in enumerate(zip(asked, drawn, strict=True)):
        first: dict[str | None, int] = {}
        count: Counter[str | None] = Counter()
        for k, chain in enumerate(chains):
            answer = task.answer(problem, chain.steps)
            first.setdefault(answer, k)
            count[answer] += 1
            right[k, i] = chains[first[max(count, key=lambda a: (count[a], -first[a]))]].verdict.reward >= 1
    return right, np.cumsum([[chain.tokens for chain in chains] for chains in drawn], 1).T

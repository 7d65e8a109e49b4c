"""What a budget buys: at how many paid tokens each problem of a set was first solved, the judge in the loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solve.types import Strategy, Workbench
from tasks.base import Problem

PART = 128  # problems searched at once: a wave stays in cache and the trie in memory


def solved_at(bench: Workbench, strategy: Strategy, problems: Sequence[Problem], tokens: int) -> np.ndarray:
    """Tokens paid when the judge first accepted a chain, NEVER where `tokens` did not suffice. int64 [P].

    `solved_at(...) <= budget` is the outcome of every smaller budget, unless the strategy is sized by its limit.
    """
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(problems), PART):
        part = problems[start : start + PART]
        search = strategy.start(bench, part, tokens)
        search.advance(np.full(len(part), tokens))
        found.append(search.solved_at)
    return np.concatenate(found)

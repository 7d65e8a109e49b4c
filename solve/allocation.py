"""How a batch of problems shares one budget: alike, or first where an answer is most likely to change.

The total is tokens x problems. Every problem first gets a slice; then slices are handed out a round at a time to those that
need them, until the total is paid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from solve.answers import Choose, chosen
from solve.budgets import TokenBudget
from solve.types import NEVER, Search, SolveError

Share = Literal["none", "uniform", "uncertain"]
SHARES: tuple[Share, ...] = ("none", "uniform", "uncertain")
SLICES = 16  # of a problem's even share
DOUBT = 3  # power of the doubt
SERVED = 0.25  # share of the problems that get a slice in one round of "uncertain"


def allocated(
    search: Search,
    share: Share,
    budget: TokenBudget,
    count: int,
    choose: Choose,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Advance `search` over its `count` problems until the budget is spent.

    "none": every problem up to its own limit; what a solved one leaves is not spent. "uniform": all that are still open get a
    slice a round, in order. "uncertain": each round the most uncertain quarter of them does: the cube of 1 - the share of the
    leading answer, divided by what has been spent on the problem already: an answer that many tokens have not moved will hardly
    move. (The power was chosen on dev, see docs/LOG.md.)

    Raises:
        SolveError: unknown way to share.
    """
    if share not in SHARES:
        raise SolveError(f"share={share!r}: use one of {', '.join(SHARES)}")
    start = time.monotonic()
    left = budget.seconds
    each = budget.tokens if share == "none" or budget.size is None else budget.size
    shares = np.broadcast_to(np.asarray(each, np.int64), count)
    total = int(shares.sum())
    limits = np.zeros(count, np.int64)
    slices = np.maximum(1, shares // SLICES)
    while True:
        open_ = (search.solved_at == NEVER) & ~search.exhausted
        if budget.simulations is not None:
            open_ &= search.simulations < budget.simulations
        if share == "none":
            open_ &= search.tokens < budget.tokens
            grant = np.minimum(slices, budget.tokens - search.tokens)
        else:
            grant = slices
        remaining = total - int(search.tokens.sum())
        if on_progress is not None:
            on_progress(int((~open_).sum()), int(search.tokens.sum()))
        if not open_.any() or (share != "none" and remaining <= 0):  # what others overspent is not this problem's
            return
        served = np.flatnonzero(open_)
        if share == "uncertain" and (search.tokens[served] > 0).all():
            served = served[np.argsort(-_uncertainty(search, served, choose), kind="stable")]
            served = served[: max(1, int(np.ceil(SERVED * len(served))))]
        if share != "none":
            served = served[: max(1, -(-remaining // int(slices.max())))]
        before = search.tokens.copy()
        limits[:] = before  # nobody else goes on
        limits[served] = before[served] + grant[served]
        search.advance(limits, left, budget.simulations)
        if (search.tokens == before).all() or (
            left is not None and time.monotonic() - start >= (budget.seconds or 0.0)
        ):
            return
        if left is not None and budget.seconds is not None:
            left = max(0.0, budget.seconds - (time.monotonic() - start))


def _uncertainty(search: Search, problems: np.ndarray, choose: Choose) -> np.ndarray:
    """float64: how likely a slice is to change the answer of each of `problems`, up to a factor."""
    doubt = np.array([1.0 - chosen(search.chains(i), choose).share for i in problems.tolist()])
    return doubt**DOUBT / np.maximum(search.tokens[problems], 1)

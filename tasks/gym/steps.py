"""Worked steps towards the answers of a few datasets of reasoning-gym, for learners: the library itself gives answers alone.

A step is an equation, and each follows from the question and the steps before it:

    State the final answer to the following arithmetic problem: 72 - 15 + 77 =
    72 - 15 = 57
    57 + 77 = 134
    answer: 134
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

from tasks.gym.oracles import Item


def running_sums(item: Item) -> list[str]:
    """chain_sum: from left to right, one term at a time."""
    first, *rest = item["metadata"]["expression"].split()
    total, steps = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        after = total + int(term) if sign == "+" else total - int(term)
        steps.append(f"{total} {sign} {term} = {after}")
        total = after
    return steps


def euclid(item: Item) -> list[str]:
    """gcd: divisions with remainder (Euclid, Elements VII.2), the result with each further number in turn."""
    first, *rest = item["metadata"]["numbers"]
    steps = []
    for other in rest:
        larger, smaller = max(first, other), min(first, other)
        while smaller:
            steps.append(f"{larger} = {larger // smaller} * {smaller} + {larger % smaller}")
            larger, smaller = smaller, larger % smaller
        first = larger
    return steps


def trial_division(item: Item) -> list[str]:
    """prime_factorization: the smallest factor is split off again and again; a prime needs no step."""
    factors = item["metadata"]["factors"]
    left = [item["metadata"]["number"]]
    for factor in factors[:-1]:
        left.append(left[-1] // factor)
    return [f"{before} = {factor} × {after}" for (before, after), factor in zip(pairwise(left), factors, strict=False)]


WORKED: Mapping[str, Callable[[Item], list[str]]] = {
    "chain_sum": running_sums,
    "gcd": euclid,
    "prime_factorization": trial_division,
}

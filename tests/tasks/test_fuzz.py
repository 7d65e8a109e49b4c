"""Every verifier of ours is total: grammar and byte mutations of right chains, and of nothing in particular, get a verdict."""

from __future__ import annotations

import numpy as np
import pytest

from bench.judges.fuzz import answers, mutated
from tasks import Task, Verdict, make_task
from tasks.guessing import RandomPlay

NAMES = ("blocksworld", "chain", "countdown", "jugs", "sliding", "sums")
QUICK, SLOW = 4_000, 400_000  # texts a task


def chains(task: Task, rng: np.random.Generator, n: int):
    """`n` chains: legal play with one step changed, cut or replaced."""
    problems = task.problems("dev", min(40, task.count("dev")))
    play = RandomPlay(task)
    for k in range(n):
        problem = problems[k % len(problems)]
        if k % 50 == 0:
            steps = play.guesses(problem, 1)[0]
        changed = list(steps)
        if k % 3:
            at = int(rng.integers(len(changed)))
            changed[at] = mutated(rng, changed[at])
        else:
            changed[int(rng.integers(len(changed))) :] = answers(rng, 1 + k % 4, task.prompt(problem))
        yield problem, changed


def check(task: Task, rng: np.random.Generator, n: int) -> int:
    """Judge `n` chains; how many were illegal."""
    illegal = 0
    for problem, steps in chains(task, rng, n):
        verdict = task.verdict(problem, steps)
        assert isinstance(verdict, Verdict)
        assert 0.0 <= verdict.reward <= 1.0
        assert verdict.legal or (verdict.terminal and verdict.reward == 0.0)
        assert verdict.reason.isprintable() or not verdict.reason
        assert len(verdict.reason) < 200
        assert task.parse_step(problem, [], steps[0])[0] in (*task.kinds, "illegal")
        illegal += not verdict.legal
    return illegal


@pytest.mark.parametrize("name", NAMES)
def test_mutated_chains_get_a_verdict(name, rng):
    task = make_task(name)
    illegal = check(task, rng, QUICK)
    assert QUICK / 10 < illegal < QUICK


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_mutated_chains_get_a_verdict(name, rng):
    check(make_task(name), rng, SLOW)

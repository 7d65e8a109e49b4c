"""What the same net does with as many tokens as a stream, without being a stream: the controls beside every effort."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from models.policy import Policy
from models.steps.stream_types import Rules, Stream
from tasks import Problem, Task
from tasks.streams import EFFORTS, UNDOS

HIGH = len(EFFORTS) - 1
JUDGED = "best of N, judge"


def solved(task: Task, asked: list[Problem], made: list[Stream]) -> np.ndarray:
    """bool [P]: accepted by the stream itself, and right."""
    return np.array(
        [s.accepted and task.verdict(problem, s.steps).reward >= 1 for problem, s in zip(asked, made, strict=True)]
    )


def at_least(found: tuple[np.ndarray, np.ndarray], tokens: float) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) after the fewest tries that cost as many tokens; after all where none do."""
    right, paid = found
    k = min(int(np.searchsorted(paid.mean(1), tokens)), len(right) - 1)
    return right[k], float(paid[k].mean())


def restarts(
    policy: Policy, task: Task, asked: list[Problem], rules: Rules, tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(solved bool [K, P], tokens int64 [K, P]) after 1 to K tries of each problem, up to its first `yes`."""
    right, paid = np.zeros((tries, len(asked)), np.bool_), np.zeros((tries, len(asked)), np.int64)
    going = np.arange(len(asked))
    for k in range(tries):
        some = [asked[i] for i in going]
        drawn = replace(rules, temperature=temperature if k else 0.0)
        made = policy.streams(task, some, HIGH, drawn, seed=seed, first=[k] * len(some)) if some else []
        right[k:, going] = solved(task, some, made) if some else False
        paid[k:, going] += np.array([stream.tokens for stream in made], np.int64)
        going = going[[not stream.accepted for stream in made]] if some else going
    return right, paid


def chains_again(
    policy: Policy, task: Task, asked: list[Problem], effort: int, rules: Rules, seed: int, tokens: float
) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) of as few tries of distinct chains as cost so many tokens; of all where none do.

    The most probable chain that none of those refused begins is, but for mass that is used up, the last one up to the step
    that was refused, and then another: a stream that always goes back one step, its standing steps paid anew.
    """
    for undos in range(UNDOS[EFFORTS[HIGH]] + 1):
        made = policy.streams(task, asked, effort, replace(rules, back="last", undos=undos), seed=seed)
        paid = float(np.mean([stream.tokens + rederived(stream) for stream in made]))
        if paid >= tokens:
            break
    return solved(task, asked, made), paid


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


def judged_samples(
    policy: Policy, task: Task, asked: list[Problem], tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same for plain samples, up to the first that the judge accepts."""
    drawn = policy.chains(task, asked, tries, temperature=temperature, seed=seed)
    right = np.array([[chain.verdict.reward >= 1 for chain in chains] for chains in drawn]).T
    tokens = np.array([[chain.tokens for chain in chains] for chains in drawn]).T
    before = np.vstack([np.zeros_like(right[:1]), np.logical_or.accumulate(right)[:-1]])
    return np.logical_or.accumulate(right), np.cumsum(np.where(before, 0, tokens), 0)


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

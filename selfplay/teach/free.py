"""Rows that cost no generated token: random legal play, relabelled or not, and chains that came with the data.

Each function makes `n` rows in the learner's tokens for one step of one rank. Play comes as words of the task, and `codec` puts
it into tokens; given rows hold tokens already.
"""

from __future__ import annotations

import numpy as np

from models.steps.codec import Codec
from selfplay.config import LearnerConfig
from selfplay.learn.learner import select, stack
from tasks.base import Rows, Task
from tasks.free_play import free_play


def random_play(task: Task, codec: Codec, n: int, config: LearnerConfig, rng: np.random.Generator, given) -> Rows:
    """Random legal play: what a step does, no choice among steps."""
    return codec.rows(free_play(task).random_play("train", n, rng))


def rules(task: Task, codec: Codec, n: int, config: LearnerConfig, rng: np.random.Generator, given) -> Rows:
    """Random legal play that teaches the results of steps alone."""
    return codec.rows(free_play(task).random_play("train", n, rng, rules_only=True))


def random_mix(task: Task, codec: Codec, n: int, config: LearnerConfig, rng: np.random.Generator, given) -> Rows:
    """Random legal play, `rules_share` of it for the results of steps alone."""
    play = free_play(task)
    shares = {"rules": round(n * config.rules_share)}
    parts = [play.random_play("train", shares["rules"], rng, rules_only=True)] if shares["rules"] else []
    return codec.rows(stack([*parts, play.random_play("train", n - shares["rules"], rng)]))


def hindsight(task: Task, codec: Codec, n: int, config: LearnerConfig, rng: np.random.Generator, given) -> Rows:
    """Random play relabelled with what it reached (Andrychowicz et al. 2017), beside rows for rules, values and answers."""
    play = free_play(task)
    shares = [round(n * share) for share in (config.rules_share, config.value_share, config.ended_share)]
    makers = (lambda n: play.random_play("train", n, rng, rules_only=True),
              lambda n: play.value_play("train", n, rng),
              lambda n: play.ended_play("train", n, rng),
              lambda n: play.hindsight("train", n, rng))  # fmt: skip
    counts = [*shares, n - sum(shares)]
    return codec.rows(stack([make(count) for make, count in zip(makers, counts, strict=True) if count > 0]))


def checks(task: Task, codec: Codec, n: int, config: LearnerConfig, rng: np.random.Generator, given) -> Rows:
    """What a stream says of a step, and, every fourth row, results of steps alone."""
    play = free_play(task)
    plain = -(-n // 4)
    parts = [play.random_play("train", plain, rng, rules_only=True)]
    return codec.rows(stack([*parts, play.check_play("train", n - plain, rng)] if n > plain else parts))


def given_rows(
    task: Task, codec: Codec, n: int, config: LearnerConfig, rng: np.random.Generator, given: Rows | None
) -> Rows:
    """Solved chains that came with the task's data, drawn uniformly; none where there are none."""
    return stack([]) if given is None or not n else select(given, rng.integers(len(given), size=n))

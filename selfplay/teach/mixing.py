"""What the rows of an iteration are made of: replay of what was acted, and free rows."""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name

import numpy as np

from models.steps.codec import Codec
from selfplay.config import LearnerConfig
from selfplay.learn.learner import select, stack
from selfplay.learn.replay import Replay
from selfplay.teachers import FILLS, TEACHERS
from tasks.base import Rows, Task


@dataclass(frozen=True)
class Mixture:
    """What the rows of one iteration are made of."""

    steps: int  # learner steps
    replay_share: float  # of a step's rows; the others are free
    once: bool = False  # each new row is learned once, now; nothing else is


def mixture(teacher: str, new_rows: int, most: int, config: LearnerConfig, new_tokens: int = 0) -> Mixture:
    """How the actor's `new_rows` of `new_tokens` (all ranks') are spent, so that each is seen about `reuse` times.

    Where hindsight fills batches up, all of `most` steps are taken and replay gets a share that suits what is new: free
    data costs nothing and never waits for a search. Random legal play teaches no choices and unlearns them when there is
    too much of it, so beside it the share is fixed, at `replay_share`, and there are fewer steps. What is learned on policy is
    seen once, in as many steps as `rows` a step (and `tokens`, nearly) make of it, `most` at most.
    """
    if TEACHERS[teacher].act is None:
        return Mixture(most, 0.0)
    if TEACHERS[teacher].on_policy:
        steps = max(-(-new_rows // config.rows), -(-new_tokens // config.tokens) if config.tokens else 0)
        return Mixture(min(most, steps), 0.0, once=True)
    wanted = new_rows * config.reuse / config.rows  # steps that replay alone would fill
    if config.fill == "hindsight":
        return Mixture(most, min(config.replay_share, wanted / most))
    return Mixture(int(np.clip(wanted / max(config.replay_share, 1 / config.rows), 1, most)), config.replay_share)


def dealt(rows: Rows, steps: int, rng: np.random.Generator) -> list[Rows]:
    """`rows` in random order, cut into `steps` batches of nearly one size."""
    order = rng.permutation(len(rows))
    return [select(rows, part) for part in np.array_split(order, steps)] if steps else []


def batch(
    task: Task,
    codec: Codec,
    teacher: str,
    n: int,
    replay: Replay,
    config: LearnerConfig,
    rng: np.random.Generator,
    replay_share: float = 0.0,
    given: Rows | None = None,
) -> Rows:
    """`n` rows for one step of one rank, `replay_share` of them from replay, once there is any."""
    free = TEACHERS[teacher].rows or FILLS[config.fill]
    if free == FILLS["given"] and given is None:
        replay_share = 1.0  # nothing else is free
    replayed = int(rng.binomial(n, replay_share)) if len(replay) else 0
    parts = [replay.sample(replayed, rng)] if replayed else []
    if n > replayed:
        parts.append(resolve_name(free)(task, codec, n - replayed, config, rng, given))
    return stack(parts)

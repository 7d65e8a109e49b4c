"""What a learner step is made of: replay of the actor's rows, filled up with random legal play.

`random` teaches format and arithmetic only; `hindsight` relabels random play with what it reached; `given` are solved chains
that came with a task's data; `star` and `search` draw on replay and fill up with `learner.fill`. Relabelled and solved chains
only ever show results that hit the target, and a net trained on them alone writes the target whatever the operands are; a
share of rows that teach the rules keeps it honest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.steps.codec import Codec
from selfplay.config import TEACHERS, LearnerConfig
from selfplay.learn.learner import select, stack
from selfplay.learn.replay import Replay
from tasks.base import Rows, Task
from tasks.free_play import free_play

NO_ROWS = Rows(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))


@dataclass(frozen=True)
class Mixture:
    """What the rows of one iteration are made of."""

    steps: int  # learner steps
    replay_share: float  # of a step's rows; the others are free


def mixture(teacher: str, new_rows: int, most: int, config: LearnerConfig) -> Mixture:
    """How the actor's `new_rows` (all ranks') are spent, so that each is seen about `reuse` times.

    Where hindsight fills batches up, all of `most` steps are taken and replay gets a share that suits what is new: free
    data costs nothing and never waits for a search. Random legal play teaches no choices and unlearns them when there is
    too much of it, so beside it the share is fixed, at `replay_share`, and there are fewer steps.
    """
    if TEACHERS[teacher].acts is None:
        return Mixture(most, 0.0)
    wanted = new_rows * config.reuse / config.rows  # steps that replay alone would fill
    if config.fill == "hindsight":
        return Mixture(most, min(config.replay_share, wanted / most))
    return Mixture(int(np.clip(wanted / max(config.replay_share, 1 / config.rows), 1, most)), config.replay_share)


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
    """`n` rows for one step of one rank, `replay_share` of them from replay, once there is any; `given` is drawn uniformly.

    Replayed and given rows hold the learner's tokens already; free ones come as words of the task and are put into them by
    `codec`.
    """
    fill = config.fill if TEACHERS[teacher].acts else teacher
    if fill == "given" and given is None:
        replay_share = 1.0  # nothing else is free
    parts: list[Rows] = []
    from_replay = int(rng.binomial(n, replay_share)) if len(replay) else 0
    if from_replay:
        parts.append(replay.sample(from_replay, rng))
    free = n - from_replay
    if fill == "given":
        if free and given is not None:
            parts.append(select(given, rng.integers(len(given), size=free)))
        return stack(parts) if parts else NO_ROWS
    rules = free if fill == "rules" else 0 if teacher == "random" else round(free * config.rules_share)
    free_parts: list[Rows] = []
    valued = round(free * config.value_share) if fill == "hindsight" else 0
    ended = round(free * config.ended_share) if fill == "hindsight" else 0
    if rules:
        free_parts.append(free_play(task).random_play("train", rules, rng, rules_only=True))
    if valued:
        free_parts.append(free_play(task).value_play("train", valued, rng))
    if ended:
        free_parts.append(free_play(task).ended_play("train", ended, rng))
    if (left := free - rules - valued - ended) > 0:
        play = free_play(task).hindsight if fill == "hindsight" else free_play(task).random_play
        free_parts.append(play("train", left, rng))
    if free_parts:
        parts.append(codec.rows(stack(free_parts)))
    return stack(parts)

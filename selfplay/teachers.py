"""What a learner step is made of: replay of the actor's rows, filled up with random legal play.

`random` teaches format and arithmetic only; `hindsight` relabels random play with what it reached; `star` and `search`
draw on replay and fill up with `learner.fill`. Relabelled and solved chains only ever show results that hit the target, and
a net trained on them alone writes the target whatever the operands are; a share of rows that teach the rules keeps it honest.
"""

from __future__ import annotations

import numpy as np

from selfplay.config import LearnerConfig
from selfplay.learner import stack
from selfplay.replay import Replay
from tasks.base import Rows, Task

GENERATING = ("star", "search")  # teachers that need an actor


def batch(task: Task, teacher: str, n: int, replay: Replay, config: LearnerConfig, rng: np.random.Generator) -> Rows:
    """`n` rows for one step of one rank."""
    parts: list[Rows] = []
    from_replay = round(n * config.replay_share) if teacher in GENERATING and len(replay) else 0
    if from_replay:
        parts.append(replay.sample(from_replay, rng))
    free = n - from_replay
    fill = config.fill if teacher in GENERATING else teacher
    rules = free if fill == "rules" else 0 if teacher == "random" else round(free * config.rules_share)
    valued = round(free * config.value_share) if fill == "hindsight" else 0
    if rules:
        parts.append(task.random_play("train", rules, rng, rules_only=True))
    if valued:
        parts.append(task.value_play("train", valued, rng))
    if free > rules + valued:
        play = task.hindsight if fill == "hindsight" else task.random_play
        parts.append(play("train", free - rules - valued, rng))
    return stack(parts)


def steps_for(teacher: str, new_rows: int, most: int, config: LearnerConfig) -> int:
    """Learner steps of an iteration: all of `most` on free data, else as many as `reuse` of the new rows allows.

    `new_rows` counts all ranks' rows, as `config.rows` does.
    """
    if teacher not in GENERATING:
        return most
    per_step = max(1, round(config.rows * config.replay_share))
    return int(np.clip(new_rows * config.reuse / per_step, 1, most))

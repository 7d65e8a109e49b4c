"""The actor's choices that depend on the task."""

import pytest

from selfplay.actor import follows_to_the_end, make_rule
from selfplay.config import ActorConfig
from tasks.countdown import Countdown
from tasks.sliding import Sliding

SLIDING = Sliding(distance_min=1, distance_max=3)
COUNTDOWN = Countdown(number_max=6, target_max=30)


@pytest.mark.parametrize(("task", "follows"), [(COUNTDOWN, True), (SLIDING, False)], ids=["countdown", "sliding"])
def test_a_rollout_is_followed_where_steps_cannot_be_undone(task, follows):
    assert follows_to_the_end(ActorConfig(), task) is follows
    assert make_rule(ActorConfig(), task).rollout is follows


@pytest.mark.parametrize("asked", [True, False])
def test_what_the_configuration_says_of_rollouts_wins(asked):
    config = ActorConfig(rollout=asked)
    assert [make_rule(config, task).rollout for task in (COUNTDOWN, SLIDING)] == [asked, asked]

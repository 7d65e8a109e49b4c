"""What a newcomer touches: a task is its file and its line in the registry, and so is a teacher."""

from __future__ import annotations

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from models.policy import SHIPPED, open_policy
from selfplay.cli import CONF
from selfplay.config import ActorConfig, SelfplayConfig, check_config
from selfplay.learn.replay import Replay
from selfplay.teach import free
from selfplay.teach.actor import Acting, Experience, act
from selfplay.teach.mixing import batch
from selfplay.teachers import TEACHERS, Teacher
from selfplay.team import Team
from tasks import make_guesser, make_scorer, make_task
from tasks.planning.jugs import Jugs
from tasks.registry import TASKS, register_tasks, task_pages


class Buckets(Jugs):
    """A planning task of its own name."""

    name = "buckets"

    def __init__(
        self,
        jugs: int = 2,  # how many there are
    ) -> None:
        super().__init__(jugs, distance_max=8)


def shout(acting: Acting) -> Experience:
    """A teacher that has every problem sampled once, and learns nothing."""
    chains = acting.policy.chains(acting.task, acting.problems)
    return Experience(acting.builder.rows(), [], sum(one.tokens for (one,) in chains), 0, len(chains), 0, 0)


def composed(*overrides: str) -> SelfplayConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = OmegaConf.merge(OmegaConf.structured(SelfplayConfig), compose("selfplay", list(overrides)))
    config = OmegaConf.to_object(known)
    assert isinstance(config, SelfplayConfig)
    check_config(config)
    return config


def test_a_task_is_its_file_and_one_line(monkeypatch):
    monkeypatch.setitem(TASKS, "buckets", f"{__name__}:Buckets")
    register_tasks()
    assert composed("task=buckets").task == {"name": "buckets", "jugs": 2}
    options = composed("task=buckets", "task.jugs=3").task
    task = make_task(**options)
    assert task.jugs == 3
    problem = task.problems("dev", 3)[0]
    assert problem.task == "buckets"
    assert not make_scorer(**options).score([problem], [()])[0].reward
    assert make_guesser(**options)
    assert any(page == "## task=buckets\njugs: 2                      # how many there are" for page in task_pages())


def test_a_teacher_that_acts_is_its_file_and_one_line(monkeypatch):
    monkeypatch.setitem(TEACHERS, "shout", Teacher("tab:red", act=f"{__name__}:shout"))
    config = composed("selfplay.mode=shout")
    assert config.selfplay.phases[-1].teacher == "shout"
    policy = open_policy(str(SHIPPED / "countdown3")).policy
    experience = act(
        policy, make_task("countdown"), "shout", ActorConfig(problems=2, mine=False), Team(), seed=1, iteration=1
    )
    assert experience.problems == 2
    assert experience.generated_tokens > 2


def test_a_teacher_of_free_rows_is_its_file_and_one_line(monkeypatch):
    monkeypatch.setitem(TEACHERS, "quiet", Teacher("tab:red", rows=f"{free.__name__}:rules"))
    assert composed("selfplay.mode=quiet", "selfplay.phases.2.seconds=1").selfplay.phases[-1].teacher == "quiet"
    task = make_task("countdown")
    codec = open_policy(str(SHIPPED / "countdown3")).policy.codec(task)
    assert codec is not None
    drawn = batch(task, codec, "quiet", 5, Replay(1), composed().learner, np.random.default_rng(0))
    assert len(drawn) == 5

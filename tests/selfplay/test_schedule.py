"""Phases end at their nearest limit; the learning rate is a function of progress alone."""

from __future__ import annotations

import json
import math

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from selfplay.cli import CONF
from selfplay.config import (
    ActorConfig,
    ConfigError,
    EvaluationConfig,
    LearnerConfig,
    ModelConfig,
    Phase,
    ScheduleConfig,
    SelfplayConfig,
    check_config,
)
from selfplay.schedule import PhaseSpent, Position, Progress, learning_rate, phase_weights

PHASES = [Phase("random", iterations=2, steps=10), Phase("hindsight", iterations=4, generated_tokens=1000, steps=10)]


def spend(position: Position, **what) -> None:
    position.advance(PHASES, **({"generated_tokens": 0, "cpu_seconds": 0.0, "seconds": 0.0} | what))


def test_a_phase_ends_at_the_first_limit_reached():
    position = Position()
    spend(position)
    assert position.phase == 0
    spend(position)
    assert position.phase == 1
    assert position.spent == PhaseSpent()
    spend(position, generated_tokens=1500)
    assert position.done(PHASES)


def test_progress_rises_from_zero_to_one_and_weighs_phases_by_their_steps():
    position, seen = Position(), []
    while not position.done(PHASES):
        seen.append(position.share(PHASES))
        spend(position)
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert position.share(PHASES) == 1.0


def test_iterations_weigh_before_the_times_that_only_cap_them():
    phases = [
        Phase("random", iterations=1, seconds=90, steps=10),
        Phase("hindsight", iterations=9, seconds=10, steps=10),
    ]
    assert phase_weights(phases) == [10, 90]
    timed = [Phase("random", cpu_seconds=5, steps=10), Phase("hindsight", cpu_seconds=15, iterations=3, steps=10)]
    assert phase_weights(timed) == [5, 15]


TIMED = [Phase("hindsight", iterations=10, seconds=100, steps=10)]


@pytest.mark.parametrize("slow", [1.0, 5.0, 11.0])
def test_the_clock_does_not_touch_the_rate_while_iterations_keep_pace(slow):
    position, seen = Position(), []
    while not position.done(TIMED):
        seen.append(position.share(TIMED))
        position.advance(TIMED, generated_tokens=0, cpu_seconds=0.0, seconds=slow)
    assert seen == pytest.approx([k / 10 for k in range(len(seen))], abs=0.1)
    assert seen[:4] == [0.0, 0.1, 0.2, 0.3]
    assert len(seen) == min(10, math.ceil(100 / slow))


def test_far_behind_the_clock_brings_the_rate_down_before_the_time_is_up():
    position = Position()
    position.advance(TIMED, generated_tokens=0, cpu_seconds=0.0, seconds=70.0)
    assert position.share(TIMED) == pytest.approx((0.7 - 0.25) / 0.75)
    position.advance(TIMED, generated_tokens=0, cpu_seconds=0.0, seconds=29.9)
    assert 0.99 < position.share(TIMED) < 1.0
    position.advance(TIMED, generated_tokens=0, cpu_seconds=0.0, seconds=0.1)
    assert position.done(TIMED)


def test_a_phase_with_time_alone_follows_the_clock():
    phases, position = [Phase("hindsight", cpu_seconds=40.0)], Position()
    position.advance(phases, generated_tokens=0, cpu_seconds=10.0, seconds=500.0)
    assert position.share(phases) == 0.25


def test_progress_survives_json():
    progress = Progress(iteration=2, outcomes=[True, False])
    progress.spend(PHASES, generated_tokens=7, prefilled_tokens=3, cpu_seconds=2.0, seconds=1.5)
    assert (progress.generated_tokens, progress.position.spent.generated_tokens, progress.seconds) == (7, 7, 1.5)
    assert Progress.from_dict(json.loads(json.dumps(progress.to_dict()))) == progress


def test_learning_rate_warms_up_holds_and_falls_to_its_floor():
    config = LearnerConfig(final_rate=0.1, decay_from=0.5, warmup_steps=10)
    assert learning_rate(config, 0.0, 0) == pytest.approx(0.1)
    assert learning_rate(config, 0.0, 9) == 1.0
    assert learning_rate(config, 0.5, 100) == 1.0
    assert learning_rate(config, 0.75, 100) == pytest.approx(0.55)
    assert learning_rate(config, 1.0, 100) == pytest.approx(0.1)


def test_the_page_of_settings_and_the_schema_give_the_same_defaults():
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        page = OmegaConf.to_object(compose(config_name="selfplay"))
    for group in (ModelConfig, ActorConfig, LearnerConfig, EvaluationConfig):
        assert getattr(page, group.__name__.removesuffix("Config").lower()) == group()


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        (lambda c: setattr(c.selfplay, "phases", []), "selfplay.phases"),
        (lambda c: setattr(c.selfplay, "phases", [Phase("magic", iterations=1)]), "magic"),
        (lambda c: setattr(c.learner, "value_smoothing", 0.5), "value_smoothing"),
        (lambda c: setattr(c.selfplay, "phases", [Phase("random")]), "never ends"),
        (lambda c: setattr(c.evaluation, "calibration_seconds", 0.0), "evaluation.calibration_seconds"),
        (lambda c: setattr(c.actor, "discount", 0.0), "actor.discount"),
        (lambda c: setattr(c.learner, "value_share", 1.5), "learner.value_share"),
        (lambda c: setattr(c.learner, "ended_share", -0.1), "learner.ended_share"),
        (lambda c: setattr(c.learner, "ended_share", 0.9), "value_share"),  # with the others more than all
        (lambda c: setattr(c.evaluation, "dev", 0), "evaluation.dev"),
        (lambda c: setattr(c.model, "heads", 5), "model.heads"),
        (lambda c: setattr(c.model, "heads", 0), "model.heads"),
        (lambda c: setattr(c.evaluation, "search_tokens", [100, 0]), "evaluation.search_tokens"),
        (lambda c: setattr(c.evaluation, "gate_alpha", 1.0), "evaluation.gate_alpha"),
        (lambda c: setattr(c.actor, "temperature", 0.0), "actor.temperature"),
        (lambda c: setattr(c.learner, "learning_rate", float("nan")), "learner.learning_rate"),
        (lambda c: setattr(c, "seed", 2**63), "seed"),
        (lambda c: setattr(c, "seed", -1), "seed"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_that_names_it(break_it, names):
    config = SelfplayConfig(task={"name": "countdown"}, selfplay=ScheduleConfig(phases=[Phase("random", iterations=1)]))
    check_config(config)
    break_it(config)
    with pytest.raises(ConfigError, match=names) as refused:
        check_config(config)
    assert "\n" not in str(refused.value)

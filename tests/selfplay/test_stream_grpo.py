"""The teacher `stream_grpo` by hand: what a stream earns, and which of its words answer for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.local_policy import LocalPolicy
from models.steps.stream_types import Stream
from selfplay.cli import check_task
from selfplay.config import ActorConfig, ConfigError, SelfplayConfig
from selfplay.run.traces import read_shard
from selfplay.schedule import Phase
from selfplay.teach.streams import stream_grpo as teacher
from tasks import make_task
from tests.selfplay.test_stream_teacher import FIRST, LAST, MISS, OFF, PROBLEM, TASK, WORDS, acting, written
from tests.selfplay.tiny import run

RIGHT = written(OFF, MISS, "no b0", FIRST, LAST, "yes")
FALSE_YES = written(OFF, MISS, "yes")
GIVEN_UP = written(OFF, "no stop", end="stop")


class Group(LocalPolicy):
    """Samples that are known beforehand, by the number of the sample."""

    def __init__(self, made: list[Stream]):
        super().__init__(None, version="none")
        self.made, self.efforts, self.rules = made, [], None

    def codec(self, task):
        return WORDS.codec

    def streams(self, task, problems, effort, rules=None, *, seed=0, first=None, planted=None, on_prefill=None):
        self.efforts += [effort] * len(problems)
        self.rules = rules
        return [self.made[k] for k in first]


def lines(tokens: list[int]) -> str:
    return TASK.decode(tokens)


def test_every_word_is_taught_once_behind_what_stood_in_the_context():
    opening = WORDS.context(PROBLEM, 2)
    told = [
        (lines(context[len(opening) :]), lines(new)) for context, new in teacher.stretches(WORDS, PROBLEM, 2, RIGHT)
    ]
    assert told == [("", OFF + MISS + "no b0"), ("", FIRST + LAST + "yes")]
    halfway = written(FIRST, "answer 7 + 5 = 12\n", "no b1", LAST, "yes")
    told = [
        (lines(context[len(opening) :]), lines(new)) for context, new in teacher.stretches(WORDS, PROBLEM, 2, halfway)
    ]
    assert told == [("", FIRST + "answer 7 + 5 = 12\nno b1"), (FIRST, LAST + "yes")]
    (only,) = teacher.stretches(WORDS, PROBLEM, 2, GIVEN_UP)
    assert only == (opening, TASK.encode(OFF) + TASK.encode("no stop"))


def test_a_right_answer_earns_less_the_longer_it_took_and_a_false_yes_costs():
    assert teacher.reward(True, True, 0.0) == 1.0
    assert teacher.reward(True, True, 1.0) == pytest.approx(0.9)
    assert teacher.reward(False, False, 0.3) == 0.0
    assert teacher.reward(True, False, 0.3) == -1.0


def test_words_weigh_by_how_much_better_their_stream_is_than_its_group():
    policy = Group([RIGHT, FALSE_YES, GIVEN_UP])
    at = replace(acting(), policy=policy, config=ActorConfig(group=3, tokens=50, rows_per_problem=64))
    made = teacher.act(at)
    earned = np.array([1 - 0.1 * RIGHT.tokens / 100, -1.0, 0.0])
    gains = earned - earned.mean()
    wanted = {
        lines(context + new): gain
        for stream, gain in zip(policy.made, gains, strict=True)
        for context, new in teacher.stretches(WORDS, PROBLEM, policy.efforts[0], stream)
    }
    found = {
        lines([t for t in row if t]): {round(float(weight), 4) for weight in w[w != 0]}
        for row, w in zip(made.rows.tokens.tolist(), made.rows.weight, strict=True)
    }
    assert found == {text: {round(float(gain), 4)} for text, gain in wanted.items()}
    assert (made.solved, made.problems, len(set(policy.efforts))) == (1, 1, 1)
    assert made.generated_tokens == sum(stream.tokens for stream in policy.made)
    assert policy.rules is not None
    assert policy.rules.threshold is None  # verdicts are sampled, so that they can be taught
    (trace,) = made.traces
    assert (trace.rule, trace.solved, trace.generated_tokens) == ("stream_grpo", True, made.generated_tokens)


def test_a_group_whose_streams_earn_the_same_teaches_nothing():
    at = replace(acting(), policy=Group([RIGHT] * 4), config=ActorConfig(group=4, tokens=50))
    assert len(teacher.act(at).rows) == 0


@pytest.mark.parametrize("name", ["chain", "blocksworld"])
def test_streams_whose_contexts_do_not_keep_their_steps_are_refused_before_the_run(name):
    config = SelfplayConfig(task={"name": name}, actor=ActorConfig(discount=0.9))
    config.selfplay.phases = [Phase("stream_grpo", iterations=1)]
    with pytest.raises(ConfigError, match=f"streams of task {name} do not: use stream"):
        check_task(config, make_task(name, streams=True))


@pytest.mark.slow
def test_a_run_on_whole_streams_goes_through_the_loop(tmp_path):
    phases = "selfplay.phases=[{teacher:hindsight,iterations:1,steps:1},{teacher:stream_grpo,iterations:2,steps:4}]"
    settings = (
        "+task.streams=true",
        "actor.problems=4",
        "actor.group=2",
        "actor.tokens=20",
        "evaluation.calibration=20",
    )
    run(f"run_dir={tmp_path / 'run'}", phases, "learner.rows=8", *settings)
    traces = [t for shard in (tmp_path / "run" / "traces").glob("*traces.parquet") for t in read_shard(shard)]
    assert {trace.rule for trace in traces} == {"stream_grpo"}

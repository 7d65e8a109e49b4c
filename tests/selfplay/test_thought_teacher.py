"""The teacher `think` by hand: of a stream, what stood at its end is taught, and only where the judge takes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.local_policy import LocalPolicy
from models.steps.stream_types import Stream
from selfplay.cli import check_task
from selfplay.config import ActorConfig, ConfigError, SelfplayConfig, check_config
from selfplay.run.traces import read_shard
from selfplay.schedule import Phase
from selfplay.teach.streams import thought as teacher
from solve.types import SolveError
from tasks import make_task
from tests.selfplay.test_stream_teacher import FIRST, LAST, MISS, OFF, PROBLEM, TASK, WORDS, acting, written
from tests.selfplay.tiny import run

MENDED = written(OFF, MISS, "no b0", FIRST, LAST, "yes")
AT_ONCE = written(FIRST, LAST, "yes")
FALSE_YES = written(OFF, MISS, "yes")
GIVEN_UP = written(OFF, "no stop", end="stop")
CUT = written(FIRST, LAST, end="tokens")


class Thinks(LocalPolicy):
    """Streams that are known beforehand."""

    def __init__(self, made: list[Stream]):
        super().__init__(None, version="none")
        self.made = made

    def codec(self, task):
        return WORDS.codec

    def streams(self, task, problems, effort, rules=None, *, seed=0, first=None, planted=None, on_prefill=None):
        self.asked = effort, rules
        return self.made


def taught(*made: Stream, **settings):
    """What a round of these streams comes to."""
    config = ActorConfig(**{"losing_rows": 0, **settings})
    return teacher.act(replace(acting(), policy=Thinks(list(made)), problems=[PROBLEM] * len(made), config=config))


def lessons(*made: Stream, **settings) -> list[tuple[str, str]]:
    """(what stands in a row, what of it is taught), in words."""
    rows = taught(*made, **settings).rows
    lines = zip(rows.tokens, rows.weight, strict=True)
    return [
        (TASK.decode(tokens[tokens > 0].tolist()), TASK.decode(tokens[weight > 0].tolist())) for tokens, weight in lines
    ]


def test_what_stood_at_the_end_of_a_right_stream_is_taught_as_a_first_try():
    prompt = TASK.context(PROBLEM, ())
    once = [(f"<bos> {prompt}{FIRST}{LAST}", FIRST + LAST)]
    assert lessons(MENDED) == lessons(AT_ONCE) == lessons(CUT) == once  # a limit may end what stands already


@pytest.mark.parametrize("wrong", [FALSE_YES, GIVEN_UP], ids=["false yes", "given up"])
def test_what_the_judge_does_not_take_teaches_no_step(wrong):
    assert lessons(wrong) == []
    values = taught(wrong, losing_rows=4).rows
    assert not values.weight.any()
    assert set(values.value[~np.isnan(values.value)].tolist()) <= {0.0}


def test_few_problems_that_a_first_try_solves_are_taught_where_few_are_wanted():
    assert lessons(AT_ONCE, known_share=0.0) == []
    assert len(lessons(MENDED, known_share=0.0)) == 1
    assert len(lessons(*[AT_ONCE] * 200, known_share=0.25)) == pytest.approx(50, abs=20)


def test_all_that_was_written_is_paid_and_kept_in_the_trace():
    made = taught(MENDED, FALSE_YES, GIVEN_UP)
    assert made.generated_tokens == sum(stream.tokens for stream in (MENDED, FALSE_YES, GIVEN_UP))
    assert (made.problems, made.solved) == (3, 1)
    assert [trace.solved for trace in made.traces] == [True, False, False]
    assert made.traces[0].kinds == ("propose", "answer", "undo", "propose", "answer", "check")
    assert [trace.generated_tokens for trace in made.traces] == [s.tokens for s in (MENDED, FALSE_YES, GIVEN_UP)]


def test_effort_and_temperature_are_those_that_were_set():
    policy = Thinks([AT_ONCE])
    config = ActorConfig(effort="low", temperature=0.3, tokens=77)
    teacher.act(replace(acting(), policy=policy, config=config))
    effort, rules = policy.asked
    assert (effort, rules.temperature, rules.tokens, rules.threshold) == (2, 0.3, 77, TASK.stream.threshold)


def test_who_cannot_think_is_refused_in_one_line_before_the_run():
    config = SelfplayConfig(task=None)
    config.selfplay.phases = [Phase("think", iterations=1)]
    with pytest.raises(ConfigError, match="chains of task jugs cannot be thought about; use task=sums"):
        check_task(config, make_task("jugs"))
    config.actor.effort = "none"
    with pytest.raises(ConfigError, match=r"actor\.effort='none' is unknown: use one of minimal, low"):
        check_config(config)
    plain = make_task("countdown")
    with pytest.raises(SolveError, match=r"teacher think: .* writes no streams of task countdown; use search or star"):
        teacher.act(replace(acting(), task=plain))


def test_a_run_of_it_goes_through_the_loop(tmp_path):
    root = tmp_path / "run"
    phases = "selfplay.phases=[{teacher: random, iterations: 1, steps: 2}, {teacher: think, iterations: 2, steps: 2}]"
    run("+task.streams=true", f"run_dir={root}", "actor.problems=8", "actor.effort=low", phases)
    shards = sorted((root / "traces").glob("*.traces.parquet"))
    traces = [trace for shard in shards for trace in read_shard(shard)]
    assert len(traces) == 16
    assert {trace.rule for trace in traces} == {"think"}

"""The teacher `stream` by hand: what is known of a state, and what is taught where a stream stands."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.abilities import Step
from models.local_policy import LocalPolicy
from models.policy import open_policy
from models.steps.stream_types import Stream, Thought
from models.steps.stream_words import StreamWords
from selfplay.cli import check_task
from selfplay.config import ActorConfig, ConfigError, SelfplayConfig
from selfplay.run.traces import read_shard
from selfplay.schedule import Phase
from selfplay.teach.actor import Acting, Origin
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.streams import stream as teacher
from selfplay.teach.streams.evidence import Evidence, key_of
from solve.calibrate.thresholds import THRESHOLDS
from tasks import make_task
from tasks.base import Problem
from tasks.judging.scorers import Replay
from tasks.numbers.countdown import Countdown
from tasks.registry import streamed
from tasks.streams import EFFORTS
from tests.selfplay.tiny import run

TASK = streamed(Countdown(number_max=9, target_max=50))
WORDS = StreamWords.of(TASK)
PROBLEM = Problem("countdown:2,3,7=35", "countdown", ((2, 3, 7), 35))
FIRST, LAST = "3 + 2 = 5 | 7 5\n", "answer 7 * 5 = 35\n"  # the way to 35
OFF, MISS, FALSE = "3 * 2 = 6 | 7 6\n", "answer 7 * 6 = 42\n", "3 + 2 = 6 | 7 6\n"


def step(text: str) -> Step:
    return Step(text, tuple(TASK.encode(text)))


def key(*numbers: int) -> bytes:
    return key_of(TASK, PROBLEM, numbers, ())


def searched(dead_share: float = 0.6, mass: float = 0.7) -> Evidence:
    """What a search knows that found the way, and tried one answer, of probability `mass`, where 7 and 6 are left."""
    known = Evidence(dead_share)
    known.add(key(2, 3, 7), step(FIRST), key(7, 5), mass=0.3)
    known.add(key(7, 5), step(LAST), None, solved=True, mass=0.9)
    known.add(key(2, 3, 7), step(OFF), key(7, 6), mass=0.4)
    known.add(key(7, 6), step(MISS), None, mass=mass)
    return known


def written(*lines: str, end: str = "yes") -> Stream:
    """A stream of these lines; a line such as "no b1" goes back."""
    thoughts, path = [], []
    for line in lines:
        kind, text = TASK.stream.kind(line), line if line.endswith("\n") else f"{line}\n"
        back = TASK.stream.depth(text) if kind == "undo" else None
        thoughts.append(Thought(kind, text, tuple(TASK.encode(line)), len(path), back))
        path = path[:back] if kind == "undo" and back is not None else [*path, step(text)] if kind != "check" else path
    return Stream(tuple(thoughts), tuple(path), end)  # ty: ignore[invalid-argument-type]


def acting() -> Acting:
    policy = LocalPolicy(None, version="none")
    builder = RowBuilder(TASK, WORDS.codec)
    rng = np.random.default_rng(0)
    return Acting(policy, TASK, [PROBLEM], ActorConfig(), Replay(TASK), builder, rng, Origin(0, 1, ""), False)


def taught(stream: Stream, known: Evidence) -> list[tuple[str, str]]:
    """(context, lesson) at every boundary, in words."""
    made, at = [], acting()
    for boundary in teacher.replayed(at, PROBLEM, stream, known):
        lesson = teacher.lesson(TASK, WORDS, boundary, known, at.rng)
        context = "".join(s.text for s in boundary.path)
        made.append((context, TASK.decode([token for token, _ in lesson])))
    return made


def test_alive_is_what_was_solved_below_and_dead_what_was_tried_in_vain():
    known = searched()
    assert [known.label(key(*s)) for s in ((2, 3, 7), (5, 7), (7, 6), (1, 1))] == ["alive", "alive", "dead", None]
    assert searched(mass=0.5).label(key(7, 6)) is None
    assert [way.step.text for way in known.winning(key(2, 3, 7))] == [FIRST]
    assert known.tried_share(key(2, 3, 7)) == pytest.approx(0.3 * 0.9 + 0.4 * 0.7)


def test_a_way_round_is_no_proof_of_anything():
    known = Evidence(0.6)
    known.add(b"a", Step("x"), b"b", mass=1.0)
    known.add(b"b", Step("y"), b"a", mass=1.0)
    assert known.label(b"a") is known.label(b"b") is None
    known.add(b"b", Step("z"), None, solved=True)
    assert [known.label(state) for state in (b"a", b"b")] == ["alive", "alive"]
    assert [way.step.text for way in known.winning(b"b")] == ["z"]


def test_a_stream_is_put_right_at_every_boundary():
    assert taught(written(OFF, MISS, "no b0", FIRST, LAST, "yes"), searched()) == [
        ("", FIRST + LAST + "yes"),
        (OFF, "no b0"),
        (OFF + MISS, "no b0"),
        ("", FIRST + LAST + "yes"),
        (FIRST, LAST + "yes"),
        (FIRST + LAST, "yes"),
    ]


def test_it_goes_back_to_the_deepest_state_with_another_way():
    known = searched()
    wrong = "answer 7 + 5 = 12\n"
    assert taught(written(FIRST, wrong, "no b1"), known)[2:] == [(FIRST + wrong, "no b1"), (FIRST, LAST + "yes")]
    false = "answer 7 * 5 = 36\n"
    assert taught(written(FIRST, false), known)[-1] == (FIRST + false, "no b1")
    assert taught(written(FALSE), known)[-1] == (FALSE, "no b0")
    assert taught(written(FALSE, MISS, "no b1"), known)[-1] == (FALSE, "no b0")


def test_nothing_is_taught_where_nothing_is_known():
    unknown = searched(mass=0.1)
    assert taught(written(OFF, MISS), unknown)[1:] == [(OFF, ""), (OFF + MISS, "")]
    hopeless = Evidence(0.6)
    hopeless.add(key(2, 3, 7), step(OFF), key(7, 6), mass=0.9)
    hopeless.add(key(7, 6), step(MISS), None, mass=0.9)
    assert taught(written(OFF, MISS), hopeless) == [("", "no stop"), (OFF, "no stop"), (OFF + MISS, "no stop")]


def test_what_a_stream_finds_itself_counts_and_what_it_tried_is_not_advised_again():
    alone = Evidence(0.6)
    made = taught(written(FIRST, LAST, "yes"), alone)
    assert made == [("", ""), (FIRST, ""), (FIRST + LAST, "yes")]  # as its lines came in
    assert alone.label(key(2, 3, 7)) == "alive"
    assert taught(written(FIRST, "no b0"), alone)[-1] == ("", "")


def test_choices_weigh_nothing_and_what_follows_from_true_ones_does():
    known, at = searched(), acting()
    for boundary in teacher.replayed(at, PROBLEM, written(OFF, MISS), known):
        teacher.teach(at, WORDS, PROBLEM, 2, boundary, known)
    rows = at.builder.rows()
    words = [[TASK.vocabulary[t] for t in row] for row in rows.tokens.tolist()]
    assert [row[1:6] for row in words] == [["2", "3", "7", "e2", "35"]] * 3
    weights = [[w for w in row if w] for row in rows.weight.tolist()]
    first_and_last = len(TASK.encode(FIRST + LAST))
    assert weights[0] == [1.0] * first_and_last + [2.0]
    assert weights[1] == [1.0] * 5 + [2.0, 2.0]  # 6 | 7 6, the end of the line; no b0
    assert weights[2] == [4.0, 4.0, 2.0, 2.0]  # 42, the end of the line; no b0
    assert np.isnan(rows.value).all()
    illegal = acting()
    *_, last = teacher.replayed(illegal, PROBLEM, written(FALSE), known)
    teacher.teach(illegal, WORDS, PROBLEM, 1, last, known)
    assert [w for w in illegal.builder.rows().weight[0] if w] == [2.0, 2.0]


def test_checks_are_passed_over_and_a_finished_chain_of_checked_steps_is_only_ever_accepted():
    task = make_task("chain", streams=True)
    problem = task.parse_problem("47 + 38 * 3")
    steps = ["a + 3 8 = 0 8 6\n", "a + 3 8 = 0 8 5\n", "b * 0 3 = 2 5 5\n"]
    lines = [steps[0], "check 5 8 0\n", "no b0\n", steps[1], "check 5 8 0 yes\n", steps[2], "yes\n"]
    kinds = ("propose", "check", "undo", "propose", "check", "propose", "check")
    thoughts = tuple(
        Thought(kind, line, tuple(task.encode(line)), 0, 0 if kind == "undo" else None)
        for kind, line in zip(kinds, lines, strict=True)
    )
    words, known = StreamWords.of(task), Evidence(0.6)
    at = Acting(
        LocalPolicy(None, version="none"), task, [problem], ActorConfig(), Replay(task), RowBuilder(task, words.codec),
        np.random.default_rng(0), Origin(0, 1, ""), False,
    )  # fmt: skip
    lessons = {}
    for boundary in teacher.replayed(at, problem, Stream(thoughts, (), "yes"), known):
        taught = teacher.lesson(task, words, boundary, known, at.rng)
        lessons["".join(s.text for s in boundary.path)] = task.decode([token for token, _ in taught])
    assert lessons == {"": "", steps[0]: "", steps[1]: "", steps[1] + steps[2]: "yes"}


def test_a_net_without_words_for_streams_is_refused_before_the_run():
    config = SelfplayConfig(task={"name": "countdown"})
    config.selfplay.phases = [Phase("stream", iterations=1)]
    with pytest.raises(ConfigError, match=r"add \+task.streams=true"):
        check_task(config, Countdown())


@pytest.mark.parametrize(("phase", "fill"), [("checks", "hindsight"), ("search", "checks")])
def test_checks_of_a_task_without_any_are_refused_before_the_run(phase, fill):
    config = SelfplayConfig(task={"name": "sums"})
    config.selfplay.phases = [Phase(phase, iterations=1)]
    config.learner.fill = fill
    with pytest.raises(ConfigError, match="has no checks to teach: use experiment=chain_stream"):
        check_task(config, make_task("sums", streams=True))


@pytest.mark.slow
def test_a_run_with_streams_goes_through_the_loop_and_says_so_in_its_checkpoint(tmp_path):
    phases = "selfplay.phases=[{teacher:hindsight,iterations:1,steps:2},{teacher:stream,iterations:2,steps:2}]"
    settings = ("+task.streams=true", "actor.strategy=unique_merged", "actor.mine=false", "evaluation.calibration=20")
    run(f"run_dir={tmp_path / 'run'}", phases, *settings)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["thinking"]) >= set(EFFORTS)
    opened = open_policy(str(tmp_path / "run"))
    assert opened.task_options["streams"] is True
    assert opened.calibration.verdict_threshold in THRESHOLDS
    traces = [t for shard in sorted((tmp_path / "run" / "traces").glob("*traces.parquet")) for t in read_shard(shard)]
    assert {trace.rule for trace in traces} == {"stream"}
    assert all(len(trace.kinds) == len(trace.steps) for trace in traces)


def test_a_run_with_checks_goes_through_the_loop(tmp_path):
    phases = "selfplay.phases=[{teacher:random,iterations:1,steps:2},{teacher:stream,iterations:1,steps:2}]"
    run(f"run_dir={tmp_path / 'run'}", phases, "learner.rows=8", "evaluation.calibration=20", experiment="chain_stream")
    (shard,) = (tmp_path / "run" / "traces").glob("*traces.parquet")
    assert {trace.rule for trace in read_shard(shard)} == {"stream"}
    model = open_policy(str(tmp_path / "run")).policy.model
    task = make_task("chain", streams=True)
    check = len(task.encode("check 0 0 0 no b9"))
    assert model.trunk.config.max_position_embeddings >= task.max_context_tokens + task.max_step_tokens + check


def test_of_many_boundaries_the_right_ones_are_kept_and_the_others_drawn():
    right = list(teacher.replayed(acting(), PROBLEM, written(OFF, MISS, "no b0", FIRST, LAST), searched()))
    assert [b.status for b in right] == ["open", "open", "wrong", "open", "open", "right"]
    rng = np.random.default_rng(0)
    drawn = [teacher.kept(right, 2, rng) for _ in range(40)]
    assert all(len(some) == 2 and some[-1] is right[-1] for some in drawn)
    assert {id(some[0]) for some in drawn} == {id(b) for b in right[:-1]}
    assert teacher.kept(right, 6, rng) == right

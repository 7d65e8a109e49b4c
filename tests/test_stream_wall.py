"""The leak wall around streams: no verifier is asked while they are written, and no solver where they are put right."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.local_policy import LocalPolicy
from models.steps.stream_types import Rules
from selfplay.config import ActorConfig
from selfplay.teach.actor import act
from selfplay.team import Team
from tasks.base import NEWLINE, NEWLINE_ID
from tasks.numbers.countdown import Countdown
from tasks.registry import streamed
from tests.test_leak_wall import LabelAskedError, LegalPlayer


class StreamPlayer(LegalPlayer):
    """Writes every legal step with the same chance, and gives up half of the answers."""

    def __init__(self, task):
        super().__init__(task)
        self.yes, self.no, self.b0 = (task.token_ids[word] for word in ("yes", "no", "b0"))

    def _following(self, line: str, begun: list[int]) -> set[int]:
        if begun == [self.no]:
            return {self.b0}
        if line.startswith("answer"):
            return {self.yes if sum(map(ord, line)) % 2 else self.no}
        return super()._following(re.sub(r"\be[1-4] ", "= ", line), begun)


@pytest.fixture
def locked(monkeypatch):
    """A task with streams, its problems listed, a player of it, and every way to an exact label barred."""
    task = streamed(Countdown(number_max=6, target_max=30))
    player = StreamPlayer(task)
    task.practice(9, np.random.default_rng(0))

    def refuse(*_arguments):
        raise LabelAskedError

    for label in ("solvable", "distance", "legal_steps"):
        monkeypatch.setattr(Countdown, label, refuse)
    for solver in ("countdown.reachable", "countdown_space.reachable", "countdown_space._reach_table"):
        monkeypatch.setattr(f"tasks.numbers.{solver}", refuse)
    return task, player


def test_the_teacher_asks_for_no_label(locked):
    task, player = locked
    config = ActorConfig(problems=12, tokens=300, mine=False, strategy="unique_merged", dead_share=0.3)
    policy = LocalPolicy(None, version="none", forward=player)
    experience = act(policy, task, "stream", config, Team(), seed=0, iteration=1)
    lines = [task.decode(row[: np.flatnonzero(row)[-1] + 1].tolist()) for row in experience.rows.tokens]
    for lesson in ("yes", "no b0"):
        assert any(line.endswith(lesson) for line in lines)
    assert experience.generated_tokens == sum(trace.generated_tokens for trace in experience.traces)
    kinds = {kind for trace in experience.traces for kind in trace.kinds}
    assert kinds == {"propose", "answer", "check", "undo"}
    assert all(re.search(r" e[1-4] ", trace.prompt.split(NEWLINE)[0]) for trace in experience.traces)


def test_a_stream_is_written_without_the_verifier(locked, monkeypatch):
    task, player = locked
    problems = task.problems("train", 10)

    def refuse(*_arguments):
        raise LabelAskedError

    for judge in ("advance", "verdict", "_judge", "token_judge", "state_key", "initial_state"):
        monkeypatch.setattr(Countdown, judge, refuse)
    with pytest.raises(LabelAskedError):
        task.verdict(problems[0], ())
    made = LocalPolicy(None, forward=player).streams(task, problems, 3, Rules(temperature=1.0, threshold=0.4))
    assert sum(stream.undos for stream in made) > 0
    assert {stream.end for stream in made} <= {"yes", "no", "exhausted"}
    assert all(thought.tokens[-1] == NEWLINE_ID for s in made for thought in s.thoughts if thought.kind == "answer")

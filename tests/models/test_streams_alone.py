"""Streams whose context shows the present state alone write what a slow decoder writes, and go nowhere twice."""

from __future__ import annotations

import pytest

from models.abilities import Step
from models.steps.stream_types import Planted, Rules
from tests.models.stream_fakes import Written, decoded
from tests.models.walk_fakes import PLACES, slow_walk

THRESHOLD = 0.5


@pytest.mark.parametrize("back", ["net", "root", "last"])
def test_greedy_streams_are_those_of_the_slow_decoder(back):
    problems, forward, ends, undos = PLACES.problems("train", 12), Written(task=PLACES), set(), 0
    for effort, distinct, early in ((1, True, True), (3, True, True), (2, False, True), (2, True, False)):
        rules = Rules(threshold=THRESHOLD, distinct=distinct, back=back, early=early, doubted=0.0)
        for problem, stream in zip(problems, decoded(forward, problems, effort, rules), strict=True):
            lines, end = slow_walk(forward, problem, effort, rules)
            assert ([thought.text for thought in stream.thoughts], stream.end) == (lines, end)
            ends.add(stream.end)
            undos = max(undos, stream.undos)
    assert len(ends) > 2
    assert undos > 1


def test_no_state_stands_twice_in_a_path_while_an_undo_is_left():
    problems, forward = PLACES.problems("train", 40), Written(task=PLACES)
    refused = 0
    for problem, stream in zip(problems, decoded(forward, problems, 3, Rules(threshold=0.9)), strict=True):
        path, undos = [PLACES.context(problem, ())], 0
        for thought, after in zip(stream.thoughts, (*stream.thoughts[1:], None), strict=True):
            if thought.back is not None:
                del path[thought.back + 1 :]
                undos += 1
            elif thought.kind == "propose" and thought.text.endswith("\n"):
                context = PLACES.context(problem, [thought.text])
                if context in path and undos < 7:
                    assert after is not None
                    assert after.kind == "undo"
                    refused += 1
                path.append(context)
    assert refused > 5


def test_with_one_try_a_verdict_ends_the_stream_and_with_no_undo_left_it_goes_on():
    problems, forward = PLACES.problems("train", 40), Written(task=PLACES)
    once = decoded(forward, problems, 1, Rules(threshold=0.4, undos=0, doubted=0.0))
    again = decoded(forward, problems, 1, Rules(threshold=0.4, undos=1, doubted=0.0))
    early = [stream for stream in once if stream.end == "no" and len(stream.chain) < PLACES.max_steps]
    assert early
    spent = [stream for stream in again if stream.undos == 1]
    assert spent
    assert all(len(stream.chain) == PLACES.max_steps for stream in spent if stream.end == "no")


def test_a_planted_step_counts_as_tried_and_the_stream_stands_behind_it():
    problems, forward = PLACES.problems("train", 12), Written(task=PLACES)
    steps = [Step("a b\n", tuple(PLACES.encode("a b\n")))] * len(problems)
    made = decoded(forward, problems, 3, Rules(threshold=0.9), planted=[Planted((step,)) for step in steps])
    assert any(stream.thoughts[0].depth == 1 for stream in made)
    for stream in made:
        roots = [thought.text for thought in stream.thoughts if thought.depth == 0 and thought.kind == "propose"]
        assert "a b\n" not in roots
        assert len(set(roots)) == len(roots)

"""What is planted into streams is what its name says; verdicts and repeats are counted as a person would count them."""

from __future__ import annotations

import numpy as np
import pytest

from bench import command
from bench.reflect import run as reflect
from bench.reflect.planted import (
    BACK,
    DEAD,
    FIRST,
    FLIPPED,
    LAST,
    RIGHT,
    WHOLE,
    of_its_own,
    planted,
    slipped,
    verdicts,
    with_result,
)  # fmt: skip
from bench.reflect.rules import OFF, repeats, switched_off
from models.abilities import Rollout, Step
from models.local_policy import LocalPolicy
from models.policy import open_policy
from models.steps.stream_types import Rules, Stream, Thought
from tasks import make_task
from tasks.registry import streamed
from tests.models.stream_fakes import LETTERS, Written

TASK = streamed(make_task(**open_policy("countdown3").task_options))


def text(*lines: str | tuple[str, int]) -> Stream:
    """A stream of these lines; (line, depth) goes back."""
    form = TASK.stream
    thoughts = [
        Thought(form.kind(line), line, (), 0) if isinstance(line, str) else Thought("undo", line[0], (), 0, line[1])
        for line in lines
    ]
    return Stream(tuple(thoughts), (), "yes")


class Player:
    """Plays legal steps at random, to the end."""

    def chains(self, task, problems, *, temperature, seed):
        rng = np.random.default_rng(seed)
        for problem in problems:
            steps, state = [], task.initial_state(problem)
            while state is not None:
                steps.append(str(rng.choice(task.legal_steps(problem, state))))
                _, state = task.advance(problem, state, steps[-1])
            made = tuple(steps)
            yield [Rollout(made, task.verdict(problem, made), 9, 0.0, 0.0, (), (), 0.0, (None,) * len(made))]


def test_what_is_planted_is_what_its_name_says():
    problems = TASK.problems("train", 150)
    found = planted(TASK, problems, Player(), seed=3)  # ty: ignore[invalid-argument-type]
    assert all(len(some) > 2 for some in found.values())

    def judged(kind: str):
        for problem, plant in found[kind]:
            steps = [step.text for step in plant.steps]
            assert all(TASK.encode(step.text) == list(step.tokens) for step in plant.steps)
            yield problem, plant, TASK.verdict(problem, steps)

    assert all(verdict.reward == 1 and plant.tried is None for _, plant, verdict in judged(RIGHT))
    assert all(verdict.legal and verdict.terminal and not verdict.reward for _, _, verdict in judged(WHOLE))
    assert all(not plant.steps and plant.tried is not None for _, plant, _ in judged(FLIPPED))
    for kind, shown in ((FIRST, 1), (LAST, 2)):
        for problem, plant, verdict in judged(kind):
            assert len(plant.steps) == shown
            assert not verdict.legal
            assert kind == FIRST or plant.steps[-1].text.split()[-1] == TASK.prompt(problem).split()[-1]
    for kind in (DEAD, BACK):
        for problem, plant, verdict in judged(kind):
            (step,) = plant.steps
            _, state = TASK.advance(problem, TASK.initial_state(problem), step.text)
            assert not verdict.terminal
            assert not TASK.solvable(problem, state)
            assert (plant.tried is not None) == (kind == BACK)


@pytest.mark.parametrize(
    ("step", "result", "made"),
    [
        ("3 + 3 = 6 | 6 6\n", "8", "3 + 3 = 8 | 6 8\n"),
        ("8 - 5 = 3 | 6 3\n", "2", "8 - 5 = 2 | 6 2\n"),
        ("answer 7 * 6 = 42\n", "41", "answer 7 * 6 = 41\n"),
    ],
)
def test_another_result_is_carried_on(step, result, made):
    assert with_result(step, result) == made


def test_a_slip_is_false_and_written_in_the_words_of_the_task():
    problem = TASK.parse_problem("3 7 12 = 15")
    for seed in range(20):
        slip = slipped(TASK, "12 - 7 = 5 | 3 5\n", np.random.default_rng(seed))
        assert not TASK.advance(problem, TASK.initial_state(problem), slip)[0].legal
        TASK.encode(slip)


def test_verdicts_of_a_stream_are_counted_at_each_step():
    problem = TASK.parse_problem("3 7 12 = 15")
    made = text(
        "7 + 3 = 10 | 12 10\n", ("no b0\n", 0),  # lost, and given up
        "12 - 7 = 5 | 3 5\n", "answer 5 + 3 = 8\n", ("no b1\n", 1),  # alive, not given up; wrong, refused
        "answer 3 * 5 = 16\n", ("no b1\n", 1),  # illegal, refused
        "answer 3 * 5 = 15\n", "yes\n",
    )  # fmt: skip
    made = Stream(made.thoughts, (Step("12 - 7 = 5 | 3 5\n"), Step("answer 3 * 5 = 15\n")), "yes")
    assert of_its_own(TASK, [problem], [made]) == {
        "finished wrong chains refused": (1, 1),
        "finished right chains refused": (0, 1),
        "illegal steps refused at once": (1, 1),
        "lost states given up at once": (1, 1),
        "states that can be won given up": (0, 1),
        "`yes` that is false": (0, 1),
        "recovered after its first failure": (1, 1),
    }
    assert repeats(made) == (0, 4)
    again = text("7 + 3 = 10 | 12 10\n", ("no b0\n", 0), "7 + 3 = 10 | 12 10\n", "answer 12 + 10 = 22\n")
    assert repeats(again) == (1, 2)


def test_rules_are_switched_off_one_by_one(capsys):
    policy, problems = LocalPolicy(None, forward=Written()), LETTERS.problems("train", 30)
    found = switched_off(policy, LETTERS, problems, Rules(threshold=0.15), seed=1)["rows"]
    assert [row["rule"] for row in found] == list(OFF)
    assert found[0]["repeats"] == found[0]["difference"] == 0.0 < found[1]["repeats"]
    assert capsys.readouterr().out.count("\n") == len(OFF) + 2


def test_efforts_are_drawn_beside_their_controls(tmp_path):
    rows = [{"effort": name, "solved": 0.5, "low": 0.4, "high": 0.6, "tokens": 20.0 + k,
             **({"distinct chains": {"tokens": 22.0, "solved": 0.4}, "distinct restarts": {"tokens": 21.0, "solved": 0.4}}
                if k else {})} for k, name in enumerate(("none", "minimal"))]  # fmt: skip
    reflect.picture(
        {"rows": rows, "curves": {"restarts": [(20.0, 0.3), (60.0, 0.9)]}}, tmp_path / "new" / "reflect.png"
    )
    assert (tmp_path / "new" / "reflect.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_measured_says_so():
    policy = LocalPolicy(None, forward=Written())
    with pytest.raises(command.UsageError, match="use part=checks"):
        verdicts(policy, streamed(make_task("chain")), [], Rules(), policy, 1)
    with pytest.raises(command.UsageError, match="part=all: use one of efforts, labels"):
        reflect.main(policy="countdown3", part="all")

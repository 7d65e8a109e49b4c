"""What a run says of a net that thinks: every effort and its controls on the same problems, whoever shares them."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from models.local_policy import LocalPolicy
from models.policy import open_policy
from models.steps.stream_types import Rules
from selfplay.measure.thinking import (
    JUDGED,
    RESTARTS,
    hidden_chains,
    played,
    solved,
    thinking,
    thinking_curve,
    thinking_table,
)
from selfplay.parts import taught_words
from selfplay.team import Team
from tasks import make_task
from tasks.streams import EFFORTS

TASK = make_task(**{**open_policy("countdown3").task_options, "streams": True})
RULES = Rules(threshold=0.0, early=False)  # of words that were never taught: accepts whatever ends


@pytest.fixture(scope="module")
def policy() -> LocalPolicy:
    model = taught_words(open_policy("countdown3", trainable=True).policy.model, TASK, 0)
    return LocalPolicy(model, token_ids=TASK.token_ids)


def test_efforts_and_controls_are_of_the_same_problems(policy):
    problems = TASK.problems("dev", 30)
    found = thinking(policy, TASK, problems, Team(), RULES, seed=1)
    assert list(found) == [*EFFORTS, RESTARTS, JUDGED]
    for effort, name in enumerate(EFFORTS):
        made = policy.streams(TASK, problems, effort, RULES, seed=1)
        assert found[name]["solved"] == solved(TASK, problems, made).mean()
        assert found[name]["tokens"] == np.mean([stream.tokens for stream in made])
    assert (
        min(found[name]["tokens"] for name in (RESTARTS, JUDGED)) >= found["high"]["tokens"]
        or found[JUDGED]["solved"] == 1
    )
    assert found["none"]["solved"] > 0.5


def test_problems_can_be_shared_among_workers(policy):
    problems = TASK.problems("dev", 9)
    whole = played(policy, TASK, problems, RULES, 1)
    parts = [played(policy, TASK, problems[rank::2], RULES, 1) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        for mine, same in zip(part, whole[rank::2], strict=True):
            assert [np.array(a).tolist() for pair in mine for a in pair] == [
                np.array(a).tolist() for pair in same for a in pair
            ]


def plain(rows: list) -> list:
    return [[np.array(part).tolist() for pair in row for part in pair] for row in rows]


def test_a_person_sees_efforts_controls_and_hidden_chains(policy, tmp_path):
    console = Console(width=120)
    rows = {name: {"solved": 0.5, "tokens": 20.0} for name in (*EFFORTS, RESTARTS, JUDGED)}
    with console.capture() as shown:
        console.print(thinking_table(rows, 100))
    told = shown.get()
    assert (
        told.index("effort none") < told.index("effort high") < told.index("tries by itself") < told.index("true judge")
    )
    assert "40.4 to 59.6" in told
    thinking_curve(rows, 100, tmp_path / "thinking.png", title="letters")
    assert (tmp_path / "thinking.png").read_bytes()[:4] == b"\x89PNG"
    chains = hidden_chains(policy, TASK, TASK.problems("dev", 20), RULES, 1)
    assert len(chains) == 3
    assert all("hidden chain" in chain and "\n  | " in chain for chain in chains)

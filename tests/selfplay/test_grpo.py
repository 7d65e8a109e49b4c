"""Groups of samples: what each step weighs, which rows are kept, and that no row is learned twice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.abilities import Rollout
from models.steps.codec import WordCodec
from selfplay.config import ActorConfig
from selfplay.loop import replayed
from selfplay.measure.display import Display
from selfplay.teach.actor import act
from selfplay.teach.grpo import advantages
from selfplay.team import Team
from tasks import Verdict, make_task
from tasks.base import PAD_ID
from tests.selfplay.tiny import run

SUMS = make_task("sums", terms_max=3)
(ASKED,) = SUMS.problems("train", 1)


def chain(answer: int, values: tuple[float, ...] = (0.5, 0.5)) -> Rollout:
    """A line, then an answer."""
    steps = (f"{ASKED.data[0]} + 1 = {answer}\n", f"answer: {answer}\n")
    tokens = tuple(tuple(SUMS.encode(step)) for step in steps)
    return Rollout(steps, SUMS.verdict(ASKED, steps), 9, -1.0, -0.5, ((0,),) * len(values), values, 0.0, tokens)


RIGHT = sum(ASKED.data)


class Sampler:
    """A policy that writes given chains."""

    name = version = "sampler"

    def __init__(self, *answers: int):
        self.answers, self.asked = answers, []

    def codec(self, task):
        return WordCodec(task)

    def chains(self, task, problems, n=1, *, temperature, seed):
        self.asked.append((n, temperature, seed))
        return [[chain(self.answers[k]) for k in range(n)] for _ in problems]


def harvest(*answers: int, **settings):
    config = ActorConfig(problems=1, group=len(answers), mine=False, **settings)
    SUMS.practice = lambda n, rng: [ASKED]  # type: ignore[method-assign]
    try:
        return act(Sampler(*answers), SUMS, "grpo", config, Team(), seed=0, iteration=1)
    finally:
        del SUMS.practice


def test_an_advantage_is_the_reward_less_the_mean_of_its_group():
    found = advantages([chain(RIGHT), chain(RIGHT + 1), chain(RIGHT + 2), chain(RIGHT + 3)], "group")
    assert [part.tolist() for part in found] == [[0.75, 0.75], *[[-0.25, -0.25]] * 3]


def test_step_rewards_are_what_each_step_changed_and_add_up_to_the_surprise():
    right, wrong = advantages([chain(RIGHT, (0.5, 0.75)), chain(RIGHT + 1, (0.5, 0.125))], "steps")
    assert right.tolist() == [0.25, 0.25]
    assert wrong.tolist() == [-0.375, -0.125]
    assert (right.sum(), wrong.sum()) == (1 - 0.5, 0 - 0.5)


def test_every_token_of_a_chain_weighs_its_advantage_and_the_prompt_nothing():
    experience = harvest(RIGHT, RIGHT + 1)
    rows, prompt = experience.rows, 1 + len(SUMS.encode(SUMS.prompt(ASKED)))
    assert len(rows) == 2
    assert not rows.weight[:, :prompt].any()
    for tokens, weight in zip(rows.tokens, rows.weight, strict=True):
        taught = weight[prompt:][tokens[prompt:] != PAD_ID]
        assert set(taught.tolist()) == {0.5 if f"answer: {RIGHT}\n" in SUMS.decode(tokens.tolist()) else -0.5}
    assert (experience.generated_tokens, experience.solved, experience.problems) == (18, 1, 1)


def test_a_group_of_one_mind_teaches_nothing():
    assert len(harvest(RIGHT, RIGHT).rows) == len(harvest(RIGHT + 1, RIGHT + 2).rows) == 0


def test_a_fixed_share_of_a_group_is_kept_whatever_its_signs():
    answers = [RIGHT, *range(RIGHT + 1, RIGHT + 8)]
    assert len(harvest(*answers, rows_per_problem=3).rows) == 3
    assert len(harvest(*answers).rows) == 8


def test_a_chain_that_no_judge_has_seen_is_in_no_group():
    unseen = chain(RIGHT)
    open_ = Rollout(unseen.steps, Verdict(0.0, True, True, "", scored=False), *[getattr(unseen, f) for f in FIELDS])
    policy = Sampler(RIGHT, RIGHT + 1, RIGHT + 1)
    policy.chains = lambda *_, **__: [[open_, chain(RIGHT), chain(RIGHT + 1)]]  # type: ignore[method-assign]

    class Late:
        def score(self, problems, chains):
            return [open_.verdict for _ in problems]

    config = ActorConfig(problems=1, group=3, mine=False)
    rows = act(policy, SUMS, "grpo", config, Team(), seed=0, iteration=1, scorer=Late()).rows
    assert sorted(set(rows.weight[rows.weight != 0].tolist())) == [-0.5, 0.5]


FIELDS = ("tokens", "logprob", "last_logprob", "states", "values", "end_value", "step_tokens")


def test_its_rows_are_never_replayed():
    rows = harvest(RIGHT, RIGHT + 1).rows
    assert len(replayed("grpo", rows)) == 0
    assert len(replayed("star", rows)) == len(rows)


@pytest.mark.parametrize("advantage", ["group", "steps"])
def test_a_run_takes_a_step_for_every_batch_of_new_rows(tmp_path, advantage):
    phases = "selfplay.phases=[{teacher: grpo, iterations: 2, steps: 9}]"
    settings = (f"actor.advantage={advantage}", "actor.group=8", "actor.mine=false")
    run(f"run_dir={tmp_path / 'run'}", phases, "checkpoint=countdown3", "task.number_max=10", *settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][-2:]
    assert [line["teacher"] for line in lines] == ["grpo"] * 2
    assert [line["losses"]["steps"] for line in lines] == [-(-line["new_rows"] // 16) for line in lines]
    assert any(line["new_rows"] for line in lines)
    assert all(np.isfinite(line["losses"]["policy_loss"]) for line in lines if line["new_rows"])


@pytest.mark.parametrize(("losses", "said"), [({"policy_loss": -0.0126}, "loss -0.013"), ({}, "no row to learn from")])
def test_an_iteration_of_groups_that_agree_says_that_it_had_no_row(tmp_path, capsys, losses, said):
    line = {
        "iteration": 3,
        "progress": 0.5,
        "teacher": "grpo",
        "seconds": 9.0,
        "generated_tokens": 40,
        "trained_tokens": 20,
    }
    with Display(tmp_path, plain=True, tensorboard=False) as display:
        display.iteration(line | {"losses": losses | {"steps": len(losses)}})
    assert said in capsys.readouterr().out

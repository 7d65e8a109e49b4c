"""Free text of a real language model goes through a whole iteration of self-play and onto the disk without losing a word."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from models.abilities import Rollout
from models.local_policy import LocalPolicy
from models.steps.codec import QUESTION
from selfplay.loop import started
from selfplay.run.traces import read_rows
from selfplay.teach.actor import act
from selfplay.teach.mixing import Mixture
from selfplay.team import Team
from tasks.base import NEWLINE, UNK_ID, Problem, Task
from tests.selfplay.tiny import composed

STORIES = Path(__file__).parents[1] / "data" / "stories.jsonl"
SETTINGS = (
    "model=smollm2",
    f"task.path={STORIES}",
    "task.train_fraction=0.7",
    "task.dev_fraction=0.15",
    "task.max_steps=4",
    "task.max_step_words=16",
    "selfplay.phases=[{teacher: star, iterations: 1, steps: 1}]",
    "actor.problems=14",
    "actor.tokens=130",  # 3 or 4 chains of a problem
    "actor.mine=false",
    "actor.losing_rows=1000",
    "learner.rows=8",
    "evaluation.dev=1",
    "evaluation.samples=1",
)


class Recorder(LocalPolicy):
    """A policy that keeps what it sampled."""

    def __init__(self, model):
        super().__init__(model, version="recorded")
        self.written: list[tuple[Problem, Rollout]] = []

    def chains(self, task: Task, problems, n: int = 1, **settings) -> list[list[Rollout]]:
        drawn = super().chains(task, problems, n, **settings)
        self.written += [(problem, chain) for problem, part in zip(problems, drawn, strict=True) for chain in part]
        return drawn


@pytest.mark.slow
@pytest.mark.llm
def test_no_word_of_a_real_models_chains_is_lost_on_its_way_to_the_learner(smollm2, tmp_path, capsys):
    run = started(Team(), OmegaConf.to_object(composed(*SETTINGS, experiment="data")), tmp_path)
    task, codec, tokenizer = run.task, run.codec, run.tokenizer
    policy = Recorder(run.learner.model)
    harvest = act(policy, task, "star", run.config.actor, run.team, seed=0, iteration=1, scorer=run.scorer)
    run.progress.iteration = 1
    run.replay.add(harvest.rows)
    losses = run.learn("star", harvest.rows, Mixture(1, 1.0), 1.0)
    assert np.isfinite(losses["value_loss"])
    run.commit(harvest, run.totals() | {"teacher": "star", "phase": 0})
    shard = next(s for s in run.ledger.shards(1) if s.name.endswith(".rows.parquet"))
    rows = read_rows(run.folders.traces / shard.name, shard.sha256)
    run.ledger.close()
    for name in ("tokens", "weight", "value"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(harvest.rows, name))
    rows_of: dict[str, list[list[str]]] = {}  # words behind the context, by problem
    for tokens, used in zip(rows.tokens, rows.used, strict=True):
        text = tokenizer.decode(tokens[used].tolist()).replace(tokenizer.eos_token, NEWLINE)
        question, _, steps = text.removeprefix(codec.preamble + QUESTION).partition(NEWLINE)
        rows_of.setdefault(question + NEWLINE, []).append(steps.split())

    paid: Counter[str] = Counter()
    chains = words = lost = unknown = 0
    for problem, chain in policy.written:
        if paid[problem.id] >= run.config.actor.tokens:
            continue
        paid[problem.id] += chain.tokens
        answered = chain.verdict.legal and task.answer(problem, chain.steps)
        learned = chain.steps if answered else chain.steps[:-1]  # a last step without an answer teaches nothing
        steps = "".join(learned)
        written = steps.split()
        kept = max((sum(map(str.__eq__, written, row)) for row in rows_of.get(task.prompt(problem), [])), default=0)
        chains, words, lost = chains + 1, words + len(written), lost + len(written) - kept
        unknown += task.encode(steps).count(UNK_ID)
    with capsys.disabled():
        sys.stdout.write(
            f"\nSmolLM2, {chains} chains: {lost} of {words} words lost in rows, {unknown} are no words of the task\n"
        )
    assert chains >= 36
    assert unknown > 0.2 * words  # the task's words could not have written these rows
    assert lost == 0

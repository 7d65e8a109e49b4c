"""The actor: new experience from the acting net, made by a teacher.

Teachers pay for every generated token from the same account, so that they can be compared at equal tokens. Who proposes the
steps is a `models.policy.Policy`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any

import numpy as np

from kit.seeds import generator
from models.policy import Policy
from models.steps.codec import Codec
from selfplay.config import ActorConfig
from selfplay.learn.learner import stack
from selfplay.run.traces import Trace
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.settle import scored
from selfplay.teachers import TEACHERS
from selfplay.team import Team
from tasks.base import Problem, Rows, Scorer, Task
from tasks.judging.scorers import Replay

MINING_ROUNDS = 4  # at most this many times `problems` are tried greedily to find those that fail


@dataclass(frozen=True)
class Experience:
    """One iteration's harvest of one rank."""

    rows: Rows
    traces: list[Trace]
    generated_tokens: int
    prefilled_tokens: int
    problems: int
    solved: int
    mined: int  # problems tried greedily to find the hard ones

    @staticmethod
    def empty() -> Experience:
        return Experience(stack([]), [], 0, 0, 0, 0, 0)

    def summary(self, team: Team) -> dict:
        """Totals over the team for a line of metrics; empty where nothing was generated. Collective."""
        problems, solved, mined = np.sum(team.gather([self.problems, self.solved, self.mined]), axis=0).tolist()
        if not problems and not mined:
            return {}
        return {"problems": problems, "solved": solved / max(problems, 1), "mined": mined}


@dataclass(frozen=True)
class Origin:
    """Which net made a trace, and when."""

    seed: int
    iteration: int
    model_hash: str


@dataclass(frozen=True)
class Acting:
    """What a teacher is given to act on: one rank's share of an iteration."""

    policy: Policy
    task: Task
    problems: list[Problem]
    config: ActorConfig
    scorer: Scorer  # judges when a search or a sample has ended; no search sees it
    builder: RowBuilder  # takes the rows
    rng: np.random.Generator
    origin: Origin
    trust_value: bool  # False hides the value head from a search, which then orders by the policy alone

    def trace(self, problem: Problem, steps: tuple[str, ...], **columns: Any) -> Trace:
        """The record of one problem; `columns`: what a teacher fills in; kinds and prompt, if not the task's."""
        task, origin = self.task, self.origin
        if "kinds" not in columns:
            columns["kinds"] = tuple(task.parse_step(problem, steps[:k], step)[0] for k, step in enumerate(steps))
        return Trace(
            problem_id=problem.id,
            task=task.name,
            prompt=columns.pop("prompt", None) or task.prompt(problem),
            completion="".join(steps),
            steps=steps,
            seed=origin.seed,
            iteration=origin.iteration,
            model_hash=origin.model_hash,
            policy_version=origin.iteration - 1,
            **columns,
        )


def act(
    policy: Policy,
    task: Task,
    teacher: str,
    config: ActorConfig,
    team: Team,
    *,
    seed: int,
    iteration: int,
    trust_value: bool = True,
    scorer: Scorer | None = None,
    codec: Codec | None = None,
) -> Experience:
    """This rank's share of one iteration's problems as rows and traces, by a teacher that acts.

    `trust_value`, `scorer`: see `Acting`; None: the task judges answers itself. `codec`: of who learns from the rows; None: the
    policy itself does, and they hold the tokens that it sampled.

    Raises:
        ValueError: the task needs a scorer and there is none.
        SolveError: the policy cannot do what the strategy needs.
    """
    if scorer is None:
        if not task.self_verifying:
            raise ValueError(
                f"task {task.name} needs gold answers to be judged: give act a scorer; no search may see it"
            )
        scorer = Replay(task)
    reader = codec or policy.codec(task)
    if reader is None:
        raise ValueError(f"policy {policy.name} keeps its tokens to itself: give act the codec of who learns")
    builder = RowBuilder(task, reader, own=codec is None)
    rng = generator(seed, "act", iteration, team.rank)
    origin = Origin(seed, iteration, policy.version)
    wanted = max(1, config.problems // team.size)
    problems, mined, tokens = draw_problems(policy, task, wanted, config, rng, scorer)
    acting = Acting(policy, task, problems, config, scorer, builder, rng, origin, trust_value)
    harvest = resolve_name(TEACHERS[teacher].act or "")(acting)
    return replace(harvest, mined=mined, generated_tokens=harvest.generated_tokens + tokens)


def draw_problems(
    policy: Policy, task: Task, n: int, config: ActorConfig, rng: np.random.Generator, scorer: Scorer
) -> tuple[list[Problem], int, int]:
    """(practice problems, problems tried, generated tokens): all, or with `mine` those that greedy decoding fails."""
    if not config.mine:
        return task.practice(n, rng), 0, 0
    tried = task.practice(MINING_ROUNDS * n, rng)
    hard, tokens, at = [], 0, 0
    while len(hard) < n and at < len(tried):
        batch = tried[at : at + n]
        at += len(batch)
        greedy = scored(scorer, batch, policy.chains(task, batch, temperature=0.0))
        for problem, chains in zip(batch, greedy, strict=True):
            tokens += chains[0].tokens
            if chains[0].verdict.reward < 1:
                hard.append(problem)
    return hard[:n], at, tokens

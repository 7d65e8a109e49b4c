"""The teacher `star`: the sampling part of STaR (Zelikman et al. 2022). Chains that the judge accepts teach the policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.seeds import derived_seed
from models.abilities import Rollout
from selfplay.run.traces import Trace
from selfplay.teach.actor import Acting, Experience
from selfplay.teach.settle import scored
from tasks.base import Problem

SAMPLES = 4  # samples drawn at once


def act(acting: Acting) -> Experience:
    """Independent chains of every problem until its `actor.tokens` are spent."""
    policy, task, problems, config = acting.policy, acting.task, acting.problems, acting.config
    paid = np.zeros(len(problems), np.int64)
    good: list[list[Rollout]] = [[] for _ in problems]
    bad: list[list[Rollout]] = [[] for _ in problems]
    active, round_ = np.arange(len(problems)), 0
    while len(active):
        seed = derived_seed(acting.origin.seed, "star", acting.origin.iteration, round_)
        some = [problems[i] for i in active]
        drawn = policy.chains(task, some, SAMPLES, temperature=config.temperature, seed=seed)
        before = paid.copy()
        for i, chains in zip(active, scored(acting.scorer, some, drawn), strict=True):
            for chain in chains:
                if paid[i] < config.tokens:
                    paid[i] += chain.tokens
                    (good if chain.verdict.reward >= 1 else bad)[i].append(chain)
        moved = paid[active] > before[active]  # a server may refuse a prompt
        active = active[(paid[active] < config.tokens) & moved]
        round_ += 1
    traces = []
    for i, problem in enumerate(problems):
        _rows(acting, problem, good[i], bad[i])
        traces.append(trace_of(acting, problem, (good[i] or bad[i])[0], bool(good[i]), int(paid[i]), rule="star"))
    return Experience(acting.builder.rows(), traces, int(paid.sum()), 0, len(problems), sum(map(bool, good)), 0)


def _rows(acting: Acting, problem: Problem, good: Sequence[Rollout], bad: Sequence[Rollout]) -> None:
    task, config, builder, rng = acting.task, acting.config, acting.builder, acting.rng
    known = not bad and config.known_share < 1 and rng.random() >= config.known_share
    distinct = [] if known else list({tuple(chain.steps): chain for chain in good}.values())
    before = len(builder)
    for k in rng.permutation(len(distinct)):
        if len(builder) - before >= config.rows_per_problem:
            break
        steps = distinct[k].history
        values = [config.discount ** (len(steps) - k) for k in range(len(steps))]
        builder.chain(problem, steps, [1.0] * len(steps), values, np.nan if task.self_verifying else 1.0)
    states = [(builder.state, chain.history[:k]) for chain in bad for k in range(1, len(chain.steps))]
    if not task.self_verifying:
        states += [
            (builder.ended, chain.history) for chain in bad if chain.verdict.legal and task.answer(problem, chain.steps)
        ]
    for k in rng.permutation(len(states))[: config.losing_rows]:
        teach, steps = states[k]
        teach(problem, steps, 0.0)


def trace_of(acting: Acting, problem: Problem, chain: Rollout, solved: bool, tokens: int, *, rule: str) -> Trace:
    """The record of a problem by one of its chains; `tokens`: of all of them."""
    steps = tuple(chain.steps)
    discount = acting.config.discount
    return acting.trace(
        problem,
        steps,
        visits=(1,) * len(steps),
        targets=(float(solved),) * len(steps),
        values=tuple(discount ** (len(steps) - 1 - k) if solved else 0.0 for k in range(len(steps))),
        reward=chain.verdict.reward,
        solved=solved,
        rule=rule,
        generated_tokens=tokens,
    )

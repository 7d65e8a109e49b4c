"""The teacher `grpo`: groups of samples, each taught or untaught by how much better it is than its group.

Group-relative policy optimisation (Shao et al. 2024, section 4.1) as it is left when every group is used for one update, right
after it was drawn: no ratio, no clip, no reference model. The advantage is r - mean, not divided by the deviation (Liu et al.
2025, section 3.2), and tokens of a batch weigh alike (Yu et al. 2025, section 3.3), as in nanochat's chat_rl.py.
"""

from __future__ import annotations

import numpy as np

from kit.seeds import derived_seed
from models.abilities import Rollout
from selfplay.teach.actor import Acting, Experience
from selfplay.teach.settle import scored
from selfplay.teach.star import trace_of
from tasks.base import Problem


def act(acting: Acting) -> Experience:
    """`actor.group` samples of every problem; rows of those whose advantage is not zero, `actor.rows_per_problem` at most.

    Which rows are kept is drawn uniformly, so that the expected gradient of a group keeps its direction.
    """
    problems, config = acting.problems, acting.config
    seed = derived_seed(acting.origin.seed, "grpo", acting.origin.iteration)
    drawn = acting.policy.chains(acting.task, problems, config.group, temperature=config.temperature, seed=seed)
    groups = scored(acting.scorer, problems, drawn)
    traces, tokens, solved = [], 0, 0
    for problem, chains in zip(problems, groups, strict=True):
        _rows(acting, problem, [chain for chain in chains if chain.verdict.scored and chain.steps])
        best = max(chains, key=lambda chain: chain.verdict.reward)
        right, paid = best.verdict.reward >= 1, sum(chain.tokens for chain in chains)
        traces.append(trace_of(acting, problem, best, right, paid, rule="grpo"))
        tokens, solved = tokens + paid, solved + right
    return Experience(acting.builder.rows(), traces, tokens, 0, len(problems), solved, 0)


def advantages(chains: list[Rollout], kind: str) -> list[np.ndarray]:
    """float64 [S] of each chain: what every token of a step weighs.

    "group": r - mean of the group, the same for all steps. "steps": V(after) - V(before) by the value head, with the reward in
    place of the last V: over a chain they add up to r - V(start), so that each step answers for what it changed.
    """
    rewards = np.array([chain.verdict.reward for chain in chains], np.float64)
    if kind == "group":
        return [np.full(len(chain.steps), r - rewards.mean()) for chain, r in zip(chains, rewards, strict=True)]
    return [np.diff([*chain.values[: len(chain.steps)], reward]) for chain, reward in zip(chains, rewards, strict=True)]


def _rows(acting: Acting, problem: Problem, chains: list[Rollout]) -> None:
    config = acting.config
    weights = advantages(chains, config.advantage)
    telling = [k for k, weight in enumerate(weights) if weight.any()]
    for k in acting.rng.permutation(telling)[: config.rows_per_problem].tolist():
        chain, steps = chains[k], chains[k].history
        reward = chain.verdict.reward
        values = [reward * config.discount ** (len(steps) - s) for s in range(len(steps))]
        ended = np.nan if acting.task.self_verifying else reward
        acting.builder.chain(problem, steps, weights[k].tolist(), values, ended)

"""Measure a model on fixed problems: solve rates, illegal steps, and how good its value is.

Labels come from the task's exact reference, after the policy has spoken. They measure, and nothing learns from them; one figure
of theirs, the AUC on dev problems, decides whether a search looks at the value head (`models.files.calibration.trustworthy`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.statistics import auc, auc_within, ece, wilson
from models.policy import Policy
from selfplay.teach.settle import scored
from selfplay.team import Team
from tasks.base import Problem, Scorer, Task
from tasks.judging.scorers import Replay
from tasks.oracle import exact_labels, oracle

GREEDY, SAMPLED = 0.0, 1.0  # temperatures


@dataclass(frozen=True)
class Evaluation:
    """One measurement of one model on P problems. Rates in [0, 1]."""

    greedy: np.ndarray  # bool [P], in the order of the problems
    greedy_no_reentry: np.ndarray | None  # bool [P]; reversible tasks: a step into a state of its chain is redrawn
    sampled: float  # P(one sample solves)
    sampled_per_problem: np.ndarray  # float [P]
    illegal_rate: float  # share of sampled chains that hold an illegal step
    illegal_steps: float  # share of sampled steps that are illegal
    value_auc: float  # against the exact reference on sampled states; NaN where one class is missing
    value_within: float  # the same over pairs of states of one problem; NaN where no problem has both classes
    value_ece: float

    def to_dict(self) -> dict:
        """Plain numbers for metrics.jsonl."""
        main = self.greedy if self.greedy_no_reentry is None else self.greedy_no_reentry
        low, high = wilson(int(main.sum()), len(main))
        numbers = {
            "n": len(self.greedy),
            "greedy": float(self.greedy.mean()),
            "greedy_ci95": [low, high],
            "sampled": self.sampled,
            "sampled_ci95": mean_interval(self.sampled_per_problem),
            "illegal_rate": self.illegal_rate,
            "illegal_steps": self.illegal_steps,
            "value_auc": self.value_auc,
            "value_within": self.value_within,
            "value_ece": self.value_ece,
        }
        if self.greedy_no_reentry is not None:
            numbers["greedy_no_reentry"] = float(self.greedy_no_reentry.mean())
        return numbers

    @property
    def headline(self) -> np.ndarray:
        """The greedy outcome that the gate and the curve use, bool [P]."""
        return self.greedy if self.greedy_no_reentry is None else self.greedy_no_reentry


def mean_interval(values: np.ndarray) -> list[float]:
    """95 % normal interval of a mean over problems, cut to [0, 1]."""
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 1.0
    mean = float(np.mean(values))
    return [max(0.0, mean - half), min(1.0, mean + half)]


def evaluate(
    policy: Policy,
    task: Task,
    problems: list[Problem],
    team: Team,
    *,
    samples: int,
    discount: float,
    seed: int,
    scorer: Scorer | None = None,
) -> Evaluation:
    """Greedy once and `samples` samples on every problem; the team shares the problems. Collective.

    `scorer`: judges the chains; the task itself where there is none. Where a task has no exact labels, a state's label is what
    its own chain went on to earn.
    """
    scorer = scorer or Replay(task)
    mine = team.share(problems)
    first = scored(scorer, mine, policy.chains(task, mine, temperature=GREEDY, seed=seed))
    greedy = [chains[0].verdict.reward >= 1 for chains in first]
    fenced = None
    if task.reversible:
        chains_of = policy.chains(task, mine, temperature=GREEDY, seed=seed, no_reentry=True)
        fenced = [chains[0].verdict.reward >= 1 for chains in chains_of]
    sampled, steps, bad_chains, bad_steps = [], 0, 0, 0
    states: list[
        tuple[float, float, float, float]
    ] = []  # (predicted, AUC label or distance, target, number of the problem)
    drawn = scored(scorer, mine, policy.chains(task, mine, samples, temperature=SAMPLED, seed=seed))
    for k, (problem, chains) in enumerate(zip(mine, drawn, strict=True)):
        sampled.append(sum(chain.verdict.reward >= 1 for chain in chains) / samples)
        for chain in chains:
            steps += len(chain.steps)
            bad_chains += not chain.verdict.legal
            bad_steps += not chain.verdict.legal
            for value, state in zip(chain.values[1:], chain.states[1:], strict=True):  # prompts are all solvable
                outcome = (chain.verdict.reward, chain.verdict.reward)
                labels = exact_labels(oracle(task), problem, state, discount) if task.exact else outcome
                states.append((float(value), *labels, k * team.size + team.rank))
    woven = team.weave(list(zip(greedy, fenced or greedy, sampled, strict=True)))
    counts = np.sum(team.gather([steps, bad_chains, bad_steps]), axis=0)
    everywhere = np.array([row for part in team.gather(states) for row in part], np.float64).reshape(-1, 4)
    score, label, target, problem = everywhere.T
    if task.reversible and len(label):
        label = label <= np.median(label) - 1
    return Evaluation(
        greedy=np.array([row[0] for row in woven], bool),
        greedy_no_reentry=np.array([row[1] for row in woven], bool) if task.reversible else None,
        sampled=float(np.mean([row[2] for row in woven])),
        sampled_per_problem=np.array([row[2] for row in woven]),
        illegal_rate=float(counts[1] / (samples * len(problems))),
        illegal_steps=float(counts[2] / max(counts[0], 1)),
        value_auc=auc(score, label.astype(bool)),
        value_within=auc_within(score, label.astype(bool), problem),
        value_ece=ece(score, target),
    )

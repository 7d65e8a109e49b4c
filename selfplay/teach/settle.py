"""Answers are scored when a search has ended: rewards go back into its graph, or to chains, before targets are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import mcts
from models.abilities import Rollout, StepEvaluator
from tasks.base import Problem, Scorer


def settled(
    scorer: Scorer, problems: Sequence[Problem], result: mcts.SearchResult, evaluator: StepEvaluator
) -> mcts.SearchResult:
    """`result` with every answer that the task could not judge scored; `problems` [T] are those of its trees.

    An answer on which the judge ran out of time counts as no solution, as an unjudged one does.
    """
    if evaluator.task.self_verifying:
        return result
    store = result.store
    ended = np.flatnonzero((store.nodes["flags"] & mcts.Flag.TERMINAL) != 0)
    handles = store.node_handles[ended].tolist()
    waiting = [k for k, handle in enumerate(handles) if not evaluator.verdict(handle).scored]
    nodes = ended[waiting]
    asked = [problems[evaluator.tree(handles[k])] for k in waiting]
    verdicts = scorer.score(asked, [evaluator.steps(handles[k]) for k in waiting])
    store.settle(nodes, np.array([verdict.reward for verdict in verdicts], np.float32))
    right = store.nodes["tree"][nodes[[verdict.reward >= 1 for verdict in verdicts]]]
    return replace(result, solved=result.solved | np.isin(np.arange(len(problems)), right))


def scored(scorer: Scorer, problems: Sequence[Problem], chains: list[list[Rollout]]) -> list[list[Rollout]]:
    """`chains` of each problem, the verdicts that the task left open filled in."""
    waiting = [(i, k) for i, part in enumerate(chains) for k, chain in enumerate(part) if not chain.verdict.scored]
    if not waiting:
        return chains
    verdicts = scorer.score([problems[i] for i, _ in waiting], [chains[i][k].steps for i, k in waiting])
    judged = [list(part) for part in chains]
    for (i, k), verdict in zip(waiting, verdicts, strict=True):
        judged[i][k] = replace(judged[i][k], verdict=verdict)
    return judged

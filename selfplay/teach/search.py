"""The teacher `search`: trees over train problems, which may go on after their first solution; rows by graph backup.

How trees are searched is an entry of the one table of strategies (`actor.strategy`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

import mcts
from kit.seeds import derived_seed
from models.abilities import StepEvaluator
from selfplay.config import ActorConfig
from selfplay.run.traces import Trace
from selfplay.teach.actor import Acting, Experience
from selfplay.teach.settle import settled
from selfplay.teach.targets import Targets, search_rows
from solve.search.tree import Tree
from solve.strategies import way
from solve.types import SolveError, Workbench
from tasks.base import Problem, Task

TREES = 128  # trees searched at once: a wave stays in cache and the trie in memory


def act(acting: Acting) -> Experience:
    """Rows and traces of searches with `actor.tokens` each, or `actor.cheap_tokens` where they teach the value only.

    Raises:
        SolveError: the policy cannot do what the strategy needs.
    """
    task, config, rng, builder = acting.task, acting.config, acting.rng, acting.builder
    traces, tree = [], tree_of(config, task)
    seed = derived_seed(acting.origin.seed, "search", acting.origin.iteration)
    bench = Workbench(acting.policy, task, "task" if task.self_verifying else "none", acting.trust_value, seed)
    limits, full = mcts.playout_caps(
        len(acting.problems), full=config.tokens, cheap=config.cheap_tokens, share=config.full_share, rng=rng
    )
    order = np.argsort(~full, kind="stable")  # those that teach the policy come first
    generated = prefilled = solved = 0
    for start in range(0, len(order), TREES):
        part = order[start : start + TREES]
        chosen = [acting.problems[i] for i in part]
        search = tree.start(bench, chosen, config.tokens)
        search.advance(limits[part], simulations=config.simulations)
        result = settled(acting.scorer, chosen, search.result, search.evaluator)
        targets = Targets.of(result.store, config.discount, trust_value=acting.trust_value)
        for k, (problem, teach) in enumerate(zip(chosen, full[part].tolist(), strict=True)):
            if config.known_share < 1 and first_chain_solved(result, k, search.evaluator):
                teach = teach and rng.random() < config.known_share
            search_rows(builder, task, problem, result, k, targets, search.evaluator, config, rng, teach_policy=teach)
            traces.append(_trace(acting, problem, result, k, targets, search.evaluator))
        generated += int(result.tokens.sum())
        prefilled += search.prefilled_tokens
        solved += int(result.solved.sum())
    return Experience(builder.rows(), traces, generated, prefilled, len(order), solved, 0)


def tree_of(config: ActorConfig, task: Task) -> Tree:
    """The search that `actor.strategy` names, with the discount of the run's value targets.

    Raises:
        SolveError: a strategy that grows no tree, or none at all.
    """
    tree = way(config.strategy, task).search
    if not isinstance(tree, Tree):
        raise SolveError(f"actor.strategy={config.strategy} grows no tree to learn from: use selfplay, puct or gumbel")
    return replace(tree, rule=replace(cast("Any", tree.rule), discount=config.discount), go_on=config.go_on)


def first_chain_solved(result: mcts.SearchResult, tree: int, evaluator: StepEvaluator) -> bool:
    """Whether a search spent no token beside those of its solution."""
    if not result.solved[tree]:
        return False
    steps = [evaluator.step(int(handle)).tokens for handle in result.store.edge_handles[result.solution_path(tree)]]
    return all(tokens is not None for tokens in steps) and int(result.tokens[tree]) <= sum(map(len, cast("Any", steps)))


def _trace(
    acting: Acting,
    problem: Problem,
    result: mcts.SearchResult,
    tree: int,
    targets: Targets,
    evaluator: StepEvaluator,
) -> Trace:
    path = result.solution_path(tree) if result.solved[tree] else result.best_path(tree)
    edges = result.store.edges[path]
    steps = tuple(evaluator.step(int(handle)).text for handle in result.store.edge_handles[path])
    return acting.trace(
        problem,
        steps,
        visits=tuple(edges["visits"].tolist()),
        targets=tuple((targets.distance[edges["child"]] != mcts.UNREACHED).astype(float).tolist()),
        values=tuple(targets.value[edges["child"]].tolist()),
        reward=acting.scorer.score([problem], [steps])[0].reward,
        solved=bool(result.solved[tree]),
        rule=acting.config.strategy,
        generated_tokens=int(result.tokens[tree]),
    )

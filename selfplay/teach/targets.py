"""From one search to training rows: graph backup, policy targets and value targets.

After the search, exact distances to the nearest solution flow back through the whole explored graph, merged states included.
Value target: discount^distance where a solution is known, 0 where the state is proven lost, else a mix of the outcome (no
solution found) and the search's own value. Policy target at a state with a known distance:

`shortest`     a step that shortens the distance, uniformly among those found;
`completed_q`  pi' = softmax(logits + sigma(completed Q)), Q exact where distances are (Danihelka et al. 2022, eq. 11);
`visits`       visit counts.

One step a state is drawn from its target: an unbiased estimate of the cross-entropy, without a row for every candidate.

Where answers wait for a scorer a search reads the value of the finished chain; there right and wrong ones teach it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import mcts
from models.abilities import StepEvaluator
from selfplay.config import ActorConfig
from selfplay.teach.row_builder import RowBuilder
from tasks.base import Problem, Task

OUTCOME_SHARE = 0.5  # of the value target where nothing is proven; the rest is the search's value
MAX_DRAWS = 4  # tries to find another solution path, for each one wanted


@dataclass(frozen=True)
class Targets:
    """What a search says about its states. N nodes of the whole store."""

    distance: np.ndarray  # int32 [N], edges to the nearest known solution; mcts.UNREACHED
    value: np.ndarray  # float64 [N], value target
    members: list[np.ndarray]  # per tree, its nodes that are not terminal
    nearer: np.ndarray  # int64, edges that shorten the distance, grouped by parent
    first_nearer: np.ndarray  # int64 [N + 1]: those of node n are nearer[first_nearer[n] : first_nearer[n + 1]]
    ways: np.ndarray  # float64 [N], shortest ways to a known solution

    @staticmethod
    def of(store: mcts.Store, discount: float, *, trust_value: bool = True) -> Targets:
        """Graph backup over every tree of a store. Without a trusted value, what is not proven has its outcome alone."""
        distance = mcts.distances(store)
        nodes = store.nodes
        unproven = (1 - OUTCOME_SHARE) * trust_value * nodes["value"].astype(np.float64)
        unproven[mcts.proven_lost(store)] = 0.0
        reached = distance != mcts.UNREACHED
        value = np.where(reached, discount ** np.where(reached, distance, 0).astype(np.float64), unproven)
        live = np.flatnonzero((nodes["flags"] & mcts.Flag.TERMINAL) == 0)
        live = live[np.argsort(nodes["tree"][live], kind="stable")]
        ends = np.cumsum(np.bincount(nodes["tree"][live], minlength=len(store.trees)))
        parent, child = store.edges["parent"], store.edges["child"]
        nearer = np.flatnonzero(reached[parent] & (distance[child] == distance[parent] - 1))
        nearer = nearer[np.argsort(parent[nearer], kind="stable")]
        first = np.concatenate(([0], np.cumsum(np.bincount(parent[nearer], minlength=len(nodes)))))
        ways = (distance == 0).astype(np.float64)
        for steps in range(1, int(distance[reached].max(initial=0)) + 1):
            edges = nearer[distance[parent[nearer]] == steps]
            np.add.at(ways, parent[edges], ways[child[edges]])
        return Targets(distance, value, np.split(live, ends[:-1]), nearer, first, ways)


def search_rows(
    builder: RowBuilder,
    task: Task,
    problem: Problem,
    result: mcts.SearchResult,
    tree: int,
    targets: Targets,
    evaluator: StepEvaluator,
    config: ActorConfig,
    rng: np.random.Generator,
    *,
    teach_policy: bool,
) -> None:
    """Add the rows of one tree to `builder`."""
    store = result.store
    root, live = int(result.roots[tree]), targets.members[tree]
    reached = live[targets.distance[live] != mcts.UNREACHED]
    chooser = _Chooser(store, targets, config, rng)
    if teach_policy and targets.distance[root] != mcts.UNREACHED:
        if task.reversible:
            _state_rows(builder, problem, root, reached, chooser, evaluator, config, rng)
        else:
            _chain_rows(builder, task, problem, root, chooser, evaluator, config)
    unreached = live[(targets.distance[live] == mcts.UNREACHED) & (live != root)]
    wrong = _wrong_answers(store, tree, evaluator) if not task.self_verifying else unreached[:0]
    for node in rng.permutation(np.concatenate((unreached, wrong)))[: config.losing_rows]:
        steps = evaluator.history(int(store.node_handles[node]))
        if store.nodes["flags"][node] & mcts.Flag.TERMINAL:
            builder.ended(problem, steps, float(store.nodes["raw_value"][node]))
        else:
            builder.state(problem, steps, float(targets.value[node]))


def _wrong_answers(store: mcts.Store, tree: int, evaluator: StepEvaluator) -> np.ndarray:
    """int64: the tree's answers that the task left to a scorer, who did not take them."""
    nodes = store.nodes
    ended = (nodes["tree"] == tree) & ((nodes["flags"] & mcts.Flag.TERMINAL) != 0) & (nodes["raw_value"] < 1)
    found = np.flatnonzero(ended)
    return found[[not evaluator.verdict(handle).scored for handle in store.node_handles[found].tolist()]]


def _chain_rows(builder, task, problem, root, chooser, evaluator, config) -> None:
    """Distinct whole solutions, every step taught."""
    seen: set[tuple[int, ...]] = set()
    wanted = min(config.rows_per_problem, chooser.targets.ways[root])
    for _ in range(MAX_DRAWS * config.rows_per_problem):
        if len(seen) >= wanted:
            break
        edges, values = chooser.walk(root)
        if tuple(edges) in seen:
            continue
        seen.add(tuple(edges))
        steps = [evaluator.step(int(chooser.store.edge_handles[e])) for e in edges]
        builder.chain(problem, steps, [1.0] * len(steps), values, np.nan if task.self_verifying else 1.0)


def _state_rows(builder, problem, root, reached, chooser, evaluator, config, rng) -> None:
    """Single steps: those of one shortest path, then those of other states with a known distance.

    A distance is that of the best way found, and off the shortest ways it is often too long, so that its steps mislead:
    with `detour`, only states whose way from the root through them is at most that much longer than the root's are taken.
    """
    edges, _ = chooser.walk(root)
    on_path = chooser.store.edges["parent"][edges]
    if config.detour is not None:
        through = chooser.store.nodes["depth"][reached] + chooser.targets.distance[reached]
        reached = reached[through <= chooser.targets.distance[root] + config.detour]
    others = rng.permutation(np.setdiff1d(reached, on_path))[: max(0, config.rows_per_problem - len(edges))]
    for node, edge in [*zip(on_path, edges, strict=True), *((n, chooser.step(int(n))) for n in others)]:
        builder.step(
            problem,
            evaluator.history(int(chooser.store.node_handles[node])),
            evaluator.step(int(chooser.store.edge_handles[edge])),
            1.0,
            float(chooser.targets.value[node]),
        )


class _Chooser:
    """Draws steps from the policy target of a state."""

    def __init__(self, store: mcts.Store, targets: Targets, config: ActorConfig, rng: np.random.Generator):
        self.store, self.targets, self._config, self._rng = store, targets, config, rng
        self._child = store.edges["child"]

    def walk(self, node: int) -> tuple[list[int], list[float]]:
        """Edges from a node with a known distance to a solution, and the value target before each."""
        edges, values = [], []
        while self.targets.distance[node] > 0:
            edge = self._nearer(node)
            edges.append(edge)
            values.append(float(self.targets.value[node]))
            node = int(self._child[edge])
        return edges, values

    def step(self, node: int) -> int:
        """One edge of a node with a known distance, drawn from its policy target."""
        if self._config.policy_target == "shortest":
            return self._nearer(node)
        ids = self.store.edges_of(node)
        edges = self.store.edges[ids]
        if self._config.policy_target == "visits":
            policy = mcts.visit_policy(edges["visits"] + (self.targets.distance[edges["child"]] != mcts.UNREACHED))
        else:
            q = self._config.discount * self.targets.value[edges["child"]]
            sigma = mcts.completed_q(
                edges["logprob"],
                edges["visits"],
                q,
                float(self.store.nodes["raw_value"][node]),
                known=np.ones(len(ids), bool),
            )
            policy = mcts.improved_policy(edges["logprob"], sigma)
        return int(ids[self._rng.choice(len(ids), p=policy)])

    def _nearer(self, node: int) -> int:
        first, last = self.targets.first_nearer[node : node + 2]
        return int(self.targets.nearer[first + self._rng.integers(last - first)])

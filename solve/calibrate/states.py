"""How far a value head can be trusted: its word on the states that a search comes to, beside what is so.

States are those that a search by the policy alone comes to within its limit: what a value will be asked about. Their labels
are exact where the task has a solver, else what their own chain went on to earn. Where values are discounted by distance,
ranking (AUC) is asked to tell states nearer than the median, and calibration compares with discount ** distance. AUC within
problems is that over pairs of states of one problem, which is what a search asks: a head that knows hard problems from easy
ones alone has a fair AUC and misleads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import mcts
from kit.statistics import auc, auc_within, brier, ece
from solve.calibrate.ground import Ground
from solve.search.tree import Tree, TreeSearch
from tasks.oracle import exact_labels, oracle

RESAMPLES = 200


@dataclass(frozen=True)
class States:
    """S states of a search: what the head said, and what is so."""

    values: np.ndarray  # float64 [S], P(solved) by the head
    labels: np.ndarray  # bool [S], what ranking has to tell apart
    targets: np.ndarray  # float64 [S], what the head should have said
    depths: np.ndarray  # int64 [S], steps from the root
    problems: np.ndarray  # int64 [S]

    def at(self, which: np.ndarray) -> States:
        return States(*(array[which] for array in vars(self).values()))

    def figures(self) -> dict[str, float]:
        """Of all these states; NaN where there are none, or of one class only."""
        if not len(self.values):
            return {"n": 0} | dict.fromkeys(("positive", "auc", "auc_within", "brier", "ece"), math.nan)
        return {
            "n": len(self.values),
            "positive": float(self.labels.mean()),
            "auc": auc(self.values, self.labels),
            "auc_within": auc_within(self.values, self.labels, self.problems),
            "brier": brier(self.values, self.targets),
            "ece": ece(self.values, self.targets),
        }

    def auc_interval(self, rng: np.random.Generator) -> tuple[float, float]:
        """95 % of the AUC, problems drawn with replacement."""
        rows = [np.flatnonzero(self.problems == problem) for problem in np.unique(self.problems)]
        drawn = []
        for _ in range(RESAMPLES):
            chosen_rows = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
            drawn.append(auc(self.values[chosen_rows], self.labels[chosen_rows]))
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return float(low), float(high)


NO_STATES = States(*(np.zeros(0, kind) for kind in (float, bool, float, int, int)))


def searched_states(ground: Ground) -> States:
    """States that a search by the policy alone expands, the root left out, labelled."""
    task = ground.task
    rule = mcts.BestFirst(value_weight=0.0, lam=1.0, cost="none", rollout=not task.reversible)
    verify = "task" if task.self_verifying else "none"
    rows: list[tuple[float, float, float, int, int]] = []
    for start, part in ground.parts():
        search = Tree(rule).start(ground.bench(verify, trust_value=True), part)
        search.advance(np.full(len(part), ground.limit))
        rows += _labelled(ground, search, part, start)
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    values, first, targets, depths, problems = columns
    labels = first <= np.median(first) - 1 if task.reversible and len(first) else first.astype(bool)
    return States(values, labels, targets, depths.astype(np.int64), problems.astype(np.int64))


def _labelled(
    ground: Ground, search: TreeSearch, part: Sequence, start: int
) -> list[tuple[float, float, float, int, int]]:
    task, nodes = ground.task, search.store.nodes
    going = np.flatnonzero(((nodes["flags"] & mcts.Flag.TERMINAL) == 0) & (nodes["depth"] > 0))
    earned = {} if task.exact else _earned(ground, search, part)
    rows = []
    for node in going.tolist():
        tree, state = int(nodes["tree"][node]), search.evaluator.state(int(search.store.node_handles[node]))
        if task.exact:
            assert state is not None  # a state that goes on
            label, target = exact_labels(oracle(task), part[tree], state, task.discount)
        elif node in earned:
            label = target = earned[node]
        else:
            continue  # no chain through it has ended
        rows.append((float(nodes["raw_value"][node]), label, target, int(nodes["depth"][node]), start + tree))
    return rows


def _earned(ground: Ground, search: TreeSearch, part: Sequence) -> dict[int, float]:
    """Mean reward of the ended chains through each state, scored when the search is over."""
    edges, sums = search.store.edges, {}
    for tree, problem in enumerate(part):
        for edge, chain in search.ended(tree):
            reward = ground.scorer.score([problem], [chain.steps])[0].reward if chain.answer is not None else 0.0
            for passed in mcts.path_edges(search.store, int(edges["parent"][edge])).tolist():
                total, count = sums.get(int(edges["child"][passed]), (0.0, 0))
                sums[int(edges["child"][passed])] = (total + reward, count + 1)
    return {node: float(total / count >= 0.5) for node, (total, count) in sums.items()}

"""Does merging equal states pay? The same search over the graph of states and over the tree of histories, node by node.

    python -m bench merging [problems=300] [nodes=1000] [numbers=5] [run=DIR] [run_dir=DIR]

Problems are of the test split of Countdown with so many numbers. A node is evaluated when its candidates are asked for; counted
are the nodes evaluated up to the first accepted chain. Without a run, every legal step is as probable as the others and every
state is worth one half; with one, its promoted net is the policy and the value. Intervals: 95 %, over problems, paired.
With run_dir: `merging.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

import mcts
from bench import command
from bench.loop.compare import finished_run
from kit.statistics import paired_difference
from models.policy import open_policy
from tasks import Problem, Task, make_task
from tasks.numbers.countdown import Countdown
from tasks.oracle import Oracle, oracle

BUDGETS = (3, 10, 30, 100, 300, 1000, 3000)
SHARES = (0.25, 0.5, 0.75)  # of the problems, solved
RULES = {
    "puct": lambda k: mcts.PUCT(n_candidates=k),
    "best-first": lambda k: mcts.BestFirst(n_candidates=k),
}


class EqualSteps:
    """Every legal step as probable as the others, every state worth one half; all steps of a state at once."""

    def __init__(self, task: Oracle):
        self.task, self._states, self._known = task, [], {}

    def begin(self, problems: Sequence[Problem]) -> mcts.Roots:
        self._states = [(problem, i, self.task.initial_state(problem)) for i, problem in enumerate(problems)]
        keys = [self._key(*state) for state in self._states]
        return mcts.Roots(np.arange(len(keys)), np.array(keys, np.uint64), np.full(len(keys), 0.5, np.float32))

    def expand(self, handles: np.ndarray, n_candidates: int, draw: str = "sample") -> mcts.Expansion:
        rows: list[tuple[int, float, float, bool]] = []  # key, log-probability, reward, terminal
        counts = []
        for handle in handles.tolist():
            problem, tree, state = self._states[handle]
            steps = self._steps(problem, tree, state)
            counts.append(len(steps))
            for child, reward in steps:
                key = mcts.NO_KEY if child is None else self._key(problem, tree, child)
                rows.append((key, -float(np.log(len(steps))), reward, child is None))
                self._states.append((problem, tree, child))
        keys, logprobs, rewards, terminal = (
            (np.array(column) for column in zip(*rows, strict=True)) if rows else [[]] * 4
        )
        n, first = len(rows), len(self._states) - len(rows)
        return mcts.Expansion(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.arange(first, first + n), np.array(keys, np.uint64),
            np.array(logprobs, np.float32), np.where(terminal, rewards, 0.5).astype(np.float32), np.array(rewards, np.float32),
            np.array(terminal, np.bool_), np.ones(n, np.bool_), np.ones(n, np.int32), np.array(counts, np.int32),
            np.full(len(handles), -np.inf, np.float32), np.full(len(handles), -np.inf, np.float32),
        )  # fmt: skip

    def _steps(self, problem: Problem, tree: int, state) -> list[tuple]:
        """(state after, reward) of each legal step; equal states have the same."""
        known = (tree, self.task.state_key(problem, state))
        if known not in self._known:
            judged = [self.task.advance(problem, state, step) for step in self.task.legal_steps(problem, state)]
            self._known[known] = [(child, verdict.reward) for verdict, child in judged]
        return self._known[known]

    def _key(self, problem: Problem, tree: int, state) -> int:
        key = tree.to_bytes(4, "little") + (self.task.state_key(problem, state) or b"")
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "little") or 1


class Counted:
    """An evaluator whose nodes are counted, tree by tree, up to the first reward of one; `merged` False takes the keys away."""

    def __init__(self, evaluator, merged: bool):
        self._evaluator, self._merged = evaluator, merged

    def begin(self, problems: Sequence[Problem]) -> mcts.Roots:
        roots = self._evaluator.begin(problems)
        self._tree_of = np.arange(len(problems))
        self.nodes = np.zeros(len(problems), np.int64)
        self.solved_at = np.full(len(problems), np.inf)
        return roots if self._merged else mcts.Roots(roots.handles, np.zeros_like(roots.keys), roots.raw_values)

    def expand(self, handles: np.ndarray, n_candidates: int, draw: str = "sample") -> mcts.Expansion:
        expansion = self._evaluator.expand(handles, n_candidates, draw)
        trees = self._tree_of[handles]
        np.add.at(self.nodes, trees, 1)
        owners = np.repeat(trees, np.diff(expansion.offsets))
        self._tree_of = np.concatenate([self._tree_of, owners])
        solved = np.unique(owners[expansion.rewards >= 1])
        self.solved_at[solved] = np.minimum(self.solved_at[solved], self.nodes[solved])
        if not self._merged:
            expansion.keys[:] = mcts.NO_KEY
        return expansion


def nodes_needed(solved_at: np.ndarray, share: float) -> float:
    """Fewest nodes a problem at which `share` of the problems are solved; infinite if they never are."""
    return float(np.sort(solved_at)[max(0, int(np.ceil(share * len(solved_at))) - 1)])


def interval(graph: np.ndarray, tree: np.ndarray, statistic, draws: int = 2000) -> tuple[float, float]:
    """95 % of `statistic(graph, tree)` over resampled problems."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(draws):
        rows = rng.integers(0, len(graph), len(graph))
        drawn.append(statistic(graph[rows], tree[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def _compare(rule: str, graph: np.ndarray, tree: np.ndarray, most: int) -> list[dict]:
    """Rows of one rule, printed: how many are solved at each budget, and what each share of solved problems costs."""
    rows = []
    for budget in (b for b in BUDGETS if b <= most):
        solved = [np.asarray(at <= budget) for at in (graph, tree)]
        difference = paired_difference(*solved)
        rows.append(
            {
                "rule": rule, "nodes": budget, "merged": float(solved[0].mean()), "tree": float(solved[1].mean()),
                "difference": difference.mean, "half_width": difference.half_width,
            }
        )  # fmt: skip
        print(
            f"{rule:<11} {budget:>5} nodes   solved {100 * solved[0].mean():5.1f} % merged,"
            f" {100 * solved[1].mean():5.1f} % tree   {100 * difference.mean:+5.1f} +-{100 * difference.half_width:.1f}"
        )
    for share in SHARES:
        needed = [nodes_needed(at, share) for at in (graph, tree)]
        low, high = interval(graph, tree, lambda a, b, share=share: nodes_needed(b, share) / nodes_needed(a, share))
        rows.append({"rule": rule, "share": share, "merged": needed[0], "tree": needed[1], "ratio": [low, high]})
        print(
            f"{rule:<11} {100 * share:.0f} % solved takes {needed[0]:g} nodes merged, {needed[1]:g} as a tree:"
            f" {needed[1] / needed[0]:.2f} times as many ({low:.2f} to {high:.2f})"
        )
    return rows


def main(
    run_dir: str = "", problems: int = 300, nodes: int = 1000, numbers: int = 5, run: str = "", seed: int = 1
) -> dict:
    """Measure, print, and with `run_dir` write merging.json.

    Raises:
        UsageError: the run has not ended.
    """
    task: Task = Countdown(numbers=numbers, number_max=9)
    policy, candidates = None, 1 << 10
    if run:
        folder = Path(run)
        config, _ = finished_run(folder)
        task = make_task(**config["task"])
        policy = open_policy(run).policy
        candidates = 8
    chosen = task.problems("test", problems, seed=seed)
    result: dict = {"problems": len(chosen), "nodes": nodes, "numbers": numbers, "run": run, "rows": []}
    for rule in RULES:
        solved_at = {}
        for merged in (True, False):
            solved_at[merged] = []
            for start in range(0, len(chosen), 64):
                evaluator = Counted(policy.evaluator(task, seed=seed) if policy else EqualSteps(oracle(task)), merged)
                mcts.search(
                    evaluator.begin(chosen[start : start + 64]), evaluator, RULES[rule](candidates),
                    mcts.Budget(simulations=4 * nodes), stop_on_solution=True, seed=seed,
                )  # fmt: skip
                solved_at[merged].append(np.where(evaluator.solved_at <= nodes, evaluator.solved_at, np.inf))
        result["rows"] += _compare(rule, np.concatenate(solved_at[True]), np.concatenate(solved_at[False]), nodes)
    command.save(result, run_dir, "merging")
    return result

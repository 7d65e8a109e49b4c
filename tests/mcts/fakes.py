"""A table-driven evaluator: a random graph of states out of a hash, with merges, cycles, terminals and dead ends."""

from __future__ import annotations

import math

import numpy as np

from mcts import Expansion, Roots

MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    x = 0
    for part in parts:
        x = (x + (part & MASK) + 0x9E3779B97F4A7C15) & MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        x ^= x >> 31
    return x


def unit(*parts: int) -> float:
    return ((mix(*parts) >> 11) + 0.5) / (1 << 53)


class TableEvaluator:
    """States are integers. `merged`: `n_states` states a problem with keys, cycles included; else a tree.

    Steps of a state, their probabilities, successors, values and rewards are functions of (world, problem, state).
    Each handle is one arrival at a state; a step is handed out once a handle, in an order fixed by `draw`.
    """

    def __init__(self, world=0, *, merged=False, n_states=40, min_steps=0, max_steps=5, p_terminal=0.2, p_illegal=0.1,
                 max_depth=10**9, draw_seed=0):  # fmt: skip
        self.world, self.merged, self.n_states, self.max_depth = world, merged, n_states, max_depth
        self.min_steps, self.max_steps, self.p_terminal, self.p_illegal = min_steps, max_steps, p_terminal, p_illegal
        self.draw_seed = draw_seed
        self.tables: dict[tuple[int, int], list[tuple]] = {}
        self.begin([])

    def begin(self, problems) -> Roots:
        self.arrivals: list[tuple[int, int, int]] = []  # handle -> (problem, state, depth)
        self.orders: dict[int, list[int]] = {}  # handle -> steps not yet handed out, next first
        handles = [self._arrive(problem, 0, 0) for problem in problems]
        values = [self.raw_value(problem, 0) for problem in problems]
        keys = [self.key(problem, 0) for problem in problems]
        return Roots(np.array(handles, np.int64), np.array(keys, np.uint64), np.array(values, np.float32))

    def _arrive(self, problem: int, state: int, depth: int) -> int:
        self.arrivals.append((problem, state, depth))
        return len(self.arrivals) - 1

    def key(self, problem: int, state: int) -> int:
        return mix(state, 77) | 1 if self.merged else 0

    def raw_value(self, problem: int, state: int) -> float:
        return float(np.float32(unit(self.world, problem, state, 1)))

    def steps(self, problem: int, state: int) -> list[tuple]:
        """(logprob, successor, raw value, reward, terminal, legal, tokens) of each step, probabilities summing to 1."""
        table = self.tables.get((problem, state))
        if table is None:
            count = self.min_steps + mix(self.world, problem, state, 2) % (self.max_steps - self.min_steps + 1)
            weights = [unit(self.world, problem, state, 3, a) ** 2 + 1e-3 for a in range(count)]
            total, table = sum(weights), []
            for a, weight in enumerate(weights):
                after = mix(self.world, problem, state, 4, a)
                after = after % self.n_states if self.merged else after >> 2
                ends = unit(self.world, problem, after, 5) < self.p_terminal and after != 0
                illegal = unit(self.world, problem, state, 6, a) < self.p_illegal
                reward = (0.0, 0.0, 1.0, 0.5)[mix(self.world, problem, after, 7) % 4] if ends and not illegal else 0.0
                value = self.raw_value(problem, after)
                tokens = 1 + mix(self.world, problem, state, 8, a) % 5
                logprob = float(np.float32(math.log(weight / total)))
                table.append((logprob, after, value, reward, ends or illegal, not illegal, tokens))
            self.tables[problem, state] = table
        return table

    def _order(self, handle: int, draw: str) -> list[int]:
        problem, state, depth = self.arrivals[handle]
        table = self.steps(problem, state) if depth < self.max_depth else []
        if draw == "best":
            return sorted(range(len(table)), key=lambda a: (-table[a][0], a))
        noise = [-math.log(-math.log(unit(self.draw_seed, problem, state, 9, a))) for a in range(len(table))]
        return sorted(range(len(table)), key=lambda a: -(table[a][0] + noise[a]))  # Gumbel top-k: without replacement

    def expand(self, handles, n_candidates, draw="sample") -> Expansion:
        assert len(set(handles.tolist())) == len(handles), "a leaf twice in one wave"
        rows, counts, spent, unseen, best = [], [], [], [], []
        for handle in handles.tolist():
            problem, state, depth = self.arrivals[handle]
            order = self.orders.get(handle)
            if order is None:
                order = self.orders[handle] = self._order(handle, draw)
            table, taken = self.steps(problem, state), order[:n_candidates]
            del order[:n_candidates]
            tokens = 0
            for a in taken:
                logprob, after, value, reward, ends, legal, cost = table[a]
                tokens += cost
                key = self.key(problem, after) if legal else 0
                arrival = self._arrive(problem, after, depth + 1)
                rows.append((arrival, key, logprob, value, reward, ends, legal, cost))
            counts.append(len(taken))
            spent.append(tokens)
            left = sum(math.exp(table[a][0]) for a in order)
            unseen.append(math.log(left) if left > 0 else -math.inf)
            best.append(max((table[a][0] for a in order), default=-math.inf))
        columns = list(zip(*rows, strict=True)) if rows else [[] for _ in range(8)]
        kinds = (np.int64, np.uint64, np.float32, np.float32, np.float32, np.bool_, np.bool_, np.int32)
        arrays = [np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        return Expansion(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), *arrays,
            np.array(spent, np.int32), np.array(unseen, np.float32), np.array(best, np.float32),
        )  # fmt: skip


def shape_of(result, evaluator, tree: int) -> list[tuple]:
    """Everything that a search knows of one tree, with states in place of ids: equal lists = equal trees."""
    store = result.store
    numbers = {int(n): i for i, n in enumerate(np.flatnonzero(store.nodes["tree"] == tree))}
    rows = []
    for n in numbers:
        node = store.nodes[n]
        edges = [
            (int(e["visits"]), float(e["logprob"]), numbers[int(e["child"])], int(e["tokens"]))
            for e in result.children(n)
        ]
        facts = [node[name].item() for name in ("visits", "value", "raw_value", "flags", "depth", "failures")]
        rows.append((evaluator.arrivals[store.node_handles[n]][1:], facts, edges))
    return rows

"""PUCT over a graph of states in obvious Python: objects, dicts, recursion. Slow; the compiled search must equal it."""

from __future__ import annotations

import math

import numpy as np


def f32(x: float) -> float:
    return float(np.float32(x))


class Node:
    def __init__(self, handle, depth, raw_value, terminal=False):
        self.handle, self.depth, self.raw, self.value, self.terminal = handle, depth, raw_value, raw_value, terminal
        self.edges, self.parents = [], []
        self.visits = self.failures = 0
        self.expanded = self.exhausted = self.pending = self.won = False
        self.square = 0.0
        # nothing new below / and no reward below / and no way at all to a reward
        self.closed, self.dead, self.lost = terminal, terminal and raw_value <= 0, terminal and raw_value <= 0

    def mean_square(self):
        return self.square if self.expanded else self.value * self.value

    def refresh(self, rule):
        gamma = rule.discount
        self.visits = 1 + self.failures + sum(e.visits for e in self.edges)
        total, squares = self.raw, self.raw * self.raw
        for e in self.edges:
            if e.visits:
                total += e.visits * (gamma * e.child.value)
                squares += e.visits * (gamma * gamma * e.child.mean_square())
        value = total / self.visits
        visited = [gamma * e.child.value for e in self.edges if e.visits]
        if rule.max_share > 0 and visited:
            value = (1.0 - rule.max_share) * value + rule.max_share * max(visited)
        if rule.solve:
            won = [gamma * e.child.value for e in self.edges if e.child.won or (e.child.terminal and e.child.raw >= 1)]
            if won:
                self.won, value = True, max(won)
        self.value = 0.0 if self.lost else f32(value)
        self.square = f32(squares / self.visits)


class Edge:
    def __init__(self, parent, child, logprob):
        self.parent, self.child, self.logprob = parent, child, logprob
        self.visits = self.flying = 0


class Tree:
    """One tree of the reference search. `rule` is an `mcts.PUCT` without root noise."""

    def __init__(self, rule, handle, key, raw_value):
        self.rule, self.root = rule, Node(handle, 0, raw_value)
        self.nodes, self.known = [self.root], {}
        if key:
            self.known[key, False] = self.root
        self.simulations = self.tokens = self.free = 0
        self.first_solution = None

    def pick(self, node, path):
        """An edge, or 'ask', 'stuck' or 'blocked'."""
        rule = self.rule
        visits = 1 + node.failures + sum(e.visits + e.flying for e in node.edges)
        live = [e for e in node.edges if not e.child.dead]
        may_ask = not node.exhausted and not node.pending
        if may_ask and len(live) < rule.widen_c * float(visits) ** rule.widen_alpha:
            return "ask"
        top = max((e.logprob for e in live), default=0.0)
        mass = 0.0
        for e in live:
            mass += math.exp(e.logprob - top)
        c_puct = rule.c_log * math.log((1.0 + visits + rule.c_base) / rule.c_base) + rule.c_init
        if rule.stdev_scale > 0:
            c_puct *= self.spread(node)
        explore = c_puct * math.sqrt(visits)
        owed = rule.forced * (visits - 1 - node.failures) if node is self.root else 0.0
        best, best_score, waits = None, -math.inf, node.pending
        for e in live:
            if e.child in path:
                continue
            if e.child.pending and not e.child.expanded:
                waits = True
                continue
            q = rule.discount * e.child.value
            q = q * (1.0 + e.visits) / (1.0 + e.visits + rule.virtual_loss * e.flying)
            prior = math.exp(e.logprob - top) / mass
            score = q + explore * prior / (1.0 + e.visits + e.flying)
            if owed > 0 and 0 < e.visits + e.flying < math.sqrt(owed * prior):
                score = 1e20
            if score > best_score:
                best, best_score = e, score
        if best is not None:
            return best
        if may_ask:
            return "ask"
        return "blocked" if waits else "stuck"

    def spread(self, node):
        """KataGo's factor of the spread of values below a node."""
        rule = self.rule
        if node.visits <= 1:
            return 1.0
        prior, weight, mean_square = rule.stdev_prior, rule.stdev_weight, node.value * node.value
        squares = max(node.mean_square(), mean_square)
        variance = (mean_square + prior * prior) * weight + squares * node.visits
        variance = variance / (weight + node.visits - 1.0) - mean_square
        return 1.0 + rule.stdev_scale * (math.sqrt(max(0.0, variance)) / prior - 1.0)

    def descend(self):
        """(path of edges, last node, why it ended)."""
        node, path, edges = self.root, [self.root], []
        while True:
            if node.terminal:
                return edges, node, "stuck"
            if not node.expanded:
                return edges, node, "blocked" if node.pending else "ask"
            choice = self.pick(node, path)
            if isinstance(choice, str):
                return edges, node, choice
            edges.append(choice)
            node = choice.child
            path.append(node)

    def select(self, wave_size, limit):
        wave = []
        while len(wave) < wave_size and self.simulations + len(wave) < limit and self.free < 1024:
            edges, node, why = self.descend()
            if why == "ask":
                for e in edges:
                    e.flying += 1
                node.pending = True
                self.free = 0
                wave.append((edges, node))
            elif why == "stuck":
                self.backup(edges, node)
                self.free += 1
            else:
                break
        return wave

    def backup(self, edges, node):
        self.simulations += 1
        if node.terminal:
            node.visits += 1
        else:
            node.refresh(self.rule)
        for e in reversed(edges):
            e.visits += 1
            e.parent.refresh(self.rule)

    def insert(self, node, expansion, row):
        """Candidates of one leaf of the wave."""
        node.expanded, node.pending = True, False
        rows = range(expansion.offsets[row], expansion.offsets[row + 1])
        if not len(rows) or expansion.unseen_logmass[row] == -math.inf:
            node.exhausted = True
        self.tokens += int(expansion.leaf_tokens[row])
        alive = 0
        for c in rows:
            ends = bool(expansion.terminal[c])
            key = (int(expansion.keys[c]), ends)
            child = self.known.get(key) if key[0] else None
            if child is None:
                value = float(expansion.rewards[c] if ends else expansion.raw_values[c])
                child = Node(int(expansion.handles[c]), node.depth + 1, value, ends)
                self.nodes.append(child)
                if key[0]:
                    self.known[key] = child
            edge = Edge(node, child, float(expansion.logprobs[c]))
            node.edges.append(edge)
            child.parents.append(node)
            alive += not child.dead
            if ends and child.raw >= 1 and self.first_solution is None:
                self.first_solution = self.tokens
        node.failures += alive == 0
        self.close(node)

    def close(self, node):
        if not node.exhausted:
            return
        deeper = [e.child for e in node.edges if e.child.depth > node.depth]
        before = (node.closed, node.dead, node.lost)
        node.closed = node.closed or all(c.closed for c in deeper)
        node.dead = node.dead or all(c.dead for c in deeper)
        node.lost = node.lost or all(e.child.lost for e in node.edges)
        if node.lost:
            node.value = 0.0
        if (node.closed, node.dead, node.lost) != before:
            for parent in node.parents:
                self.close(parent)


def reference_search(roots, evaluator, rule, simulations, wave_size):
    """All trees, wave by wave, as `mcts.search` with a budget in simulations."""
    trees = [
        Tree(rule, int(h), int(k), float(v))
        for h, k, v in zip(roots.handles, roots.keys, roots.raw_values, strict=True)
    ]
    play(trees, evaluator, rule, simulations, wave_size)
    return trees


def play(trees, evaluator, rule, simulations, wave_size):
    """Go on until every tree is at its limit."""
    while True:
        wave = []
        for tree in trees:
            if not tree.root.closed:
                wave += [(tree, *leaf) for leaf in tree.select(wave_size, simulations)]
        if not wave:
            return
        handles = np.array([node.handle for _, _, node in wave], np.int64)
        expansion = evaluator.expand(handles, rule.n_candidates, rule.draw)
        for row, (tree, _, node) in enumerate(wave):
            tree.insert(node, expansion, row)
        for _, edges, _ in wave:
            for e in edges:
                e.flying -= 1
        for tree, edges, node in wave:
            tree.backup(edges, node)

"""One tree of a forest in obvious Python: objects, lists and float32. Slow; the compiled forest must equal it."""

from __future__ import annotations

import math

import numpy as np

from mcts.forest.layout import EXTRA
from mcts.forest.rules import TreePUCT

F = np.float32


class Node:
    def __init__(self, key: int, prior: float, first_play: float):
        self.key, self.prior, self.first_play = key, F(prior), F(first_play)
        self.visits, self.total, self.reward = 0, F(0), None
        self.children: list[Node] = []

    def q(self) -> np.float32:
        return self.total / F(self.visits) if self.visits else self.first_play


class ReferenceTree:
    """PUCT over one tree, `wave` leaves a round. `answer(key)` -> (priors, value, terminal, first plays)."""

    def __init__(self, rule: TreePUCT, root_key: int, wave: int, limit: int):
        self.rule, self.wave, self.limit = rule, wave, limit
        self.root = Node(root_key, 0.0, rule.first_play if isinstance(rule.first_play, float) else 0.0)
        self.simulations = 0
        self.paths: list[list[Node]] = []

    def explore(self, visits: int) -> np.float32:
        rule = self.rule
        return F((math.log((1.0 + visits + rule.c_base) / rule.c_base) + rule.c_init) * math.sqrt(visits))

    def descend(self) -> list[Node]:
        node, path = self.root, []
        while True:
            before, total = node.visits, node.total
            node.visits += 1
            node.total = F(node.total + F(self.rule.pending_value))
            path.append(node)
            if not node.children:
                return path
            factor = self.explore(before)
            mean = F(0)
            if self.rule.first_play == "mean":
                mean = max(F(F(total / F(before)) - F(self.rule.first_play_reduction)), mean)
            node = node.children[int(np.argmax([self.score(child, factor, mean) for child in node.children]))]

    @staticmethod
    def score(child: Node, factor: np.float32, mean: np.float32) -> np.float32:
        """Q + factor P / (1 + N), over one denominator."""
        seen, after = F(max(child.visits, 1)), F(child.visits + 1)
        value = child.total if child.visits else F(child.first_play + mean)
        return F(F(F(value * after) + F(F(child.prior * factor) * seen)) / F(seen * after))

    def back_up(self, path: list[Node], value: np.float32) -> None:
        change = F(value - F(self.rule.pending_value))
        for node in path:
            node.total = F(node.total + change)

    def select(self) -> list[Node]:
        leaves: list[Node] = []
        self.paths = []
        for _ in range(self.wave + EXTRA):
            if len(leaves) == self.wave or self.simulations == self.limit:
                break
            self.simulations += 1
            path = self.descend()
            leaf = path[-1]
            if leaf.reward is not None:
                self.back_up(path, leaf.reward)
            elif leaf in leaves:
                self.simulations -= 1
                for node in path:
                    node.visits -= 1
                    node.total = F(node.total - F(self.rule.pending_value))
                break
            else:
                self.paths.append(path)
                leaves.append(leaf)
        return leaves

    def enter(self, leaf: Node, priors, value, terminal, first_plays) -> None:
        if terminal:
            leaf.reward = F(value)
            return
        rule = self.rule
        for action, prior in enumerate(priors):
            if rule.first_play == "parent":
                first = max(F(F(value) - F(rule.first_play_reduction)), F(0))
            elif rule.first_play == "mean":
                first = 0.0
            elif rule.first_play == "given":
                first = first_plays[action]
            else:
                first = rule.first_play
            leaf.children.append(Node(child_key(leaf.key, action), prior, first))

    def play(self, answer) -> bool:
        """One whole round; False if nothing was left to evaluate."""
        leaves = self.select()
        self.answer_wave(answer)
        return bool(leaves)

    def answer_wave(self, answer) -> None:
        """Enter and carry up what `answer` says of the leaves selected."""
        answers = [answer(path[-1].key) for path in self.paths]
        for path, found in zip(self.paths, answers, strict=True):
            self.enter(path[-1], *found)
        for path, found in zip(self.paths, answers, strict=True):
            self.back_up(path, F(found[1]))
        self.paths = []

    def cancel(self) -> None:
        """Take the wave back."""
        for path in self.paths:
            self.simulations -= 1
            for node in path:
                node.visits -= 1
                node.total = F(node.total - F(self.rule.pending_value))
        self.paths = []


def child_key(key: int, action: int) -> int:
    return (key * 1000003 + 7 * action + 12345) % (1 << 61)

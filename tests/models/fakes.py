"""An exact language model given by a table, and a task of adding digits, for tests of generation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.trie.batch import NEVER_SAMPLED, NodeBatch, NodeRows
from models.trie.trie import TokenTrie
from tasks.base import BOS_ID, NEWLINE, NEWLINE_ID, SPECIAL_TOKENS, Problem, Verdict
from tasks.free_play import FreePlay
from tasks.oracle import Oracle


class TableForward:
    """Next-token log-probabilities and value are a fixed random function of the path."""

    keeps_some = False
    kv_shape = (0, 0)
    kv_dtype = torch.float32
    device = torch.device("cpu")
    max_positions = 64
    batch_rows = 64

    def __init__(self, vocabulary_size: int, newline_bonus: float = 0.0, logits: dict[int, float] | None = None):
        """`newline_bonus`: makes a newline likely after a word and unlikely after a newline.
        `logits`: token -> logit at every path, instead of random ones.
        """
        self.vocabulary_size = self.row_width = vocabulary_size
        self._newline_bonus = newline_bonus
        self._logits = logits

    def refresh(self) -> None:
        """A table has no weights to take."""

    def __call__(self, batch: NodeBatch) -> NodeRows:
        rows = np.empty((len(batch.nodes), self.vocabulary_size), np.float32)
        values = np.empty(len(batch.nodes), np.float32)
        for row, (token, position) in enumerate(zip(batch.tokens, batch.positions, strict=True)):
            draw = np.random.default_rng(batch.prefixes[row, : position + 1])
            logits = draw.normal(size=self.vocabulary_size) * 1.5
            if self._logits is not None:
                logits[:] = [self._logits.get(token, -np.inf) for token in range(self.vocabulary_size)]
            logits[NEWLINE_ID] += -self._newline_bonus if token == NEWLINE_ID else self._newline_bonus
            logits[list(NEVER_SAMPLED)] = -np.inf
            rows[row] = logits - np.logaddexp.reduce(logits)
            values[row] = draw.random() if batch.with_values else np.nan
        return NodeRows(slice(None), rows, None, values)


def every_step(trie: TokenTrie, start: int, max_step_tokens: int) -> dict[tuple[int, ...], float]:
    """Every step after a trie node with its log-probability, by brute force; unfinished ones included."""
    found = {}

    def walk(node: int, tokens: tuple[int, ...], logprob: float) -> None:
        for token in np.flatnonzero(trie.logprobs[node] > -np.inf).tolist():
            step, total = (*tokens, token), logprob + float(trie.logprobs[node][token])
            if token == NEWLINE_ID or len(step) == max_step_tokens:
                found[step] = total
            else:
                walk(int(trie.extend(np.array([node]), np.array([token]))[0]), step, total)

    walk(start, (), 0.0)
    return found


def chain_logprob(trie: TokenTrie, context: Sequence[int], step: Sequence[int]) -> float:
    """log pi(step | context) by teacher forcing."""
    node, total = int(trie.prefill([[BOS_ID, *context]])[0]), 0.0
    for token in step:
        total += float(trie.logprobs[node][token])
        node = int(trie.extend(np.array([node]), np.array([token]))[0])
    return total


class SumTask(FreePlay, Oracle):
    """Add digits until the target is met. A step is one digit; `modulus` makes sums go round, so that states return.

    `markov`: the context shows target and sum instead of the steps. `keyed`: equal sums are equal states.
    """

    name = "sum"
    vocabulary = (*SPECIAL_TOKENS, *"123456789")
    kinds = ("propose",)
    self_verifying = True
    reversible = False
    max_step_tokens = 3
    max_context_tokens = 12

    def __init__(self, *, markov: bool = False, modulus: int | None = None, keyed: bool = True, max_steps: int = 4):
        self.markov, self.modulus, self.keyed, self.max_steps = markov, modulus, keyed, max_steps

    def problems(self, split, n=None, seed=0):
        return [Problem(f"sum:{target}", self.name, (target,)) for target in range(5, 5 + (n or 4))]

    def count(self, split):
        return 4

    def prompt(self, problem):
        return self.context(problem, ())

    def context(self, problem, steps):
        if not self.markov:
            return f"{problem.data[0]}\n" + "".join(steps)
        total = 1
        for step in steps:
            total = self._add(total, int(step))
        return f"{problem.data[0]} {total}\n"

    def initial_state(self, problem):
        return (1,)

    def state_key(self, problem, state):
        return bytes(state) if self.keyed else None

    def advance(self, problem, state, step):
        digit = step.removesuffix(NEWLINE)
        if digit not in self.vocabulary[len(SPECIAL_TOKENS) :]:
            return Verdict(0.0, True, False, "not one digit"), None
        total = self._add(state[0], int(digit))
        if total == problem.data[0]:
            return Verdict(1.0, True, True, ""), None
        if total > 9:
            return Verdict(0.0, True, True, "too large"), None
        return Verdict(0.0, False, True, ""), (total,)

    def verdict(self, problem, steps):
        state, verdict = self.initial_state(problem), Verdict(0.0, False, True, "")
        for taken, step in enumerate(steps, start=1):
            verdict, state = self.advance(problem, state, step)
            if state is not None and taken == self.max_steps:
                return Verdict(0.0, True, True, "too many steps")
        return verdict

    def legal_steps(self, problem, state):
        return [f"{digit}\n" for digit in range(1, 10)]

    def _add(self, total: int, digit: int) -> int:
        return (total + digit) % self.modulus + 1 if self.modulus else total + digit

    def _unused(self, *args):
        raise NotImplementedError("generation needs none of this")

    parse_step = random_play = hindsight = value_play = solvable = distance = _unused


def sum_forward() -> TableForward:
    """A policy for `SumTask` under which most steps are legal."""
    return TableForward(len(SumTask.vocabulary), newline_bonus=2.5)

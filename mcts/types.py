"""What crosses the seam between search and model: frozen arrays, one call, no text.

Legend: T trees, L leaves of one wave, C candidates of one wave (all leaves together).

A *handle* is the evaluator's own id of a state (opaque here). The store keeps it with the node and hands it back when the
node is to be expanded. A *key* is a 64-bit digest of a task's `state_key`, never 0; two candidates of one tree with equal
keys are one node. Key 0 means "never merge".

Values are P(solved) in [0, 1], seen by the solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

NO_KEY = 0
LOG_ROUNDING = 1e-3  # a float32 log-probability may come out this much above 0

Draw = Literal["sample", "best"]  # without replacement in proportion to mass | most probable unseen first


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the trees of one search start."""

    handles: np.ndarray  # int64 [T]
    keys: np.ndarray  # uint64 [T], NO_KEY: no merging
    raw_values: np.ndarray  # float32 [T]


@dataclass(frozen=True, slots=True)
class Expansion:
    """New candidates of a wave of leaves. Candidates of leaf l are rows offsets[l]:offsets[l+1].

    Distinct within a node over its whole life: an evaluator never hands out the same step of a node twice. A leaf may get
    fewer candidates than asked, or none, when its unseen mass is used up.
    """

    offsets: np.ndarray  # int64 [L+1]
    handles: np.ndarray  # int64 [C], the evaluator's id of the state after the candidate
    keys: np.ndarray  # uint64 [C]
    logprobs: np.ndarray  # float32 [C], log pi(step | state), exact
    raw_values: np.ndarray  # float32 [C], value head after the step
    rewards: np.ndarray  # float32 [C], verdict's reward, or an estimate below 1; 0 where not terminal
    terminal: np.ndarray  # bool [C]
    legal: np.ndarray  # bool [C]; an illegal candidate is terminal with reward 0
    tokens: np.ndarray  # int32 [C], generated tokens that this candidate newly cost
    leaf_tokens: np.ndarray  # int32 [L], generated tokens newly paid for the leaf, spilled and unfinished ones included
    unseen_logmass: np.ndarray  # float32 [L], log of the policy mass not yet handed out; -inf: exhausted
    best_unseen_logprob: np.ndarray  # float32 [L], bound on the log-probability of every step not yet handed out


def check_expansion(expansion: Expansion, n_leaves: int) -> None:
    """Refuse what a store cannot hold, before anything of it is entered.

    Raises:
        ValueError: array lengths that do not fit the wave, a log-probability that is NaN or above 0, a value or reward outside
            [0, 1]. One line that names the first row.
    """
    offsets = np.asarray(expansion.offsets)
    n = len(expansion.handles)
    if len(offsets) != n_leaves + 1 or offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets {_shown(offsets)}: must rise from 0 to {n} candidates over {n_leaves} leaves")
    for name in ("keys", "logprobs", "raw_values", "rewards", "terminal", "legal", "tokens"):
        if len(getattr(expansion, name)) != n:
            raise ValueError(f"{name} has {len(getattr(expansion, name))} rows for {n} candidates")
    for name in ("leaf_tokens", "unseen_logmass", "best_unseen_logprob"):
        if len(getattr(expansion, name)) != n_leaves:
            raise ValueError(f"{name} has {len(getattr(expansion, name))} rows for {n_leaves} leaves")
    ended = np.asarray(expansion.terminal) | ~np.asarray(expansion.legal)
    for name, low, high, rows in (
        ("logprobs", -np.inf, LOG_ROUNDING, True),
        ("unseen_logmass", -np.inf, LOG_ROUNDING, True),
        ("best_unseen_logprob", -np.inf, np.inf, True),
        ("raw_values", 0.0, 1.0, ~ended),
        ("rewards", 0.0, 1.0, np.asarray(expansion.legal)),
    ):
        found = np.asarray(getattr(expansion, name))
        wrong = ~((found >= low) & (found <= high)) & rows  # NaN compares false
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"{name}[{row}] = {found[row]}: must lie in {low:g}..{high:g}")


def _shown(array: np.ndarray) -> str:
    return np.array2string(array, threshold=6, edgeitems=3)


class Evaluator(Protocol):
    """Owns text, tokens, the token trie and KV. Everything a search may ask of a model is here."""

    def begin(self, problems: Sequence) -> Roots:
        """Open one tree a problem; forget what an earlier `begin` opened."""

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        """Up to `n_candidates` unseen steps at each of `handles` (int64 [L], distinct). One wave = one call."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one search, per tree except `seconds`. None: no limit. The first one reached stops the tree."""

    simulations: int | np.ndarray | None = None  # of every tree, or int [T], one each: see `stops.playout_caps`
    tokens: int | np.ndarray | None = None  # generated tokens: of every tree, or int [T], one each
    seconds: float | None = None  # wall clock of the whole search

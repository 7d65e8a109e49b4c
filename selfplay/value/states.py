"""States that a value head is measured on: of random play and of the model's own chains on dev problems, with exact labels.

Labels measure, and nothing learns from them. Legend: B rows.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.seeds import generator
from kit.statistics import auc, auc_within, brier, ece
from models.files.calibration import Calibration
from models.local_policy import LocalPolicy
from models.net.policy_value import PolicyValueLM
from models.steps.codec import codec_of
from selfplay.value.training import Features, Settings, probabilities
from solve.calibrate.ground import greedy_tokens
from tasks import PAD_ID, Problem, Rows, Task
from tasks.oracle import exact_labels, oracle

PLAYED_STATES = 8  # distinct states of random play a dev problem, at most
RESAMPLES = 1000  # of the bootstrap
GREEDY_SECONDS, GREEDY_PART = 60.0, 20  # most that greedy chains on dev take, and how many are decoded at once


@dataclass(frozen=True)
class Examples:
    """Rows in a model's tokens with the prompt of each: what is held out, or drawn again, together."""

    rows: Rows
    prompts: list[str]  # [B]


@dataclass(frozen=True)
class DevStates:
    """One state a row, with exact labels. Nothing learns from them."""

    examples: Examples  # value target: what the value should say
    label: np.ndarray  # bool [B], what the AUC sorts by
    steps: np.ndarray  # int [B], taken so far


def dev_states(model: PolicyValueLM, task: Task, settings: Settings) -> dict[str, DevStates]:
    """Distinct states after at least one step on dev problems: `play` by random legal play, `own` by the model's chains."""
    problems = task.first_problems("dev", settings.dev)
    chains = {"play": [_played(task, p, generator(settings.seed, "play", i)) for i, p in enumerate(problems)]}
    if settings.dev_samples:
        drawn = LocalPolicy(model).chains(task, problems, settings.dev_samples, seed=settings.seed)
        chains["own"] = [
            [(chain.steps[:k], chain.states[k]) for chain in of for k in range(1, len(chain.states))] for of in drawn
        ]
    made = {name: _labelled(model, task, problems, found) for name, found in chains.items()}
    return {name: states for name, states in made.items() if states is not None}


def _played(task: Task, problem: Problem, rng: np.random.Generator) -> list[tuple[tuple[str, ...], tuple]]:
    """(steps, state) of up to PLAYED_STATES states of random legal play."""
    found: dict[tuple[str, ...], tuple] = {}
    for _ in range(PLAYED_STATES):
        walk, steps, state = [], (), task.initial_state(problem)
        while len(steps) < task.max_steps and (legal := oracle(task).legal_steps(problem, state)):
            steps = (*steps, legal[rng.integers(len(legal))])
            _, state = task.advance(problem, state, steps[-1])
            if state is None:
                break
            walk.append((steps, state))
        if walk:
            chosen = walk[rng.integers(len(walk))]
            found[chosen[0]] = chosen[1]
    return list(found.items())


def _labelled(model: PolicyValueLM, task: Task, problems: list[Problem], found: list[list[tuple]]) -> DevStates | None:
    """Each context once, with its exact labels; None where there is none."""
    discount, codec = task.discount, codec_of(model, task)
    lines: dict[tuple[str, str], tuple[int, float, float]] = {}
    for problem, states in zip(problems, found, strict=True):
        for steps, state in states:
            key = task.prompt(problem), task.context(problem, steps)
            lines[key] = (len(steps), *exact_labels(oracle(task), problem, state, discount))
    if not lines:
        return None
    steps, label, target = np.array(list(lines.values()), np.float64).T
    if task.reversible:
        label = label <= np.median(label) - 1  # as `selfplay.measure.evaluate`: nearer than most
    tokens = [codec.context(context) for _, context in lines]
    rows = blank_rows(tokens)
    for i, row in enumerate(tokens):
        rows.value[i, len(row) - 1] = target[i]
    return DevStates(Examples(rows, [prompt for prompt, _ in lines]), label.astype(bool), steps.astype(int))


def blank_rows(tokens: list[list[int]]) -> Rows:
    shape = len(tokens), max(map(len, tokens))
    rows = Rows(np.full(shape, PAD_ID, np.int32), np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32))
    for i, row in enumerate(tokens):
        rows.tokens[i, : len(row)] = row
    return rows


def measured(score: np.ndarray, states: DevStates) -> dict[str, Any]:
    """AUC with its 95 % bootstrap interval (problems are drawn again, states of one stay together), ECE and Brier score."""
    target = states.examples.rows.value[~np.isnan(states.examples.rows.value)]
    low, high = _auc_interval(score, states)
    return {
        "auc": auc(score, states.label),
        "auc_ci95": [low, high],
        "ece": ece(score, target),
        "brier": brier(score, target),
    }


def _auc_interval(score: np.ndarray, states: DevStates) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    _, problem = np.unique(states.examples.prompts, return_inverse=True)
    members = [np.flatnonzero(problem == p) for p in range(problem.max() + 1)]
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[p] for p in rng.integers(len(members), size=len(members))])
        found.append(auc(score[drawn], states.label[drawn]))
    low, high = np.nanquantile(found, [0.025, 0.975]) if np.isfinite(found).any() else (math.nan, math.nan)
    return float(low), float(high)


def controls(states: DevStates, bag: np.ndarray) -> dict[str, float]:
    """AUC of what needs no trunk: a constant, steps so far, length in tokens (either way round), the head on embeddings."""
    length = states.examples.rows.used.sum(1)
    either = {"steps": auc(states.steps, states.label), "length": auc(length, states.label)}
    constant = auc(np.zeros(len(length)), states.label)
    return (
        {"constant": constant} | {k: max(v, 1 - v) for k, v in either.items()} | {"embeddings": auc(bag, states.label)}
    )


def calibrated(
    model: PolicyValueLM, task: Task, own: DevStates | None, looks: Features | None, settings: Settings
) -> Calibration:
    """What `solve` may believe of the model: its value on states of its own chains, and what a greedy chain takes.

    No value is trusted on states of random play alone: where the model has no states of its own, none is told.
    """
    problems = task.first_problems("dev", settings.dev)
    unit, _ = greedy_tokens(LocalPolicy(model), task, problems, time.monotonic() + GREEDY_SECONDS, part=GREEDY_PART)
    if own is None or looks is None:
        return Calibration(greedy_tokens=unit)
    score, (_, problem) = (
        probabilities(model.value_head, looks.hidden),
        np.unique(own.examples.prompts, return_inverse=True),
    )
    figures, within = measured(score, own), auc_within(score, own.label, problem)
    if math.isnan(figures["auc"]):
        return Calibration(greedy_tokens=unit)
    facts = {"n": len(score), "positive": float(own.label.mean()), "auc_ci95": figures["auc_ci95"], "split": "dev"}
    facts["problems"] = len(set(own.examples.prompts))
    return Calibration(figures["auc"], None if math.isnan(within) else within, greedy_tokens=unit, measured=facts)

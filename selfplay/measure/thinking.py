"""What a net that thinks does on the test split, beside what it does with as many tokens without thinking.

The verdict is the net's own; the judge says afterwards what was right, and is in the loop of best of N alone. Every token of a
stream is counted, what it gave up included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from kit.statistics import wilson
from models.policy import Policy
from models.steps.stream_types import Rules, Stream
from selfplay.team import Team
from solve.cli.page import hidden
from tasks import Problem, Task
from tasks.streams import EFFORTS

HIGH = len(EFFORTS) - 1
RESTARTS, JUDGED = "restarts", "best of N, judge"
CONTROLS = {RESTARTS: "tries by itself, first one accepted", JUDGED: "best of N with the true judge"}
TRIES, TEMPERATURE = 24, 0.7  # of the controls; 1.0 is worse for them (docs/results/reflect.md)
FEW = 8  # tries of a pretrained model, where one costs a thousand times as much
SHOWN = 3  # hidden chains
WITH_AND_WITHOUT = ("none", "medium")  # efforts of a language model that was not taught words for it


def thinking(
    policy: Policy,
    task: Task,
    problems: list[Problem],
    team: Team,
    rules: Rules,
    seed: int,
    efforts: Sequence[str] = EFFORTS,
) -> dict[str, Any]:
    """Solved and tokens of every effort, and of the controls at no fewer tokens than the highest one. Collective.

    `efforts`: some of them, without controls where the highest is missing.
    """
    mine = team.share(problems)
    rows = team.weave(played(policy, task, mine, rules, seed, efforts) if mine else [])
    columns = [tuple(np.array([row[k][part] for row in rows]).T for part in (0, 1)) for k in range(len(rows[0]))]
    found = {name: (right, float(paid.mean())) for name, (right, paid) in zip(efforts, columns, strict=False)}
    for name, (right, paid) in zip((RESTARTS, JUDGED), columns[len(efforts) :], strict=False):
        found[name] = at_least((right, paid), found[EFFORTS[HIGH]][1])
    return {name: {"solved": float(right.mean()), "tokens": tokens} for name, (right, tokens) in found.items()}


def played(
    policy: Policy, task: Task, mine: list[Problem], rules: Rules, seed: int, efforts: Sequence[str] = EFFORTS
) -> list[list[tuple]]:
    """Of each problem (solved, tokens) of every effort, then of both controls, whose pairs hold an entry a try."""
    columns: list[tuple[np.ndarray, np.ndarray]] = []
    for effort in map(EFFORTS.index, efforts):
        made = policy.streams(task, mine, effort, rules, seed=seed)
        columns.append((solved(task, mine, made), np.array([stream.tokens for stream in made])))
    if EFFORTS[HIGH] in efforts:
        tries = TRIES if policy.in_words else FEW
        columns.append(restarts(policy, task, mine, replace(rules, undos=0), tries, TEMPERATURE, seed))
        columns.append(judged_samples(policy, task, mine, tries, TEMPERATURE, seed))
    return [[(right.T[i], paid.T[i]) for right, paid in columns] for i in range(len(mine))]


def solved(task: Task, asked: list[Problem], made: list[Stream]) -> np.ndarray:
    """bool [P]: accepted by the stream itself, and right."""
    return np.array(
        [s.accepted and task.verdict(problem, s.steps).reward >= 1 for problem, s in zip(asked, made, strict=True)],
        bool,
    )


def at_least(found: tuple[np.ndarray, np.ndarray], tokens: float) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) after the fewest tries that cost as many tokens; after all where none do."""
    right, paid = found
    k = min(int(np.searchsorted(paid.mean(1), tokens)), len(right) - 1)
    return right[k], float(paid[k].mean())


def restarts(
    policy: Policy, task: Task, asked: list[Problem], rules: Rules, tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(solved bool [K, P], tokens int64 [K, P]) after 1 to K tries of each problem, up to its first `yes`."""
    right, paid = np.zeros((tries, len(asked)), np.bool_), np.zeros((tries, len(asked)), np.int64)
    going = np.arange(len(asked))
    for k in range(tries):
        some = [asked[i] for i in going]
        drawn = replace(rules, temperature=temperature if k else 0.0)
        made = policy.streams(task, some, HIGH, drawn, seed=seed, first=[k] * len(some)) if some else []
        right[k:, going] = solved(task, some, made) if some else False
        paid[k:, going] += np.array([stream.tokens for stream in made], np.int64)
        going = going[[not stream.accepted for stream in made]] if some else going
    return right, paid


def judged_samples(
    policy: Policy, task: Task, asked: list[Problem], tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same for plain samples, up to the first that the judge accepts."""
    drawn = policy.chains(task, asked, tries, temperature=temperature, seed=seed, no_reentry=task.reversible)
    right = np.array([[chain.verdict.reward >= 1 for chain in chains] for chains in drawn]).T
    tokens = np.array([[chain.tokens for chain in chains] for chains in drawn]).T
    before = np.vstack([np.zeros_like(right[:1]), np.logical_or.accumulate(right)[:-1]])
    return np.logical_or.accumulate(right), np.cumsum(np.where(before, 0, tokens), 0)


def thinking_table(found: dict[str, Any], n: int) -> Table:
    """For a person."""
    table = Table(title=f"one hidden stream, no judge, n={n} (test, %)", title_justify="left", caption_justify="left")
    for name in ("", "solved", "95 % CI", "tokens"):
        table.add_column(name, justify="left" if not name else "right")
    for name, row in found.items():
        low, high = wilson(round(row["solved"] * n), n)
        cells = f"{100 * row['solved']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", f"{row['tokens']:.1f}"
        table.add_row(CONTROLS.get(name, f"effort {name}"), *cells)
    return table


def thinking_curve(found: dict[str, Any], n: int, path: Path, *, title: str) -> None:
    """Draw solved against tokens: one stream, an effort a point with its 95 % interval, and a point for each control."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes, efforts = figure.subplots(), [found[name] for name in EFFORTS]
    tokens, rate = ([row[what] for row in efforts] for what in ("tokens", "solved"))
    bounds = [wilson(round(row["solved"] * n), n) for row in efforts]
    low, high = ([100 * bound[side] for bound in bounds] for side in (0, 1))
    axes.fill_between(tokens, low, high, alpha=0.2, linewidth=0)
    axes.plot(tokens, [100 * r for r in rate], marker="o", label="one hidden stream, by effort")
    for k, (x, y) in enumerate(zip(tokens, rate, strict=True)):  # those of the highest efforts lie close together
        axes.annotate(
            EFFORTS[k], (x, 100 * y), (0, 8 if k % 2 else -16), textcoords="offset points", fontsize=9, ha="center"
        )
    for (name, told), colour in zip(CONTROLS.items(), ("tab:orange", "tab:red"), strict=True):
        axes.plot(found[name]["tokens"], 100 * found[name]["solved"], "s", color=colour, label=told)
    axes.set_xlabel("tokens a problem, all of the hidden chain included")
    axes.set_ylabel("test problems solved, %")
    axes.set_ylim(0, 105)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    axes.set_title(title)
    figure.savefig(path, dpi=120)


def hidden_chains(policy: Policy, task: Task, problems: list[Problem], rules: Rules, seed: int) -> list[str]:
    """Some problems that the highest effort solves: the hidden chain with what it gave up. Those that went back first."""
    made = policy.streams(task, problems, HIGH, rules, seed=seed)
    right = solved(task, problems, made)
    order = sorted(np.flatnonzero(right).tolist(), key=lambda i: not made[i].undos)
    return [
        "\n".join(
            [f"{task.prompt(problems[i]).strip()}   hidden chain, {made[i].tokens} tokens", *hidden(made[i].thoughts)]
        )
        for i in order[:SHOWN]
    ]

"""How far a value head can be trusted, and what a share of the votes means: the calibration of a checkpoint, printed.

    python -m bench calibration policy=NAME,FOLDER [problems=300] [chains=16] [split=dev] [write=yes] [run_dir=DIR]

The figures are those of `solve.calibrate`, which every self-play run ends with, on as many problems as are asked for, by depth
and with intervals (95 %, bootstrap over problems). write=yes puts them beside the weights (calibration.json): from then on
`solve` uses the value where its AUC allows it, chooses by P(right), calls its confidence calibrated, and knows what an effort
is in tokens. With run_dir: calibration.json, .md, .png.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import command
from bench.budget.run import SPLITS
from bench.tables import table
from kit.statistics import auc
from models.files.calibration import write_calibration
from models.files.manifest import MANIFEST
from models.policy import located, shipped
from solve.calibrate.measure import CHAINS, PROBLEMS, Measured, calibrate
from solve.calibrate.states import States
from solve.policies import take
from tasks import make_scorer

BINS = 10


def measured(name: str, problems: int, chains: int, split: str, task: str, options: dict[str, Any]) -> Measured:
    """All figures of one policy."""
    shelved = take(name, task=task or None, options=options, calibration=False)
    if not shelved.policy.can.values:
        raise command.UsageError(f"policy={name} gives no values: there is nothing to calibrate")
    asked = shelved.task.first_problems(command.one_of("split", split, SPLITS), problems)
    found = calibrate(
        shelved.policy, shelved.task, make_scorer(**shelved.options), asked, split=split, chains=chains, seconds=None
    )
    found.figures.update(model=shelved.policy.name, task=shelved.options)
    return found


def main(
    policy: str = "",
    models: str = "",
    task: str = "",
    problems: int = PROBLEMS,
    chains: int = CHAINS,
    split: str = "dev",
    write: str = "no",
    run_dir: str = "",
) -> dict[str, Any]:
    """Print a table a policy.

    `policy`: folders or names of shipped nets between commas; none: all shipped. `models` is an alias of it. `task`: of
    policies that do not say it, e.g. gym:dataset=chain_sum.

    Raises:
        command.UsageError: a split or an answer that is none, or a policy that keeps nothing.
    """
    command.one_of("split", split, SPLITS)
    command.one_of("write", write, command.YES_NO)
    if write == "yes" and split == "test":
        raise command.UsageError(
            "split=test write=yes: what a checkpoint says of itself comes from dev, test is to be quoted"
        )
    names = command.policies(policy, models) or list(shipped())
    if write == "yes" and (plain := [name for name in names if not _keeps(name)]):
        raise command.UsageError(
            f"policy={plain[0]} is no checkpoint of ours, so it keeps no calibration: use write=no"
        )
    torch.set_num_threads(1)
    name, _, rest = task.partition(":")
    options = dict(setting.split("=", 1) for setting in rest.split(",") if setting)
    results, drawn, pages = [], [], []
    for model in names:
        found = measured(model, problems, chains, split, name, options)
        print(text := page(found.figures))
        results.append(found.figures)
        pages.append(text)
        drawn.append((found.figures["model"], found.states))
        if write == "yes":
            write_calibration(located(model), found.calibration)
    if run_dir:
        (Path(run_dir) / "calibration.md").write_text("\n".join(pages))
        picture(drawn).savefig(Path(run_dir) / "calibration.png", dpi=110)
    result = {"models": results}
    command.save(result, run_dir, "calibration")
    return result


def _keeps(name: str) -> bool:
    return not name.startswith(("http://", "https://")) and (located(name) / MANIFEST).exists()


def page(figures: dict[str, Any]) -> str:
    """Markdown of one model."""
    value, (low, high) = figures["value"], figures["value"]["auc_ci95"]
    lines = [
        f"## {figures['task']['name']}, {figures['model']}: the value head",
        "",
        f"{value['n']} states of {figures['problems']} {figures['split']} problems, labels: {figures['labels']}. "
        f"AUC {value['auc']:.3f} ({low:.3f}-{high:.3f}), within problems {value['auc_within']:.3f}, "
        f"Brier {value['brier']:.3f}, ECE {value['ece']:.3f}; a greedy chain is {figures['greedy_tokens']:.1f} tokens.",
        "",
    ]
    rows = [(f"{depth}", *_figures(row, "brier", "ece")) for depth, row in figures["by_depth"].items()]
    lines += table(["steps done", "states", "positive, %", "AUC", "Brier", "ECE"], rows)
    if chain := figures.get("chain"):
        lines += [
            "",
            f"{chain['n']} ended chains without a verifier, {100 * chain['right']:.1f} % right (each problem of weight 1): "
            f"AUC of the value before the last step {chain['auc_value']:.3f}, of the finished chain {chain['auc_ended']:.3f}, "
            f"of P(right), by both and the last step's probability, {chain['auc']:.3f}, "
            f"ECE {chain['ece']:.3f}.",
        ]
    if "confidence" in figures:
        rows = [
            (name, *_figures(fit, "ece_before", "ece", share="right")) for name, fit in figures["confidence"].items()
        ]
        heads = ["confidence without a verifier", "n", "right, %", "AUC", "ECE, not fitted", "ECE, fitted"]
        lines += ["", *table(heads, rows)]
    return "\n".join([*lines, ""])


def _figures(row: dict[str, Any], *errors: str, share: str = "positive") -> list[str]:
    """Cells of one line: n, a share in %, the AUC, and the errors."""
    ranked = "-" if math.isnan(row["auc"]) else f"{row['auc']:.3f}"
    return [f"{row['n']}", f"{100 * row[share]:.1f}", ranked, *(f"{row[name]:.3f}" for name in errors)]


def picture(drawn: list[tuple[str, States]]):
    """Reliability diagrams: what the head said against what was so, the size of a dot for the number of states."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(drawn), 4), layout="constrained")
    for axis, (name, states) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        bins = np.minimum((states.values * BINS).astype(int), BINS - 1)
        for depth in np.unique(states.depths):
            at = [np.flatnonzero((bins == b) & (states.depths == depth)) for b in range(BINS)]
            at = [rows for rows in at if len(rows)]
            said = [states.values[rows].mean() for rows in at]
            so = [states.targets[rows].mean() for rows in at]
            sizes = [4 + 60 * len(rows) / len(states.values) for rows in at]
            axis.plot(said, so, linewidth=0.8, color=f"C{depth % 10}", label=f"after {depth}" if len(drawn) else None)
            axis.scatter(said, so, s=sizes, color=f"C{depth % 10}")
        axis.set_title(f"{name}: AUC {auc(states.values, states.labels):.3f}")
        axis.set_xlabel("P(solved) said")
        axis.set_ylabel("so")
        axis.legend(fontsize=6, title="steps", title_fontsize=6)
    return figure

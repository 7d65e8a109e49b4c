"""learning_curve.png: greedy solve rate on dev against seconds, generated and trained tokens, with its 95 % band."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from selfplay.teachers import TEACHERS


def learning_curve(metrics: list[dict], path: Path, *, title: str) -> None:
    """Draw the measured iterations; one colour a teacher."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    measured = [m for m in metrics if "dev" in m]
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    left = axes[0]
    for axis, unit in zip(axes, ("seconds", "generated_tokens", "trained_tokens"), strict=True):
        x = [m[unit] for m in measured]
        axis.fill_between(
            x,
            [100 * m["dev"]["greedy_ci95"][0] for m in measured],
            [100 * m["dev"]["greedy_ci95"][1] for m in measured],
            alpha=0.2,
            color="tab:blue",
            linewidth=0,
        )
        for before, after in pairwise(measured):
            axis.plot(
                [before[unit], after[unit]],
                [100 * _rate(before), 100 * _rate(after)],
                color=TEACHERS[after["teacher"]].colour,
                marker="o",
                markersize=3,
            )
        axis.set_xlabel(unit.replace("_", " "))
        if unit != "seconds":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(alpha=0.3)
        axis.set_ylim(0, 100)
    for teacher in dict.fromkeys(m["teacher"] for m in measured[1:]):
        left.plot([], [], color=TEACHERS[teacher].colour, marker="o", markersize=3, label=teacher)
    left.set_ylabel("dev problems solved greedily, %")
    left.legend(loc="lower right", title="teacher")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _rate(metrics: dict) -> float:
    return metrics["dev"].get("greedy_no_reentry", metrics["dev"]["greedy"])

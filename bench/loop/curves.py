"""Learning curves of several finished runs in one picture: dev problems solved greedily against generated tokens.

    python -m bench curves runs=runs/search0,runs/search1 against=runs/star0,runs/star1 picture=FILE.png

One line a run, the band of its 95 % interval over problems; colours by `runs` and `against`, which are labelled by their mode.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench import command
from bench.loop.compare import finished_run

COLOURS = ("tab:green", "tab:orange")


def measured(run: Path) -> list[tuple[int, float, float, float]]:
    """(generated tokens, rate, low, high) of every measurement of a run, rates in [0, 1]."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [(line["generated_tokens"], line["dev"]) for line in lines if "dev" in line]
    return [(tokens, dev.get("greedy_no_reentry", dev["greedy"]), *dev["greedy_ci95"]) for tokens, dev in curve]


def main(runs: str = "", against: str = "", picture: str = "curves.png", run_dir: str = "") -> dict[str, Any]:
    """Draw, and give back the curves by run.

    Raises:
        command.UsageError: no runs, or one that has not ended.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    groups = [[Path(name) for name in names.split(",") if name] for names in (runs, against)]
    if not groups[0]:
        raise command.UsageError("curves needs runs=DIR,DIR (and against=DIR,DIR)")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    curves = {}
    for folders, colour in zip(groups, COLOURS, strict=True):
        for k, folder in enumerate(folders):
            config, _ = finished_run(folder)
            label = f"{config['selfplay']['mode']}, {len(folders)} {'seed' if len(folders) == 1 else 'seeds'}"
            curves[str(folder)] = points = measured(folder)
            tokens, rate, low, high = np.array(points).T * [[1], [100], [100], [100]]
            axis.plot(tokens, rate, color=colour, marker="o", markersize=3, label=None if k else label)
            axis.fill_between(tokens, low, high, color=colour, alpha=0.12, linewidth=0)
    axis.set_xlabel("generated tokens")
    axis.set_ylabel("dev problems solved greedily, %")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_ylim(0, 100)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")
    axis.set_title(finished_run(groups[0][0])[0]["task"]["name"])
    figure.savefig(picture, dpi=120)
    print(f"drawn to {picture}")
    command.save(curves, run_dir, "curves")
    return curves

"""The table and the picture of `bench.engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {
    "ours": "#c0392b",
    "per_node": "#95a5a6",
    "batched": "#7f8c8d",
    "slab": "#2980b9",
    "generate_static": "#8e44ad",
    "continuous": "#d4ac0d",
    "llama_cpp": "#27ae60",
}


def table(result: dict[str, Any]) -> str:
    """Markdown: a line a cell, a column a method, new tokens a second; then what the machine could do."""
    methods = [m for m in COLOURS if any(row["method"] == m for row in result["rows"])]
    lines = [
        f"| leaves x candidates | depth | step | {' | '.join(methods)} | ours / per_node | ours / batched |",
        "|---" * (len(methods) + 5) + "|",
    ]
    for cell, found in cells(result).items():
        leaves, candidates, depth, step = cell
        speeds = [f"{found[m]:.1f}" if m in found else "" for m in methods]
        ratios = [
            f"{found['ours'] / found[m]:.2f}" if {"ours", m} <= found.keys() else "" for m in ("per_node", "batched")
        ]
        lines.append(f"| {leaves} x {candidates} | {depth} | {step} | {' | '.join([*speeds, *ratios])} |")
    lines += ["", "| ceiling | |", "|---|---|"]
    lines += [f"| {name} | {value:.1f} |" for name, value in result["ceilings"].items()]
    return "\n".join(lines) + "\n"


def cells(result: dict[str, Any]) -> dict[tuple[int, int, int, int], dict[str, float]]:
    """New tokens a second by cell and method."""
    found: dict[tuple[int, int, int, int], dict[str, float]] = {}
    for row in result["rows"]:
        cell = (row["leaves"], row["candidates"], row["depth"], row["step_tokens"])
        found.setdefault(cell, {})[row["method"]] = row["tokens_per_s"]
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars by cell, one colour a method; the linear layers' ceiling as a line over each cell."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    by_cell = cells(result)
    figure, axes = plt.subplots(figsize=(max(6.0, 1.1 * len(by_cell)), 4.2), layout="constrained")
    width = 0.8 / len(COLOURS)
    for x, (cell, found) in enumerate(by_cell.items()):
        for i, (method, colour) in enumerate(COLOURS.items()):
            if method in found:
                axes.bar(x + (i - 3) * width, found[method], width, color=colour, label=method if x == 0 else None)
        ceiling = result["ceilings"].get(f"linears_tokens_per_s_{cell[0] * cell[1]}")
        if ceiling:
            axes.hlines(ceiling, x - 0.42, x + 0.42, color="black", lw=1, label="linear layers alone" if x == 0 else "")
    axes.set_yscale("log")
    axes.set_xticks(range(len(by_cell)), [f"{n} x {k}\ndepth {d}\nsteps of {s}" for n, k, d, s in by_cell], fontsize=7)
    axes.set_ylabel("new tokens a second, all costs in")
    axes.set_title(
        f"Expanding leaves with {result['model']}, {result['dtype'].removeprefix('torch.')}, {result['device']}",
        fontsize=9,
    )
    axes.legend(fontsize=7, ncols=4, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
    plt.close(figure)

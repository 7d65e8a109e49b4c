"""The table and the picture of `bench.speed.expand`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.tables import table

RATIOS = ("per_node", "batched")  # what ours is compared with in the table

COLOURS = {
    "ours": "#c0392b",
    "per_node": "#95a5a6",
    "batched": "#7f8c8d",
    "slab": "#2980b9",
    "generate_static": "#8e44ad",
    "continuous": "#d4ac0d",
    "llama_cpp": "#27ae60",
}


def page(result: dict[str, Any]) -> str:
    """Markdown: a line a cell, a column a method, in the unit of `cells`; then what the machine could do."""
    methods = [m for m in COLOURS if any(row["method"] == m for row in result["rows"])]
    rows = []
    for (leaves, candidates, depth, step), rates in cells(result).items():
        speeds = [f"{rates[m]:.1f}" if m in rates else "" for m in methods]
        ratios = [f"{rates['ours'] / rates[m]:.2f}" if {"ours", m} <= rates.keys() else "" for m in RATIOS]
        rows.append([f"{leaves} x {candidates}", f"{depth}", f"{step}", *speeds, *ratios])
    heads = ["leaves x candidates", "depth", "step", *methods, *(f"ours / {m}" for m in RATIOS)]
    ceilings = ((name, f"{value:.1f}") for name, value in result["ceilings"].items())
    return "\n".join([*table(heads, rows), "", *table(["ceiling", ""], ceilings), ""])


def cells(result: dict[str, Any]) -> dict[tuple[int, int, int, int], dict[str, float]]:
    """New tokens by cell and method: a CPU-second, which other programs on the machine hardly move, or a second of a GPU."""
    unit = "cpu_tokens_per_s" if result["device"] == "cpu" else "tokens_per_s"
    found: dict[tuple[int, int, int, int], dict[str, float]] = {}
    for row in result["rows"]:
        cell = (row["leaves"], row["candidates"], row["depth"], row["step_tokens"])
        found.setdefault(cell, {})[row["method"]] = row[unit]
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """Bars by cell, one colour a method; the linear layers' ceiling as a line over each cell."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    by_cell = cells(result)
    methods = [method for method in COLOURS if any(method in found for found in by_cell.values())]
    figure, axes = plt.subplots(figsize=(max(6.4, 1.3 * len(by_cell)), 4.2), layout="constrained")
    width = 0.84 / len(methods)
    bars: dict[str, Any] = {}
    for x, (cell, found) in enumerate(by_cell.items()):
        for i, method in enumerate(methods):
            if method in found:
                at = x + (i - (len(methods) - 1) / 2) * width
                bars[method] = axes.bar(at, found[method], 0.92 * width, color=COLOURS[method])
                axes.text(at, found[method], f"{found[method]:.0f}", ha="center", va="bottom", fontsize=6)
        if ceiling := result["ceilings"].get(f"linears_tokens_per_s_{cell[0] * cell[1]}"):
            bars["linear layers alone, by torch"] = axes.hlines(ceiling, x - 0.46, x + 0.46, color="black", lw=1)
    axes.set_xticks(range(len(by_cell)), [f"{n} x {k}, depth {d}\nsteps of {s}" for n, k, d, s in by_cell], fontsize=7)
    axes.set_ylabel(
        "new tokens a second of one core, all costs in" if result["device"] == "cpu" else "new tokens a second"
    )
    title = f"Expanding leaves x candidates: {result['model']}, {result['dtype'].removeprefix('torch.')}, {result['device']}"
    axes.set_title(title, fontsize=9)
    figure.legend(bars.values(), bars.keys(), fontsize=7, ncols=4, loc="outside lower center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
    plt.close(figure)

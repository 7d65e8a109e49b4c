"""The report of `bench.budget.run`: rows, tables, pictures and one page, from the cells that were measured.

Intervals are 95 %: Wilson over problems for a rate, which is wider than it need be for a mean over seeds, and paired bootstrap
over problems for a difference. The two modes never share a table or a picture's panel.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.tables import table
from kit.files import replacing
from kit.statistics import bootstrap_difference, wilson

MODES = {"task": "verifier in the loop", "none": "no verifier"}
AXES = {"tokens": "generated tokens a problem", "simulations": "simulations", "seconds": "seconds", "flops": "FLOPs"}
ALONE = {
    "bits": "Searched in batches; a problem's own search is the same bits beside any others.",
    "usually": "Searched in batches; in float32 a problem's own search is usually the same beside others.",
    "no": "Searched in batches; beside others a problem's own search may round otherwise.",
}
CONTROLS = ("guess", "enumeration")
RESAMPLES = 4000
FIELDS = (
    "task", "model", "strategy", "mode", "budget_tokens", "n", "solved", "ci_low", "ci_high", "tokens", "simulations",
    "seconds", "flops", "seed", "rung", "prefilled", "split", "value_on", "value_auc", "alone",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One strategy of one panel: R rungs, P problems; means over seeds."""

    strategy: str
    rungs: np.ndarray  # int [R]
    budgets: np.ndarray  # int [R], tokens
    solved: np.ndarray  # float [R, P]
    seeds: int
    spent: dict[str, np.ndarray]  # float [R] by name of AXES, means over problems
    prefilled: np.ndarray  # float [R]
    split: str
    value_on: bool
    value_auc: float | None  # on dev; None: never measured
    alone: str  # see `models.abilities.Abilities`

    @property
    def rate(self) -> np.ndarray:
        return self.solved.mean(1)

    def interval(self, rung: int) -> tuple[float, float]:
        """Of the rate at one rung."""
        outcomes = self.solved[rung]
        return wilson(round(float(outcomes.sum())), len(outcomes))

    def cell(self, rung: int) -> str:
        """The rate at one rung and its interval, in %."""
        low, high = self.interval(rung)
        return f"{100 * self.rate[rung]:.1f} ({100 * low:.0f}-{100 * high:.0f})"


Panel = tuple[str, str, str]  # task, model, mode


def write_report(
    root: Path, cells: pa.Table, baselines: dict[str, list[str]], order: dict[str, list[str]], names: list[str]
) -> None:
    """rows.parquet, table.md, budget.png, budget.svg and index.html under `root`.

    `baselines` and `order` (of lines): strategies by mode. `names`: of the axes to draw.
    """
    panels = panels_of(cells)
    for (_, _, mode), lines in panels.items():
        lines.sort(key=lambda line: order[mode].index(line.strategy))
    with replacing(root / "rows.parquet") as new:
        pq.write_table(pa.Table.from_pylist(list(rows_of(cells))), new)
    text = "\n".join(panel_table(panel, lines, baselines[panel[2]]) for panel, lines in panels.items())
    (root / "table.md").write_text(text)
    figure = picture(panels, names)
    figure.savefig(root / "budget.png", dpi=110)
    figure.savefig(root / "budget.svg", metadata={"Date": None})
    drawn = StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    (root / "index.html").write_text(page(drawn.getvalue(), text))


def rows_of(cells: pa.Table) -> Iterator[dict]:
    """One row a (task, model, strategy, mode, budget, seed), rates in [0, 1], costs as means over problems."""
    for key, part in _groups(cells, ("task", "model", "mode", "strategy", "seed", "rung")):
        solved = np.array(part["solved"], float)
        low, high = wilson(int(solved.sum()), len(solved))
        means = {name: float(np.mean(part[name])) for name in (*AXES, "prefilled")}
        row = key | means | {"n": len(solved), "solved": float(solved.mean()), "ci_low": low, "ci_high": high}
        row |= {
            "budget_tokens": int(part["budget_tokens"][0]),
            **{name: part[name][0] for name in ("split", "value_on", "value_auc", "alone")},
        }
        yield {name: row[name] for name in FIELDS}


def panels_of(cells: pa.Table) -> dict[Panel, list[Line]]:
    """Lines by (task, model, mode), in the order measured."""
    panels: dict[Panel, list[Line]] = {}
    for key, part in _groups(cells, ("task", "model", "mode", "strategy")):
        panels.setdefault((key["task"], key["model"], key["mode"]), []).append(_line(key["strategy"], part))
    return panels


def _line(strategy: str, part: dict[str, np.ndarray]) -> Line:
    rungs, problems = (
        np.unique(part["rung"]),
        {name: k for k, name in enumerate(dict.fromkeys(part["problem"].tolist()))},
    )
    seeds = len(set(part["seed"].tolist()))
    solved = np.zeros((len(rungs), len(problems)))
    rows = np.searchsorted(rungs, part["rung"])
    np.add.at(
        solved, (rows, np.array([problems[name] for name in part["problem"].tolist()])), part["solved"].astype(float)
    )
    mean = {name: np.array([part[name][rows == k].mean() for k in range(len(rungs))]) for name in (*AXES, "prefilled")}
    budgets = np.array([part["budget_tokens"][rows == k][0] for k in range(len(rungs))])
    prefilled, auc = mean.pop("prefilled"), part["value_auc"][0]
    told = part["split"][0], bool(part["value_on"][0]), None if auc is None else float(auc), part["alone"][0]
    return Line(strategy, rungs, budgets, solved / seeds, seeds, mean, prefilled, *told)


def _groups(cells: pa.Table, keys: tuple[str, ...]) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """(values of `keys`, columns of the rows that share them), in order of first appearance."""
    columns = {name: np.array(cells[name].to_pylist(), object) for name in cells.column_names}
    for name in ("rung", "budget_tokens", "seed"):
        columns[name] = columns[name].astype(np.int64)
    for name in (*AXES, "prefilled"):
        columns[name] = columns[name].astype(np.float64)
    columns["solved"] = columns["solved"].astype(bool)
    positions: dict[tuple, list[int]] = {}
    for i, key in enumerate(zip(*(columns[name].tolist() for name in keys), strict=True)):
        positions.setdefault(key, []).append(i)
    for key, rows in positions.items():
        yield dict(zip(keys, key, strict=True)), {name: column[rows] for name, column in columns.items()}


def panel_table(panel: Panel, lines: list[Line], baselines: list[str]) -> str:
    """Markdown of one panel: rates, paired differences from each baseline, and what was spent at the largest budget."""
    task, model, mode = panel
    first = lines[0]
    heads = [f"{rung}x ({tokens})" for rung, tokens in zip(first.rungs, first.budgets, strict=True)]
    measured = "never measured" if first.value_auc is None else f"its AUC on dev {first.value_auc:.3f}"
    value = f"value {'on' if first.value_on else 'off'}, {measured}"
    seeds = max(line.seeds for line in lines)
    out = [
        f"## {task}, {model}: {MODES[mode]}",
        "",
        f"n = {first.solved.shape[1]} {first.split} problems, the same for all; "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}; {value}. {ALONE[first.alone]} "
        "Solved in %, 95 % interval; budgets in multiples of a greedy chain (generated tokens a problem).",
        "",
        *table(["strategy", *heads], ([_named(line.strategy), *map(line.cell, range(len(heads)))] for line in lines)),
    ]
    for baseline in baselines:
        out += _differences(lines, baseline, heads)
    out += ["", "Spent at the largest budget, means a problem:", ""]
    heads = ["strategy", "generated tokens", "prefilled tokens", "simulations", "seconds", "FLOPs"]
    return "\n".join([*out, *table(heads, map(_spent, lines)), ""])


def _spent(line: Line) -> list[str]:
    """Cells of what a line spent at its largest budget."""
    tokens, simulations, seconds, flops = (line.spent[name][-1] for name in AXES)
    counts = f"{tokens:.0f}", f"{line.prefilled[-1]:.0f}", f"{simulations:.0f}"
    return [_named(line.strategy), *counts, f"{seconds:.3f}", f"{flops:.2e}"]


def _differences(lines: list[Line], baseline: str, heads: list[str]) -> list[str]:
    """Rows of every other line minus the baseline; none where it was not measured."""
    base = next((line for line in lines if line.strategy == baseline), None)
    others = [line for line in lines if line.strategy != baseline and line.strategy not in CONTROLS]
    if base is None or not others:
        return []
    rng, rows = np.random.default_rng(0), []
    for line in others:
        rows.append([line.strategy])
        for k in range(len(line.rungs)):
            gain = bootstrap_difference(line.solved[k], base.solved[k], rng, resamples=RESAMPLES)
            rows[-1].append(f"{100 * gain.estimate:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})")
    title = f"Minus {_named(baseline)}, points, paired bootstrap over problems:"
    return ["", title, "", *table(["strategy", *heads], rows)]


def _named(strategy: str) -> str:
    return f"{strategy} (control)" if strategy in CONTROLS else strategy


def picture(panels: dict[Panel, list[Line]], names: list[str]):
    """One row a panel, one column an axis of cost, or panels side by side where there is one; bands are 95 % intervals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    mpl.rcParams["svg.hashsalt"] = "budget"  # the same picture, the same bytes
    shape = (len(panels), len(names)) if len(names) > 1 else (1, len(panels))
    figure = Figure(figsize=(5 * shape[1], 3.6 * shape[0]), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False).reshape(len(panels), len(names))
    strategies = list(dict.fromkeys(line.strategy for lines in panels.values() for line in lines))
    colours = {
        name: mpl.colormaps["tab10" if len(strategies) <= 10 else "tab20"](k) for k, name in enumerate(strategies)
    }
    for axis_row, ((task, model, mode), lines) in zip(axes, panels.items(), strict=True):
        for axis, name in zip(axis_row, names, strict=True):
            for line in lines:
                _drawn(axis, line, name, colours[line.strategy])
            axis.set_xscale("log", base=2 if name == "tokens" else 10)
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(AXES[name])
            axis.set_ylim(0, 101)
            axis.grid(alpha=0.3)
        axis_row[0].set_ylabel("solved, %")
        axis_row[0].set_title(f"{task}, {model}, {lines[0].split}: {MODES[mode]}", loc="left", fontsize=10)
        if len(names) == 1:
            axis_row[0].legend(fontsize=7, loc="best")
        else:  # beside the row, so that it hides no line
            shown = axis_row[0].get_legend_handles_labels()
            axis_row[-1].legend(*shown, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _drawn(axis, line: Line, name: str, colour) -> None:
    x = line.budgets.astype(float) if name == "tokens" else line.spent[name]
    if not (x > 0).all():
        return  # a control that has no such cost
    bounds = np.array([line.interval(k) for k in range(len(line.rungs))]) * 100
    if line.strategy.partition(":")[0] == "think":  # it ends by itself: a point, where its tokens end
        error = np.abs(bounds[-1:].T - 100 * line.rate[-1])
        axis.errorbar(line.spent[name][-1:], 100 * line.rate[-1:], error, color=colour, marker="*", label=line.strategy)
        return
    style = "--" if line.strategy in CONTROLS else "-"
    axis.plot(x, 100 * line.rate, style, color=colour, marker="o", markersize=3, label=line.strategy)
    axis.fill_between(x, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.1, linewidth=0)


def page(svg: str, markdown: str) -> str:
    """One HTML page that needs nothing else."""
    body: list[str] = []
    for is_table, block in groupby(markdown.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            heads, _, *rows = ([html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in block)
            tagged = [("th", heads), *(("td", row) for row in rows)]
            cells = ("".join(f"<{tag}>{cell}</{tag}>" for cell in row) for tag, row in tagged)
            body += ["<table>", *(f"<tr>{row}</tr>" for row in cells), "</table>"]
            continue
        for line in filter(None, block):
            tag, text = ("h2", line[3:]) if line.startswith("## ") else ("p", line)
            body.append(f"<{tag}>{html.escape(text)}</{tag}>")
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1400px;padding:0 1em;color:#222}"
        "table{border-collapse:collapse;font-size:13px}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}"
        "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>What a token of search buys</title>"
        f"<style>{style}</style><h1>What a token of search buys</h1>{svg[svg.index('<svg') :]}{''.join(body)}</html>\n"
    )

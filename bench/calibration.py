"""How far can a value head be trusted, and what does a share of the votes mean? Measured on dev problems, by depth.

    python -m bench calibration models=FOLDER,FOLDER [problems=300] [chains=16] [split=dev] [write=yes] [run_dir=DIR]

States are those that a search by the policy alone comes to within `chains` greedy chains' tokens: what a value will be
asked about. Their labels are exact where the task has a solver, else what their own chain went on to earn. Where values are
discounted by distance, ranking (AUC) is asked to tell states nearer than the median, and calibration compares with
discount ** distance. AUC within problems is that over pairs of states of one problem, which is what a search asks: a head that
knows hard problems from easy ones alone has a fair AUC and misleads.

Chains: on the same problems without a verifier, how far the value before the last step, the policy's probability of it and
the value of the finished chain tell right chains from wrong ones (`solve.confidence.ChainFit`). Not for a value that is not
to be trusted.

Confidence: what a strategy knows of its answer (the chain's P(right), or the answer's share) against whether it is right; a
logistic fit (Platt 1999). Errors of either fit are those on the half of the problems that it was not fitted to; the fit of
chains beneath a confidence has seen all of them.

write=yes puts all into the checkpoint's own page (extra.json): from then on `solve` uses the value where its AUC allows it,
chooses by P(right), and calls its confidence calibrated. Intervals are 95 %, bootstrap over problems. With run_dir:
calibration.json, .md, .png.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import mcts
from bench import command
from bench.budget import BudgetBenchConfig, Setting, prepared
from bench.confidence import CALIBRATED, chain_fit, confidences
from models.manifest import annotate_checkpoint
from selfplay.evaluate import exact_labels
from selfplay.statistics import auc, auc_within, brier, ece
from solve.confidence import ChainFit
from solve.shelf import SHIPPED, shipped, trustworthy
from solve.tree import Tree, TreeSearch

RESAMPLES = 200
BINS = 10


@dataclass(frozen=True)
class States:
    """S states of a search: what the head said, and what is so."""

    values: np.ndarray  # float64 [S], P(solved) by the head
    labels: np.ndarray  # bool [S], what ranking has to tell apart
    targets: np.ndarray  # float64 [S], what the head should have said
    depths: np.ndarray  # int64 [S], steps from the root
    problems: np.ndarray  # int64 [S]

    def at(self, which: np.ndarray) -> States:
        return States(*(array[which] for array in vars(self).values()))

    def figures(self) -> dict[str, float]:
        """Of all these states."""
        return {
            "n": len(self.values),
            "positive": float(self.labels.mean()),
            "auc": auc(self.values, self.labels),
            "auc_within": auc_within(self.values, self.labels, self.problems),
            "brier": brier(self.values, self.targets),
            "ece": ece(self.values, self.targets),
        }

    def auc_interval(self, rng: np.random.Generator) -> tuple[float, float]:
        """95 % of the AUC, problems drawn with replacement."""
        rows = [np.flatnonzero(self.problems == problem) for problem in np.unique(self.problems)]
        drawn = []
        for _ in range(RESAMPLES):
            chosen_rows = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
            drawn.append(auc(self.values[chosen_rows], self.labels[chosen_rows]))
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return float(low), float(high)


def searched_states(setting: Setting, chains: int) -> States:
    """States that a search by the policy alone expands, the root left out, labelled."""
    task, limit = setting.shelved.task, chains * setting.chain_tokens
    rule = mcts.BestFirst(value_weight=0.0, lam=1.0, cost="none", rollout=not task.reversible)
    verify = "task" if task.self_verifying else "none"
    found: list[tuple[float, float, float, int, int]] = []
    for start, part in setting.parts():
        search = Tree(rule).start(setting.bench(verify, trust_value=True), part)
        search.advance(np.full(len(part), limit))
        found += _labelled(setting, search, part, start)
    columns = np.array(found, np.float64).reshape(-1, 5).T
    values, first, targets, depths, problems = columns
    labels = first <= np.median(first) - 1 if task.reversible else first.astype(bool)
    return States(values, labels, targets, depths.astype(np.int64), problems.astype(np.int64))


def _labelled(
    setting: Setting, search: TreeSearch, part: Sequence, start: int
) -> list[tuple[float, float, float, int, int]]:
    task, nodes = setting.shelved.task, search.store.nodes
    going = np.flatnonzero(((nodes["flags"] & mcts.Flag.TERMINAL) == 0) & (nodes["depth"] > 0))
    earned = {} if task.exact else _earned(setting, search, part)
    rows = []
    for node in going.tolist():
        tree, state = int(nodes["tree"][node]), search.evaluator.state(int(search.store.node_handles[node]))
        if task.exact:
            discount = getattr(task, "discount", 1.0)
            label, target = exact_labels(task, part[tree], cast("tuple", state), discount)
        elif node in earned:
            label = target = earned[node]
        else:
            continue  # no chain through it has ended
        rows.append((float(nodes["raw_value"][node]), label, target, int(nodes["depth"][node]), start + tree))
    return rows


def _earned(setting: Setting, search: TreeSearch, part: Sequence) -> dict[int, float]:
    """Mean reward of the ended chains through each state, scored when the search is over."""
    edges, sums = search.store.edges, {}
    for tree, problem in enumerate(part):
        for edge, chain in search.ended(tree):
            reward = setting.scorer.score([problem], [chain.steps])[0].reward if chain.answer is not None else 0.0
            for passed in mcts.path_edges(search.store, int(edges["parent"][edge])).tolist():
                total, count = sums.get(int(edges["child"][passed]), (0.0, 0))
                sums[int(edges["child"][passed])] = (total + reward, count + 1)
    return {node: float(total / count >= 0.5) for node, (total, count) in sums.items()}


def calibrated(
    name: str, problems: int, chains: int, split: str, task: dict[str, Any]
) -> tuple[dict[str, Any], States]:
    """All figures of one model."""
    config = BudgetBenchConfig(problems=problems, split=split, rungs=[chains], trust_value=True, task=task)
    setting = prepared(config, name)
    states = searched_states(setting, chains)
    value = states.figures()
    low, high = states.auc_interval(np.random.default_rng(0))
    depths = {int(depth): states.at(states.depths == depth).figures() for depth in np.unique(states.depths)}
    figures: dict[str, Any] = {
        "model": setting.shelved.name,
        "task": setting.shelved.options,
        "split": split,
        "problems": len(setting.problems),
        "chains": chains,
        "labels": "exact" if setting.shelved.task.exact else "what its chains earned",
        "value": value | {"auc_ci95": [low, high]},
        "by_depth": depths,
    }
    if not setting.shelved.task.reversible:
        setting = replace(setting, trust_value=trustworthy(value["auc"], value["auc_within"]))
        figures["chain"] = chain_fit(setting) if setting.trust_value else None
        fit = figures["chain"] and ChainFit(**figures["chain"]["fit"])
        setting = replace(setting, shelved=replace(setting.shelved, chain_fit=fit))
        figures["confidence"] = {strategy: confidences(setting, strategy) for strategy in CALIBRATED}
    return figures, states


def note(folder: Path, figures: dict[str, Any]) -> None:
    """Write what was measured into a checkpoint."""
    value = {name: figures["value"][name] for name in ("auc", "auc_ci95", "auc_within", "n", "positive")}
    value["auc_within"] = None if math.isnan(value["auc_within"]) else value["auc_within"]
    value |= {"problems": figures["problems"], "split": figures["split"]}
    facts: dict[str, Any] = {"value": value}
    if "confidence" in figures:
        facts["confidence"] = {
            name: {"slope": fit["slope"], "offset": fit["offset"]} for name, fit in figures["confidence"].items()
        }
        facts["chain"] = figures["chain"] and figures["chain"]["fit"]
    annotate_checkpoint(folder, facts)


def main(
    models: str = "",
    task: str = "",
    problems: int = 300,
    chains: int = 16,
    split: str = "dev",
    write: str = "no",
    run_dir: str = "",
) -> dict[str, Any]:
    """Print a table a model. `models`: folders or names of shipped checkpoints between commas; none: all shipped.

    `task`: of models that do not say it, e.g. gym:dataset=chain_sum.

    Raises:
        command.UsageError: a split or an answer that is none.
    """
    if split not in ("dev", "test") or write not in ("yes", "no"):
        raise command.UsageError(f"split={split} write={write}: split is dev or test, write yes or no")
    if write == "yes" and split == "test":
        raise command.UsageError(
            "split=test write=yes: what a checkpoint says of itself comes from dev, test is to be quoted"
        )
    torch.set_num_threads(1)
    name, _, rest = task.partition(":")
    options = dict(setting.split("=", 1) for setting in rest.split(",") if setting)
    results, drawn, pages = [], [], []
    for model in models.split(",") if models else shipped():
        figures, states = calibrated(model, problems, chains, split, {"name": name, **options} if name else {})
        print(text := page(figures))
        results.append(figures)
        pages.append(text)
        drawn.append((figures["model"], states))
        if write == "yes":
            note(SHIPPED / model if model in shipped() else Path(model), figures)
    if run_dir:
        (Path(run_dir) / "calibration.md").write_text("\n".join(pages))
        picture(drawn).savefig(Path(run_dir) / "calibration.png", dpi=110)
    result = {"models": results}
    command.save(result, run_dir, "calibration")
    return result


def page(figures: dict[str, Any]) -> str:
    """Markdown of one model."""
    value, (low, high) = figures["value"], figures["value"]["auc_ci95"]
    lines = [
        f"## {figures['task']['name']}, {figures['model']}: the value head",
        "",
        f"{value['n']} states of {figures['problems']} {figures['split']} problems, labels: {figures['labels']}. "
        f"AUC {value['auc']:.3f} ({low:.3f}-{high:.3f}), within problems {value['auc_within']:.3f}, "
        f"Brier {value['brier']:.3f}, ECE {value['ece']:.3f}.",
        "",
        "| steps done | states | positive, % | AUC | Brier | ECE |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for depth, row in figures["by_depth"].items():
        ranked = "-" if math.isnan(row["auc"]) else f"{row['auc']:.3f}"
        lines.append(
            f"| {depth} | {row['n']} | {100 * row['positive']:.1f} | {ranked} | {row['brier']:.3f} | {row['ece']:.3f} |"
        )
    if chain := figures.get("chain"):
        lines += [
            "",
            f"{chain['n']} ended chains without a verifier, {100 * chain['right']:.1f} % right (each problem of weight 1): "
            f"AUC of the value before the last step {chain['auc_value']:.3f}, of the finished chain {chain['auc_ended']:.3f}, "
            f"of P(right), by both and the last step's probability, {chain['auc']:.3f}, "
            f"ECE {chain['ece']:.3f}.",
        ]
    if "confidence" in figures:
        lines += [
            "",
            "| confidence without a verifier | n | right, % | AUC | ECE, not fitted | ECE, fitted |",
        ]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        for name, fit in figures["confidence"].items():
            figures_of = (f"{fit[key]:.3f}" for key in ("auc", "ece_before", "ece"))
            lines.append(f"| {name} | {fit['n']} | {100 * fit['right']:.1f} | {' | '.join(figures_of)} |")
    return "\n".join([*lines, ""])


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


if __name__ == "__main__":
    sys.exit(command.run(main, sys.argv[1:]))

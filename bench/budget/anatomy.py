"""Where the tokens of a search go, and whether its own choice is right.

    python -m bench anatomy [policy=countdown5,blocksworld6] [problems=300] [rung=16] [split=test] [run_dir=DIR]

Per model and strategy, within `rung` greedy chains' tokens a problem and the verifier in the loop:

* twice: share of the paid tokens that had been generated at the same place before. For samples: what a trie of all of them
  would not have paid. For trees it is counted anew from the steps themselves: at each node, tokens that its candidates newly
  cost less the distinct prefixes among them. A node is a state, but in trees that do not merge (unique, puct).
* in full: of samples without replacement, solved if every chain were paid from its first token; beside it, paid as a tree does.
* choice: of problems with a right leaf somewhere, the share whose path of most visits ends in one. The search goes on after its
  first solution and the choice looks at visits alone. Where a task can be searched unjudged, also: of problems to which such a
  search has found a right answer, the share in which its own choice (by value, or by votes) is right.

Intervals are 95 %, Wilson. With run_dir: anatomy.json and anatomy.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import mcts
from bench import command
from bench.budget.run import SPLITS, Setting, budget_config, prepared
from bench.tables import table
from kit.statistics import wilson
from solve.answers import chosen
from solve.search.tree import Tree, TreeSearch
from solve.strategies import way
from solve.types import Search

TREES = ("unique", "unique_merged", "levin", "best_first", "puct", "puct_rollout")
CHOOSERS = ("puct", "puct:max_share=1.0", "puct_rollout", "graph")

DEFAULT = ["countdown5", "blocksworld6"]
BLIND_CHOOSERS = ("best_first", "best_of_n", "self_consistency")


def searches(setting: Setting, strategy: str, *, go_on: bool) -> list[tuple[Sequence, Search]]:
    """Finished searches over all problems, in parts; `go_on`: after the first solution, too."""
    finished = []
    chosen_way, limit = way(strategy, setting.task), setting.budgets[-1]
    search_settings = chosen_way.search
    if go_on:
        search_settings = replace(cast("Tree", search_settings), go_on=True)
    for _, part in setting.parts():
        search = search_settings.start(setting.bench("task"), part, limit)
        search.advance(np.full(len(part), limit))
        finished.append((part, search))
    return finished


def twice_in_samples(search: Search, setting: Setting, problems: int) -> tuple[int, int]:
    """(tokens paid, of them generated before) of independent samples."""
    paid = again = 0
    for i in range(problems):
        seen: set[tuple[int, ...]] = set()
        for chain in search.chains(i):
            tokens = setting.task.encode("".join(chain.steps))
            prefixes = {tuple(tokens[: k + 1]) for k in range(len(tokens))}
            paid += len(tokens)
            again += len(prefixes & seen)
            seen |= prefixes
    return paid, again


def twice_in_trees(search: TreeSearch) -> tuple[int, int]:
    """The same of trees, recounted from the steps of every state."""
    store, again = search.store, 0
    for node in np.flatnonzero(store.nodes["flags"] & mcts.Flag.EXPANDED).tolist():
        prefixes, newly = set(), 0
        for edge in store.edges_of(node).tolist():
            tokens = search.evaluator.step(int(store.edge_handles[edge])).tokens or ()
            prefixes |= {tuple(tokens[: k + 1]) for k in range(len(tokens))}
            newly += int(store.edges["tokens"][edge])
        again += max(0, newly - len(prefixes))
    return int(store.trees["tokens"].sum()), again


def solved_in_full(search: TreeSearch, setting: Setting, problems: int) -> int:
    """Problems solved if every chain of a search were paid from its first token."""
    solved = 0
    for i in range(problems):
        paid = 0
        for chain in search.chains(i):
            paid += len(setting.task.encode("".join(chain.steps)))
            if chain.reward is not None and chain.reward >= 1:
                solved += paid <= setting.budgets[-1]
                break
    return solved


def choices(search: TreeSearch, problems: int) -> tuple[int, int]:
    """(problems with a right leaf, of them those whose most visited path ends in one)."""
    store, anywhere, picked = search.store, 0, 0
    solved = (store.nodes["flags"] & mcts.Flag.SOLVED) != 0
    for i in range(problems):
        if not (solved & (store.nodes["tree"] == i)).any():
            continue
        anywhere += 1
        path = search.best_path(i)
        picked += bool(path) and bool(solved[store.edges["child"][path[-1]]])
    return anywhere, picked


def blind_choices(setting: Setting, strategy: str) -> tuple[int, int]:
    """(problems to which a search without a verifier has found a right answer, of them those where it chose one)."""
    chosen_way, limit = way(strategy, setting.task), setting.budgets[-1]
    anywhere = right = 0
    for _, part in setting.parts():
        search = chosen_way.search.start(setting.bench("none"), part, limit)
        search.advance(np.full(len(part), limit))
        for i, problem in enumerate(part):
            chains = [chain for chain in search.chains(i, limit) if chain.answer is not None]
            verdicts = setting.scorer.score([problem] * len(chains), [chain.steps for chain in chains])
            good = {chain.steps for chain, verdict in zip(chains, verdicts, strict=True) if verdict.reward >= 1}
            pick = chosen(chains, chosen_way.chooses(setting.trust_value)).chain
            anywhere += bool(good)
            right += pick is not None and pick.steps in good
    return anywhere, right


def measured(setting: Setting) -> dict[str, Any]:
    """All figures of one model."""
    n = len(setting.problems)
    twice: dict[str, float] = {}
    paid, again = np.sum(
        [twice_in_samples(s, setting, len(part)) for part, s in searches(setting, "best_of_n", go_on=False)], axis=0
    )
    twice["best_of_n"] = float(again / paid)
    in_full = as_tree = 0
    for strategy in TREES:
        paid = again = 0
        for part, search in searches(setting, strategy, go_on=False):
            assert isinstance(search, TreeSearch)
            both = twice_in_trees(search)
            paid, again = paid + both[0], again + both[1]
            if strategy == "unique":
                in_full += solved_in_full(search, setting, len(part))
                as_tree += int((search.solved_at <= setting.budgets[-1]).sum())
        twice[strategy] = again / max(paid, 1)
    picked = {}
    for strategy in CHOOSERS:
        counts = np.zeros(2, np.int64)
        for part, search in searches(setting, strategy, go_on=True):
            assert isinstance(search, TreeSearch)
            counts += choices(search, len(part))
        anywhere, right = counts.tolist()
        picked[strategy] = {"any": anywhere, "chosen": right, "ci95": wilson(right, anywhere)}
    for strategy in () if setting.task.reversible else BLIND_CHOOSERS:
        anywhere, right = blind_choices(setting, strategy)
        picked[f"{strategy}, no verifier"] = {"any": anywhere, "chosen": right, "ci95": wilson(right, anywhere)}
    return {
        "model": setting.name, "n": n, "budget_tokens": setting.budgets[-1], "twice": twice, "choice": picked,
        "unique_in_full": [in_full / n, *wilson(in_full, n)],
        "unique_as_tree": [as_tree / n, *wilson(as_tree, n)],
    }  # fmt: skip


def page(figures: dict[str, Any]) -> str:
    """Markdown of one model."""
    lines = [f"## {figures['model']}, n = {figures['n']}, {figures['budget_tokens']} tokens a problem", ""]
    twice = ((name, f"{100 * share:.1f}") for name, share in figures["twice"].items())
    lines += table(["tokens generated twice", "share, %"], twice)
    full, tree = (figures[name] for name in ("unique_in_full", "unique_as_tree"))
    lines += [
        "",
        f"Samples without replacement: {100 * full[0]:.1f} % ({100 * full[1]:.0f}-{100 * full[2]:.0f}) solved if each is ",
    ]
    lines[-1] += f"paid in full, {100 * tree[0]:.1f} % ({100 * tree[1]:.0f}-{100 * tree[2]:.0f}) as a tree pays."
    rows = []
    for name, choice in figures["choice"].items():
        right, anywhere, (low, high) = choice["chosen"], choice["any"], choice["ci95"]
        rows.append((name, f"{right} / {anywhere} = {right / max(anywhere, 1):.3f}", f"{low:.3f}-{high:.3f}"))
    lines += ["", *table(["own choice right / any leaf right", "share", "95 %"], rows)]
    return "\n".join([*lines, ""])


def main(
    policy: str = "",
    models: str = "",
    problems: int = 300,
    rung: int = 16,
    split: str = "test",
    run_dir: str = "",
) -> dict[str, Any]:
    """Print a table a policy; `models` is an alias of `policy`.

    Raises:
        command.UsageError: a split that is none.
    """
    command.one_of("split", split, SPLITS)
    torch.set_num_threads(1)
    results, pages = [], []
    for name in command.policies(policy, models) or DEFAULT:
        config = budget_config(problems=problems, split=split, rungs=[rung])
        results.append(measured(prepared(config, name)))
        pages.append(page(results[-1]))
        print(pages[-1])
    if run_dir:
        (Path(run_dir) / "anatomy.md").write_text("\n".join(pages))
    command.save({"models": results}, run_dir, "anatomy")
    return {"models": results}

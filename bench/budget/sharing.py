"""A batch of problems shares one budget: does it help to spend where an answer may still change?

    python -m bench sharing [policy=countdown4,countdown5] [problems=300] [rungs=4,8,16] [split=test] [run_dir=DIR]

Three ways to spend the same total, tokens x problems: "none" (each problem its own budget), "uniform" (what solved problems
leave goes to all others alike) and "uncertain" (first where the leading answer is least sure for what was spent on it). With
the verifier in the loop and, where a task allows it, without one. Differences are paired over problems, 95 % bootstrap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench import command
from bench.budget.run import Setting, budget_config, prepared
from kit.statistics import bootstrap_difference
from solve.allocation import SHARES, Share, allocated
from solve.answers import chosen
from solve.budgets import TokenBudget
from solve.strategies import way
from solve.types import Verify

STRATEGY = "best_first"
DEFAULT = ["countdown4", "countdown5"]


def outcome(setting: Setting, share: Share, verify: Verify, tokens: int) -> tuple[np.ndarray, int]:
    """(bool [P] solved, tokens spent in all)."""
    chosen_way = way(STRATEGY, setting.task)
    choose = chosen_way.chooses(setting.trust_value)
    search = chosen_way.search.start(setting.bench(verify), setting.problems, tokens)
    allocated(search, share, TokenBudget(tokens), len(setting.problems), choose)
    picks = [chosen(search.chains(i), choose).chain for i in range(len(setting.problems))]
    verdicts = setting.scorer.score(setting.problems, [pick.steps if pick else () for pick in picks])
    right = [pick is not None and verdict.reward >= 1 for pick, verdict in zip(picks, verdicts, strict=True)]
    return np.array(right), int(search.tokens.sum())


def main(
    policy: str = "",
    models: str = "",
    problems: int = 300,
    rungs: str = "4,8,16",
    split: str = "test",
    run_dir: str = "",
) -> dict[str, Any]:
    """Print a line a policy, mode and budget; `models` is an alias of `policy`.

    Raises:
        command.UsageError: a split or a rung that is none.
    """
    if split not in ("dev", "test") or not all(rung.isdigit() and int(rung) for rung in rungs.split(",")):
        raise command.UsageError(f"split={split} rungs={rungs}: dev or test, whole numbers from 1")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    print(
        "| model | mode | budget | none | uniform | uncertain | uncertain - uniform | tokens spent |\n"
        + "| --- " * 8
        + "|"
    )
    for name in command.policies(policy, models) or DEFAULT:
        setting = prepared(
            budget_config(problems=problems, split=split, rungs=[int(r) for r in rungs.split(",")]), name
        )
        modes: tuple[Verify, ...] = ("task",) if setting.task.reversible else ("task", "none")
        for verify in modes:
            for tokens in setting.budgets:
                found = {share: outcome(setting, share, verify, tokens) for share in SHARES}
                gain = bootstrap_difference(found["uncertain"][0], found["uniform"][0], rng)
                row: dict[str, Any] = {
                    "model": name,
                    "mode": verify,
                    "budget_tokens": tokens,
                    "n": len(setting.problems),
                }
                row |= {share: float(right.mean()) for share, (right, _) in found.items()}
                row |= {"spent": {share: spent for share, (_, spent) in found.items()}}
                row |= {"gain": gain.estimate, "low": gain.low, "high": gain.high}
                rows.append(row)
                rates = " | ".join(f"{100 * row[share]:.1f}" for share in SHARES)
                spent = ", ".join(f"{row['spent'][share]}" for share in SHARES)
                print(
                    f"| {name} | {verify} | {tokens} | {rates} | {100 * gain.estimate:+.1f} "
                    f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f}) | {spent} |",
                    flush=True,
                )
    command.save({"rows": rows}, run_dir, "sharing")
    return {"rows": rows}

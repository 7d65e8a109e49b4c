"""Is one run better than another? Their final nets on the same test problems, paired problem by problem.

    python -m bench compare runs=runs/search0,runs/search1 against=runs/star0,runs/star1 [samples=8] [problems=1000]

Runs are matched in the order given, one pair a seed. Within a pair the interval is over problems; over pairs it is Student's
t over seeds, the honest one for "does this hold on another seed", and infinite for a single pair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import command
from kit.seeds import derived_seed
from kit.statistics import mean_and_half_width, paired_difference
from models.policy import open_policy
from selfplay.measure.evaluate import Evaluation, evaluate
from selfplay.run.folder import RunDirError, frozen_config
from selfplay.team import Team
from tasks import Problem, Scorer, Task, make_guesser, make_scorer, make_task
from tasks.guessing import guessed

SUMMARY = "summary.json"


def finished_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config, summary) of a run that has ended.

    Raises:
        command.UsageError: it has not, or is no run.
    """
    try:
        return frozen_config(folder), json.loads((folder / SUMMARY).read_text())
    except (RunDirError, FileNotFoundError):
        raise command.UsageError(f"{folder} holds no finished run: name a run_dir with a {SUMMARY}") from None


def measured(
    run: Path, task: Task, scorer: Scorer, problems: list[Problem], discount: float, samples: int
) -> Evaluation:
    """The promoted net of a run on `problems`; the seed of its samples is the same for every run."""
    policy = open_policy(str(run)).policy
    seed = derived_seed(0, "compare")
    return evaluate(policy, task, problems, Team(), samples=samples, discount=discount, seed=seed, scorer=scorer)


def compare(runs: list[Path], against: list[Path], problems: int, samples: int) -> Iterator[dict[str, Any]]:
    """Each pair as it is measured, for greedy and sampled solving; rates in [0, 1].

    Raises:
        command.UsageError: runs that cannot be compared.
    """
    if len(runs) != len(against):
        raise command.UsageError(f"{len(runs)} runs against {len(against)}: give one run to compare with for each run")
    for a, b in zip(runs, against, strict=True):
        (config, summary), (other_config, other) = finished_run(a), finished_run(b)
        if config["task"] != other_config["task"]:
            raise command.UsageError(f"{a} and {b} ran different tasks: compare runs of one task")
        task, scorer = make_task(**config["task"]), make_scorer(**config["task"])
        chosen = task.first_problems("test", problems)
        discount = config["actor"]["discount"]
        one, two = (measured(run, task, scorer, chosen, discount, samples) for run in (a, b))
        guesses = guessed(make_guesser(**config["task"]), scorer, chosen, 1)
        row: dict[str, Any] = {"run": str(a), "against": str(b), "n": len(chosen), "guess": float(guesses.mean())}
        row |= {name: [summary[name], other[name]] for name in ("cpu_seconds", "generated_tokens")}
        row["greedy"] = _difference(one.headline, two.headline)
        row["sampled"] = _difference(one.sampled_per_problem, two.sampled_per_problem)
        yield row


def _difference(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    return {"run": float(np.mean(a)), "against": float(np.mean(b)), **asdict(paired_difference(a, b))}


def main(
    runs: str = "", against: str = "", run_dir: str = "", problems: int = 1000, samples: int = 8
) -> dict[str, Any]:
    """Print a line a pair and the mean over pairs; `runs` and `against` are folders between commas.

    Raises:
        command.UsageError: runs that cannot be compared.
    """
    first, second = ([Path(name) for name in names.split(",") if name] for names in (runs, against))
    if not first:
        raise command.UsageError("nothing to compare: write runs=DIR,... against=DIR,...")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for row in compare(first, second, problems, samples):
        rows.append(row)
        spent, other = row["cpu_seconds"]
        print(f"{row['run']} - {row['against']}  n={row['n']}, CPU-s {spent:.0f}, {other:.0f}")
        for name in ("greedy", "sampled"):
            pair = row[name]
            print(
                f"  {name:8}{100 * pair['run']:6.1f} - {100 * pair['against']:5.1f} ="
                f" {100 * pair['mean']:+6.1f} +-{100 * pair['half_width']:.1f} points"
            )
        print(f"  guessing without a model {100 * row['guess']:.1f}", flush=True)
    pooled = {name: mean_and_half_width([row[name]["mean"] for row in rows]) for name in ("greedy", "sampled")}
    for name, (mean, half_width) in pooled.items():
        print(f"mean {name:8} {100 * mean:+6.1f} +-{100 * half_width:.1f} points over {len(first)} seeds")
    result = {"pairs": rows, "mean": {name: list(pair) for name, pair in pooled.items()}, "samples": samples}
    command.save(result, run_dir, "compare")
    return result

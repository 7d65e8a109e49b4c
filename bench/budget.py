"""What does each token of search buy? Strategies x budgets x models on the same problems, with intervals and controls.

    python -m bench.budget                                        two of the shipped checkpoints, under ten minutes on two cores
    python -m bench.budget models=[FOLDER] strategies=[best_first,best_of_n] rungs=[1,4,16] problems=300
    python -m bench.budget -m seed=0,1,2                          Hydra's multirun: a seed a job

Budgets are generated tokens, as multiples of what a greedy chain costs. A token is paid when the model samples it: independent
samples pay a prefix again each time, a tree pays none twice. Prompt and context tokens are counted apart. A strategy whose
shape does not depend on its budget runs once, and its smaller budgets are read off on the way.

Two modes that never share a table: with the verifier in the loop a problem is solved when the judge has accepted a chain within
the budget; without one the answer is chosen blindly and scored when the search has ended.

Every cell (model, strategy, mode, seed) is a file of its own under run_dir/cells, written whole or not at all: a run that was
stopped goes on with the cells that lack, see bench/budget_cells.py. Exit code 2: refused, with one line that says why.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import hydra
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from bench import command
from bench.budget_cells import cell_file, digest, label, reported, weights_of
from bench.budget_report import AXES, write_report
from models.rollout import rollouts
from selfplay.team import core_count
from solve.answers import chosen
from solve.blinds import wall
from solve.command import CONF, guarded, help_page
from solve.command import run as run_command
from solve.cost import flops_per_token
from solve.enumeration import enumeration
from solve.shelf import Shelved, shipped, take
from solve.strategies import way
from solve.types import Verify, Workbench
from tasks import Problem, Scorer, make_guesser, make_scorer
from tasks.guessing import guessed

PART = 100  # problems searched at once
GUESS, ENUMERATION = "guess", "enumeration"  # controls without a model
MOST_GUESSES = 64


@dataclass
class BudgetBenchConfig:
    """See conf/budget.yaml."""

    models: list[str] = field(default_factory=list)
    task: dict[str, Any] = field(default_factory=dict)
    strategies: list[str] = field(default_factory=list)
    blind_strategies: list[str] = field(default_factory=list)
    baselines: list[str] = field(default_factory=lambda: ["best_of_n"])
    blind_baselines: list[str] = field(default_factory=lambda: ["self_consistency"])
    modes: list[str] = field(default_factory=lambda: ["task", "none"])
    rungs: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32, 64])
    axes: list[str] = field(default_factory=lambda: list(AXES))
    problems: int = 300
    split: str = "test"
    workers: int = 0
    trust_value: bool | None = None
    seed: int = 0
    run_dir: str = "runs/budget"


ConfigStore.instance().store(name="budget_schema", node=BudgetBenchConfig)


@dataclass(frozen=True)
class Setting:
    """One model on its problems."""

    shelved: Shelved
    scorer: Scorer
    problems: list[Problem]
    chain_tokens: int  # of a greedy chain, mean over the problems, rounded up so that two of them fit into 2x
    budgets: list[int]  # tokens a problem, one a rung
    trust_value: bool
    seed: int
    facts: str  # digest of all that the outcomes depend on, strategy, mode and seed apart

    def bench(self, verify: Verify, **changes: Any) -> Workbench:
        """What a search works with, `changes` apart."""
        shelved = self.shelved
        task = wall(shelved.task, verify)
        usual = Workbench(shelved.model, task, verify, self.trust_value, self.seed, shelved.chain_fit)
        return replace(usual, **changes)

    def parts(self) -> Iterator[tuple[int, list[Problem]]]:
        """The problems in parts that are searched at once, each with the number of its first one."""
        for start in range(0, len(self.problems), PART):
            yield start, self.problems[start : start + PART]


@hydra.main(config_path=str(CONF), config_name="budget", version_base="1.3")
def composed_main(composed: DictConfig) -> None:
    known = OmegaConf.merge(OmegaConf.structured(BudgetBenchConfig), OmegaConf.to_container(composed))
    guarded("bench.budget", lambda: measure(cast("BudgetBenchConfig", OmegaConf.to_object(known))))


def run() -> int:
    """`python -m bench.budget` with the command line of this process; returns the exit code, or exits with it."""
    run_command("bench.budget", composed_main, lambda: help_page("bench.budget", "budget.yaml", ("task",)))
    return 0


def measure(config: BudgetBenchConfig) -> int:
    """Every cell that lacks, then the report; returns the exit code.

    Raises:
        command.UsageError: nothing to measure. One line.
    """
    check(config)
    root = Path(config.run_dir)
    (root / "cells").mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    jobs = [
        (config, name, mode, strategy)
        for name in config.models or list(shipped())
        for mode in config.modes
        for strategy in (config.strategies if mode == "task" else config.blind_strategies)
    ]
    now: dict[tuple[str, str], str] = {}
    with ProcessPoolExecutor(config.workers or core_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for line, model, mode, facts in pool.map(_job, jobs):
            now[model, mode] = facts
            if line:
                print(line, flush=True)
    asked = {"task": config.strategies, "none": config.blind_strategies}
    rows = reported(root, asked, now)
    if rows is None:
        raise command.UsageError(
            "nothing to measure: modes=[task] wants a task that judges its own answers, modes=[none] one whose chains end in "
            "an answer; name strategies or blind_strategies for it"
        )
    write_report(root, rows, {"task": config.baselines, "none": config.blind_baselines}, asked, config.axes)
    print(f"{time.monotonic() - started:.0f} s; {root / 'index.html'}, table.md, rows.parquet, budget.png, budget.svg")
    return 0


def _job(job: tuple[BudgetBenchConfig, str, str, str]) -> tuple[str, str, str, str]:
    """One cell in a process of its own: what to print of it, "" where it was there or cannot be; its model, mode and facts."""
    config, name, mode, strategy = job
    setting = prepared(config, name)
    task, line = setting.shelved.task, ""
    # without a judge to ask, or where a chain ends at its goal, so that its end is the verdict, there is no such cell
    if task.self_verifying if mode == "task" else not task.reversible:
        line = _cell(Path(config.run_dir), config, setting, strategy, cast("Verify", mode))
    return line, setting.shelved.name, mode, setting.facts


def check(config: BudgetBenchConfig) -> None:
    """Refuse what would fail later.

    Raises:
        command.UsageError: one line that names the mend.
    """
    if not config.rungs or min(config.rungs) < 1:
        raise command.UsageError("rungs are multiples of the greedy cost: give numbers from 1 up")
    if not config.axes or (unknown := set(config.axes) - set(AXES)):
        raise command.UsageError(f"axes={config.axes}: use some of {', '.join(AXES)}")
    if config.problems < 2:
        raise command.UsageError(f"problems={config.problems}: an interval needs two or more")
    if unknown := set(config.modes) - {"task", "none"}:
        raise command.UsageError(f"modes: {', '.join(sorted(unknown))} is none: use task, none or both")
    if config.split not in ("dev", "test"):
        raise command.UsageError(f"split={config.split}: use dev to choose on, test to quote")


def prepared(config: BudgetBenchConfig, name: str) -> Setting:
    """A model with its problems and its ladder of budgets."""
    key = digest(
        config.task, config.split, config.problems, config.rungs, config.trust_value, config.seed, config.models, name
    )
    if key not in _PREPARED:
        _PREPARED.clear()
        _PREPARED[key] = _prepared(config, name)
    return _PREPARED[key]


_PREPARED: dict[str, Setting] = {}  # the last one of this process: its cells come one after the other


def _prepared(config: BudgetBenchConfig, name: str) -> Setting:
    options = {key: value for key, value in config.task.items() if key != "name"}
    path = name if name not in shipped() else str(Path(__file__).parents[1] / "models" / "shipped" / name)
    shelved = take(path, task=config.task.get("name"), options=options)
    shelved = replace(shelved, name=label(name, config.models))
    task = shelved.task
    problems = task.first_problems(cast("Any", config.split), config.problems)
    blind = wall(task, "task" if task.self_verifying else "none")
    greedy = rollouts(shelved.model, blind, problems, 1, temperature=0.0)
    cost = math.ceil(np.mean([chains[0].tokens for chains in greedy]))
    trusted = shelved.trusted if config.trust_value is None else config.trust_value
    budgets = [rung * cost for rung in sorted(config.rungs)]
    asked = [problem.id for problem in problems]
    facts = digest(shelved.options, asked, budgets, config.split, trusted, shelved.chain_fit, weights_of(path))
    return Setting(shelved, make_scorer(**shelved.options), problems, cost, budgets, trusted, config.seed, facts)


def _cell(root: Path, config: BudgetBenchConfig, setting: Setting, strategy: str, mode: Verify) -> str:
    """One model under one strategy: its file, unless it is there. A line to print."""
    if strategy == ENUMERATION and (mode != "task" or not setting.shelved.task.exact):
        return ""
    path = cell_file(root, setting.shelved.name, strategy, mode, config.seed, setting.facts)
    if path.exists():
        return ""
    columns = _measured(setting, strategy, mode)
    n, count = len(setting.problems), len(setting.budgets)
    columns |= {
        "task": [setting.shelved.task.name] * (n * count),
        "model": [setting.shelved.name] * (n * count),
        "strategy": [strategy] * (n * count),
        "mode": [mode] * (n * count),
        "seed": [setting.seed] * (n * count),
        "problem": [problem.id for problem in setting.problems] * count,
        "rung": np.repeat(sorted(config.rungs), n),
        "budget_tokens": np.repeat(setting.budgets, n),
        "value_auc": [setting.shelved.value_auc if setting.trust_value else None] * (n * count),
    }
    new = path.with_name(f".{path.name}.new")
    pq.write_table(pa.table(columns), new)
    new.replace(path)
    rates = columns["solved"].reshape(count, n).mean(1)
    return f"{setting.shelved.name:14} {mode:5} {strategy:32}" + "".join(f"{100 * rate:6.1f}" for rate in rates)


def _measured(setting: Setting, strategy: str, mode: Verify) -> dict[str, Any]:
    """Arrays [rungs * problems]: outcomes at every budget, and tokens, simulations, prefilled, seconds, flops of a problem."""
    if strategy == GUESS:
        return _controls(setting, _guesses(setting, mode), seconds=0.0)
    if strategy == ENUMERATION:
        start = time.monotonic()
        at = enumeration(setting.shelved.task, setting.problems, setting.budgets[-1], seed=setting.seed)
        solved = np.array([at <= budget for budget in setting.budgets])
        return _controls(setting, solved, (time.monotonic() - start) / len(setting.problems))
    bench = setting.bench(mode, chain_tokens=setting.chain_tokens)
    parts = [_searched(setting, bench, strategy, part) for _, part in setting.parts()]
    return {name: np.concatenate([part[name] for part in parts], axis=1).ravel() for name in parts[0]}


def _searched(setting: Setting, bench: Workbench, strategy: str, problems: Sequence[Problem]) -> dict[str, np.ndarray]:
    """The same of one part, arrays [rungs, problems]."""
    chosen_way = way(strategy, setting.shelved.task)
    count = len(problems)
    names = ("solved", "tokens", "simulations", "prefilled", "seconds", "flops")
    out: dict[str, list[np.ndarray]] = {name: [] for name in names}
    each = flops_per_token(setting.shelved.model)
    search, spent = None, 0.0
    for budget in setting.budgets:
        start = time.monotonic()
        if search is None or chosen_way.search.sized:
            search, spent = chosen_way.search.start(bench, problems, budget), 0.0
        search.advance(np.full(count, budget))
        spent += time.monotonic() - start
        if bench.verify == "task":
            out["solved"].append(search.solved_at <= budget)
        else:
            picks = [
                chosen(search.chains(i, budget), chosen_way.chooses(bench.trust_value)).chain for i in range(count)
            ]
            out["solved"].append(_right(setting.scorer, problems, [pick.steps if pick else () for pick in picks]))
        prefilled = np.full(count, search.prefilled_tokens / count)
        tokens = np.minimum(search.tokens, np.where(search.solved_at <= budget, search.solved_at, search.tokens))
        out["tokens"].append(tokens)
        out["simulations"].append(search.simulations.copy())
        out["prefilled"].append(prefilled)
        out["seconds"].append(np.full(count, spent / count))
        out["flops"].append(each * (search.tokens + prefilled))
    return {name: np.array(arrays) for name, arrays in out.items()}


def _right(scorer: Scorer, problems: Sequence[Problem], chains: Sequence[Sequence[str]]) -> np.ndarray:
    """bool [P]: which chains are right, by who alone may know; an empty one is not."""
    found = np.zeros(len(problems), bool)
    given = [i for i, chain in enumerate(chains) if chain]
    verdicts = scorer.score([problems[i] for i in given], [chains[i] for i in given])
    found[given] = [verdict.reward >= 1 for verdict in verdicts]
    return found


def _guesses(setting: Setting, mode: Verify) -> np.ndarray:
    """bool [rungs, P]: guessing as often as a budget pays for greedy chains; without a judge, once."""
    guesser = make_guesser(**setting.shelved.options)
    counts = [1 if mode == "none" else min(MOST_GUESSES, budget // setting.chain_tokens) for budget in setting.budgets]
    hits = guessed(guesser, setting.scorer, setting.problems, counts[-1])
    return np.array([hits[:, count - 1] for count in counts])


def _controls(setting: Setting, solved: np.ndarray, seconds: float) -> dict[str, Any]:
    size = solved.size
    return {
        "solved": solved.ravel(),
        "tokens": np.repeat(setting.budgets, solved.shape[1]),
        "simulations": np.zeros(size, np.int64),
        "prefilled": np.zeros(size),
        "seconds": np.full(size, seconds),
        "flops": np.zeros(size),
    }


if __name__ == "__main__":
    sys.exit(run())

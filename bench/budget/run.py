"""What does each token of search buy? Strategies x budgets x models on the same problems, with intervals and controls.

    python -m bench budget                                  two of the shipped checkpoints, under ten minutes on two cores
    python -m bench budget policy=[FOLDER] strategies=[best_first,best_of_n] rungs=[1,4,16] problems=300
    python -m bench budget -m seed=0,1,2                    Hydra's multirun: a seed a job
    python -m bench budget policy=[countdown4think] "blind_strategies=['think:effort=low','think:effort=high',best_first]"

Budgets are generated tokens, as multiples of what a greedy chain costs. A token is paid when the model samples it: independent
samples pay a prefix again each time, a tree pays none twice. Prompt and context tokens are counted apart. A strategy whose
shape does not depend on its budget runs once, and its smaller budgets are read off on the way.

Two modes that never share a table: with the verifier in the loop a problem is solved when the judge has accepted a chain within
the budget; without one the answer is chosen blindly and scored when the search has ended.

Every cell (model, strategy, mode, seed) is a file of its own under run_dir/cells, written whole or not at all: a run that was
stopped goes on with the cells that lack, see bench/budget/cells.py. Exit code 2: refused, with one line that says why.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import hydra
import numpy as np
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from bench import command
from bench.budget.cells import cell_file, code, digest, label, reported, write_cell
from bench.budget.report import AXES, rows_of, write_report
from kit.command import CONF, defaults_of, guarded, help_page, typed
from kit.command import run as run_command
from kit.process import begun, core_count, name_of
from models.policy import shipped
from solve.answers import chosen
from solve.budgets import EFFORTS
from solve.calibrate.ground import Ground, greedy_tokens
from solve.policies import Shelved, take
from solve.search.enumeration import enumeration
from solve.strategies import way
from solve.types import NEVER, Verify, Workbench
from tasks import Problem, Scorer, Task, make_guesser, make_scorer
from tasks.base import Split
from tasks.guessing import guessed
from tasks.registry import register_tasks, task_pages

GUESS, ENUMERATION = "guess", "enumeration"  # controls without a model
MOST_GUESSES = 64
SPLITS: tuple[Split, ...] = ("dev", "test")  # to choose on, to quote


@dataclass
class BudgetBenchConfig:
    """See conf/budget.yaml, which gives every default."""

    policy: list[str]
    models: list[str]  # an alias of policy
    strategies: list[str]
    blind_strategies: list[str]
    baselines: list[str]
    blind_baselines: list[str]
    modes: list[str]
    rungs: list[Any]  # greedy chains, or names of efforts
    axes: list[str]
    problems: int
    split: str
    device: str
    workers: int
    trust_value: bool | None
    seed: int
    run_dir: str
    task: dict[str, Any] = field(default_factory=dict)


def budget_config(**changes: Any) -> BudgetBenchConfig:
    """The configuration of `python -m bench budget`, `changes` apart."""
    page = defaults_of("budget")
    known = {name: page[name] for name in BudgetBenchConfig.__annotations__ if name != "task"}
    return replace(typed(BudgetBenchConfig, known), **changes)


ConfigStore.instance().store(name="budget_schema", node=BudgetBenchConfig)
register_tasks()


@dataclass(frozen=True, kw_only=True)
class Setting(Ground):
    """One policy on its problems, and its ladder of budgets."""

    shelved: Shelved
    name: str  # in tables
    budgets: list[int]  # tokens a problem, one a rung; the last one is the ground's limit
    facts: str  # digest of all that the outcomes depend on, strategy, mode and seed apart


@hydra.main(config_path=str(CONF), config_name="budget", version_base="1.3")
def composed_main(composed: DictConfig) -> None:
    guarded("bench budget", lambda: measure(typed(BudgetBenchConfig, OmegaConf.to_container(composed))))


def run() -> int:
    """`python -m bench budget` with the command line of this process; returns the exit code, or exits with it."""
    run_command("bench budget", composed_main, lambda: help_page("bench budget", task_pages()), keeps_sweeps=True)
    return 0


def measure(config: BudgetBenchConfig) -> int:
    """Every cell that lacks, then the report; returns the exit code.

    Raises:
        command.UsageError: nothing to measure. One line.
    """
    config = check(config)
    root = Path(config.run_dir)
    (root / "cells").mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    jobs = [
        (config, name, mode, strategy)
        for name in config.models
        for mode in config.modes
        for strategy in (config.strategies if mode == "task" else config.blind_strategies)
    ]
    now: dict[tuple[str, str], str] = {}
    begin = os.getpid(), name_of(_begin)
    with ProcessPoolExecutor(config.workers or core_count(), get_context("spawn"), begun, begin) as pool:
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
    command.save({"rows": list(rows_of(rows))}, config.run_dir, "budget")
    print(f"{time.monotonic() - started:.0f} s; {root / 'index.html'}, table.md, rows.parquet, budget.json, .png, .svg")
    return 0


def _begin() -> None:
    """In a worker."""
    torch.set_num_threads(1)


def _job(job: tuple[BudgetBenchConfig, str, str, str]) -> tuple[str, str, str, str]:
    """One cell in a process of its own: what to print of it, "" where it was there or cannot be; its model, mode and facts."""
    config, name, mode, strategy = job
    setting = prepared(config, name)
    line = ""
    if _has(setting.task, mode):
        line = _cell(Path(config.run_dir), config, setting, strategy, cast("Verify", mode))
    return line, setting.name, mode, setting.facts


def check(config: BudgetBenchConfig) -> BudgetBenchConfig:
    """What is to be measured, each once; refuses what would fail later.

    Raises:
        command.UsageError, SolveError, CheckpointError, TaskError: one line that names the mend.
    """
    if not config.rungs or min(rungs_of(config)) < 1:
        raise command.UsageError("rungs are multiples of the greedy cost: give numbers from 1 up, or names of efforts")
    if not config.axes or (unknown := set(config.axes) - set(AXES)):
        raise command.UsageError(f"axes={config.axes}: use some of {', '.join(AXES)}")
    if config.problems < 2:
        raise command.UsageError(f"problems={config.problems}: an interval needs two or more")
    if config.workers < 0 or config.seed < 0:
        raise command.UsageError(f"workers={config.workers} seed={config.seed}: 0 or more")
    if unknown := set(config.modes) - {"task", "none"}:
        raise command.UsageError(f"modes: {', '.join(sorted(unknown))} is none: use task, none or both")
    command.one_of("split", config.split, SPLITS)
    once = {
        name: list(dict.fromkeys(getattr(config, name)))
        for name in ("strategies", "blind_strategies", "modes", "rungs")
    }
    config = replace(config, models=list(dict.fromkeys(config.models or config.policy or shipped())), **once)
    named = {"task": config.strategies + config.baselines, "none": config.blind_strategies + config.blind_baselines}
    for name in config.models:
        task = _taken(config, name).task
        for strategy in [strategy for mode in config.modes if _has(task, mode) for strategy in named[mode]]:
            if strategy not in (GUESS, ENUMERATION):
                way(strategy, task)
    return config


def rungs_of(config: BudgetBenchConfig) -> list[int]:
    """Greedy chains that each rung pays for.

    Raises:
        command.UsageError: a rung that is neither a whole number nor an effort.
    """
    rungs = []
    for rung in config.rungs:
        chains = rung if isinstance(rung, int) and not isinstance(rung, bool) else EFFORTS.get(str(rung))
        if chains is None:
            raise command.UsageError(f"rungs: {rung} is none: give whole numbers, or efforts with a limit of their own")
        rungs.append(chains)
    return rungs


def _has(task: Task, mode: str) -> bool:
    """Whether a mode is one of this task: there is a judge to ask; or there is none, and a chain's end is not the verdict."""
    return task.self_verifying if mode == "task" else not task.reversible


def _taken(config: BudgetBenchConfig, name: str) -> Shelved:
    options = {key: value for key, value in config.task.items() if key != "name"}
    return take(name, task=config.task.get("name"), options=options, device=config.device)


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
    shelved = _taken(config, name)
    task, policy, calibration = shelved.task, shelved.policy, shelved.calibration
    problems = task.first_problems(command.one_of("split", config.split, SPLITS), config.problems)
    cost = math.ceil(greedy_tokens(policy, task, problems)[0])
    trusted = shelved.trusted if config.trust_value is None else config.trust_value
    budgets = [rung * cost for rung in sorted(rungs_of(config))]
    asked = [problem.id for problem in problems]
    value = trusted, calibration.value_auc, calibration.chain
    facts = digest(shelved.options, asked, budgets, config.split, value, policy.version, code())
    return Setting(
        policy, task, make_scorer(**shelved.options), problems, cost, budgets[-1], trusted, calibration.chain, config.seed,
        shelved=shelved, name=label(name, config.models), budgets=budgets, facts=facts,
    )  # fmt: skip


def _cell(root: Path, config: BudgetBenchConfig, setting: Setting, strategy: str, mode: Verify) -> str:
    """One model under one strategy: its file, unless it is there. A line to print."""
    if strategy == ENUMERATION and (mode != "task" or not setting.task.exact):
        return ""
    path = cell_file(root, setting.name, strategy, mode, config.seed, setting.facts)
    if path.exists():
        return ""
    columns = _measured(setting, strategy, mode)
    n, count = len(setting.problems), len(setting.budgets)
    facts = {
        "task": setting.task.name, "model": setting.name, "strategy": strategy, "mode": mode, "seed": setting.seed,
        "split": config.split, "value_auc": setting.shelved.calibration.value_auc, "value_on": setting.trust_value,
        "alone": setting.policy.can.alone,
    }  # fmt: skip
    columns |= {name: [fact] * (n * count) for name, fact in facts.items()}
    columns["problem"] = [problem.id for problem in setting.problems] * count
    columns |= {"rung": np.repeat(sorted(rungs_of(config)), n), "budget_tokens": np.repeat(setting.budgets, n)}
    write_cell(path, columns)
    rates = columns["solved"].reshape(count, n).mean(1)
    return f"{setting.name:14} {mode:5} {strategy:32}" + "".join(f"{100 * rate:6.1f}" for rate in rates)


def _measured(setting: Setting, strategy: str, mode: Verify) -> dict[str, Any]:
    """Arrays [rungs * problems]: outcomes at every budget, and tokens, simulations, prefilled, seconds, flops of a problem."""
    budgets = np.array(setting.budgets)[:, None]
    if strategy == GUESS:
        return _controls(*_guesses(setting, mode), budgets, seconds=0.0)
    if strategy == ENUMERATION:
        start = time.monotonic()
        at = enumeration(setting.task, setting.problems, setting.budgets[-1], seed=setting.seed)
        return _controls(at, setting.budgets[-1], budgets, time.monotonic() - start)
    bench = setting.bench(mode, chain_tokens=setting.chain_tokens)
    parts = [_searched(setting, bench, strategy, part) for _, part in setting.parts()]
    return {name: np.concatenate([part[name] for part in parts], axis=1).ravel() for name in parts[0]}


def _searched(setting: Setting, bench: Workbench, strategy: str, problems: Sequence[Problem]) -> dict[str, np.ndarray]:
    """The same of one part, arrays [rungs, problems]."""
    chosen_way = way(strategy, setting.task)
    count = len(problems)
    names = ("solved", "tokens", "simulations", "prefilled", "seconds", "flops")
    out: dict[str, list[np.ndarray]] = {name: [] for name in names}
    each = setting.policy.flops_per_token or math.nan
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
        # what a round of samples drew past its solution is no cost
        tokens = np.where(search.solved_at <= budget, search.solved_at, search.tokens)
        out["tokens"].append(tokens)
        out["simulations"].append(search.simulations * tokens / np.maximum(search.tokens, 1))
        out["prefilled"].append(prefilled)
        out["seconds"].append(np.full(count, spent / count))
        out["flops"].append(each * (tokens + prefilled))
    return {name: np.array(arrays) for name, arrays in out.items()}


def _right(scorer: Scorer, problems: Sequence[Problem], chains: Sequence[Sequence[str]]) -> np.ndarray:
    """bool [P]: which chains are right, by who alone may know; an empty one is not."""
    right = np.zeros(len(problems), bool)
    answered = [i for i, chain in enumerate(chains) if chain]
    verdicts = scorer.score([problems[i] for i in answered], [chains[i] for i in answered])
    right[answered] = [verdict.reward >= 1 for verdict in verdicts]
    return right


def _guesses(setting: Setting, mode: Verify) -> tuple[np.ndarray, int]:
    """(int64 [P]: what guesses up to the first right one cost as greedy chains, NEVER; what all of them cost).

    Without a judge there is one guess, which costs the same whether it is right or not.
    """
    guesser, each = make_guesser(**setting.shelved.options), setting.chain_tokens
    most = 1 if mode == "none" else min(MOST_GUESSES, setting.budgets[-1] // each)
    hits = guessed(guesser, setting.scorer, setting.problems, most)
    return np.where(hits[:, -1], each * (1 + hits.argmax(1)), NEVER), each * most


def _controls(at: np.ndarray, most: int, budgets: np.ndarray, seconds: float) -> dict[str, Any]:
    """Columns of a control that was right for the first time after `at` tokens and made `most` tokens' worth of tries.

    `seconds`: of all problems and all tokens.
    """
    solved, tokens = at <= budgets, np.minimum(np.minimum(at, most), budgets)
    none = np.zeros(solved.size)
    return {
        "solved": solved.ravel(),
        "tokens": tokens.ravel(),
        "simulations": none,
        "prefilled": none,
        "seconds": (seconds * tokens / tokens[-1].sum()).ravel(),
        "flops": none,
    }

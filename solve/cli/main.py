"""`python -m solve`: compose the configuration, find a model, answer, tell what it cost.

Exit code 0: every problem got its answer, or Ctrl-C asked for the best so far. 1: some lines of a batch could not be asked, or
its tree not be saved; the others are answered. 2: refused, or the tree of one problem not saved, with one line that says why.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kit.command import CONF, guarded, help_page, in_sweep, run, typed
from solve.budgets import interruptible
from solve.cli.answers_file import Asked, check_writable, read_lines
from solve.cli.config import SolveConfig, register
from solve.cli.page import SHOWN, page
from solve.types import SolveError
from tasks.registry import task_pages

STDIN = "-"
FEW_THREADS = 2

register()


@hydra.main(config_path=str(CONF), config_name="solve", version_base="1.3")
def composed_main(composed: DictConfig) -> None:
    guarded("solve", lambda: configured(composed, HydraConfig.get().overrides.task))


def hydra_main() -> None:
    """`python -m solve` with the command line of this process."""
    run("solve", composed_main, lambda: help_page("solve", task_pages()))


def configured(composed: DictConfig, overrides: Iterable[str]) -> int:
    """Check what was composed and play it; returns the exit code. `overrides`: those of the command line."""
    config = typed(SolveConfig, OmegaConf.to_container(composed))
    code = play(config, given_options(config.task, overrides))
    if config.checkpoint is not None:
        print("note: checkpoint= is an alias of policy=", file=sys.stderr)
    return code


def given_options(task: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Options of the task that the command line itself names; the others are the checkpoint's."""
    keys = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    names = [key.split(".")[1] for key in keys if key.startswith("task.")]
    return {name: task[name] for name in names}


def play(config: SolveConfig, options: dict[str, Any]) -> int:
    """Answer what is asked; returns the exit code.

    Raises:
        SolveError: nothing to answer, or a setting that cannot be.
    """
    batch = config.file is not None or config.problem == STDIN
    if config.problem is None and config.file is None:
        raise SolveError("nothing to answer: give problem='...' (or problem=- for standard input), or file=FILE.jsonl")
    if config.problem is not None and config.file is not None:
        raise SolveError("two things to answer: give problem='...' or file=FILE.jsonl, not both")
    if config.out and not batch:
        raise SolveError(
            "out= is for batches: give file=FILE.jsonl or problem=-, or json=true for one line on standard output"
        )
    if config.show not in SHOWN:
        raise SolveError(f"show={config.show!r}: use one of {', '.join(SHOWN)}")
    if config.batch < 1:
        raise SolveError(f"batch={config.batch}: at least one problem at once")
    if config.tree:
        check_writable(Path(config.tree))
    asked = _lines(config) if batch else []
    from models.device import within_memory
    from solve.cli.batch import Solvers, play_batch, search  # with torch, which takes seconds to import

    use_threads()

    with interruptible() as interrupted, within_memory("lower batch or budget.tokens"):
        if batch:
            code = play_batch(config, asked, options, interrupted)
        else:
            solver, problem = Solvers(config, options).reading(config.problem or "")
            (solution,), trouble = search(config, solver, [problem], interrupted, tree=config.tree)
            print(json.dumps(solution.to_dict()) if config.json else page(solution, config.show))
            if trouble is not None:
                raise trouble
            code = 0
        if interrupted() and in_sweep():
            raise KeyboardInterrupt
        return code


def use_threads() -> None:
    """One thread where there are two cores, unless OMP_NUM_THREADS says otherwise: our own kernels compute in one, and threads
    of a product wait for each other where other programs run too (SmolLM2: 16 ms a token, 240 or more with two)."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() <= FEW_THREADS:
        torch.set_num_threads(1)


def _lines(config: SolveConfig) -> list[Asked]:
    """What a batch asks, read before anything is loaded."""
    if config.file is None:
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
        return list(read_lines(sys.stdin, plain=True))
    path = Path(config.file)
    if path.is_dir() or not path.exists():
        raise SolveError(f"file={path}: {'a folder' if path.is_dir() else 'no such file'}; name a file of JSON lines")
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        return list(read_lines(lines, plain=False))

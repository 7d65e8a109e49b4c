"""`python -m solve`: compose the configuration, find a model, answer, tell what it cost.

Exit code 0: every problem got its answer, or Ctrl-C asked for the best so far. 1: some lines of a batch could not be asked; the
others are answered. 2: refused, with one line that says why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from solve.batch import Answers, Asked, read_lines
from solve.budgets import interruptible
from solve.command import CONF, guarded, help_page, run
from solve.config import SolveConfig, register
from solve.tree_file import check_writable, save_tree
from solve.types import SolveError

if TYPE_CHECKING:
    from solve.solver import Solution, Solver

STDIN = "-"

register()


@hydra.main(config_path=str(CONF), config_name="solve", version_base="1.3")
def composed_main(composed: DictConfig) -> None:
    guarded("solve", lambda: configured(composed, HydraConfig.get().overrides.task))


def hydra_main() -> None:
    """`python -m solve` with the command line of this process."""
    run("solve", composed_main, lambda: help_page("solve", "solve.yaml", ("task",)))


def configured(composed: DictConfig, overrides: Iterable[str]) -> int:
    """Check what was composed and play it; returns the exit code. `overrides`: those of the command line."""
    known = OmegaConf.merge(OmegaConf.structured(SolveConfig), OmegaConf.to_container(composed))
    config = cast("SolveConfig", OmegaConf.to_object(known))
    return play(config, given_options(config.task, overrides))


def given_options(task: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Options of the task that the command line itself names; the others are the checkpoint's."""
    keys = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    return {key.removeprefix("task."): task[key.removeprefix("task.")] for key in keys if key.startswith("task.")}


def play(config: SolveConfig, options: dict[str, Any]) -> int:
    """Answer what is asked; returns the exit code.

    Raises:
        SolveError: nothing to answer, or a setting that cannot be.
    """
    batch = config.file is not None or config.problem == STDIN
    if (config.problem is None) == (config.file is None):
        raise SolveError("nothing to answer: give problem='...' (or problem=- for standard input), or file=FILE.jsonl")
    if config.batch < 1:
        raise SolveError(f"batch={config.batch}: at least one problem at once")
    if config.tree:
        check_writable(Path(config.tree))
    task = config.task.get("name")
    if config.file is not None and not Path(config.file).is_file():
        raise SolveError(f"file={config.file}: no such file")
    from solve.solver import Solver

    plain = [config.problem] if config.problem is not None and not batch else []
    with interruptible() as interrupted:
        if not batch:
            solver = Solver(config.checkpoint, task=task, problem=plain[0], trust_value=config.trust_value, **options)
            found = _answers(config, solver, plain, interrupted, tree=config.tree)[0]
            print(json.dumps(found.to_dict()) if config.json else page(found))
            return 0
        return _batch(config, task, options, interrupted)


def _batch(config: SolveConfig, task: str | None, options: dict[str, Any], interrupted: Callable[[], bool]) -> int:
    """Problems in parts; a bad line harms no other."""
    from solve.solver import Solver

    with nullcontext(sys.stdin) if config.file is None else Path(config.file).open(errors="replace") as lines:
        asked = list(read_lines(lines, plain=config.file is None))
    solver = _solver_for(Solver, config, task, options, [line.text for line in asked if line.error is None])
    answers = Answers(Path(config.out)) if config.out else None
    todo = [line for line in asked if answers is None or not answers.answered(line)]
    bad, told, tree = 0, 0, config.tree
    with _Bar(len(asked), len(asked) - len(todo), quiet=not sys.stderr.isatty()) as bar:
        rest = iter(todo)
        size = len(todo) if config.share != "none" else config.batch
        while (part := list(islice(rest, max(size, 1)))) and not interrupted():
            good, problems = [], []
            for line in part:
                error = line.error
                if error is None:
                    try:
                        problems.append(solver.read(line.text))
                        good.append(line)
                    except SolveError as refused:
                        error = f"{line.id}: {refused}"
                if error is not None:
                    bad += 1
                    print(f"error: {error}", file=sys.stderr)
                    _tell(config, answers, line, {"error": error})
            found = _answers(config, solver, problems, interrupted, tree=tree) if problems else []
            tree = None if problems else tree
            for line, solution in zip(good, found, strict=True):
                if answers is None or solution.stopped != "interrupted":  # a cut search is gone on with, not filed
                    _tell(config, answers, line, solution.to_dict(), solution)
                    told += 1
            bar.advance(len(part))
    if answers is not None:
        answers.close()
        print(f"{told} answered, {len(asked) - len(todo)} were before, {bad} could not be asked: {config.out}")
    return 1 if bad else 0


def _solver_for(kind: type[Solver], config: SolveConfig, task: str | None, options: dict, texts: list[str]) -> Solver:
    """The solver that the first readable problem asks for."""
    refused: SolveError | None = None
    for text in texts[:20] or [None]:
        try:
            return kind(config.checkpoint, task=task, problem=text, trust_value=config.trust_value, **options)
        except SolveError as error:
            refused = refused or error
    raise refused or SolveError("no line can be asked")


def _answers(config: SolveConfig, solver: Solver, problems, interrupted, *, tree: str | None) -> list[Solution]:
    def save(search, bench) -> None:
        if tree:
            save_tree(Path(tree), search, 0, task=bench.task.name, prompt=bench.task.prompt(asked[0]).strip())

    asked = [solver.read(problem) if isinstance(problem, str) else problem for problem in problems]
    return solver.solve(
        asked,
        strategy=config.strategy,
        effort=config.effort,
        verify=cast("Any", config.verify),
        choose=cast("Any", config.choose),
        tokens=config.budget.tokens,
        simulations=config.budget.simulations,
        seconds=config.budget.seconds,
        share=cast("Any", config.share),
        seed=config.seed,
        interrupted=interrupted,
        on_search=save,
    )


def _tell(
    config: SolveConfig, answers: Answers | None, line: Asked, record: dict, solution: Solution | None = None
) -> None:
    record = {"id": line.id, "asked": line.text} | record
    if answers is not None:
        answers.write(record)
    elif config.json:
        print(json.dumps(record), flush=True)
    elif solution is not None:
        print(page(solution), end="\n\n", flush=True)


def page(found: Solution) -> str:
    """A solution for a person."""
    cost = found.cost
    said = {True: "accepted by the verifier", False: "no chain was accepted", None: "not judged"}[found.solved]
    sure = "" if found.solved is not None else f", confidence {found.confidence:.2f}"
    if sure and not found.calibrated:
        sure += ", not calibrated"
    return "\n".join(
        [
            found.problem,
            *(f"  {step.rstrip()}" for step in found.steps),
            f"answer  {found.answer if found.answer is not None else 'none found'}  ({said}{sure})",
            f"search  {found.strategy}, verify={found.verify}, value {'on' if found.value_trusted else 'off'}; "
            f"{found.chains} chains, stopped: {found.stopped}",
            f"cost    {cost.simulations} simulations, {cost.generated_tokens} generated and {cost.prefilled_tokens:.0f} "
            f"prefilled tokens, {cost.seconds:.2f} s, {cost.flops / 1e6:.3g} MFLOP",
        ]
    )


class _Bar:
    """A progress bar on standard error; nothing where that is no terminal."""

    def __init__(self, total: int, done: int, *, quiet: bool):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("solving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=quiet)
        self._task = self._bar.add_task("solving", total=total, completed=done)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, problems: int) -> None:
        self._bar.advance(self._task, problems)

"""`python -m solve`: compose the configuration, find a model, answer, tell what it cost.

Exit code 0: every problem got its answer, or Ctrl-C asked for the best so far. 1: some lines of a batch could not be asked, or
its tree not be saved; the others are answered. 2: refused, or the tree of one problem not saved, with one line that says why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from solve.batch import Answers, Asked, check_writable, read_lines
from solve.budgets import interruptible
from solve.command import CONF, guarded, help_page, run
from solve.config import SolveConfig, register
from solve.types import SolveError

if TYPE_CHECKING:
    from solve.solver import Solution, Solver
    from tasks.base import Problem

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
    if config.problem is None and config.file is None:
        raise SolveError("nothing to answer: give problem='...' (or problem=- for standard input), or file=FILE.jsonl")
    if config.problem is not None and config.file is not None:
        raise SolveError("two things to answer: give problem='...' or file=FILE.jsonl, not both")
    if config.out and not batch:
        raise SolveError(
            "out= is for batches: give file=FILE.jsonl or problem=-, or json=true for one line on standard output"
        )
    if config.batch < 1:
        raise SolveError(f"batch={config.batch}: at least one problem at once")
    if config.tree:
        check_writable(Path(config.tree))
    asked = _lines(config) if batch else []
    from solve.solver import Solver

    task = config.task.get("name")
    with interruptible() as interrupted:
        if batch:
            return _batch(config, asked, Solvers(config, task, options), interrupted)
        solver = Solver(config.checkpoint, task=task, problem=config.problem, trust_value=config.trust_value, **options)
        problem = solver.read(cast("str", config.problem))
        (found,), trouble = _answers(config, solver, [problem], interrupted, tree=config.tree)
        print(json.dumps(found.to_dict()) if config.json else page(found))
        if trouble is not None:
            raise trouble
        return 0


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


class Solvers:
    """Those that a batch needs: of the given checkpoint, or of those shipped that read its lines. Each is loaded once."""

    def __init__(self, config: SolveConfig, task: str | None, options: dict[str, Any]):
        self._config, self._task, self._options = config, task, options
        self._known: list[Solver] = []

    def reading(self, text: str) -> tuple[Solver, Problem]:
        """A solver and the problem that it reads in a text.

        Raises:
            SolveError: no solver reads it.
        """
        from solve.solver import Solver

        for solver in self._known:
            try:
                return solver, solver.read(text)
            except SolveError:
                if self._config.checkpoint is not None:
                    raise
        config = self._config
        new = Solver(config.checkpoint, task=self._task, problem=text, trust_value=config.trust_value, **self._options)
        self._known.append(new)
        return new, new.read(text)

    def check(self, texts: list[str]) -> None:
        """Raises: SolveError: none of the first lines can be read; what is wrong with the first one."""
        refused: SolveError | None = None
        for text in texts[:20]:
            try:
                self.reading(text)
            except SolveError as error:
                refused = refused or error
            else:
                return
        raise refused or SolveError("no line can be asked")


def _batch(config: SolveConfig, asked: list[Asked], solvers: Solvers, interrupted: Callable[[], bool]) -> int:
    """Problems in parts; a bad line harms no other."""
    if not asked:
        print("no problems were given", file=sys.stderr)
        return 0
    solvers.check([line.text for line in asked if line.error is None])
    answers = Answers(Path(config.out), asked) if config.out else None
    todo = [line for line in asked if answers is None or not answers.answered(line)]
    if answers is not None:
        _warn_of_other_ways(config, answers)
    bad, told, tree, failed = 0, 0, config.tree, False
    with _Bar(len(asked), len(asked) - len(todo), quiet=not sys.stderr.isatty()) as bar:
        rest = iter(todo)
        size = len(todo) if config.share != "none" else config.batch
        while not interrupted() and (part := list(islice(rest, max(size, 1)))):
            groups: dict[Solver, tuple[list[Asked], list[Problem]]] = {}
            for line in part:
                try:
                    if line.error is not None:
                        raise SolveError(line.error)
                    solver, problem = solvers.reading(line.text)
                except SolveError as refused:
                    error = line.error or f"{line.id}: {refused}"
                    bad += 1
                    print(f"error: {error}", file=sys.stderr)
                    _tell(config, answers, line, {"error": error})
                    continue
                lines, problems = groups.setdefault(solver, ([], []))
                lines.append(line)
                problems.append(problem)
            found: dict[str, tuple[Asked, Solution]] = {}
            for solver, (lines, problems) in groups.items():
                solutions, trouble = _answers(config, solver, problems, interrupted, tree=tree)
                found |= {line.id: (line, solution) for line, solution in zip(lines, solutions, strict=True)}
                tree = None
                if trouble is not None:
                    failed = True
                    print(f"error: {trouble}", file=sys.stderr)
            for line, solution in (found[line.id] for line in part if line.id in found):
                if answers is None or solution.stopped != "interrupted":  # a cut search is gone on with, not filed
                    _tell(config, answers, line, solution.to_dict(), solution)
                    told += 1
            bar.advance(len(part))
    left = len(todo) - told - bad
    if answers is not None:
        answers.close()
        rest_of_it = f"; {left} are left, the same command goes on" if left else ""
        print(
            f"{told} answered, {len(asked) - len(todo)} were before, {bad} could not be asked: {config.out}{rest_of_it}"
        )
    elif left:
        print(f"stopped: {left} of {len(asked)} problems were not asked", file=sys.stderr)
    return 1 if bad or failed else 0


def _warn_of_other_ways(config: SolveConfig, answers: Answers) -> None:
    """Say it where a file holds answers that were found in another way than the one asked for now."""
    others = {way for way in answers.ways if way[0] != config.strategy or config.verify not in (None, way[1])}
    if others:
        told = ", ".join(f"strategy={strategy} verify={verify}" for strategy, verify in sorted(others))
        print(f"note: {config.out} has answers by {told}; name another file to ask all anew", file=sys.stderr)


def _answers(
    config: SolveConfig, solver: Solver, problems: list[Problem], interrupted: Callable[[], bool], *, tree: str | None
) -> tuple[list[Solution], SolveError | None]:
    """Solutions, and why the tree of the first problem was not saved if it should have been; no answer is lost to that.

    Raises:
        SolveError: before anything is searched.
    """
    from solve.strategies import way
    from solve.tree_file import check_grown, save_tree

    trouble: list[SolveError] = []
    if tree:
        check_grown(way(config.strategy, solver.shelved.task).search)

    def save(search, bench) -> None:
        if tree:
            try:
                save_tree(Path(tree), search, 0, task=bench.task.name, prompt=bench.task.prompt(problems[0]).strip())
            except SolveError as error:
                trouble.append(error)

    solutions = solver.solve(
        problems,
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
    return solutions, trouble[0] if trouble else None


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

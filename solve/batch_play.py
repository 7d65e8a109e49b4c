"""A batch played: each line by a solver that reads it, answers as they come, and what is left when somebody stops it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from solve.batch import Answers, Asked
from solve.config import SolveConfig
from solve.page import page
from solve.solver import Solution, Solver
from solve.strategies import way
from solve.tree_file import check_grown, save_tree
from solve.types import SolveError
from tasks.base import Problem


class Solvers:
    """Those that a batch needs: of the given checkpoint, or of those shipped that read its lines. Each is loaded once."""

    def __init__(self, config: SolveConfig, options: dict[str, Any]):
        self._config, self._options = config, options
        self._known: list[Solver] = []

    def reading(self, text: str) -> tuple[Solver, Problem]:
        """A solver and the problem that it reads in a text.

        Raises:
            SolveError: no solver reads it.
        """
        config = self._config
        for solver in self._known:
            try:
                return solver, solver.read(text)
            except SolveError:
                if config.checkpoint is not None:
                    raise
        told = {"task": config.task.get("name"), "problem": text, "trust_value": config.trust_value}
        self._known.append(new := Solver(config.checkpoint, **told, **self._options))
        return new, new.read(text)

    def check(self, lines: list[Asked]) -> None:
        """Raises: SolveError: none of the first lines can be read; what is wrong with the first one."""
        refused: SolveError | None = None
        for line in [line for line in lines if line.error is None][:20]:
            try:
                self.reading(line.text)
            except SolveError as error:
                refused = refused or error
            else:
                return
        raise refused or SolveError("no line can be asked")


@dataclass
class _Counts:
    told: int = 0
    bad: int = 0
    unsaved: int = 0  # trees


@dataclass
class _Group:
    """Lines of one part that one solver reads."""

    lines: list[Asked] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def play_batch(
    config: SolveConfig, asked: list[Asked], options: dict[str, Any], interrupted: Callable[[], bool]
) -> int:
    """Problems in parts; a bad line harms no other. Returns the exit code.

    Raises:
        SolveError: nothing of it can be asked.
    """
    if not asked:
        print("no problems were given", file=sys.stderr)
        return 0
    solvers = Solvers(config, options)
    solvers.check(asked)
    answers = Answers(Path(config.out), asked) if config.out else None
    if answers is not None:
        _warn_of_other_ways(config, answers)
    todo = [line for line in asked if answers is None or not answers.answered(line)]
    counts, tree = _Counts(), config.tree
    with _Bar(len(asked), len(asked) - len(todo), quiet=not sys.stderr.isatty()) as bar:
        rest, size = iter(todo), len(todo) if config.share != "none" else config.batch
        while not interrupted() and (part := list(islice(rest, max(size, 1)))):
            found: dict[str, Solution] = {}
            for solver, group in _grouped(part, solvers, config, answers, counts).items():
                solutions, trouble = search(config, solver, group.problems, interrupted, tree=tree)
                found |= {line.id: solution for line, solution in zip(group.lines, solutions, strict=True)}
                tree = None
                if trouble is not None:
                    counts.unsaved += 1
                    print(f"error: {trouble}", file=sys.stderr)
            for line in [line for line in part if line.id in found]:
                solution = found[line.id]
                if answers is None or solution.stopped != "interrupted":  # a cut search is gone on with, not filed
                    _tell(config, answers, line, solution.to_dict(), solution)
                    counts.told += 1
            bar.advance(len(part))
    _sum_up(config, answers, counts, len(asked), len(todo))
    return 1 if counts.bad or counts.unsaved else 0


def search(
    config: SolveConfig, solver: Solver, problems: list[Problem], interrupted: Callable[[], bool], *, tree: str | None
) -> tuple[list[Solution], SolveError | None]:
    """Solutions, and why the tree of the first problem was not saved if it should have been: no answer is lost to that.

    Raises:
        SolveError: before anything is searched.
    """
    trouble: list[SolveError] = []
    if tree:
        check_grown(way(config.strategy, solver.shelved.task).search)

    def save(found, bench) -> None:
        if tree:
            try:
                save_tree(Path(tree), found, 0, task=bench.task.name, prompt=bench.task.prompt(problems[0]).strip())
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


def _grouped(
    part: list[Asked], solvers: Solvers, config: SolveConfig, answers: Answers | None, counts: _Counts
) -> dict[Solver, _Group]:
    """The lines of a part by the solver that reads them; those that none reads are told at once."""
    groups: dict[Solver, _Group] = {}
    for line in part:
        try:
            if line.error is not None:
                raise SolveError(line.error)
            solver, problem = solvers.reading(line.text)
        except SolveError as refused:
            error = line.error or f"{line.id}: {refused}"
            counts.bad += 1
            print(f"error: {error}", file=sys.stderr)
            _tell(config, answers, line, {"error": error})
            continue
        group = groups.setdefault(solver, _Group())
        group.lines.append(line)
        group.problems.append(problem)
    return groups


def _warn_of_other_ways(config: SolveConfig, answers: Answers) -> None:
    """Say it where a file holds answers that were found in another way than the one asked for now."""
    others = {found for found in answers.ways if found[0] != config.strategy or config.verify not in (None, found[1])}
    if others:
        told = ", ".join(f"strategy={strategy} verify={verify}" for strategy, verify in sorted(others))
        print(f"note: {config.out} has answers by {told}; name another file to ask all anew", file=sys.stderr)


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


def _sum_up(config: SolveConfig, answers: Answers | None, counts: _Counts, asked: int, todo: int) -> None:
    """One line of what became of a batch, where it is not all that was printed."""
    left = todo - counts.told - counts.bad
    if answers is not None:
        answers.close()
        more = f"; {left} are left, the same command goes on" if left else ""
        print(
            f"{counts.told} answered, {asked - todo} were before, {counts.bad} could not be asked: {config.out}{more}"
        )
    elif left:
        print(f"stopped: {left} of {asked} problems were not asked", file=sys.stderr)


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

"""A batch played: each line by a solver that reads it, answers as they come, and what is left when somebody stops it."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from models.abilities import PolicyWarning
from models.files.manifest import weights_digest
from models.policy import SHIPPED, shipped
from solve.cli.answers_file import Answers, Asked
from solve.cli.config import SolveConfig
from solve.cli.page import page
from solve.cli.tree_file import check_grown, save_tree
from solve.plan import DEFAULT_STRATEGY, UNANSWERED, Solution
from solve.policies import one_policy
from solve.solver import Solver
from solve.strategies import way
from solve.types import Search, SolveError, Workbench
from tasks.base import Problem


class Solvers:
    """Those that a batch needs: of the given checkpoint, or of those shipped that read its lines. Each is loaded once."""

    def __init__(self, config: SolveConfig, options: dict[str, Any]):
        self._config, self._options = config, options
        self._policy = one_policy(config.policy, config.checkpoint)
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
                if self._policy is not None:
                    raise
        choices = {
            "task": config.task.get("name"),
            "problem": text,
            "trust_value": config.trust_value,
            "device": config.device,
        }
        self._known.append(new := Solver(self._policy, **choices, **self._options))
        return new, new.read(text)

    def first(self, lines: list[Asked]) -> Solver:
        """The solver of the first line that can be read.

        Raises:
            SolveError: none of the first lines can be; what is wrong with the first one.
        """
        refused: SolveError | None = None
        for line in [line for line in lines if line.error is None][:20]:
            try:
                return self.reading(line.text)[0]
            except SolveError as error:
                refused = refused or error
        raise refused or SolveError("no line can be asked")


class _Report:
    """Tells what became of each line, and counts the lines of each kind."""

    def __init__(self, config: SolveConfig, answers: Answers | None):
        self.config, self._answers = config, answers
        self.answered = self.bad = self.unsaved = 0  # lines, lines, trees
        self.failed: str | None = None  # what the policy's server failed to answer in the part under way

    def answer(self, line: Asked, solution: Solution) -> None:
        """A search that was cut short is gone on with, so not filed."""
        if self._answers is not None and solution.stopped == "interrupted":
            return
        if solution.stopped == UNANSWERED:
            return self.refuse(line, f"{line.id}: {_no_step(self.failed)}")
        self.answered += 1
        self._tell(line, solution.to_dict(), page(solution, self.config.show))

    def refuse(self, line: Asked, error: str) -> None:
        """Say why a line cannot be asked."""
        self.bad += 1
        print(f"error: {error}", file=sys.stderr)
        self._tell(line, {"error": error})

    def sum_up(self, asked: int, todo: int) -> None:
        """One line of what became of a batch, where it is not all that was printed."""
        left = todo - self.answered - self.bad
        if self._answers is not None:
            more = f"; {left} are left, the same command goes on" if left else ""
            counts = f"{self.answered} answered, {asked - todo} were before, {self.bad} could not be asked"
            print(f"{counts}: {self.config.out}{more}")
        elif left:
            print(f"stopped: {left} of {asked} problems were not asked", file=sys.stderr)

    def _tell(self, line: Asked, record: dict[str, Any], for_people: str | None = None) -> None:
        record = {"id": line.id, "asked": line.text} | record
        if self._answers is not None:
            self._answers.write(record)
        elif self.config.json:
            print(json.dumps(record), flush=True)
        elif for_people is not None:
            print(for_people, end="\n\n", flush=True)


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
    first = solvers.first(asked)
    search(config, first, [], interrupted, tree=config.tree)  # refuses settings before a file is touched
    with closing(Answers(Path(config.out), how(config, first, options))) if config.out else nullcontext() as answers:
        if answers is not None and answers.undated:
            print(f"note: {answers.undated} answers of {config.out} do not say how they were found", file=sys.stderr)
        todo = [line for line in asked if answers is None or not answers.answered(line)]
        report = _Report(config, answers)
        with _Bar(len(asked), len(asked) - len(todo), quiet=not sys.stderr.isatty()) as bar:
            rest, size, tree = iter(todo), len(todo) if config.share != "none" else config.batch, config.tree
            while not interrupted() and (part := list(islice(rest, max(size, 1)))):
                tree = _play_part(part, solvers, report, interrupted, tree)
                bar.advance(len(part))
    report.sum_up(len(asked), len(todo))
    return 1 if report.bad or report.unsaved else 0


def _play_part(
    part: list[Asked], solvers: Solvers, report: _Report, interrupted: Callable[[], bool], tree: str | None
) -> str | None:
    """Search the lines of one part, by solver, and tell them in order, also what was found when something stops it midway.

    tree: where to save that of the first problem; returned: the same as long as there was none.
    """
    solved: dict[str, Solution] = {}
    try:
        for solver, group in _grouped(part, solvers, report).items():
            try:
                problems = [problem for _, problem in group]
                solutions, trouble, failed = _searched(report.config, solver, problems, interrupted, tree=tree)
            except SolveError as refused:  # what suits one solver's task may not suit another's
                for line, _ in group:
                    report.refuse(line, f"{line.id}: {refused}")
                continue
            solved |= {line.id: solution for (line, _), solution in zip(group, solutions, strict=True)}
            report.failed = failed
            tree = None
            if trouble is not None:
                report.unsaved += 1
                print(f"error: {trouble}", file=sys.stderr)
    finally:
        for line in part:
            if line.id in solved:
                report.answer(line, solved[line.id])
        if report.failed and all(solution.stopped != UNANSWERED for solution in solved.values()):
            print(f"note: {report.failed}", file=sys.stderr)
        report.failed = None
    return tree


def search(
    config: SolveConfig, solver: Solver, problems: list[Problem], interrupted: Callable[[], bool], *, tree: str | None
) -> tuple[list[Solution], SolveError | None]:
    """Solutions, and why the tree of the first problem was not saved if it should have been: no answer is lost to that.

    Raises:
        SolveError: before anything is searched, or the policy gave no step to any problem.
    """
    solutions, trouble, failed = _searched(config, solver, problems, interrupted, tree=tree)
    if solutions and all(solution.stopped == UNANSWERED for solution in solutions):
        raise SolveError(_no_step(failed))
    if failed:
        print(f"note: {failed}", file=sys.stderr)
    return solutions, trouble


def _no_step(failed: str | None) -> str:
    return f"the policy gave no step ({failed or 'it says not why'})"


def _searched(
    config: SolveConfig, solver: Solver, problems: list[Problem], interrupted: Callable[[], bool], *, tree: str | None
) -> tuple[list[Solution], SolveError | None, str | None]:
    """As `search`, with what a policy's server failed to answer, in one line; None: nothing.

    Raises:
        SolveError: before anything is searched.
    """
    troubles: list[SolveError] = []
    if tree:
        check_grown(way(config.strategy or DEFAULT_STRATEGY, solver.shelved.task).search)

    def save(finished: Search, bench: Workbench) -> None:
        if tree:
            try:
                save_tree(Path(tree), finished, 0, task=bench.task.name, prompt=bench.task.prompt(problems[0]).strip())
            except SolveError as error:
                troubles.append(error)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PolicyWarning)
        solutions = solver.solve(
            problems,
            **{name: getattr(config, name) for name in ("strategy", "effort", "verify", "choose", "share", "seed")},
            **vars(config.budget),
            interrupted=interrupted,
            on_search=save,
        )
    failed = [str(one.message) for one in caught if issubclass(one.category, PolicyWarning)]
    for one in caught:
        if not issubclass(one.category, PolicyWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return solutions, troubles[0] if troubles else None, failed[0] if failed else None


def _grouped(part: list[Asked], solvers: Solvers, report: _Report) -> dict[Solver, list[tuple[Asked, Problem]]]:
    """The lines of a part by the solver that reads them; those that none reads are refused."""
    groups: dict[Solver, list[tuple[Asked, Problem]]] = {}
    for line in part:
        if line.error is not None:
            report.refuse(line, line.error)
            continue
        try:
            solver, problem = solvers.reading(line.text)
        except SolveError as refused:
            report.refuse(line, f"{line.id}: {refused}")
            continue
        groups.setdefault(solver, []).append((line, problem))
    return groups


def how(config: SolveConfig, solver: Solver, options: dict[str, Any]) -> dict[str, Any]:
    """What the answers of a batch depend on, beside their problems: the weights, every setting of the search, the task's."""
    named = one_policy(config.policy, config.checkpoint)
    nets = sorted(weights_digest(SHIPPED / name) for name in shipped()) if named is None else []
    version = solver.shelved.policy.version.rpartition("/v1@")[2]  # of a server the model: it may move to another port
    policy = version if named else f"shipped {sha256(''.join(nets).encode()).hexdigest()[:16]}"
    task = {f"task.{name}": value for name, value in options.items()}
    judged = "task" if solver.shelved.task.self_verifying else "none"
    way = {"strategy": config.strategy or DEFAULT_STRATEGY, "verify": config.verify or judged}
    names = ("effort", "choose", "trust_value", "share", "seed")
    return {"policy": policy} | way | {name: getattr(config, name) for name in names} | vars(config.budget) | task


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

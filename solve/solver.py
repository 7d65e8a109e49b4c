"""Answer problems: `solve` for one, `Solver` for many with one model.

    search -> chains -> one answer -> what it cost

A solver asks no gold answer. Where a task judges itself its verifier may be in the loop (verify="task"); else answers are
chosen by the votes, values or visits of the chains that were found (verify="none").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from solve.allocation import SHARES, Share, allocated
from solve.answers import CHOICES, Choose, Chosen, chosen, sureness
from solve.blinds import wall
from solve.budgets import budget_of
from solve.confidence import Calibration
from solve.cost import Cost, flops_per_token
from solve.shelf import Shelved, read_problem, take
from solve.strategies import Way, way
from solve.types import Interrupted, Search, SolveError, Verify, Workbench
from tasks.base import Problem

DEFAULT_STRATEGY = "best_first"

OnProgress = Callable[[int, int], None]  # problems done, tokens generated


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer to one problem."""

    problem: str  # as the model saw it
    answer: str | None  # None: no chain has ended with an answer
    solved: bool | None  # the judge in the loop accepted it; None: there was none
    confidence: float  # P(right) in [0, 1]
    calibrated: bool  # False: `confidence` is the chain's own P(right), or the answer's share of all votes, as it is
    steps: tuple[str, ...]  # the chain that led to it
    agreeing: int  # chains with the same answer
    chains: int  # chains that have ended
    strategy: str
    verify: Verify
    value_trusted: bool
    stopped: str  # solved | exhausted | budget | interrupted
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Solver:
    """One model, ready to answer.

    Raises:
        SolveError, CheckpointError, TaskError: no such model, task or option. One line that names the mend.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        *,
        task: str | None = None,
        problem: str | None = None,
        trust_value: bool | None = None,
        **options: Any,
    ):
        """`checkpoint`, `task`, `problem`, `options`: see `shelf.take`. `trust_value`: None: as measured."""
        self.shelved: Shelved = take(checkpoint, task=task, options=options, problem=problem)
        if not isinstance(trust_value, bool | None):
            raise SolveError(f"trust_value={trust_value!r}: use true, false, or null for as measured")
        self.trust_value = self.shelved.trusted if trust_value is None else trust_value
        self._compiled: set[str] = set()  # strategies

    @property
    def default_verify(self) -> Verify:
        """The task's own judge where it has one."""
        return "task" if self.shelved.task.self_verifying else "none"

    def read(self, text: str) -> Problem:
        """The problem that a text asks.

        Raises:
            SolveError: it is none of the task.
        """
        return read_problem(self.shelved.task, text)

    def solve(
        self,
        problems: Sequence[Problem | str],
        *,
        strategy: str = DEFAULT_STRATEGY,
        effort: str = "low",
        verify: Verify | None = None,
        choose: Choose | None = None,
        tokens: int | None = None,
        simulations: int | None = None,
        seconds: float | None = None,
        share: Share = "none",
        seed: int = 0,
        interrupted: Interrupted = lambda: False,
        on_progress: OnProgress | None = None,
        on_search: Callable[[Search, Workbench], None] | None = None,
    ) -> list[Solution]:
        """Answer every problem, in order.

        Args:
            effort: a named budget ("low", "medium", "high"); `tokens` and `simulations` a problem and `seconds` in all take its
                place, each alone too. The first limit reached stops; the expansion or chain under way is still paid.
            choose: how an answer is chosen without a judge; None: the strategy's own way.
            share: "none": each problem has its own budget. "uniform" and "uncertain" give the same total in slices, to each
                problem alike, or first where an answer is most likely to change.
            interrupted: asked between waves; once True, the search stops and the best so far is the answer.
            on_search: called with the finished search, for who wants its tree.

        Raises:
            SolveError: a strategy, budget or mode that cannot be. One line that names the mend.
        """
        asked = [problem if isinstance(problem, Problem) else self.read(problem) for problem in problems]
        verify = self.default_verify if verify is None else verify
        if verify not in ("task", "none"):
            raise SolveError(f"verify={verify!r}: use task or none")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise SolveError(f"seed={seed!r}: a whole number from 0 up")
        if choose not in (None, *CHOICES):
            raise SolveError(f"choose={choose!r}: use one of {', '.join(CHOICES)}")
        if share not in SHARES:
            raise SolveError(f"share={share!r}: use one of {', '.join(SHARES)}")
        task = wall(self.shelved.task, verify)
        chosen_way = way(strategy, self.shelved.task)
        budget = budget_of(self.shelved.task, effort, tokens=tokens, simulations=simulations, seconds=seconds)
        chain_fit = self.shelved.chain_fit
        bench = Workbench(self.shelved.model, task, verify, self.trust_value, seed, chain_fit, interrupted=interrupted)
        if not asked:
            return []
        usual = chosen_way.chooses(self.trust_value)
        as_fitted = choose in (None, usual) and self.trust_value == self.shelved.trusted
        fit = self.shelved.calibrations.get(strategy) if as_fitted else None
        choose = choose or usual
        if budget.seconds is not None:
            self._compile(strategy, chosen_way, bench, asked[0])
        started = time.monotonic()
        search = chosen_way.search.start(bench, asked, budget.size)
        allocated(search, share, budget, len(asked), choose, on_progress)
        spent = time.monotonic() - started
        if on_search is not None:
            on_search(search, bench)
        return [
            self._solution(i, problem, search, bench, strategy, choose, fit, spent / len(asked))
            for i, problem in enumerate(asked)
        ]

    def _compile(self, strategy: str, chosen_way: Way, bench: Workbench, problem: Problem) -> None:
        """Take one step outside of the clock: a machine's first search compiles kernels, longer than its seconds may be.

        Not for a language model, whose forward is tried before the clock starts and whose steps cost more than they save.
        """
        if strategy in self._compiled or self.shelved.model.tokenizer is not None:
            return
        one_step = bench.task.max_step_tokens
        chosen_way.search.start(bench, [problem], one_step).advance(np.array([one_step]))
        self._compiled.add(strategy)

    def _solution(
        self,
        i: int,
        problem: Problem,
        search: Search,
        bench: Workbench,
        strategy: str,
        choose: Choose,
        fit: Calibration | None,
        seconds: float,
    ) -> Solution:
        chains = search.chains(i)
        found = chosen(chains, choose)
        confidence, calibrated = _confidence(found, bench, fit)
        generated = int(search.tokens[i])
        prefilled = search.prefilled_tokens / len(search.tokens)
        cost = Cost(
            simulations=int(search.simulations[i]),
            generated_tokens=generated,
            prefilled_tokens=prefilled,
            seconds=seconds,
            flops=flops_per_token(bench.model) * (generated + prefilled),
        )
        return Solution(
            problem=bench.task.prompt(problem).strip(),
            answer=found.answer,
            solved=found.judged if bench.verify == "task" else None,
            confidence=confidence,
            calibrated=calibrated,
            steps=found.chain.steps if found.chain is not None else (),
            agreeing=found.agreeing,
            chains=len(chains),
            strategy=strategy,
            verify=bench.verify,
            value_trusted=bench.trust_value,
            stopped=_reason(i, search, bench, found.judged),
            cost=cost,
        )


def solve(problem: str, *, task: str | None = None, checkpoint: str | None = None, **settings: Any) -> Solution:
    """Answer one problem with a shipped or given checkpoint.

    Args:
        problem: its text, e.g. "3 7 8 8 = 24" for task="countdown".
        settings: of `Solver.solve` (strategy, effort, verify, tokens, seconds, ...); whatever else is an option of the task.

    Raises:
        SolveError, CheckpointError, TaskError: see `Solver`.
    """
    own = {name: settings.pop(name) for name in tuple(settings) if name in SETTINGS}
    told = [name for name in settings if name != "trust_value"]
    if told and task is None and checkpoint is None:
        raise SolveError(
            f"{', '.join(told)}: no setting of solve; use {', '.join(SETTINGS)}, or options of a task with task=NAME"
        )
    return Solver(checkpoint, task=task, problem=problem, **settings).solve([problem], **own)[0]


SETTINGS = (
    "strategy", "effort", "verify", "choose", "tokens", "simulations", "seconds", "share", "seed", "interrupted",
    "on_progress", "on_search",
)  # fmt: skip


def _confidence(found: Chosen, bench: Workbench, fit: Calibration | None) -> tuple[float, bool]:
    """(P(right), whether that is calibrated) of a chosen answer. `fit`: of its strategy as it chooses by itself."""
    if found.chain is None or bench.verify == "task":
        return float(found.judged), True  # a refused chain is no answer
    sure = sureness(found, bench)
    if fit is None:  # P(right) of the best of many chains is too high: only a fit of the choice itself mends that
        return sure, False
    return fit.confidence(sure), True


def _reason(i: int, search: Search, bench: Workbench, judged: bool) -> str:
    if judged:
        return "solved"
    if bench.interrupted():
        return "interrupted"
    return "exhausted" if bool(search.exhausted[i]) else "budget"

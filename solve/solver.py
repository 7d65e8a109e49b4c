"""Answer problems: `solve` for one, `Solver` for many with one model.

    search -> chains -> one answer -> what it cost

A solver asks no gold answer. Where a task judges itself its verifier may be in the loop (verify="task"); else answers are
chosen by the votes, values or visits of the chains that were found (verify="none").
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from models.files.calibration import ConfidenceFit
from models.steps.stream_types import THRESHOLD, Thought
from solve.allocation import SHARES, Share, allocated
from solve.answers import CHOICES, Choose, Chosen, chosen, sureness
from solve.budgets import UNLIMITED, Cost, TokenBudget, budget_of, chains_of
from solve.policies import Shelved, one_policy, read_problem, take
from solve.search.primed import PrimedSearch
from solve.search.samples import Samples
from solve.search.think import Think, ThinkSearch
from solve.search.wall import wall
from solve.strategies import Way, way
from solve.types import Interrupted, Search, SolveError, Verify, Workbench
from tasks.base import END_OF_TEXT, Problem, Task

DEFAULT_STRATEGY, WITHOUT_SEARCH = "best_first", "greedy"
STREAM_STOPPED = {
    "tokens": "budget",
    "exhausted": "exhausted",
    "broken": "exhausted",
}  # by its end; else it came to one
UNANSWERED = "unanswered"  # why a search stopped that has paid nothing for what it asked

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
    stopped: str  # solved | ended: a stream, by itself | exhausted | budget | interrupted | unanswered: a server gave no step
    cost: Cost
    thoughts: tuple[Thought, ...] = ()  # of strategy think: the hidden chain, what was given up included

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Solver:
    """One policy, ready to answer.

    Raises:
        SolveError, PolicyError, CheckpointError, RemoteError, TaskError: no such policy, task or option. One line that names
            the mend.
    """

    def __init__(
        self,
        policy: str | None = None,
        *,
        task: str | None = None,
        problem: str | None = None,
        trust_value: bool | None = None,
        device: str | None = None,
        **options: Any,
    ):
        """`policy`, `task`, `problem`, `device`, `options`: see `policies.take`. `trust_value`: None: as measured."""
        self.shelved: Shelved = take(policy, task=task, options=options, problem=problem, device=device)
        if not isinstance(trust_value, bool | None):
            raise SolveError(f"trust_value={trust_value!r}: use true, false, or null for as measured")
        if trust_value and not self.shelved.policy.can.values:
            raise SolveError(f"trust_value=true: policy {self.shelved.policy.name} gives no values; leave it out")
        self.trust_value = self.shelved.trusted if trust_value is None else trust_value
        self._compiled: set[str] = set()  # strategies

    @property
    def default_verify(self) -> Verify:
        """The task's own judge where it has one."""
        return "task" if self.shelved.task.self_verifying else "none"

    def read(self, text: str) -> Problem:
        """The problem that a text asks.

        Raises:
            SolveError: it is none of the task, or too long for the model.
        """
        problem, policy, task = read_problem(self.shelved.task, text), self.shelved.policy, self.shelved.task
        codec = None if policy.in_words else policy.codec(task)
        if codec is not None:
            tokens = len(codec.context(task.prompt(problem)))
            if tokens + codec.max_step_tokens > codec.positions:
                raise SolveError(
                    f"the question takes {tokens} tokens with what is shown before it and a step up to "
                    f"{codec.max_step_tokens}, more than the model's {codec.positions} positions: ask it shorter"
                )
        return problem

    def solve(
        self,
        problems: Sequence[Problem | str],
        *,
        strategy: str | None = None,
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
            strategy: None: best_first, or greedy decoding at effort="none".
            effort: a budget in greedy chains of the task, see `solve.budgets.EFFORTS`; `tokens` and `simulations` a problem and
                `seconds` in all take its place, each alone too. The first limit reached stops; the expansion or chain under
                way is still paid. For a policy that was never calibrated on the task, a problem's own greedy chain is the
                unit: it is drawn first, and paid.
            choose: how an answer is chosen without a judge; None: the strategy's own way.
            share: "none": each problem has its own budget. "uniform" and "uncertain" give the same total in slices, to each
                problem alike, or first where an answer is most likely to change.
            interrupted: asked between waves; once True, the search stops and the best so far is the answer.
            on_search: called with the finished search, for who wants its tree.

        Raises:
            SolveError: a strategy, budget or mode that cannot be. One line that names the mend.
        """
        read = [problem if isinstance(problem, Problem) else self.read(problem) for problem in problems]
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
        limits = {"tokens": tokens, "simulations": simulations, "seconds": seconds}
        if strategy is None:
            plain = effort == "none" and not any(limits.values())
            strategy = WITHOUT_SEARCH if plain else DEFAULT_STRATEGY
        chosen_way = way(strategy, self.shelved.task)
        chosen_way.check(strategy, self.shelved.policy)
        calibration = self.shelved.calibration
        budget = budget_of(self.shelved.task, effort, greedy_tokens=calibration.greedy_tokens, **limits)
        if isinstance(chosen_way.search, Think) and not any(limits.values()):
            budget = TokenBudget(UNLIMITED)  # its effort is told in undos
        bench = Workbench(
            self.shelved.policy, task, verify, self.trust_value, seed, calibration.chain,
            chain_tokens=math.ceil(calibration.greedy_tokens or 0), interrupted=interrupted, effort=effort,
            verdict_threshold=THRESHOLD if calibration.verdict_threshold is None else calibration.verdict_threshold,
        )  # fmt: skip
        if not read:
            return []
        if budget is None and chosen_way.search.sized and len(read) > 1:  # each is sized by its own greedy chain
            same: dict[str, Any] = {"strategy": strategy, "effort": effort, "verify": verify, "choose": choose}
            alone = partial(self.solve, **same, seed=seed, interrupted=interrupted)
            return [alone([one], on_search=None if i else on_search)[0] for i, one in enumerate(read)]
        usual = chosen_way.chooses(self.trust_value)
        as_fitted = choose in (None, usual) and self.trust_value == self.shelved.trusted
        fit = calibration.confidence.get(strategy) if as_fitted else None
        choose = choose or usual
        if budget is not None and budget.seconds is not None:
            self._compile(strategy, chosen_way, bench, read[0])
        started = time.monotonic()
        search, budget = _started(chosen_way, bench, read, budget, chains_of(effort))
        allocated(search, share, budget, len(read), choose, on_progress)
        spent = time.monotonic() - started
        if on_search is not None:
            on_search(search.inner if isinstance(search, PrimedSearch) else search, bench)
        return [
            self._solution(i, problem, search, bench, strategy, choose, fit, spent / len(read))
            for i, problem in enumerate(read)
        ]

    def _compile(self, strategy: str, chosen_way: Way, bench: Workbench, problem: Problem) -> None:
        """Take one step outside of the clock: a machine's first search compiles kernels, longer than its seconds may be.

        Not for a language model, whose forward is tried before the clock starts and whose steps cost more than they save.
        """
        if strategy in self._compiled or not self.shelved.policy.in_words:
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
        fit: ConfidenceFit | None,
        seconds: float,
    ) -> Solution:
        chains = search.chains(i)
        pick = chosen(chains, choose)
        confidence, calibrated = _confidence(pick, bench, fit)
        generated, prefilled = int(search.tokens[i]), search.prefilled_tokens / len(search.tokens)
        each = bench.policy.flops_per_token
        flops = None if each is None else each * (generated + prefilled)
        return Solution(
            problem=_asked(bench.task, problem),
            answer=None if pick.chain is None else bench.task.told(problem, pick.chain.steps),
            solved=pick.judged if bench.verify == "task" else None,
            confidence=confidence,
            calibrated=calibrated,
            steps=_shown(pick.chain.steps) if pick.chain is not None else (),
            agreeing=pick.agreeing,
            chains=len(chains),
            strategy=strategy,
            verify=bench.verify,
            value_trusted=bench.trust_value,
            stopped=_reason(i, search, bench, pick.judged),
            cost=Cost(int(search.simulations[i]), generated, prefilled, seconds, flops),
            thoughts=chains[0].thoughts if chains else (),
        )


def solve(
    problem: str, *, task: str | None = None, policy: str | None = None, checkpoint: str | None = None, **settings: Any
) -> Solution:
    """Answer one problem with a shipped net or the policy that is named.

    Args:
        problem: its text, e.g. "3 7 8 8 = 24" for task="countdown".
        policy: see `models.policy.open_policy`; `checkpoint` is an alias of it.
        settings: of `Solver.solve` (strategy, effort, verify, tokens, seconds, ...); whatever else is an option of the task.

    Raises:
        SolveError, CheckpointError, TaskError: see `Solver`.
    """
    own = {name: settings.pop(name) for name in tuple(settings) if name in SETTINGS}
    options = [name for name in settings if name not in ("trust_value", "device")]
    policy = one_policy(policy, checkpoint)
    if options and task is None and policy is None:
        raise SolveError(
            f"{', '.join(options)}: no setting of solve; use {', '.join(SETTINGS)}, or options of a task with task=NAME"
        )
    return Solver(policy, task=task, problem=problem, **settings).solve([problem], **own)[0]


SETTINGS = tuple(signature(Solver.solve).parameters)[2:]  # but self and problems


def _started(
    chosen_way: Way, bench: Workbench, problems: Sequence[Problem], budget: TokenBudget | None, chains: int | None
) -> tuple[Search, TokenBudget]:
    """A search, and its budget: of the problems' own greedy chains where none was given."""
    strategy = chosen_way.search
    if budget is not None:
        return strategy.start(bench, problems, budget.size), budget
    if isinstance(strategy, Samples) and strategy.temperature == 0:  # it is the greedy chain
        return strategy.start(bench, problems), TokenBudget(UNLIMITED)
    search = PrimedSearch(strategy, bench, problems, chains or 1)
    return search, TokenBudget(search.limits)


def _asked(task: Task, problem: Problem) -> str:
    prompt = task.prompt(problem)
    return (task.form.parts(prompt)[0] if task.form.free else prompt).strip()


def _shown(steps: Sequence[str]) -> tuple[str, ...]:
    """Steps without the mark of the end of a text, and without one that is nothing else."""
    return tuple(text for step in steps if (text := step.removesuffix(END_OF_TEXT)))


def _confidence(pick: Chosen, bench: Workbench, fit: ConfidenceFit | None) -> tuple[float, bool]:
    """(P(right), whether that is calibrated) of a chosen answer. `fit`: of its strategy as it chooses by itself."""
    if pick.chain is None or bench.verify == "task":
        return float(pick.judged), True  # a refused chain is no answer
    sure = sureness(pick, bench)
    if fit is None:  # P(right) of the best of many chains is too high: only a fit of the choice itself mends that
        return sure, False
    return fit.confidence(sure), True


def _reason(i: int, search: Search, bench: Workbench, judged: bool) -> str:
    if judged:
        return "solved"
    if bench.interrupted():
        return "interrupted"
    if search.simulations[i] and not search.tokens[i]:
        return UNANSWERED
    if isinstance(search, ThinkSearch) and i in search.streams:
        return STREAM_STOPPED.get(search.streams[i].end, "ended")
    return "exhausted" if bool(search.exhausted[i]) else "budget"

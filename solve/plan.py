"""What a request comes to: its strategy, its limits, what the search may know, and the answer that its chains give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.files.calibration import ConfidenceFit
from models.steps.stream_types import Thought, threshold_of
from solve.answers import CHOICES, Choose, Chosen, chosen, sureness
from solve.budgets import UNLIMITED, Cost, TokenBudget, budget_of
from solve.policies import Shelved
from solve.search.primed import PrimedSearch
from solve.search.samples import Samples
from solve.search.think import Think, ThinkSearch
from solve.search.wall import wall
from solve.strategies import Way, way
from solve.types import Chain, Interrupted, Search, SolveError, Verify, Workbench
from tasks.base import END_OF_TEXT, Problem, Task

DEFAULT_STRATEGY, WITHOUT_SEARCH = "best_first", "greedy"
STREAM_STOPPED = {
    "tokens": "budget",
    "exhausted": "exhausted",
    "broken": "exhausted",
}  # by its end; else it came to one
UNANSWERED = "unanswered"  # why a search stopped that has paid nothing for what it asked


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer to one problem."""

    problem: str  # as the model saw it
    answer: str | None  # None: no chain has ended with an answer
    solved: bool | None  # the judge in the loop accepted it; None: there was none
    confidence: float  # P(right) in [0, 1]
    calibrated: bool  # False: `confidence` is the chain's own P(right), or the answer's share of all votes, as it is
    steps: tuple[str, ...]  # the chain that led to it
    closed: bool  # it came to its own end; False: free text that was cut, whose answer is the last that it said
    agreeing: int  # chains with the same answer
    chains: int  # chains that have ended
    strategy: str
    verify: Verify
    value_trusted: bool
    stopped: str  # solved | ended: a stream, by itself | exhausted | budget | interrupted | unanswered: a server gave no step
    cost: Cost
    thoughts: tuple[Thought, ...] = ()  # of strategy think: the chosen stream's hidden chain, what it gave up included

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """A request that has been checked, but for its problem and limits: one search may serve several of one plan."""

    shelved: Shelved
    strategy: str
    way: Way
    bench: Workbench
    choose: Choose
    fit: ConfidenceFit | None  # of the strategy as it chooses by itself; None: its confidence was never measured

    def joinable(self, budget: TokenBudget | None) -> bool:
        """Whether problems may join a search that was started for `budget`: its shape does not hang on its limit."""
        return not self.way.search.sized or (budget is not None and budget.size is None)

    def start(
        self, problems: Sequence[Problem], budget: TokenBudget | None, chains: int | None = None
    ) -> tuple[Search, TokenBudget]:
        """A search, and its budget: of `chains` of the problems' own greedy chains where none was given."""
        strategy = self.way.search
        if budget is not None:
            return strategy.start(self.bench, problems, budget.size), budget
        if isinstance(strategy, Samples) and strategy.temperature == 0:  # it is the greedy chain
            return strategy.start(self.bench, problems, None), TokenBudget(UNLIMITED)
        search = PrimedSearch(strategy, self.bench, problems, chains or 1)
        return search, TokenBudget(search.limits)

    def solution(self, i: int, problem: Problem, search: Search, seconds: float) -> Solution:
        """The answer to the search's problem `i`, as it is now; `seconds`: what it took."""
        bench, chains = self.bench, search.chains(i)
        pick = chosen(chains, self.choose)
        confidence, calibrated = _confidence(pick, chains, bench, self.fit)
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
            closed=pick.chain is not None and _closed(bench.task, pick.chain.steps),
            agreeing=pick.agreeing,
            chains=len(chains),
            strategy=self.strategy,
            verify=bench.verify,
            value_trusted=bench.trust_value,
            stopped=_reason(i, search, bench, pick.judged),
            cost=Cost(int(search.simulations[i]), generated, prefilled, seconds, flops),
            thoughts=(pick.chain or chains[0]).thoughts if chains else (),
        )


def visible(solution: Solution, task: Task) -> str:
    """The answer as it is shown: where many are right, the steps that lead to it are the answer; else its value alone."""
    if solution.answer is None or not solution.closed:  # what a chain said last before it was cut is a thought
        return ""
    return solution.answer if task.one_answer else "".join(solution.steps).strip()


def default_verify(task: Task) -> Verify:
    """The task's own judge where it has one."""
    return "task" if task.self_verifying else "none"


def planned(
    shelved: Shelved,
    *,
    trust_value: bool,
    strategy: str | None = None,
    effort: str = "low",
    verify: Verify | None = None,
    choose: Choose | None = None,
    tokens: int | None = None,
    simulations: int | None = None,
    seconds: float | None = None,
    most_tokens: int | None = None,
    seed: int = 0,
    interrupted: Interrupted = lambda: False,
) -> tuple[Plan, TokenBudget | None]:
    """A request's plan and its limits, see `solver.Solver.solve`; no limits: they wait for the problems' own greedy chains.

    `most_tokens`: of a chain in free text, where that is less than the task's own limit.

    Raises:
        SolveError: a strategy, budget or mode that cannot be. One line that names the mend.
    """
    verify = default_verify(shelved.task) if verify is None else verify
    if verify not in ("task", "none"):
        raise SolveError(f"verify={verify!r}: use task or none")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SolveError(f"seed={seed!r}: a whole number from 0 up")
    if choose not in (None, *CHOICES):
        raise SolveError(f"choose={choose!r}: use one of {', '.join(CHOICES)}")
    task = wall(shelved.task, verify)
    limits = {"tokens": tokens, "simulations": simulations, "seconds": seconds}
    if strategy is None:
        plain = effort == "none" and not any(limits.values())
        strategy = WITHOUT_SEARCH if plain else DEFAULT_STRATEGY
    chosen_way = way(strategy, shelved.task)
    chosen_way.check(strategy, shelved.policy)
    calibration = shelved.calibration
    budget = budget_of(shelved.task, effort, greedy_tokens=calibration.greedy_tokens, **limits)
    if isinstance(chosen_way.search, Think) and not any(limits.values()):
        budget = TokenBudget(UNLIMITED)  # its effort is told in undos
    bench = Workbench(
        shelved.policy, task, verify, trust_value, seed, calibration.chain,
        chain_tokens=math.ceil(calibration.greedy_tokens or 0), interrupted=interrupted, effort=effort,
        most_tokens=most_tokens if shelved.task.form.free else None,
        verdict_threshold=threshold_of(task, calibration.verdict_threshold),
    )  # fmt: skip
    usual = chosen_way.chooses(trust_value)
    as_fitted = choose in (None, usual) and trust_value == shelved.trusted
    fit = calibration.confidence.get(strategy) if as_fitted else None
    return Plan(shelved, strategy, chosen_way, bench, choose or usual, fit), budget


def _asked(task: Task, problem: Problem) -> str:
    prompt = task.prompt(problem)
    return (task.form.parts(prompt)[0] if task.form.free else prompt).strip()


def _shown(steps: Sequence[str]) -> tuple[str, ...]:
    """Steps without the mark of the end of a text, and without one that is nothing else."""
    return tuple(text for step in steps if (text := step.removesuffix(END_OF_TEXT)))


def _closed(task: Task, steps: Sequence[str]) -> bool:
    return not task.form.free or (bool(steps) and steps[-1].endswith(END_OF_TEXT))


def _confidence(
    pick: Chosen, chains: Sequence[Chain], bench: Workbench, fit: ConfidenceFit | None
) -> tuple[float, bool]:
    """(P(right), whether that is calibrated) of a chosen answer. `fit`: of its strategy as it chooses by itself."""
    if pick.chain is None or bench.verify == "task":
        return float(pick.judged), True  # a refused chain is no answer
    if pick.chain.thoughts:  # each stream says itself how sure it is
        return sum(chain.value for chain in chains if chain.answer == pick.answer) / len(chains), False
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
    if isinstance(search, ThinkSearch) and (made := search.streams(i)):
        ends = [STREAM_STOPPED.get(stream.end, "ended") for stream in made]
        return "ended" if "ended" in ends else ends[0]
    return "exhausted" if bool(search.exhausted[i]) else "budget"

"""Answer problems: `solve` for one, `Solver` for many with one model.

    search -> chains -> one answer -> what it cost

A solver asks no gold answer. Where a task judges itself its verifier may be in the loop (verify="task"); else answers are
chosen by the votes, values or visits of the chains that were found (verify="none").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from solve.allocation import SHARES, Share, allocated
from solve.answers import Choose
from solve.budgets import chains_of
from solve.plan import Plan, Solution, default_verify, planned
from solve.policies import Shelved, one_policy, read_problem, take
from solve.search.primed import PrimedSearch
from solve.types import Interrupted, Search, SolveError, Verify, Workbench
from tasks.base import Problem

OnProgress = Callable[[int, int], None]  # problems done, tokens generated


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
        return default_verify(self.shelved.task)

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
        if share not in SHARES:
            raise SolveError(f"share={share!r}: use one of {', '.join(SHARES)}")
        plan, budget = planned(
            self.shelved, trust_value=self.trust_value, strategy=strategy, effort=effort, verify=verify, choose=choose,
            tokens=tokens, simulations=simulations, seconds=seconds, seed=seed, interrupted=interrupted,
        )  # fmt: skip
        if not read:
            return []
        if budget is None and plan.way.search.sized and len(read) > 1:  # each is sized by its own greedy chain
            same: dict[str, Any] = {"strategy": strategy, "effort": effort, "verify": verify, "choose": choose}
            alone = partial(self.solve, **same, seed=seed, interrupted=interrupted)
            return [alone([one], on_search=None if i else on_search)[0] for i, one in enumerate(read)]
        if budget is not None and budget.seconds is not None:
            self._compile(plan, read[0])
        started = time.monotonic()
        search, budget = plan.start(read, budget, chains_of(effort))
        allocated(search, share, budget, len(read), plan.choose, on_progress)
        spent = time.monotonic() - started
        if on_search is not None:
            on_search(search.inner if isinstance(search, PrimedSearch) else search, plan.bench)
        return [plan.solution(i, problem, search, spent / len(read)) for i, problem in enumerate(read)]

    def _compile(self, plan: Plan, problem: Problem) -> None:
        """Take one step outside of the clock: a machine's first search compiles kernels, longer than its seconds may be.

        Not for a language model, whose forward is tried before the clock starts and whose steps cost more than they save.
        """
        if plan.strategy in self._compiled or not self.shelved.policy.in_words:
            return
        one_step = plan.bench.task.max_step_tokens
        plan.way.search.start(plan.bench, [problem], one_step).advance(np.array([one_step]))
        self._compiled.add(plan.strategy)


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

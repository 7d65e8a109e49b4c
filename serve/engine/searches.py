"""Requests of one plan that are searched together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from models.steps.codec import Codec
from serve.engine.ticket import Answered, Asked, Prepared, Ticket, Written
from solve.budgets import chains_of
from solve.lanes import Lane
from solve.plan import planned, visible
from solve.solver import Solver
from solve.types import SolveError

Over = Callable[[], bool]


def prepared(solver: Solver, asked: Asked) -> Prepared:
    """A question with its plan and limits.

    Raises:
        SolveError, TaskError: it cannot be. One line that names the mend.
    """
    most, tokens = asked.at_most, asked.tokens
    if chains_of(asked.effort) is None and not (tokens or asked.simulations):
        if most is None:
            raise SolveError(
                f"effort {asked.effort} has no limit of its own: give max_completion_tokens or search.tokens"
            )
        tokens = most
    plan, budget = planned(
        solver.shelved, trust_value=solver.trust_value, strategy=asked.strategy, effort=asked.effort, verify=asked.verify,
        seed=asked.seed, tokens=tokens, simulations=asked.simulations, most_tokens=most,
    )  # fmt: skip
    if budget is not None and most is not None and most < int(budget.tokens):
        budget = replace(budget, tokens=most, size=most)
    return Prepared(plan, budget, solver.read(asked.text))


class SearchGroup:
    """Requests of one plan in one `Lane`."""

    def __init__(self, solver: Solver, first: Prepared):
        self._solver, self.tickets = solver, dict[int, Ticket]()
        self._key, self._lane = first.key, Lane(first.plan)
        self._prompts: dict[int, int] = {}

    def takes(self, ticket: Ticket) -> bool:
        wanted = ticket.search
        return (
            wanted is not None
            and wanted.key == self._key
            and not self._lane.full
            and wanted.plan.joinable(wanted.budget)
        )

    def join(self, ticket: Ticket) -> None:
        asked, wanted = cast(Asked, ticket.asked), cast(Prepared, ticket.search)
        problem = wanted.problem
        place = self._lane.join(problem, wanted.budget, chains_of(asked.effort))
        if asked.at_most is not None:
            self._lane.cap(place, asked.at_most)
        self.tickets[place] = ticket
        codec, context = self._codec(), self._solver.shelved.task.context(problem, ())
        self._prompts[place] = len(context.split()) if codec is None else len(codec.context(context))

    def leave(self, place: int) -> None:
        self._lane.leave(place)
        del self.tickets[place]

    def turn(self, over: Over) -> int:
        generated = self._lane.turn(over)
        for place, ticket in self.tickets.items():
            self._tell(place, ticket, last=not self._lane.going(place) or ticket.late)
        return generated

    def _tell(self, place: int, ticket: Ticket, *, last: bool) -> None:
        if ticket.watch is not None and self._lane.search is not None:
            ticket.watch.look(self._lane.search, place, self._lane.limit(place), last=last)

    def results(self) -> list[tuple[Ticket, Answered | Written]]:
        found: list[tuple[Ticket, Answered | Written]] = []
        for place, ticket in list(self.tickets.items()):
            if ticket.late:
                self._lane.leave(place)
            if not self._lane.going(place):
                found.append((ticket, self._answered(place, ticket)))
                del self.tickets[place]
        return found

    def _answered(self, place: int, ticket: Ticket) -> Answered:
        solution, codec = self._lane.solution(place), self._codec()
        text = visible(solution, self._solver.shelved.task)
        shown = len(text.split()) if codec is None or not text else len(codec.tokens(text))
        chains = tuple(self._lane.chains(place)) if cast(Asked, ticket.asked).with_chains else ()
        tokens = min(shown, solution.cost.generated_tokens)
        return Answered(solution, text, self._prompts[place], tokens, chains, late=ticket.late)

    def _codec(self) -> Codec | None:
        return self._solver.shelved.policy.codec(self._solver.shelved.task)

"""Requests that are worked on together: those of one search, and texts that are continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, cast

from models.steps.codec import Codec
from models.trie.continuing import Continuations, Continued
from models.trie.trie import NotFiniteError, TrieError
from serve.engine.ticket import Answered, Asked, Continue, Prepared, Ticket, Written
from solve.budgets import chains_of
from solve.lanes import FULL, Lane
from solve.plan import Solution, planned
from solve.solver import Solver
from solve.types import SolveError
from tasks.base import Task

Over = Callable[[], bool]


class Group(Protocol):
    """Open requests by place."""

    tickets: dict[int, Ticket]

    def takes(self, ticket: Ticket) -> bool:
        """Whether a request may join."""
        ...

    def join(self, ticket: Ticket) -> None:
        """Take a request in.

        Raises:
            SolveError, TrieError and others of one line: it cannot be.
        """
        ...

    def leave(self, place: int) -> None:
        """Forget a request."""
        ...

    def turn(self, over: Over) -> int:
        """Work on all of them, until `over` says so or a slice is done; returns tokens generated."""
        ...

    def results(self) -> list[tuple[Ticket, Answered | Written]]:
        """Requests that have come to their end or whose time is over; they are forgotten."""
        ...


def group_for(solver: Solver, ticket: Ticket) -> Group:
    """A new group for a request that no other one takes.

    Raises:
        SolveError, PolicyError: it cannot be.
    """
    return TextGroup(solver) if ticket.search is None else SearchGroup(solver, ticket.search)


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
        text = _visible(solution, self._solver.shelved.task)
        shown = len(text.split()) if codec is None or not text else len(codec.tokens(text))
        chains = tuple(self._lane.chains(place)) if cast(Asked, ticket.asked).with_chains else ()
        visible = min(shown, solution.cost.generated_tokens)
        return Answered(solution, text, self._prompts[place], visible, chains, late=ticket.late)

    def _codec(self) -> Codec | None:
        return self._solver.shelved.policy.codec(self._solver.shelved.task)


class TextGroup:
    """Prompts that the plain policy continues, a token of each a turn."""

    def __init__(self, solver: Solver):
        """Raises PolicyError: the policy is on a server."""
        self.tickets: dict[int, Ticket] = {}
        self._texts: dict[int, Continued] = {}
        self._prompts: dict[int, tuple[int, ...]] = {}
        self._made: Continuations = solver.shelved.policy.continuations(solver.shelved.task)
        self._next = 0

    def takes(self, ticket: Ticket) -> bool:
        return isinstance(ticket.asked, Continue) and self._made.trie.n_nodes <= FULL

    def join(self, ticket: Ticket) -> None:
        asked = cast(Continue, ticket.asked)
        prompt = self._made.encode(asked.prompt) if isinstance(asked.prompt, str) else list(asked.prompt)
        text = self._made.join(prompt, temperature=asked.temperature, seed=asked.seed, top=asked.top)
        place, self._next = self._next, self._next + 1
        self.tickets[place], self._texts[place], self._prompts[place] = ticket, text, tuple(prompt)

    def leave(self, place: int) -> None:
        del self.tickets[place], self._texts[place], self._prompts[place]

    def turn(self, over: Over) -> int:
        """One token of each. Where one of them outgrows the model's positions they go on one by one, and that one fails."""
        try:
            self._made.turn(list(self._texts.values()))
        except (TrieError, NotFiniteError):
            for place, text in list(self._texts.items()):
                try:
                    self._made.turn([text])
                except (TrieError, NotFiniteError) as error:
                    ticket = self.tickets[place]
                    self.leave(place)
                    if ticket.future.set_running_or_notify_cancel():
                        ticket.future.set_exception(error)
        return len(self._texts)

    def results(self) -> list[tuple[Ticket, Answered | Written]]:
        found: list[tuple[Ticket, Answered | Written]] = []
        for place, ticket in list(self.tickets.items()):
            written = self._written(place, cast(Continue, ticket.asked), late=ticket.late)
            if written is not None:
                found.append((ticket, written))
                self.leave(place)
        return found

    def _written(self, place: int, asked: Continue, *, late: bool) -> Written | None:
        """What has been written, if that is all; a token that closes the text is not shown."""
        text, made = self._texts[place], self._made
        closed = text.tokens[-1] in made.ends
        kept = len(text.tokens) - closed
        whole = made.decode(text.tokens[:kept])
        stop = min((at for word in asked.stops if (at := whole.find(word)) >= 0), default=-1)
        if not closed and stop < 0 and len(text.tokens) < asked.at_most and not late:
            return None
        best = tuple(tuple((made.decode([token]), logprob) for token, logprob in place_) for place_ in text.best[:kept])
        return Written(
            whole[:stop] if stop >= 0 else whole, self._prompts[place], tuple(text.tokens[:kept]), tuple(text.logprobs[:kept]),
            best, tuple(made.decode([token]) for token in text.tokens[:kept]), ended=closed or stop >= 0,
        )  # fmt: skip


def _visible(solution: Solution, task: Task) -> str:
    """The answer as it is shown: where many are right, the steps that lead to it are the answer; else its value alone."""
    if solution.answer is None or not solution.closed:  # what a chain said last before it was cut is a thought
        return ""
    return solution.answer if task.one_answer else "".join(solution.steps).strip()

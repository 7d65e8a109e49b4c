"""Requests that are worked on together: those of one search, and texts that are continued."""

from __future__ import annotations

from typing import Protocol

from serve.engine.searches import Over, SearchGroup
from serve.engine.texts import TextGroup
from serve.engine.ticket import Answered, Ticket, Written
from solve.solver import Solver


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

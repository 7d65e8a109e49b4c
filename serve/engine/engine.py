"""One thread that searches for all open requests at once: continuous batching over trees, samples and streams.

Requests of one plan (strategy, judge, seed) share a lane: one search that they join and leave, whose waves are common; prompts
to be continued share their forwards. These groups take turns by the clock, so that a long search delays a short one by a turn
and not by its length. Beyond `slots` open requests a bounded number waits, first come, first served; beyond that they are
refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from serve.engine.groups import Group, group_for
from serve.engine.metrics import Metrics
from serve.engine.searches import prepared
from serve.engine.ticket import Answered, Asked, Busy, Closing, Continue, Failed, Piece, Ticket, Unanswered, Written
from serve.engine.watching import TreeWatch
from solve.solver import Solver

TURN = 0.005  # seconds of a group's turn while others wait: who has come to an end waits for it, and so do those who would join
USUAL = 1.0  # seconds of a request, before one has ended
INERTIA = 0.9  # of the mean over those that have
log = logging.getLogger("reverse_o1.serve")


class Engine:
    """Answers questions with one policy. Its methods may be called from any thread."""

    def __init__(self, solver: Solver, *, slots: int, queue: int, metrics: Metrics | None = None):
        """`slots`: requests searched at once; `queue`: those that wait beside them.

        Raises:
            ValueError: no slot, or a negative queue.
        """
        if slots < 1 or queue < 0:
            raise ValueError(f"slots={slots}, queue={queue}: at least one slot, and no negative queue")
        self.solver, self.metrics = solver, metrics or Metrics()
        self._slots, self._queue = slots, queue
        self._waiting: deque[Ticket] = deque()
        self._groups: list[Group] = []
        self._changed = threading.Condition()
        self._closing = self._stopped = False
        self._usual = USUAL
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def ask(
        self,
        asked: Asked | Continue,
        watch: TreeWatch | None = None,
        heard: Callable[[Piece], object] | None = None,
    ) -> Ticket:
        """A place for a request; `watch` is told how its search grows, `heard` what is written, by the engine's own thread.

        Raises:
            Busy: there is none. Closing: the engine ends.
            SolveError, TaskError: it could never be answered. One line that names the mend.
        """
        search = prepared(self.solver, asked) if isinstance(asked, Asked) else None
        with self._changed:
            if self._closing:
                raise Closing("the server ends: ask another one")
            if len(self._waiting) >= self._queue + max(0, self._slots - self.open):
                raise Busy(self._retry_after())
            ticket = Ticket(asked, watch=watch, search=search, heard=heard)
            self._waiting.append(ticket)
            self._note()
            self._changed.notify()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for the answer any more: its search ends with the wave under way."""
        ticket.gone.set()
        with self._changed:
            self._changed.notify()

    @property
    def open(self) -> int:
        """Requests that are searched now."""
        return sum(len(group.tickets) for group in self._groups)

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def close(self, drain: float = 0.0) -> None:
        """Take nothing more; answer what is open and queued within `drain` seconds, refuse the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            self._changed.wait_for(lambda: not self._waiting and not self._groups, timeout=drain)
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout=max(1.0, drain))

    # ---- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._groups or self._stopped)
                if self._stopped:
                    break
            self._admit()
            for group in list(self._groups):
                self._turn(group)
            with self._changed:
                self._note()
                if not self._waiting and not self._groups:
                    self._changed.notify_all()
        for ticket in [*self._waiting, *(ticket for group in self._groups for ticket in group.tickets.values())]:
            self._fail(ticket, Closing("the server has ended: ask another one"))

    def _admit(self) -> None:
        with self._changed:
            over = [ticket for ticket in self._waiting if ticket.gone.is_set() or ticket.late]
            self._waiting = deque(ticket for ticket in self._waiting if ticket not in over)
        for ticket in over:
            self._fail(ticket, Busy(self._retry_after()))
        while self._waiting and self.open < self._slots:
            with self._changed:
                ticket = self._waiting.popleft()
            try:
                self._enter(ticket)
            except Exception as error:  # noqa: BLE001  what refuses one request ends no other
                self._fail(ticket, error)

    def _enter(self, ticket: Ticket) -> None:
        """Give a request its group.

        Raises:
            SolveError, TrieError and others of one line: it cannot be.
        """
        group = next((group for group in self._groups if group.takes(ticket)), None)
        if group is None:
            group = group_for(self.solver, ticket)
            group.join(ticket)
            self._groups.append(group)
        else:
            group.join(ticket)

    def _turn(self, group: Group) -> None:
        """A slice for every request of a group, then answers for those that have come to their end."""
        until = time.monotonic() + TURN
        for place, ticket in list(group.tickets.items()):
            if ticket.gone.is_set():
                group.leave(place)
                ticket.future.cancel()
                self.metrics.gone.inc()
        try:
            if group.tickets:
                self.metrics.generated.inc(group.turn(lambda: self._is_over(group, until)))
            for ticket, found in group.results():
                self._answer(ticket, found)
        except Exception as error:  # noqa: BLE001  what breaks one search ends no other
            for ticket in group.tickets.values():
                self._fail(ticket, error)
            group.tickets.clear()
        if not group.tickets:
            self._groups.remove(group)

    def _is_over(self, group: Group, until: float) -> bool:
        """Whether a turn ends before its slice: somebody else waits for it, or has gone."""
        if any(ticket.gone.is_set() or ticket.late for ticket in group.tickets.values()) or self._stopped:
            return True
        watched = any(ticket.watch for ticket in group.tickets.values())
        crowd = len(self._groups) > 1 or len(group.tickets) > 1 or (self._waiting and self.open < self._slots)
        return bool(watched or crowd) and time.monotonic() >= until

    def _answer(self, ticket: Ticket, found: Answered | Written) -> None:
        seconds = time.monotonic() - ticket.began
        self._usual = INERTIA * self._usual + (1 - INERTIA) * seconds
        self.metrics.answered(found, seconds)
        if ticket.future.set_running_or_notify_cancel():
            ticket.future.set_result(found)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if type(error).__module__.startswith(ELSEWHERE):
            status = getattr(error, "status", None)
            log.error("the server of the model failed: %s", f"HTTP {status}" if status else "no answer")
            error = Unanswered(
                "the model behind this server does not answer: ask again later, or tell who runs this server"
            )
        elif not type(error).__module__.startswith(ONE_LINE):  # of others: it may say what a model wrote
            log.error("a request failed within the engine: %s", type(error).__name__)
            error = Failed(f"the search failed ({type(error).__name__}): ask again, or tell who runs this server")
        if ticket.future.set_running_or_notify_cancel():
            ticket.future.set_exception(error)

    def _note(self) -> None:
        self.metrics.queued.set(len(self._waiting))
        self.metrics.open.set(self.open)

    def _retry_after(self) -> int:
        return max(1, round(self._usual * (1 + len(self._waiting) / self._slots)))


ELSEWHERE = "models.remote."  # modules whose errors hold another server's words
ONE_LINE = ("solve.", "tasks.", "models.", "serve.")  # modules whose errors are one line that names the mend

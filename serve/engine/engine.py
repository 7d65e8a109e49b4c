"""One thread that searches for all open requests at once: continuous batching over trees, samples and streams.

Requests of one plan (strategy, judge, seed) share a lane: one search that they join and leave, whose waves are common. Lanes
take turns by the clock, so that a long search delays a short one by a turn and not by its length. Beyond `slots` open requests
a bounded number waits, first come, first served; beyond that they are refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace

from models.steps.codec import Codec
from serve.engine.metrics import Metrics
from serve.engine.ticket import Answered, Asked, Busy, Closing, Failed, Ticket
from solve.budgets import TokenBudget, chains_of
from solve.lanes import Lane
from solve.plan import Plan, Solution, planned
from solve.search.think import Think
from solve.solver import Solver
from tasks.base import Task

TURN = 0.02  # seconds of a lane's turn while others wait
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
        self._lanes: list[_Lane] = []
        self._changed = threading.Condition()
        self._closing = self._stopped = False
        self._usual = USUAL
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def ask(self, asked: Asked) -> Ticket:
        """A place for a request.

        Raises:
            Busy: there is none. Closing: the engine ends.
        """
        with self._changed:
            if self._closing:
                raise Closing("the server ends: ask another one")
            if len(self._waiting) >= self._queue + max(0, self._slots - self.open):
                raise Busy(self._retry_after())
            ticket = Ticket(asked)
            self._waiting.append(ticket)
            self._note()
            self._changed.notify()
        return ticket

    def check(self, asked: Asked) -> None:
        """Refuse at once what could never be answered.

        Raises:
            SolveError, TaskError: one line that names the mend.
        """
        self._planned(asked)
        self.solver.read(asked.text)

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for the answer any more: its search ends with the wave under way."""
        ticket.gone.set()
        with self._changed:
            self._changed.notify()

    @property
    def open(self) -> int:
        """Requests that are searched now."""
        return sum(len(lane.tickets) for lane in self._lanes)

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def close(self, drain: float = 0.0) -> None:
        """Take nothing more; answer what is open and queued within `drain` seconds, refuse the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            self._changed.wait_for(lambda: not self._waiting and not self._lanes, timeout=drain)
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout=max(1.0, drain))

    # ---- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._lanes or self._stopped)
                if self._stopped:
                    break
            self._admit()
            for lane in list(self._lanes):
                self._turn(lane)
            with self._changed:
                self._note()
                if not self._waiting and not self._lanes:
                    self._changed.notify_all()
        for ticket in [*self._waiting, *(ticket for lane in self._lanes for ticket in lane.tickets.values())]:
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
        """Give a request its lane.

        Raises:
            SolveError, TrieError and others of one line: it cannot be.
        """
        asked = ticket.asked
        plan, budget = self._planned(asked)
        task = self.solver.shelved.task
        problem, budget = self.solver.read(asked.text), _cut(budget, asked.at_most)
        key = _key(plan, asked)
        lane = next(
            (lane for lane in self._lanes if lane.key == key and not lane.lane.full and plan.joinable(budget)), None
        )
        if lane is None:
            lane = _Lane(key, Lane(plan))
            self._lanes.append(lane)
        place = lane.lane.join(problem, budget, chains_of(asked.effort))
        if asked.at_most is not None:
            lane.lane.cap(place, asked.at_most)
        lane.tickets[place], lane.prompts[place] = ticket, self._read_as(task.context(problem, ()))

    def _planned(self, asked: Asked) -> tuple[Plan, TokenBudget | None]:
        return planned(
            self.solver.shelved, trust_value=self.solver.trust_value, strategy=asked.strategy, effort=asked.effort,
            verify=asked.verify, seed=asked.seed, tokens=asked.tokens, simulations=asked.simulations,
        )  # fmt: skip

    def _turn(self, lane: _Lane) -> None:
        """A slice for every request of a lane, then answers for those that have come to their end."""
        until = time.monotonic() + TURN
        for place, ticket in list(lane.tickets.items()):
            if ticket.gone.is_set():
                lane.lane.leave(place)
                del lane.tickets[place]
                ticket.future.cancel()
                self.metrics.gone.inc()
        try:
            self.metrics.generated.inc(lane.lane.turn(lambda: self._is_over(lane, until)))
            for place, ticket in list(lane.tickets.items()):
                if ticket.late:
                    lane.lane.leave(place)
                if not lane.lane.going(place):
                    del lane.tickets[place]
                    self._answer(lane, place, ticket)
        except Exception as error:  # noqa: BLE001  what breaks one search ends no other
            for ticket in lane.tickets.values():
                self._fail(ticket, error)
            lane.tickets.clear()
        if not lane.tickets:
            self._lanes.remove(lane)

    def _is_over(self, lane: _Lane, until: float) -> bool:
        """Whether a turn ends before its slice: somebody else waits for it, or has gone."""
        if any(ticket.gone.is_set() or ticket.late for ticket in lane.tickets.values()) or self._stopped:
            return True
        others = len(self._lanes) > 1 or len(lane.tickets) > 1 or (self._waiting and self.open < self._slots)
        return bool(others) and time.monotonic() >= until

    def _answer(self, lane: _Lane, place: int, ticket: Ticket) -> None:
        solution = lane.lane.solution(place)
        chains = tuple(lane.lane.chains(place)) if ticket.asked.with_chains else ()
        codec, text = self._codec(), _visible(solution, self.solver.shelved.task)
        shown = len(text.split()) if codec is None or not text else len(codec.tokens(text))
        seconds = time.monotonic() - ticket.began
        self._usual = INERTIA * self._usual + (1 - INERTIA) * seconds
        found = Answered(
            solution, text, lane.prompts[place], min(shown, solution.cost.generated_tokens), chains, late=ticket.late
        )
        self.metrics.answered(found, seconds)
        if ticket.future.set_running_or_notify_cancel():
            ticket.future.set_result(found)

    def _codec(self) -> Codec | None:
        return self.solver.shelved.policy.codec(self.solver.shelved.task)

    def _read_as(self, context: str) -> int:
        """Tokens of a context; words where nobody here knows the policy's tokens."""
        codec = self._codec()
        return len(context.split()) if codec is None else len(codec.context(context))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not type(error).__module__.startswith(ONE_LINE):  # of others: it may say what a model wrote
            log.error("a request failed within the engine: %s", type(error).__name__)
            error = Failed(f"the search failed ({type(error).__name__}): ask again, or tell who runs this server")
        if ticket.future.set_running_or_notify_cancel():
            ticket.future.set_exception(error)

    def _note(self) -> None:
        self.metrics.queued.set(len(self._waiting))
        self.metrics.open.set(self.open)

    def _retry_after(self) -> int:
        return max(1, round(self._usual * (1 + len(self._waiting) / self._slots)))


ONE_LINE = ("solve.", "tasks.", "models.", "serve.")  # modules whose errors are one line that names the mend


class _Lane:
    """A lane and who waits for what of it."""

    def __init__(self, key: tuple, lane: Lane):
        self.key, self.lane = key, lane
        self.tickets: dict[int, Ticket] = {}  # by place in the lane
        self.prompts: dict[int, int] = {}  # tokens of each one's question


def _visible(solution: Solution, task: Task) -> str:
    """The answer as it is shown: where many are right, the steps that lead to it are the answer; else its value alone."""
    if solution.answer is None:
        return ""
    return solution.answer if task.one_answer else "".join(solution.steps).strip()


def _key(plan: Plan, asked: Asked) -> tuple:
    """What requests of one lane have in common."""
    effort = asked.effort if isinstance(plan.way.search, Think) else None
    return plan.strategy, plan.bench.verify, plan.bench.seed, plan.choose, effort


def _cut(budget: TokenBudget | None, at_most: int | None) -> TokenBudget | None:
    """A budget of `at_most` tokens at most; of one that waits for greedy chains the lane is told."""
    if budget is None or at_most is None or at_most >= int(budget.tokens):
        return budget
    return replace(budget, tokens=at_most, size=at_most)

"""One engine, many requests: answers as if each were alone, places that are counted, and an end that loses nobody."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest

from serve.engine.engine import Engine
from serve.engine.ticket import Asked, Busy, Closing, Failed
from serve.thoughts import summary, written
from solve.lanes import Lane
from solve.plan import Solution
from solve.solver import Solver
from tests.serve.canary import CanaryPolicy, canary_engine

TEXTS = ["3 7 8 8 = 24", "1 5 7 9 = 30", "2 3 4 9 = 31", "6 6 7 7 = 25", "1 1 2 2 = 47", "4 5 6 13 = 40"]
FOREVER = Asked("1 1 2 2 = 47", strategy="best_of_n", effort="max", verify="none", tokens=10**9)
PATIENCE = 60.0  # seconds that a test waits for an answer


def told(solution: Solution) -> Solution:
    return replace(solution, cost=replace(solution.cost, seconds=0.0, prefilled_tokens=0.0, flops=None))


@pytest.fixture(scope="module")
def solver() -> Solver:
    return Solver("countdown4think")


@pytest.fixture
def engine(solver):
    made = Engine(solver, slots=4, queue=8)
    yield made
    made.close()


WAYS = (("think", "high", 0), ("think:streams=3", "low", 0), ("best_first", "low", 0), ("best_of_n", "low", 5))


def until(condition) -> None:
    """Wait for another thread."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.002)


def test_what_is_asked_together_is_answered_as_the_solver_answers_it_alone(engine, solver):
    asked = [
        Asked(text, strategy=strategy, effort=effort, seed=seed)
        for text in TEXTS
        for strategy, effort, seed in (
            ("think", "high", 0),
            ("think:streams=3", "low", 0),
            ("best_first", "low", 0),
            ("best_of_n", "low", 5),
        )
    ]
    tickets = []
    for one in asked:
        until(lambda: engine.queued < 8)
        tickets.append(engine.ask(one))
    for one, ticket in zip(asked, tickets, strict=True):
        (alone,) = solver.solve([one.text], strategy=one.strategy, effort=one.effort, seed=one.seed)
        assert told(ticket.future.result(PATIENCE).solution) == told(alone)


def test_requests_of_one_plan_share_a_search(engine, monkeypatch):
    joined = []
    join = Lane.join
    monkeypatch.setattr(Lane, "join", lambda lane, *args: joined.append(id(lane)) or join(lane, *args))
    first = engine.ask(FOREVER)
    until(lambda: engine.open == 1)
    others = [engine.ask(Asked(text, strategy="best_of_n", verify="none")) for text in TEXTS[:3]]
    assert all(ticket.future.result(PATIENCE).solution.stopped == "budget" for ticket in others)
    assert len(set(joined)) == 1
    assert len(joined) == 4
    engine.leave(first)


def test_a_long_search_does_not_hold_up_a_short_one(engine):
    long = engine.ask(FOREVER)
    until(lambda: engine.open == 1)
    short = engine.ask(Asked(TEXTS[0], strategy="think", effort="low"))
    assert short.future.result(PATIENCE).solution.solved
    assert not long.future.done()
    engine.leave(long)


def test_beyond_the_queue_a_request_is_told_to_come_back(engine):
    held = [engine.ask(FOREVER) for _ in range(4)]
    until(lambda: engine.open == 4)
    waiting = [engine.ask(FOREVER) for _ in range(8)]
    with pytest.raises(Busy, match=r"all places are taken: ask again in \d+ s") as busy:
        engine.ask(FOREVER)
    assert busy.value.retry_after >= 1
    for ticket in [*held, *waiting]:
        engine.leave(ticket)
    until(lambda: engine.open == engine.queued == 0)
    assert engine.ask(Asked(TEXTS[0])).future.result(PATIENCE).solution.solved


def test_who_leaves_gives_the_place_back(engine):
    for _ in range(3):
        tickets = [engine.ask(FOREVER) for _ in range(6)]
        until(lambda: engine.open == 4)
        for ticket in tickets:
            engine.leave(ticket)
        began = time.monotonic()
        until(lambda: engine.open == engine.queued == 0)
        assert time.monotonic() - began < PATIENCE / 2
    for ticket in tickets:
        with pytest.raises((CancelledError, Busy)):
            ticket.future.result(PATIENCE)


def test_a_request_whose_time_is_over_gets_the_best_so_far(engine):
    found = engine.ask(replace(FOREVER, seconds=0.2)).future.result(PATIENCE)
    assert found.late
    assert found.solution.chains > 0


def test_tokens_are_those_that_were_generated_and_what_is_shown_is_part_of_them(engine):
    found = engine.ask(Asked(TEXTS[0], strategy="think", effort="high", with_chains=True)).future.result(PATIENCE)
    hidden = sum(len(thought.tokens) for thought in found.solution.thoughts)
    assert found.solution.cost.generated_tokens == hidden == found.hidden_tokens + found.visible_tokens
    shown = sum(len(thought.tokens) for thought in found.solution.thoughts if thought.text in found.solution.steps)
    assert found.visible_tokens <= shown
    assert found.text.splitlines() == [step.strip() for step in found.solution.steps]


def test_of_several_streams_all_are_paid_shown_and_counted(engine):
    asked = Asked(TEXTS[0], strategy="think:streams=3", effort="high", verify="none", with_chains=True)
    found = engine.ask(asked).future.result(PATIENCE)
    hidden = sum(len(thought.tokens) for chain in found.chains for thought in chain.thoughts)
    assert found.solution.cost.generated_tokens == hidden == found.hidden_tokens + found.visible_tokens
    assert [written(found).count(f"Attempt {k}") for k in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert summary(found).startswith("Tried 3 ways, ")
    assert ", wrote " in summary(found)


@pytest.mark.parametrize(
    "asked",
    [
        Asked("3 7 x = 2"),
        Asked(TEXTS[0], strategy="no such"),
        Asked(TEXTS[0], effort="huge"),
        Asked(TEXTS[0], effort="max"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_and_harms_nobody(engine, asked):
    with pytest.raises(ValueError) as refused:
        engine.ask(asked)
    assert "\n" not in str(refused.value)
    assert engine.ask(Asked(TEXTS[0])).future.result(PATIENCE).solution.solved


def test_what_breaks_one_search_is_told_without_its_words_and_ends_no_other(monkeypatch):
    engine, _ = canary_engine()
    chain = CanaryPolicy._chain

    def breaks(self, problem, sample):
        if "break" in problem.data[0]:
            raise RuntimeError("words that a model wrote")
        return chain(self, problem, sample)

    monkeypatch.setattr(CanaryPolicy, "_chain", breaks)
    broken = engine.ask(Asked("break", strategy="best_of_n"))
    with pytest.raises(Failed, match=r"RuntimeError") as failed:
        broken.future.result(PATIENCE)
    assert "words" not in str(failed.value)
    assert engine.ask(Asked("go on", strategy="best_of_n")).future.result(PATIENCE).text == "42"
    engine.close()


def test_an_engine_that_ends_answers_what_it_can_and_refuses_the_rest(solver):
    engine = Engine(solver, slots=2, queue=4)
    short = engine.ask(Asked(TEXTS[0], strategy="think"))
    long = [engine.ask(FOREVER) for _ in range(3)]
    engine.close(drain=0.5)
    assert short.future.result(PATIENCE).solution.solved
    for ticket in long:
        with pytest.raises(Closing):
            ticket.future.result(PATIENCE)
    with pytest.raises(Closing):
        engine.ask(FOREVER)

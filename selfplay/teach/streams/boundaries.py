"""Where a stream stands at the end of each of its lines, judged: what teachers of streams teach at.

A boundary is replayed from what was written, by the task's own rules and its judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from models.abilities import Step
from models.steps.stream_types import Stream
from selfplay.teach.actor import Acting
from selfplay.teach.streams.evidence import Evidence, key_of
from tasks.base import Problem

VERDICT_WEIGHT = 2.0  # of yes, no, stop and depths

Status = Literal["open", "right", "wrong", "illegal"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a stream stands at the end of a line. S steps in the context."""

    path: tuple[Step, ...]  # [S]
    states: tuple[tuple, ...]  # before any step, and after each one that goes on
    keys: tuple[bytes, ...]  # of these
    tried: tuple[frozenset[str], ...]  # in each of these states, up to now
    status: Status
    stepped: bool  # the last line was a step


def replayed(acting: Acting, problem: Problem, stream: Stream, known: Evidence) -> Iterator[Boundary]:
    """The boundaries of a stream, judged; what it tried goes into `known`."""
    task, form = acting.task, acting.task.stream
    assert form is not None, "a stream was written"
    path: list[Step] = []
    states: list[tuple | None] = [task.initial_state(problem)]
    keys = [key_of(task, problem, task.initial_state(problem), ())]
    tried: list[set[str]] = [set()]
    status: Status = "open"
    yield Boundary((), (task.initial_state(problem),), tuple(keys), (frozenset(),), status, False)
    for thought in stream.thoughts:
        if form.accepts(thought.text) or (thought.kind == "undo" and thought.back is None):
            return
        if thought.kind == "check":
            continue
        if thought.back is not None:
            del path[thought.back :], states[thought.back + 1 :], keys[thought.back + 1 :], tried[thought.back + 1 :]
            status = "open" if states[-1] is not None else "illegal"
        else:
            step, before = Step(thought.text, thought.tokens), states[-1]
            path.append(step)
            if before is None:  # after a step that ended the chain, nothing is legal
                status = "illegal"
            else:
                tried[-1].add(step.text)
                status, after = _judged(acting, problem, path, before)
                states.append(after)
                key = None if after is None else key_of(task, problem, after, [s.text for s in path])
                known.add(keys[-1], step, key, solved=status == "right")
                if key is not None:
                    keys.append(key)
                    tried.append(set())
        stepped = thought.back is None
        going = tuple(state for state in states if state is not None)
        yield Boundary(tuple(path), going, tuple(keys), tuple(map(frozenset, tried)), status, stepped)


def _judged(acting: Acting, problem: Problem, path: list[Step], before: tuple) -> tuple[Status, tuple | None]:
    """What the last step of a path is worth, and the state after it."""
    task = acting.task
    if not path[-1].text.endswith("\n"):
        return "illegal", None
    verdict, after = task.advance(problem, before, path[-1].text)
    if after is not None:
        return ("open", after) if len(path) < task.max_steps else ("wrong", None)
    if not verdict.scored:
        verdict = acting.scorer.score([problem], [[step.text for step in path]])[0]
    return ("right" if verdict.reward >= 1 else "wrong" if verdict.legal else "illegal"), None

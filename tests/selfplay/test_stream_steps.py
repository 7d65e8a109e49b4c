"""What is taught where a context shows the present state alone: verdicts of steps, and ways on."""

from __future__ import annotations

import numpy as np
import pytest

from models.abilities import Step
from models.local_policy import LocalPolicy
from models.steps.stream_types import Stream, Thought
from models.steps.stream_words import StreamWords
from selfplay.config import ActorConfig
from selfplay.teach.actor import Acting, Origin
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.streams import stream_steps
from selfplay.teach.streams.boundaries import replayed
from selfplay.teach.streams.evidence import Evidence, key_of
from tasks import make_task
from tasks.judging.scorers import Replay
from tasks.oracle import oracle

TASK = make_task("blocksworld", blocks=4, streams=True)
WORDS, EXACT = StreamWords.of(TASK), oracle(TASK)


def led(problem, state: tuple, *, nearer: bool) -> list[tuple[str, tuple | None]]:
    """Legal steps of a state, and the state after each, that come nearer to the goal, or that do not."""
    here, found = EXACT.distance(problem, state), []
    for text in TASK.legal_steps(problem, state):
        verdict, after = TASK.advance(problem, state, text)
        distance = 0 if verdict.reward >= 1 else EXACT.distance(problem, after)
        found += [(text, after)] if (distance < here) == nearer else []
    return found


PROBLEM = next(p for p in TASK.problems("dev") if led(p, TASK.initial_state(p), nearer=False))


def way() -> list[tuple[tuple, str]]:
    """A shortest way: (state, step) of each step."""
    state, taken = TASK.initial_state(PROBLEM), []
    while state is not None:
        text, after = led(PROBLEM, state, nearer=True)[0]
        taken.append((state, text))
        state = after
    return taken


WAY = way()
((AWAY, _), *_) = led(PROBLEM, WAY[0][0], nearer=False)


def key(state: tuple) -> bytes:
    return key_of(TASK, PROBLEM, state, ())


def step(text: str) -> Step:
    return Step(text, tuple(TASK.encode(text)))


def known(*, whole: bool) -> Evidence:
    """What a search has seen: the way, and a step away from which it came back; nothing at all if not `whole`."""
    seen = Evidence(0.6, key(WAY[0][0]))
    if whole:
        states = [*(state for state, _ in WAY), None]
        for (state, text), after in zip(WAY, states[1:], strict=True):
            seen.add(key(state), step(text), None if after is None else key(after), solved=after is None, mass=0.5)
        _, away = TASK.advance(PROBLEM, WAY[0][0], AWAY)
        seen.add(key(WAY[0][0]), step(AWAY), key(away), mass=0.3)
        back = next(s for s in TASK.legal_steps(PROBLEM, away) if TASK.advance(PROBLEM, away, s)[1] == WAY[0][0])
        seen.add(key(away), step(back), key(WAY[0][0]), mass=0.3)
    return seen


def stream(*lines: str) -> Stream:
    thoughts, depth = [], 0
    for line in lines:
        back = TASK.stream.depth(line) if line.startswith("no") else None
        thoughts.append(Thought(TASK.stream.kind(line), line, tuple(TASK.encode(line)), depth, back))
        depth = depth + 1 if back is None else back
    return Stream(tuple(thoughts), (), "no")


def taught(made: Stream, evidence: Evidence, effort: int = 2) -> list[tuple[str, str, list[float]]]:
    """(context, what stands behind it, weights of that) of every row, in the order of the boundaries."""
    builder = RowBuilder(TASK, WORDS.codec)
    policy, rng = LocalPolicy(None, version="none"), np.random.default_rng(0)
    at = Acting(policy, TASK, [PROBLEM], ActorConfig(), Replay(TASK), builder, rng, Origin(0, 1, ""), False)
    for boundary in list(replayed(at, PROBLEM, made, evidence)):
        stream_steps.teach(at, WORDS, PROBLEM, effort, boundary, evidence)
    rows, found = builder.rows(), []
    for tokens, weight in zip(rows.tokens.tolist(), rows.weight.tolist(), strict=True):
        used = [token for token in tokens if token]
        context, rest = TASK.decode(used).removeprefix("<bos> ").split("\n", 1)
        found.append((context, rest, weight[len(used) - len(TASK.encode(rest)) : len(used)]))
    return found


def context(effort: int, *before: str) -> str:
    return TASK.stream.asked(TASK.context(PROBLEM, before), effort).removesuffix("\n")


def chosen(text: str) -> int:
    return TASK.stream.choice(text)


def test_a_step_is_judged_behind_it_by_whether_it_came_nearer():
    first = WAY[0][1]
    rows = taught(stream(first, "no b0\n", AWAY), known(whole=True))
    verdicts = {rest: weights for where, rest, weights in rows if where == context(2) and not all(weights[:2])}
    length = len(TASK.encode(first))
    assert set(verdicts) == {f"{first}on", f"{AWAY}no"}
    for text in (first, AWAY):
        said = verdicts[f"{text}{'on' if text == first else 'no'}"]
        assert said == [0.0] * chosen(text) + [1.0] * (len(TASK.encode(text)) - chosen(text)) + [2.0]
    assert length > chosen(first)


def test_the_goal_says_yes_and_what_is_illegal_says_no_and_teaches_no_result():
    rows = taught(stream(*(text for _, text in WAY)), known(whole=True))
    last = WAY[-1][1]
    before = context(2, *(text for _, text in WAY[:-1]))
    assert any(where == before and rest == f"{last}yes" for where, rest, _ in rows)
    words = WAY[0][1].split()
    false = " ".join([*words[:-1], words[-2]]) + "\n"
    assert not TASK.advance(PROBLEM, WAY[0][0], false)[0].legal
    ((_, rest, weights),) = [row for row in taught(stream(false), known(whole=False)) if row[1].startswith(false)]
    assert rest == f"{false}no"
    assert weights == [0.0] * len(TASK.encode(false)) + [2.0]


def test_ways_on_are_taught_a_row_a_step_with_their_verdict_or_as_plain_chains():
    seen = []
    for where, rest, weights in taught(stream(), known(whole=True)):
        plain = " | " in where
        (k,) = [k for k, (_, text) in enumerate(WAY) if rest.startswith(text)]
        assert where == context(0 if plain else 2, *(text for _, text in WAY[:k]))
        said = "" if plain else "yes" if k + 1 == len(WAY) else "on"
        assert rest == WAY[k][1] + said
        assert weights == [1.0] * len(TASK.encode(WAY[k][1])) + [2.0] * bool(said)
        seen.append(k)
    assert seen == list(range(len(WAY)))


@pytest.mark.parametrize("whole", [True, False])
def test_of_an_explored_graph_each_kind_of_step_is_judged(whole):
    builder = RowBuilder(TASK, WORDS.codec)
    policy, rng = LocalPolicy(None, version="none"), np.random.default_rng(0)
    at = Acting(policy, TASK, [PROBLEM], ActorConfig(), Replay(TASK), builder, rng, Origin(0, 1, ""), False)
    stream_steps.of_graph(at, WORDS, PROBLEM, 3, known(whole=whole))
    said = [TASK.decode([t for t in row if t]).split("\n", 1)[1] for row in builder.rows().tokens.tolist()]
    if not whole:
        assert not said
        return
    assert f"{AWAY}no" in said
    assert f"{WAY[-1][1]}yes" in said
    assert {f"{text}on" for _, text in WAY[:-1]} <= set(said)


def test_nothing_is_known_of_what_was_not_explored():
    seen = known(whole=True)
    assert seen.nearer(b"nowhere", key(WAY[0][0])) is None
    assert seen.nearer(key(WAY[0][0]), b"nowhere") is None
    assert seen.nearer(key(WAY[0][0]), key(WAY[1][0])) is True

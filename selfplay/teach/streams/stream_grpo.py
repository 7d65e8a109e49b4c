"""The teacher `stream_grpo`: groups of whole streams, each taught or untaught by how much better it is than its group.

Group-relative policy optimisation as in `teach.grpo`, on all that a stream writes: steps, verdicts, and where it goes back to.
A stream that ends in a right answer earns 1, less LENGTH_COST for as many tokens as it may have; a false `yes` earns FALSE_YES,
giving up nothing. Every verdict is sampled like other words. A step is drawn without those tried at its state, and its
gradient is taken as if it were not (the mass of what was tried is not differentiated).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kit.seeds import derived_seed
from models.steps.stream_types import Rules, Stream
from models.steps.stream_words import StreamWords
from selfplay.teach.actor import Acting, Experience
from selfplay.teach.streams.stream import LONGEST, stream_trace
from tasks.base import Problem
from tasks.streams import EFFORTS

LENGTH_COST = 0.1
FALSE_YES = -1.0


def act(acting: Acting) -> Experience:
    """`actor.group` streams of every problem at one effort, sampled at `actor.temperature`, and rows of those whose advantage
    is not zero: `actor.rows_per_problem` of a problem at most, drawn uniformly.

    Raises:
        PolicyError: the net has no stream words.
    """
    config, words = acting.config, StreamWords.of(acting.task, acting.policy.codec(acting.task))
    efforts = acting.rng.integers(1, len(EFFORTS), len(acting.problems))
    groups, prefilled = sampled(acting, efforts)
    most, traces, solved = LONGEST * config.tokens, [], 0
    for problem, effort, streams in zip(acting.problems, efforts.tolist(), groups, strict=True):
        right = [stream.accepted and _judged(acting, problem, stream) for stream in streams]
        earned = np.array([reward(s.accepted, ok, s.tokens / most) for s, ok in zip(streams, right, strict=True)])
        rows = [
            (context + written, [0.0] * len(context) + [gain] * len(written))
            for stream, gain in zip(streams, (earned - earned.mean()).tolist(), strict=True) if gain
            for context, written in stretches(words, problem, effort, stream)
        ]  # fmt: skip
        for k in acting.rng.permutation(len(rows))[: config.rows_per_problem].tolist():
            acting.builder.written(*rows[k])
        best = int(earned.argmax())
        paid = sum(stream.tokens for stream in streams)
        traces.append(stream_trace(acting, problem, streams[best], effort, right[best], paid, rule="stream_grpo"))
        solved += right[best]
    generated = sum(stream.tokens for streams in groups for stream in streams)
    return Experience(acting.builder.rows(), traces, generated, prefilled, len(groups), solved, 0)


def reward(accepted: bool, right: bool, length: float) -> float:
    """What a stream earned; `length`: its tokens, as a share of those that it may have."""
    if not accepted:
        return 0.0
    return 1.0 - LENGTH_COST * length if right else FALSE_YES


def sampled(acting: Acting, efforts: np.ndarray) -> tuple[list[list[Stream]], int]:
    """[P][G] streams of each problem at its effort, and the tokens that were prefilled."""
    config = acting.config
    rules = Rules(temperature=config.temperature, threshold=None, doubted=0.0, tokens=LONGEST * config.tokens)
    seed = derived_seed(acting.origin.seed, "stream_grpo", acting.origin.iteration)
    groups: list[list[Stream]] = [[] for _ in efforts]
    prefilled: list[int] = []
    for effort in range(1, len(EFFORTS)):
        at = np.repeat(np.flatnonzero(efforts == effort), config.group).tolist()
        asked = [acting.problems[i] for i in at]
        first = list(range(config.group)) * (len(at) // config.group)
        made = acting.policy.streams(
            acting.task, asked, effort, rules, seed=seed, first=first, on_prefill=prefilled.append
        )
        for i, stream in zip(at, made, strict=True):
            groups[i].append(stream)
    return groups, sum(prefilled)


def stretches(
    words: StreamWords, problem: Problem, effort: int, stream: Stream
) -> Iterator[tuple[list[int], list[int]]]:
    """(what stood in the context, what was written behind it) from each place that a stream began at or went back to."""
    opening = words.context(problem, effort)
    standing: list[tuple[int, ...]] = []  # tokens of each step
    context, written = opening, []
    for thought in stream.thoughts:
        written += thought.tokens
        if thought.back is not None:
            yield context, written
            del standing[thought.back :]
            context, written = opening + [token for step in standing for token in step], []
        else:
            standing.append(thought.tokens)
    if written:
        yield context, written


def _judged(acting: Acting, problem: Problem, stream: Stream) -> bool:
    return acting.scorer.score([problem], [stream.steps])[0].reward >= 1

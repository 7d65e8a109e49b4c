"""The teacher `think`: what a model comes to by thinking is taught as its first try.

A stream of every problem, which works doubtful steps out another way and mends them. Where the judge takes what stands at its
end, that is taught, and nothing of what was given up: expert iteration (Anthony et al. 2017) whose expert is the model with
second thoughts. What stands at the end was come to twice, or was the surer of two, so that few of these chains hold slips that
cancel; a search that asks for the right end alone finds more of those (docs/results/language.md).
"""

from __future__ import annotations

import numpy as np

from kit.seeds import derived_seed
from models.steps.stream_types import Rules, Stream, threshold_of
from models.steps.stream_words import effort_number
from selfplay.teach.actor import Acting, Experience
from selfplay.teach.streams.stream import stream_trace
from solve.search.think import thinks
from solve.types import SolveError
from tasks.base import Problem


def act(acting: Acting) -> Experience:
    """A stream of every problem at `actor.effort` and `actor.temperature`, of `actor.tokens` at most, and rows of their chains.

    Raises:
        SolveError: the policy cannot think about this task.
    """
    task, config = acting.task, acting.config
    if not thinks(task, acting.policy):
        raise SolveError(
            f"teacher think: {acting.policy.name} writes no streams of task {task.name}; use search or star"
        )
    effort, prefilled = effort_number(config.effort), []
    rules = Rules(config.temperature, threshold_of(task, None), tokens=config.tokens)
    seed = derived_seed(acting.origin.seed, "think", acting.origin.iteration)
    streams = acting.policy.streams(task, acting.problems, effort, rules, seed=seed, on_prefill=prefilled.append)
    rewards = [verdict.reward for verdict in acting.scorer.score(acting.problems, [stream.steps for stream in streams])]
    right = [reward >= 1 for reward in rewards]
    traces = []
    for problem, stream, taken in zip(acting.problems, streams, right, strict=True):
        _rows(acting, problem, stream, taken)
        traces.append(stream_trace(acting, problem, stream, effort, taken, stream.tokens, rule="think"))
    generated = sum(stream.tokens for stream in streams)
    return Experience(acting.builder.rows(), traces, generated, sum(prefilled), len(streams), sum(right), 0)


def _rows(acting: Acting, problem: Problem, stream: Stream, right: bool) -> None:
    """The chain that stands, taught; of a wrong one, states that did not reach the goal, which teach the value."""
    config, builder, chain = acting.config, acting.builder, stream.chain
    if right:
        known = not stream.undos
        if known and config.known_share < 1 and acting.rng.random() >= config.known_share:
            return
        values = [config.discount ** (len(chain) - k) for k in range(len(chain))]
        builder.chain(problem, chain, [1.0] * len(chain), values, np.nan if acting.task.self_verifying else 1.0)
        return
    lengths = acting.rng.permutation(np.arange(1, len(chain)))[: config.losing_rows]
    for length in lengths.tolist():
        builder.state(problem, chain[:length], 0.0)

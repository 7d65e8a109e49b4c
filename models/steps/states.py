"""Reasoning states over a token trie: what the task says of a step, and where in the trie the next step starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.steps.codec import Codec
from models.trie.kernels import NO_NODE
from models.trie.trie import TokenTrie
from tasks.base import NO_STEP, Problem, Task, Verdict

FULL = "no room for another step"


@dataclass(slots=True)
class State:
    """A problem and the steps so far. `start` and `context` are set for states that have a value."""

    problem: Problem
    steps: tuple[str, ...]
    inner: tuple | None  # the task's own state; None when terminal
    verdict: Verdict
    depth: int  # steps that the task's `max_steps` counts
    context: str = ""  # what the policy sees before the next step
    start: int = NO_NODE  # trie node of the context's last token
    room: int = 0  # depth in the trie from which on no other step has room

    @property
    def valued(self) -> bool:
        """Whether the value head speaks for the state: it goes on, or its answer is for a scorer to judge, later."""
        return self.inner is not None or not self.verdict.scored


def root_states(
    trie: TokenTrie, task: Task, codec: Codec, problems: Sequence[Problem], most: int | None = None
) -> list[State]:
    """The state before any step of each problem; prompts are prefilled in one forward.

    `most`: tokens of a chain, where that is less than the codec's own limit. It may have one step in any case.
    """
    chain = codec.max_chain_tokens if most is None else min(most, codec.max_chain_tokens)
    states = [State(problem, (), task.initial_state(problem), NO_STEP, 0) for problem in problems]
    for state in states:
        state.context = task.context(state.problem, ())
    starts = trie.prefill([codec.context(state.context) for state in states])
    for state, start in zip(states, starts.tolist(), strict=True):
        first = int(trie.depths[start]) + 1
        state.start, state.room = (
            start,
            min(codec.positions, first + max(chain, codec.max_step_tokens)) - codec.max_step_tokens,
        )
    return states


def next_state(task: Task, parent: State, step: str, finished: bool) -> State:
    """The state after `step`, judged by the task alone; `finished`: a delimiter ended the step.

    A chain of `task.max_steps` steps without an answer is over, with reward 0.

    Raises:
        ValueError: `parent` is terminal.
    """
    if parent.inner is None:
        raise ValueError("a terminal state has no next step")
    steps = (*parent.steps, step)
    depth = parent.depth + 1
    if not finished:
        verdict = Verdict(0.0, True, False, "unfinished: no newline within the limit of tokens")
        return State(parent.problem, steps, None, verdict, depth)
    verdict, inner = task.advance(parent.problem, parent.inner, step)
    if inner is not None and depth >= task.max_steps:
        verdict, inner = Verdict(0.0, True, True, f"no answer in {task.max_steps} steps"), None
    return State(parent.problem, steps, inner, verdict, depth)


def place(
    trie: TokenTrie,
    task: Task,
    codec: Codec,
    parents: list[State],
    states: list[State],
    parent_nodes: np.ndarray,
    delimiters: np.ndarray,
) -> None:
    """Set `context` and `start` of `states` [B] that have a value, children of `parents`.

    `parent_nodes` [B]: trie nodes before the token that ended each step, `delimiters` int32 [B]: that token. Where the context
    is the parent's plus the step, the start is the delimiter's own node; a task that shows only the present state has its
    context prefilled, and equal contexts are one path in the trie, so that each is computed once. A state without room for
    another step, in the model's positions or in the longest chain, is over.
    """
    on, anew = [], []
    for i, (parent, state) in enumerate(zip(parents, states, strict=True)):
        state.context = task.context(state.problem, state.steps)
        (on if state.context == parent.context + state.steps[-1] else anew).append(i)
    starts = np.empty(len(states), np.int64)
    if on:
        starts[on] = trie.extend(parent_nodes[on], delimiters[on])
    if anew:
        texts = {states[i].context: None for i in anew}
        nodes = trie.prefill([codec.context(text) for text in texts])
        node_of = dict(zip(texts, nodes.tolist(), strict=True))
        starts[anew] = [node_of[states[i].context] for i in anew]
    for parent, state, start in zip(parents, states, starts.tolist(), strict=True):
        state.start, state.room = start, parent.room
        if state.inner is not None and trie.depths[start] >= state.room:
            state.inner, state.verdict = None, Verdict(0.0, True, True, FULL, scored=not task.form.free)

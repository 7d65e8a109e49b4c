"""Whole chains of steps in one batch: independent samples, greedy chains, and chains that never re-enter a state.

Chains advance in lock-step through one token trie, so that what samples of one problem share is computed once. What is
reported as paid is nevertheless every token of every sample, as an independent sampler would pay.

Noise is counter-based, keyed by (seed, problem id, number of the sample, position): a chain does not depend on the others.
Legend: C chains of one chunk, S tokens of the longest step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from models.abilities import Rollout
from models.forward.choose import forward_for
from models.steps.codec import Codec, codec_of
from models.steps.states import State, next_state, place, root_states
from models.trie import sampling_kernels as kernels
from models.trie.batch import TrieForward
from models.trie.sampling import StepSampler
from models.trie.step_ends import ENDS
from models.trie.trie import TokenTrie
from tasks.base import Problem, Task, Verdict

NODES_PER_CHUNK = 1 << 18  # upper bound on trie nodes held at once, about 0.5 GiB for the default model
CHAINS_PER_CHUNK = 2048

_NO_STEP_LEFT = Verdict(reward=0.0, terminal=True, legal=False, reason="every step leads back to a state of the chain")


@dataclass(slots=True)
class _Chain:
    """A chain in the making."""

    state: State
    seed: int
    states: list[tuple] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)
    tokens: int = 0
    logprob: float = 0.0
    last_logprob: float = 0.0
    end_value: float | None = None
    step_tokens: list[tuple[int, ...]] = field(default_factory=list)

    def note_state(self, trie: TokenTrie) -> None:
        """Write down the present state, which has a value, and that value."""
        value = float(trie.values[self.state.start])
        if self.state.inner is None:
            self.end_value = value
        else:
            self.states.append(self.state.inner)
            self.values.append(value)

    def result(self) -> Rollout:
        return Rollout(
            self.state.steps,
            self.state.verdict,
            self.tokens,
            self.logprob,
            self.last_logprob,
            tuple(self.states),
            tuple(self.values),
            self.state.verdict.reward if self.end_value is None else self.end_value,
            tuple(self.step_tokens),
        )


def rollouts(
    model,
    task: Task,
    problems: Sequence[Problem],
    n: int = 1,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    no_reentry: bool = False,
    forward: TrieForward | None = None,
    kv_bytes: int | None = None,
    trie: TokenTrie | None = None,
    first: Sequence[int] | None = None,
    most: int | None = None,
    on_prefill: Callable[[int], None] | None = None,
) -> list[list[Rollout]]:
    """`n` chains of each problem: independent samples at `temperature`, or greedy ones at 0.

    `no_reentry`: a step that leads back to a state of its own chain is rejected, and the next most probable one
    (temperature 0) or another sample without replacement is taken; the tokens of rejected steps are paid.
    `forward`: another way to compute trie nodes than the model's own. `kv_bytes`: budget of keys and values, see
    `models.trie.trie`. `trie`: a cleared one to work in, in place of both.
    `first`: number of each problem's first sample, 0 if None: samples k to k + n - 1 of one call are those of another.
    `most`: tokens of a chain in free text, see `models.steps.states.root_states`.
    `on_prefill`: is told, at the end, how many prompt and context tokens were computed.

    Raises:
        ValueError: negative temperature, or n below 1.
        TrieError: a path does not fit the model's positions.
    """
    if temperature < 0 or n < 1:
        raise ValueError(f"temperature must be 0 or more and n at least 1, not {temperature} and {n}")
    codec = codec_of(model, task)
    if trie is None:
        trie = TokenTrie(forward or forward_for(model, codec.vocabulary_size, codec.masked), kv_bytes=kv_bytes)
    play = _play_without_reentry if no_reentry else _play
    longest = codec.max_context_tokens + task.max_steps * codec.max_step_tokens
    size = max(1, min(CHAINS_PER_CHUNK, NODES_PER_CHUNK // longest))
    starts = [0] * len(problems) if first is None else first
    jobs = [(problem, at + k) for problem, at in zip(problems, starts, strict=True) for k in range(n)]
    done: list[Rollout] = []
    for start in range(0, len(jobs), size):
        trie.clear()
        chains = _open_chains(trie, task, codec, jobs[start : start + size], seed, most)
        play(trie, task, codec, chains, temperature)
        done += [chain.result() for chain in chains]
    if on_prefill is not None:
        on_prefill(trie.prefilled_tokens)
    return [done[i : i + n] for i in range(0, len(done), n)]


def _open_chains(
    trie: TokenTrie, task: Task, codec: Codec, jobs: list[tuple[Problem, int]], seed: int, most: int | None
) -> list[_Chain]:
    chains = []
    roots = root_states(trie, task, codec, [job[0] for job in jobs], most)
    for state, (problem, sample) in zip(roots, jobs, strict=True):
        digest = blake2b(f"{seed}\0{problem.id}\0{sample}".encode(), digest_size=8).digest()
        chain = _Chain(state, int.from_bytes(digest, "little"))
        chain.note_state(trie)
        chains.append(chain)
    return chains


def _play(trie: TokenTrie, task: Task, codec: Codec, chains: list[_Chain], temperature: float) -> None:
    """Token by token, all chains at once, until every chain has ended."""
    count, longest = len(chains), codec.max_step_tokens
    nodes = np.array([chain.state.start for chain in chains], np.int32)
    seeds = np.array([chain.seed for chain in chains], np.uint64)
    position = np.zeros(count, np.int64)  # tokens sampled by the chain so far
    modes = np.zeros(count, np.int8)  # of `StepEnds`
    steps, lengths = np.zeros((count, longest), np.int32), np.zeros(count, np.int64)
    logprobs = np.zeros(count)
    active = np.arange(count)
    while len(active):
        tokens, gained = np.empty(len(active), np.int32), np.empty(len(active))
        kernels.sample_tokens(
            trie.logprobs, trie.choices, nodes[active], seeds[active], position[active], temperature, tokens, gained
        )
        steps[active, lengths[active]] = tokens
        lengths[active] += 1
        position[active] += 1
        logprobs[active] += gained
        modes[active] = codec.ends.after[modes[active], codec.ends.kinds[tokens]]
        ended = (modes[active] == ENDS) | (lengths[active] == longest)
        going, ending = active[~ended], active[ended]
        nodes[going] = trie.extend(nodes[going], tokens[~ended], with_values=False)
        on, valued, parents = [], [], []  # chains that have another step to take; those whose state has a value
        for c, row, length in zip(ending.tolist(), steps[ending].tolist(), lengths[ending].tolist(), strict=True):
            chain = chains[c]
            parent = chain.state
            finished = bool(modes[c] == ENDS) or codec.ends.cut
            chain.state = next_state(task, parent, codec.step(row[:length], finished), finished)
            chain.step_tokens.append(tuple(row[:length]))
            chain.last_logprob = float(logprobs[c]) - chain.logprob
            chain.tokens, chain.logprob = int(position[c]), float(logprobs[c])
            if chain.state.valued:
                valued.append(c)
                parents.append(parent)
            if chain.state.inner is not None:
                on.append(c)
        ends = steps[valued, lengths[valued] - 1]
        _go_on(trie, task, codec, parents, [chains[c] for c in valued], nodes[valued], ends)
        on = [c for c in on if chains[c].state.inner is not None]  # else its context is full
        nodes[on] = [chains[c].state.start for c in on]
        lengths[ending] = modes[ending] = 0
        active = np.sort(np.concatenate((going, np.array(on, np.int64))))


def _play_without_reentry(trie: TokenTrie, task: Task, codec: Codec, chains: list[_Chain], temperature: float) -> None:
    """Step by step: one unseen step at every chain's state, drawn again where it leads back."""
    draw = "sample" if temperature > 0 else "best"
    sampler = StepSampler(trie, max_step_tokens=codec.max_step_tokens, temperature=temperature or 1.0, ends=codec.ends)
    for chain in chains:
        chain.keys.update(_keys(task, chain.state))
    active = list(chains)
    slots = _open_slots(sampler, active)
    while active:
        drawn = sampler.draw(slots, 1, draw)
        parents, moved, moved_nodes, delimiters, waiting = [], [], [], [], []
        for i, (chain, first, last) in enumerate(
            zip(active, drawn.offsets[:-1].tolist(), drawn.offsets[1:].tolist(), strict=True)
        ):
            parent = chain.state
            if first == last:
                chain.state = State(parent.problem, parent.steps, None, _NO_STEP_LEFT, parent.depth)
                continue
            length = int(drawn.lengths[first])
            chain.tokens += length
            finished = bool(drawn.finished[first])
            tokens = drawn.tokens[first, :length].tolist()
            state = next_state(task, parent, codec.step(tokens, finished), finished)
            keys = _keys(task, state)
            if keys & chain.keys:
                waiting.append(i)
                continue
            chain.state = state
            chain.step_tokens.append(tuple(tokens))
            chain.last_logprob = float(drawn.logprobs[first])
            chain.logprob += chain.last_logprob
            if state.valued:
                chain.keys |= keys
                parents.append(parent)
                moved.append(chain)
                moved_nodes.append(drawn.parent_nodes[first])
                delimiters.append(drawn.tokens[first, length - 1])
        _go_on(trie, task, codec, parents, moved, np.array(moved_nodes, np.int32), np.array(delimiters, np.int32))
        moved = [chain for chain in moved if chain.state.inner is not None]
        slots = np.concatenate((slots[waiting], _open_slots(sampler, moved)))
        active = [active[i] for i in waiting] + moved


def _go_on(
    trie: TokenTrie,
    task: Task,
    codec: Codec,
    parents: list[State],
    chains: list[_Chain],
    parent_nodes: np.ndarray,
    delimiters: np.ndarray,
) -> None:
    """Give chains that moved from `parents` to states with a value their place in the trie, and note state and value."""
    place(trie, task, codec, parents, [chain.state for chain in chains], parent_nodes, delimiters)
    for chain in chains:
        chain.note_state(trie)


def _open_slots(sampler: StepSampler, chains: list[_Chain]) -> np.ndarray:
    """Slots at the chains' present states; noise differs by chain and by step."""
    starts = np.array([chain.state.start for chain in chains], np.int32)
    seeds = np.array([chain.seed ^ (chain.state.depth << 40) for chain in chains], np.uint64)
    return sampler.open(starts, seeds)


def _keys(task: Task, state: State) -> set[bytes]:
    """The state's key; empty for terminal states and where the task has none."""
    key = None if state.inner is None else task.state_key(state.problem, state.inner)
    return set() if key is None else {key}

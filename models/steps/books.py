"""What the handles of a `ModelEvaluator` stand for: states of trees, judged and given a place in the trie, a wave at a time.

`StateBook` asks the task, one step of text after the other, and serves every task. `TokenBook` asks a task's compiled judge
(`tasks.base.TokenJudge`) for a whole wave and writes text only when somebody reads it: for a model of a few hundred thousand
weights judging in Python took a quarter of a search. Both give the same trees, bit for bit, which a test holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mcts.types import NO_KEY
from models.abilities import History, Step
from models.steps.codec import Codec, WordCodec
from models.steps.history import Lineage, digest
from models.steps.states import State, next_state, place, root_states
from models.trie import sampling_kernels as kernels
from models.trie.sampling import DrawnSteps, StepSampler, grown
from models.trie.trie import TokenTrie
from tasks.base import GOES_ON, ILLEGAL, NO_STEP, SOLVED, Problem, Task, TokenJudge, Verdict

NO_SLOT = -1
MOST_UNSCORED = np.float32(1 - 1e-6)  # a solution is what a scorer has seen


@dataclass(frozen=True, slots=True)
class Entered:
    """Roots, or the candidates of one wave, as a book has entered them. C of them."""

    handles: np.ndarray  # int64 [C]
    keys: np.ndarray  # uint64 [C], NO_KEY where terminal or never merged
    values: np.ndarray  # float32 [C], of the value head, or the reward where terminal and scored
    rewards: np.ndarray  # float32 [C]; of an answer that is not scored yet, its value
    terminal: np.ndarray  # bool [C]
    legal: np.ndarray  # bool [C]


class Book(History, Protocol):
    """States by handle."""

    def clear(self) -> None:
        """Forget every state. The trie is clear."""
        ...

    def open(self, problems: Sequence[Problem]) -> Entered:
        """Enter the root of each problem, as trees behind those that are open."""
        ...

    def slots(self, handles: np.ndarray) -> np.ndarray:
        """int32 [L]: where the sampler draws at the states `handles` [L].

        Raises:
            ValueError: a handle of a terminal state, or one twice.
        """
        ...

    def enter(self, handles: np.ndarray, drawn: DrawnSteps) -> Entered:
        """Judge the steps drawn at `handles` [L] and give those that go on their place in the trie."""
        ...


def book_for(
    task: Task, codec: Codec, trie: TokenTrie, sampler: StepSampler, seed: int, most: int | None = None
) -> Book:
    """The fastest book that serves `task` in the tokens of `codec`; `most`: tokens of a chain in free text."""
    judge = task.token_judge() if isinstance(codec, WordCodec) else None
    if judge is None:
        return StateBook(task, codec, trie, sampler, seed, most)
    return TokenBook(task, judge, codec, trie, sampler, seed)


def _root_seeds(seed: int, problems: Sequence[Problem]) -> np.ndarray:
    return np.array([digest(f"{seed}\0{problem.id}".encode()) for problem in problems], np.uint64)


def _check(handles: np.ndarray, terminal: bool) -> None:
    if terminal or len(set(map(int, handles))) < len(handles):
        raise ValueError("handles of one wave must be distinct and not terminal")


@dataclass(slots=True)
class _Record:
    state: State
    tree: int
    parent: int
    key: int
    seed: int  # of the noise of draws at this state
    tokens: tuple[int, ...] | None = None  # of the last step, as they were sampled
    slot: int = NO_SLOT  # of the sampler, once the state has been expanded


class StateBook(Lineage[_Record]):
    """A record a handle, judged by `Task.advance`."""

    def __init__(
        self, task: Task, codec: Codec, trie: TokenTrie, sampler: StepSampler, seed: int, most: int | None = None
    ):
        self.task, self._codec, self._trie, self._sampler, self._seed = task, codec, trie, sampler, seed
        self._most = most
        self._records: list[_Record] = []
        self._depths: dict[int, int] = {}  # fewest steps known to lead to the state of a key
        self._trees = 0

    def clear(self) -> None:
        self._records.clear()
        self._depths.clear()
        self._trees = 0

    def open(self, problems: Sequence[Problem]) -> Entered:
        first = len(self._records)
        states = root_states(self._trie, self.task, self._codec, problems, self._most)
        for state, seed in zip(states, _root_seeds(self._seed, problems).tolist(), strict=True):
            key = self._key(self._trees, state)
            self._records.append(_Record(state, self._trees, len(self._records), key, seed))
            self._trees += 1
            if key != NO_KEY:
                self._depths[key] = 0
        return self._entered(first)

    def slots(self, handles: np.ndarray) -> np.ndarray:
        leaves = [self._records[handle] for handle in handles]
        _check(handles, any(leaf.state.inner is None for leaf in leaves))
        fresh = [leaf for leaf in leaves if leaf.slot == NO_SLOT]
        if fresh:
            seeds = np.array([leaf.seed for leaf in fresh], np.uint64)
            starts = np.array([leaf.state.start for leaf in fresh], np.int32)
            for leaf, slot in zip(fresh, self._sampler.open(starts, seeds).tolist(), strict=True):
                leaf.slot = slot
        return np.array([leaf.slot for leaf in leaves], np.int32)

    def enter(self, handles: np.ndarray, drawn: DrawnSteps) -> Entered:
        first = len(self._records)
        lengths, finished = drawn.lengths.tolist(), drawn.finished.tolist()
        parents = np.repeat(handles, np.diff(drawn.offsets)).tolist()
        seeds = np.array([self._records[parent].seed for parent in parents], np.uint64)
        kernels.seeds_after(seeds, drawn.tokens, drawn.lengths)
        for handle in handles:
            leaf = self._records[handle]
            leaf.state.depth = min(leaf.state.depth, self._depths.get(leaf.key, leaf.state.depth))
        for row, (parent, tokens, seed) in enumerate(zip(parents, drawn.tokens.tolist(), seeds.tolist(), strict=True)):
            leaf = self._records[parent]
            text = self._codec.step(tokens[: lengths[row]], finished[row])
            state = next_state(self.task, leaf.state, text, finished[row])
            taken = tuple(tokens[: lengths[row]])
            child = _Record(state, leaf.tree, parent, self._key(leaf.tree, state), seed, taken)
            if child.key != NO_KEY:
                self._depths[child.key] = min(state.depth, self._depths.get(child.key, state.depth))
            self._records.append(child)
        children = self._records[first:]
        valued = [i for i, child in enumerate(children) if child.state.valued]
        befores = [self._records[children[i].parent].state for i in valued]
        ends = drawn.tokens[valued, drawn.lengths[valued] - 1]
        states = [children[i].state for i in valued]
        place(self._trie, self.task, self._codec, befores, states, drawn.parent_nodes[valued], ends)
        return self._entered(first)

    def _entered(self, first: int) -> Entered:
        records = self._records[first:]
        alive = np.array([record.state.inner is not None for record in records], np.bool_)
        rewards = np.array([record.state.verdict.reward for record in records], np.float32)
        valued = np.array([record.state.valued for record in records], np.bool_)
        values = rewards.copy()
        values[valued] = self._trie.values[[record.state.start for record in records if record.state.valued]]
        unscored = valued & ~alive
        rewards[unscored] = np.minimum(values[unscored], MOST_UNSCORED)
        return Entered(
            handles=np.arange(first, len(self._records)),
            keys=np.where(alive, np.array([record.key for record in records], np.uint64), NO_KEY),
            values=values,
            rewards=rewards,
            terminal=~alive,
            legal=np.array([record.state.verdict.legal for record in records], np.bool_),
        )


_LINE: np.dtype = np.dtype(
    [
        ("key", np.uint64),
        ("seed", np.uint64),  # of the noise of draws at this state
        ("parent", np.int32),
        ("tree", np.int32),
        ("start", np.int32),  # trie node of the context's last token
        ("slot", np.int32),
        ("length", np.int32),  # tokens of the last step
        ("code", np.int8),
        ("finished", np.bool_),
    ],
    align=True,
)


class TokenBook:
    """A line of numbers a handle, judged by a `TokenJudge`. Text is made when it is asked for."""

    def __init__(self, task: Task, judge: TokenJudge, codec: Codec, trie: TokenTrie, sampler: StepSampler, seed: int):
        self.task, self._judge, self._codec, self._trie = task, judge, codec, trie
        self._sampler, self._seed = sampler, seed
        self._problems: list[Problem] = []
        self._count = 0
        self._lines = np.zeros(1 << 10, _LINE)
        self._states = np.zeros((1 << 10, judge.state_width), np.int32)
        self._tokens = np.zeros((1 << 10, codec.max_step_tokens), np.int32)

    def clear(self) -> None:
        self._problems, self._count = [], 0

    def open(self, problems: Sequence[Problem]) -> Entered:
        lines = np.zeros(len(problems), _LINE)
        lines["tree"] = np.arange(len(self._problems), len(self._problems) + len(problems))
        lines["parent"] = np.arange(self._count, self._count + len(problems))
        lines["seed"], lines["code"] = _root_seeds(self._seed, problems), GOES_ON
        contexts = [self._codec.context(self.task.context(problem, ())) for problem in problems]
        lines["start"] = self._trie.prefill(contexts)
        tokens = np.zeros((len(problems), self._tokens.shape[1]), np.int32)
        self._problems.extend(problems)
        return self._append(lines, self._judge.roots(problems), tokens)

    def slots(self, handles: np.ndarray) -> np.ndarray:
        _check(handles, bool((self._lines["code"][handles] != GOES_ON).any()))
        fresh = handles[self._lines["slot"][handles] == NO_SLOT]
        if len(fresh):
            lines = self._lines[fresh]
            self._lines["slot"][fresh] = self._sampler.open(lines["start"], lines["seed"])
        return self._lines["slot"][handles]

    def enter(self, handles: np.ndarray, drawn: DrawnSteps) -> Entered:
        lines = np.zeros(len(drawn.lengths), _LINE)
        parents = np.repeat(handles, np.diff(drawn.offsets))
        lines["parent"], lines["tree"] = parents, self._lines["tree"][parents]
        lines["length"], lines["finished"] = drawn.lengths, drawn.finished
        seeds = self._lines["seed"][parents]
        kernels.seeds_after(seeds, drawn.tokens, drawn.lengths)
        lines["seed"] = seeds
        lines["code"], after = self._judge.judge(self._states[parents], drawn.tokens, drawn.lengths)
        lines["code"][~drawn.finished] = ILLEGAL
        on = np.flatnonzero(lines["code"] == GOES_ON)
        ends = drawn.tokens[on, drawn.lengths[on] - 1]
        lines["start"][on] = self._trie.extend(drawn.parent_nodes[on], ends)
        return self._append(lines, after, drawn.tokens)

    def _append(self, lines: np.ndarray, states: np.ndarray, tokens: np.ndarray) -> Entered:
        first, last = self._count, self._count + len(lines)
        alive = lines["code"] == GOES_ON
        mixed = kernels.mixed(self._judge.keys(states), lines["tree"])
        lines["key"] = np.where(alive, mixed, NO_KEY)
        lines["slot"] = NO_SLOT
        self._lines, self._states, self._tokens = (
            grown(array, first, len(lines)) for array in (self._lines, self._states, self._tokens)
        )
        self._lines[first:last], self._states[first:last], self._tokens[first:last] = lines, states, tokens
        self._count = last
        rewards = (lines["code"] == SOLVED).astype(np.float32)
        values = np.where(alive, self._trie.values[lines["start"]], rewards)
        return Entered(np.arange(first, last), lines["key"], values, rewards, ~alive, lines["code"] != ILLEGAL)

    # ---- text, when it is asked for

    def parent(self, handle: int) -> int:
        return int(self._lines["parent"][handle])

    def tree(self, handle: int) -> int:
        return int(self._lines["tree"][handle])

    def step(self, handle: int) -> Step:
        length = int(self._lines["length"][handle])
        if not length:
            return Step("")
        tokens = self._tokens[handle, :length].tolist()
        return Step(self._codec.step(tokens, bool(self._lines["finished"][handle])), tuple(tokens))

    def history(self, handle: int) -> list[Step]:
        steps = []
        while self._lines["length"][handle]:
            steps.append(self.step(handle))
            handle = self.parent(handle)
        return steps[::-1]

    def steps(self, handle: int) -> list[str]:
        return [step.text for step in self.history(handle)]

    def state(self, handle: int) -> tuple | None:
        if self._lines["code"][handle] != GOES_ON:
            return None
        return self._judge.state(self._states[handle])

    def verdict(self, handle: int) -> Verdict:
        if not self._lines["length"][handle]:
            return NO_STEP
        before, problem = self.parent(handle), self._problems[self.tree(handle)]
        state = State(problem, (), self.state(before), NO_STEP, 0)
        return next_state(self.task, state, self.step(handle).text, bool(self._lines["finished"][handle])).verdict

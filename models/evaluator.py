"""The evaluator behind a search: distinct candidate steps with their values from one token trie, a wave at a time.

Generation follows two laws: no token is sampled twice at a state, and no prefix is computed twice (`models.trie`). The value
of a candidate is read at the newline that ends it (or at the end of the context, where a task shows only the present
state), which is also where its own next step starts. Illegal and terminal candidates need no forward: they are worth
their reward.

Only `task.advance`, `state_key` and `context` judge and show a step, so a gold answer cannot be reached from here. A task
that does not verify itself scores final answers after the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcts.types import NO_KEY, Draw, Expansion, Roots
from models.codec import codec_of
from models.lineage import Lineage, digest
from models.sampling import DrawnSteps, StepSampler
from models.states import State, next_state, place, root_states
from models.trie import TokenTrie
from models.trie_forward import TrieForward, forward_for
from tasks.base import Problem, Task

_NO_SLOT = -1


@dataclass(slots=True)
class _Record:
    """What a handle stands for."""

    state: State
    tree: int  # position of the problem in `begin`
    parent: int  # handle of the state before the last step, the own one at a root
    key: int
    slot: int = _NO_SLOT  # of the sampler, once the state has been expanded


class ModelEvaluator(Lineage[_Record]):
    """Implements `mcts.types.Evaluator` for a policy-and-value LM. A handle is the index of a state record.

    `leaf_tokens` and `tokens` of an expansion count the tokens that its own tree sampled for the first time, delimiters
    included. A prefix that another tree of the batch has computed still counts: a tree's cost does not depend on its
    batch mates. What was really computed is in `trie.generated_tokens` and `trie.prefilled_tokens`.
    """

    def __init__(
        self,
        model,
        task: Task,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        forward: TrieForward | None = None,
        kv_bytes: int | None = None,
    ):
        """`model`: a `PolicyValueLM`; its weights are taken anew at each `begin`.

        `temperature` shapes what is sampled; log-probabilities stay those of the policy at temperature 1.
        `forward`: another way to compute trie nodes, e.g. an exact table; `model` is then asked for its codec only.
        `kv_bytes`: budget of keys and values, see `models.trie`.
        """
        self.task = task
        self.seed = seed
        self._codec = codec = codec_of(model, task)
        forward = forward or forward_for(model, codec.vocabulary_size, codec.masked)
        self.trie = TokenTrie(forward, kv_bytes=kv_bytes)
        self._sampler = StepSampler(
            self.trie, max_step_tokens=codec.max_step_tokens, temperature=temperature, ends=codec.ends
        )
        self._records: list[_Record] = []
        self._depths: dict[int, int] = {}  # fewest steps known to lead to the state of a key
        self.generated_tokens = 0  # sampled since the evaluator was made; the sum of all `leaf_tokens`

    @property
    def prefilled_tokens(self) -> int:
        """Prompt and context tokens computed since the evaluator was made."""
        return self.trie.prefilled_tokens

    def begin(self, problems: Sequence[Problem]) -> Roots:
        """Open one tree a problem; forget what an earlier `begin` opened. Prompts are one forward.

        Raises:
            TrieError: a prompt does not fit the model's positions.
        """
        self.trie.clear()
        self._sampler.clear()
        self._depths.clear()
        states = root_states(self.trie, self.task, self._codec, problems)
        self._records = [_Record(state, i, i, self._key(i, state)) for i, state in enumerate(states)]
        self._depths.update((record.key, 0) for record in self._records if record.key != NO_KEY)
        return Roots(
            handles=np.arange(len(states)),
            keys=np.array([record.key for record in self._records], np.uint64),
            raw_values=self.trie.values[[state.start for state in states]],
        )

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        """Up to `n_candidates` unseen steps at each of `handles` (int64 [L], distinct). One wave = one call.

        Raises:
            ValueError: a handle of a terminal state, or one twice.
            TrieError: a path does not fit the model's positions.
        """
        leaves = [self._records[handle] for handle in handles]
        if len(set(map(int, handles))) < len(leaves) or any(leaf.state.inner is None for leaf in leaves):
            raise ValueError("handles of one wave must be distinct and not terminal")
        drawn = self._sampler.draw(self._slots(leaves), n_candidates, draw)
        self.generated_tokens += int(drawn.leaf_tokens.sum())
        children = self._children(handles, leaves, drawn)
        alive = np.array([child.state.inner is not None for child in children], np.bool_)
        verdicts = [child.state.verdict for child in children]
        values = np.array([verdict.reward for verdict in verdicts], np.float32)
        values[alive] = self.trie.values[[child.state.start for child in children if child.state.inner is not None]]
        first = len(self._records)
        self._records += children
        return Expansion(
            offsets=drawn.offsets,
            handles=np.arange(first, first + len(children)),
            keys=np.array([child.key for child in children], np.uint64),
            logprobs=drawn.logprobs.astype(np.float32),
            raw_values=values,
            rewards=np.array([verdict.reward for verdict in verdicts], np.float32),
            terminal=~alive,
            legal=np.array([verdict.legal for verdict in verdicts], np.bool_),
            tokens=drawn.new_tokens,
            leaf_tokens=drawn.leaf_tokens,
            unseen_logmass=drawn.unseen_logmass.astype(np.float32),
            best_unseen_logprob=drawn.best_unseen_logprob.astype(np.float32),
        )

    # ---- inside

    def _children(self, handles: np.ndarray, leaves: list[_Record], drawn: DrawnSteps) -> list[_Record]:
        """Judge the steps drawn and give those that go on their place in the trie."""
        lengths, finished = drawn.lengths.tolist(), drawn.finished.tolist()
        children: list[_Record] = []
        for leaf, handle, first, last in zip(
            leaves, handles.tolist(), drawn.offsets[:-1].tolist(), drawn.offsets[1:].tolist(), strict=True
        ):
            leaf.state.depth = min(leaf.state.depth, self._depths.get(leaf.key, leaf.state.depth))
            for row, tokens in enumerate(drawn.tokens[first:last].tolist(), start=first):
                text = self._codec.step(tokens[: lengths[row]], finished[row])
                state = next_state(self.task, leaf.state, text, finished[row])
                child = _Record(state, leaf.tree, handle, self._key(leaf.tree, state))
                if child.key != NO_KEY:
                    self._depths[child.key] = min(state.depth, self._depths.get(child.key, state.depth))
                children.append(child)
        alive = [i for i, child in enumerate(children) if child.state.inner is not None]
        parents = [self._records[children[i].parent].state for i in alive]
        ends = drawn.tokens[alive, drawn.lengths[alive] - 1]
        states = [children[i].state for i in alive]
        place(self.trie, self.task, self._codec, parents, states, drawn.parent_nodes[alive], ends)
        return children

    def _slots(self, leaves: list[_Record]) -> np.ndarray:
        fresh = [leaf for leaf in leaves if leaf.slot == _NO_SLOT]
        if fresh:
            seeds = np.array([self._noise_seed(leaf.state) for leaf in fresh], np.uint64)
            starts = np.array([leaf.state.start for leaf in fresh], np.int32)
            for leaf, slot in zip(fresh, self._sampler.open(starts, seeds).tolist(), strict=True):
                leaf.slot = slot
        return np.array([leaf.slot for leaf in leaves], np.int32)

    def _noise_seed(self, state: State) -> int:
        return digest(f"{self.seed}\0{state.problem.id}\0{''.join(state.steps)}".encode())

"""The evaluator behind a search: distinct candidate steps with their values from one token trie, a wave at a time.

Generation follows two laws: no token is sampled twice at a state, and no prefix is computed twice (`models.trie.trie`). The
value of a candidate is read at the newline that ends it (or at the end of the context, where a task shows only the present
state), which is also where its own next step starts. Illegal and terminal candidates need no forward: they are worth
their reward.

Only the task (`advance` or its compiled judge, `state_key`, `context`) judges and shows a step, so a gold answer cannot be
reached from here. A task that does not verify itself scores final answers after the search.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcts.types import Draw, Expansion, Roots
from models.abilities import Step
from models.forward.choose import forward_for
from models.steps.books import book_for
from models.steps.codec import codec_of
from models.trie.batch import TrieForward
from models.trie.sampling import StepSampler
from models.trie.trie import TokenTrie
from tasks.base import Problem, Task, Verdict


class ModelEvaluator:
    """Implements `mcts.types.Evaluator` for a policy-and-value LM. A handle is a state in its book (`models.steps.books`).

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
        most: int | None = None,
        forward: TrieForward | None = None,
        kv_bytes: int | None = None,
        trie: TokenTrie | None = None,
    ):
        """`model`: a `PolicyValueLM`; its weights are taken anew at each `begin`.

        `temperature` shapes what is sampled; log-probabilities stay those of the policy at temperature 1.
        `most`: tokens of a chain in free text, see `models.steps.states.root_states`.
        `forward`: another way to compute trie nodes, e.g. an exact table; `model` is then asked for its codec only.
        `kv_bytes`: budget of keys and values, see `models.trie.trie`. `trie`: a cleared one to work in, in place of both.
        """
        self.task = task
        codec = codec_of(model, task)
        self.trie = trie or TokenTrie(
            forward or forward_for(model, codec.vocabulary_size, codec.masked), kv_bytes=kv_bytes
        )
        self._sampler = StepSampler(
            self.trie, max_step_tokens=codec.max_step_tokens, temperature=temperature, ends=codec.ends
        )
        self._book = book_for(task, codec, self.trie, self._sampler, seed, most)
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
        self._book.clear()
        return self.join(problems)

    def join(self, problems: Sequence[Problem]) -> Roots:
        """Open more trees behind those that are open, whose positions go on; nothing is forgotten.

        Raises:
            TrieError: a prompt does not fit the model's positions. The trees that are open stay.
        """
        roots = self._book.open(problems)
        return Roots(handles=roots.handles, keys=roots.keys, raw_values=roots.values)

    def expand(self, handles: np.ndarray, n_candidates: int, draw: Draw = "sample") -> Expansion:
        """Up to `n_candidates` unseen steps at each of `handles` (int64 [L], distinct). One wave = one call.

        Raises:
            ValueError: a handle of a terminal state, or one twice.
            TrieError: a path does not fit the model's positions.
        """
        drawn = self._sampler.draw(self._book.slots(handles), n_candidates, draw)
        self.generated_tokens += int(drawn.leaf_tokens.sum())
        children = self._book.enter(handles, drawn)
        return Expansion(
            offsets=drawn.offsets,
            handles=children.handles,
            keys=children.keys,
            logprobs=drawn.logprobs.astype(np.float32),
            raw_values=children.values,
            rewards=children.rewards,
            terminal=children.terminal,
            legal=children.legal,
            tokens=drawn.new_tokens,
            leaf_tokens=drawn.leaf_tokens,
            unseen_logmass=drawn.unseen_logmass.astype(np.float32),
            best_unseen_logprob=drawn.best_unseen_logprob.astype(np.float32),
        )

    def parent(self, handle: int) -> int:
        """Handle of the state before the last step; a root is its own parent."""
        return self._book.parent(handle)

    def tree(self, handle: int) -> int:
        """Position in `begin` of the problem that the state belongs to."""
        return self._book.tree(handle)

    def step(self, handle: int) -> Step:
        """The last step; without text and tokens at a root."""
        return self._book.step(handle)

    def history(self, handle: int) -> list[Step]:
        """All steps from the root."""
        return self._book.history(handle)

    def steps(self, handle: int) -> list[str]:
        """Their texts."""
        return self._book.steps(handle)

    def state(self, handle: int) -> tuple | None:
        """The task's own state; None when terminal."""
        return self._book.state(handle)

    def verdict(self, handle: int) -> Verdict:
        """What the task said of the last step."""
        return self._book.verdict(handle)

"""A policy in this process: a policy-and-value LM, its codec, and the forward that computes its trie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from models.abilities import Abilities, Alone, PolicyError, Rollout
from models.files.digests import weights_hash
from models.files.manifest import CheckpointError
from models.forward.choose import forward_for, is_plain_llama
from models.steps.codec import Codec, codec_of
from models.steps.evaluator import ModelEvaluator
from models.steps.rollout import rollouts
from models.steps.stream_decoder import StreamWave, streams_at_once
from models.steps.stream_types import Planted, Rules, Stream
from models.steps.stream_words import StreamWords
from models.trie.batch import TrieForward
from models.trie.continuing import Continuations
from models.trie.pool import TriePool
from tasks.base import Problem, Task


class LocalPolicy:
    """Implements `models.policy.Policy` for a `PolicyValueLM`, or for a small Llama that was read without transformers.

    It holds no copy of the weights: evaluators and chains take them as they are when they begin.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str = "",
        version: str | None = None,
        token_ids: Mapping[str, int] | None = None,
        tokenizer: Any = None,
        quick: bool = False,
        forward: TrieForward | None = None,
    ):
        """`model`: a `PolicyValueLM`, or `models.files.bare_llama.PlainPolicy` for generating alone.

        `version`: what its weights are called; None: their hash, taken when it is first asked for.
        `token_ids`: of the words that it was trained on, where a token is a word; None: not checked.
        `tokenizer`: what is saved beside the model.
        `quick`: a net trained from scratch multiplies in bfloat16 where the CPU does so natively; others as they are loaded.
        `forward`: another way to compute trie nodes, e.g. an exact table; `model` may then be None.
        """
        self.model, self.name, self.tokenizer = model, name, tokenizer
        self._version, self._token_ids, self._quick = version, token_ids, quick
        self._given = TriePool(forward) if forward is not None else None
        self._pools: dict[tuple, TriePool] = {}

    @cached_property
    def can(self) -> Abilities:
        """All there is. Block kernels of small nets sum a row in one order; torch rounds by the number of rows."""
        trunk = getattr(self.model, "trunk", None)
        if trunk is None or (self.in_words and is_plain_llama(trunk)):
            alone: Alone = "bits"
        else:
            kept = getattr(self.model, "inference_dtype", None) or trunk.get_input_embeddings().weight.dtype
            alone = "usually" if kept == torch.float32 else "no"
        return Abilities(
            values=True, token_ids=True, logprobs=True, without_replacement=True, streams=True, alone=alone
        )

    @property
    def in_words(self) -> bool:
        """A token is a word of the task: a net trained from scratch on it."""
        return getattr(self.model, "tokenizer", None) is None

    @property
    def version(self) -> str:
        """Which weights propose: what a trace says of its policy."""
        return self._version or weights_hash(self.model)

    @cached_property
    def flops_per_token(self) -> float | None:
        """2 N of a forward, N the weights that multiply (Kaplan et al. 2020, section 2.1): all but the input embedding.

        Attention's share, 2 x layers x context x width, is left out: below a tenth for contexts shorter than a model is wide.
        """
        trunk = self.model.trunk
        table = trunk.get_input_embeddings().weight
        tied = trunk.get_output_embeddings().weight is table
        weights = sum(parameter.numel() for parameter in self.model.parameters()) - (0 if tied else table.numel())
        return 2.0 * weights

    def check(self, task: Task) -> None:
        """Refuse a task that the policy does not read.

        Raises:
            CheckpointError: its tokens are the words of another task.
        """
        if self._token_ids is not None and self._token_ids != task.token_ids:
            raise CheckpointError(
                f"{self.name}: its tokens are not those of task {task.name} with these options; leave them out"
            )

    def lacks(self, task: Task) -> tuple[str, ...]:
        """Words of the task's streams that the net was never given, where it knows all others; see `models.net.widening`."""
        plain = len(task.vocabulary) - len(task.stream_words)
        return task.stream_words if self._token_ids == {w: i for i, w in enumerate(task.vocabulary[:plain])} else ()

    def codec(self, task: Task) -> Codec:
        """How the policy reads and writes `task`."""
        return codec_of(self.model, task)

    def evaluator(
        self,
        task: Task,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        most: int | None = None,
        kv_bytes: int | None = None,
    ) -> ModelEvaluator:
        """Steps for a search. `temperature` shapes what is drawn; `most`: tokens of a chain in free text; `kv_bytes`: bytes of
        keys and values.
        """
        pool = self._pool(task)
        trie = pool.take(kv_bytes)
        evaluator = ModelEvaluator(self.model, task, temperature=temperature, seed=seed, most=most, trie=trie)
        pool.lend(trie, evaluator)
        return evaluator

    def chains(
        self,
        task: Task,
        problems: Sequence[Problem],
        n: int = 1,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        no_reentry: bool = False,
        first: Sequence[int] | None = None,
        most: int | None = None,
        on_prefill: Callable[[int], None] | None = None,
    ) -> list[list[Rollout]]:
        """Whole chains, see `models.steps.rollout.rollouts`."""
        with self._pool(task).lent() as trie:
            return rollouts(
                self.model, task, problems, n, temperature=temperature, seed=seed, no_reentry=no_reentry,
                trie=trie, first=first, most=most, on_prefill=on_prefill,
            )  # fmt: skip

    def streams(
        self,
        task: Task,
        problems: Sequence[Problem],
        effort: int,
        rules: Rules | None = None,
        *,
        seed: int = 0,
        first: Sequence[int] | None = None,
        planted: Sequence[Planted] | None = None,
        on_prefill: Callable[[int], None] | None = None,
    ) -> list[Stream]:
        """One stream of each problem, see `models.steps.stream_decoder`.

        `effort`: a number of `EFFORTS`; 0: plain chains, which enter no state twice where steps can be undone.

        Raises:
            PolicyError: the net has no stream words.
        """
        rules = rules or Rules()
        if effort:
            words, made = StreamWords.of(task, self.codec(task)), []
            samples = [0] * len(problems) if first is None else first
            begun = [Planted()] * len(problems) if planted is None else planted
            jobs, at_once = list(zip(problems, samples, begun, strict=True)), streams_at_once(words)
            with self._pool(task, (words.vocabulary_size, words.masked)).lent() as trie:
                for start in range(0, len(jobs), at_once):
                    wave = StreamWave(trie, words, effort, rules, seed)
                    wave.join(jobs[start : start + at_once])
                    made += wave.played()
                if on_prefill is not None:
                    on_prefill(trie.prefilled_tokens)
            return made
        form = task.stream
        if form is None:
            raise PolicyError(f"task {task.name} says not what a stream of it needs: use another strategy than think")
        chains = self.chains(
            task, problems, temperature=rules.temperature, seed=seed, no_reentry=task.reversible, first=first,
            on_prefill=on_prefill,
        )  # fmt: skip
        return [Stream.of_steps(chain.history, form) for (chain,) in chains]

    def stream_wave(self, task: Task, effort: int, rules: Rules, *, seed: int = 0) -> StreamWave:
        """Streams of an effort of 1 or more that problems may join while they go on.

        Raises:
            PolicyError: the net has no stream words.
        """
        words = StreamWords.of(task, self.codec(task))
        pool = self._pool(task, (words.vocabulary_size, words.masked))
        trie = pool.take()
        wave = StreamWave(trie, words, effort, rules, seed)
        pool.lend(trie, wave)
        return wave

    def continuations(self, task: Task) -> Continuations:
        """Plain text in the policy's own tokens, see `models.trie.continuing`; those that close a text may be sampled, too."""
        codec, tokenizer = self.codec(task), getattr(self.model, "tokenizer", None)
        if tokenizer is None:
            pool, encode, decode, end = self._pool(task), codec.context, task.decode, None
        else:
            pool, end = self._pool(task, (codec.vocabulary_size, ())), tokenizer.eos_token_id

            def encode(text: str) -> list[int]:
                return tokenizer(text).input_ids

            def decode(tokens: Sequence[int]) -> str:
                return tokenizer.decode(list(tokens))

        trie = pool.take()
        made = Continuations(trie, encode=encode, decode=decode, ends=frozenset(() if end is None else (end,)))
        pool.lend(trie, made)
        return made

    def _pool(self, task: Task, key: tuple[int, tuple[int, ...]] | None = None) -> TriePool:
        """Tries for plain chains, or for tokens of another `key`: vocabulary size, and what is never sampled."""
        if self._given is not None:
            return self._given
        codec = self.codec(task)
        key = key or (codec.vocabulary_size, codec.masked)
        if key not in self._pools:
            own = self._quick and self.in_words and is_plain_llama(self.model.trunk)
            settings = {"autocast": torch.bfloat16} if own else {}
            longest = codec.max_context_tokens + codec.max_step_tokens
            self._pools[key] = TriePool(forward_for(self.model, *key, longest=longest, **settings))
        return self._pools[key]

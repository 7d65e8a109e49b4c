"""Plain text over a trie: prompts that are continued a token at a time, many together, in the policy's own tokens.

Nothing of a task is in it, neither steps nor verdicts. What is sampled is the policy at a temperature; of a language model
the few hundred most probable tokens, which are all that a row keeps. Noise is keyed by (seed, prompt, position), so that a text
depends on no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from models.trie.trie import TokenTrie, TrieError


@dataclass(slots=True)
class Continued:
    """One prompt and what has been written behind it."""

    node: int  # of the last token that was read
    temperature: float
    key: int  # of its noise
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # log pi of each, at temperature 1
    best: list[list[tuple[int, float]]] = field(
        default_factory=list
    )  # (token, log pi) of the most probable at each place
    top: int = 0  # how many of those are kept
    unread: bool = False  # the last token was sampled and not read yet


class Continuations:
    """Texts that are written together. `encode` and `decode` are the policy's."""

    def __init__(
        self,
        trie: TokenTrie,
        *,
        encode: Callable[[str], list[int]],
        decode: Callable[[Sequence[int]], str],
        ends: frozenset[int],
    ):
        """`ends`: tokens that close a text."""
        self.trie, self.encode, self.decode, self.ends = trie, encode, decode, ends

    def join(self, prompt: Sequence[int], *, temperature: float, seed: int, top: int = 0) -> Continued:
        """Read a prompt of one token or more.

        Raises:
            TrieError: it does not fit the model's positions, holds a token that the model does not have, or none at all.
        """
        size = self.trie.forward.vocabulary_size
        if not prompt or not all(0 <= token < size for token in prompt):
            raise TrieError(f"a prompt holds one token or more, each from 0 to {size - 1}")
        (node,) = self.trie.prefill([prompt]).tolist()
        told = np.array([seed, *prompt], np.uint64).tobytes()
        key = int.from_bytes(blake2b(told, digest_size=8).digest(), "little")
        return Continued(node, temperature, key, top=top)

    def turn(self, texts: Sequence[Continued]) -> None:
        """One more token of each.

        Raises:
            TrieError: one of them does not fit the model's positions.
        """
        unread = [text for text in texts if text.unread]
        if unread:
            nodes = np.array([text.node for text in unread], np.int32)
            last = np.array([text.tokens[-1] for text in unread], np.int32)
            for text, node in zip(unread, self.trie.extend(nodes, last, with_values=False).tolist(), strict=True):
                text.node, text.unread = node, False
        for text in texts:
            row = self.trie.logprobs[text.node]
            names = self.trie.choices[text.node if len(self.trie.choices) > 1 else 0]
            at = int(np.argmax(_noisy(row, text)))
            text.tokens.append(int(names[at]))
            text.logprobs.append(float(row[at]))
            if text.top:
                first = np.argsort(-row, kind="stable")[: text.top].tolist()
                text.best.append([(int(names[k]), float(row[k])) for k in first])
            text.unread = True


def _noisy(row: np.ndarray, text: Continued) -> np.ndarray:
    """float64 [W]: log-probabilities at the text's temperature with Gumbel noise, whose largest is a sample."""
    if text.temperature == 0:
        return row
    rng = np.random.Generator(np.random.Philox(key=text.key, counter=len(text.tokens)))
    return row.astype(np.float64) / text.temperature + rng.gumbel(size=len(row))

"""Tries that wait to be used again: memory that was touched once need not be zeroed and mapped anew for every call.

A small net fills a few MiB of an arena in milliseconds, of which fresh pages from the system are a sixth.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager

from models.trie.batch import TrieForward
from models.trie.trie import TokenTrie

MOST_IDLE = 2


class TriePool:
    """Idle tries of one forward. Threads may share it: none gets a trie that another one holds."""

    def __init__(self, forward: TrieForward):
        self.forward = forward
        self._idle: list[TokenTrie] = []

    def take(self, kv_bytes: int | None = None) -> TokenTrie:
        """A trie that knows nothing and has counted nothing; `kv_bytes`: see `TokenTrie`."""
        if kv_bytes is not None:
            return TokenTrie(self.forward, kv_bytes=kv_bytes)
        try:
            trie = self._idle.pop()
        except IndexError:
            return TokenTrie(self.forward)
        trie.clear()
        trie.generated_tokens = trie.prefilled_tokens = trie.recomputed_tokens = 0
        return trie

    def put_back(self, trie: TokenTrie) -> None:
        """Keep a trie that nobody uses any more, unless it has grown or was made with a budget of its own."""
        if trie.has_first_size and trie.kv.limit is None and len(self._idle) < MOST_IDLE:
            self._idle.append(trie)

    @contextmanager
    def lent(self, kv_bytes: int | None = None) -> Generator[TokenTrie]:
        """A trie within; one that an error has left half filled is not kept."""
        trie = self.take(kv_bytes)
        yield trie
        self.put_back(trie)

    def lend(self, trie: TokenTrie, owner: object) -> None:
        """Take `trie` back when `owner` is gone."""
        weakref.finalize(owner, self.put_back, trie).atexit = False

"""Memory for records that are reached at random."""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading

import numpy as np

_HUGE_PAGE = 1 << 21
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, which Python has no name for
_KEPT = 1 << 26  # bytes of dropped memory that wait to be used again
_dropped: list[mmap.mmap] = []
_lock = threading.RLock()  # a collection inside a critical section may drop more


class Pages:
    """`words`: int32 [length] in huge pages, where the system has them: a tenth of the address misses of small ones.

    They hold anything at first. Dropped memory is used again: most of a short search's time would go into clean pages. So let
    no view of `words` outlive its `Pages`. touch: have the system find all pages now, not one by one as they are written.
    """

    def __init__(self, length: int, *, touch: bool = False):
        size = (-(-4 * length // _HUGE_PAGE) + 1) * _HUGE_PAGE
        self._memory = _take(size) or _map(size, touch)
        whole = np.frombuffer(self._memory, np.int32)
        skip = (-whole.ctypes.data % _HUGE_PAGE) // 4
        self.words = whole[skip : skip + length]

    def __del__(self) -> None:
        if not hasattr(self, "_memory"):
            return
        with _lock:
            if sum(map(len, _dropped)) + len(self._memory) <= _KEPT:
                _dropped.append(self._memory)


def _take(size: int) -> mmap.mmap | None:
    """The smallest of the dropped pieces that is large enough and not four times too large."""
    with _lock:
        fitting = [piece for piece in _dropped if size <= len(piece) <= 4 * size]
        if not fitting:
            return None
        best = min(fitting, key=len)
        _dropped.remove(best)
        return best


def _map(size: int, touch: bool) -> mmap.mmap:
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, size, **private)  # shared memory, the default, has small pages
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    if touch and sys.platform == "linux":
        with contextlib.suppress(OSError):  # before Linux 5.14
            memory.madvise(_POPULATE_WRITE)
    return memory

"""Memory for records that are reached at random."""

from __future__ import annotations

import mmap

import numpy as np

_HUGE_PAGE = 1 << 21


def huge_pages(words: int) -> np.ndarray:
    """int32 [words] of zeros in huge pages, where the system has them: a tenth of the address misses of small ones."""
    size = -(-4 * words // _HUGE_PAGE) * _HUGE_PAGE
    memory = mmap.mmap(-1, size + _HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, np.int32)
    skip = (-array.ctypes.data % _HUGE_PAGE) // 4
    return array[skip : skip + words]

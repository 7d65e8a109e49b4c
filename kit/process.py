"""A process among others: the cores it may use, the parent it ends with, the memory it keeps. Light: no library is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pkgutil import resolve_name
from types import FunctionType
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGE = 32 << 20  # bytes; the most that glibc allows


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with(parent: int) -> None:
    """End this process, at once or later, when `parent`, which started it, has ended. Later: on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def name_of(function: FunctionType) -> str:
    """`module:function`, as `begun` takes it."""
    return f"{function.__module__}:{function.__qualname__}"


def begun(parent: int, name: str, *args: Any) -> Any:
    """What a new process is to run, so that it ends with `parent` from its first moment: then `name`'s function of `args`.

    A function given itself is imported before it can say so, which takes seconds where it stands among libraries; a `parent`
    killed meanwhile would leave the process behind.
    """
    end_with(parent)
    return resolve_name(name)(*args)


def keep_memory() -> None:
    """Have freed memory stay with the process, where its C library is glibc, but for single blocks of 32 MiB and more.

    A program that takes and frees the same few hundred MiB again and again would else have them zeroed and mapped anew, page
    by page, every time. Larger blocks go back: kept, they are split, and what is left between the parts is never whole again.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


class Spare:
    """Freed pages of this process, given back to the system now and then.

    Kept, they stand at what the largest iteration of all needed at its worst moment, and a longer run has a larger one.
    """

    def __init__(self, every: float = 10.0):
        """`every`: seconds between two times, at least."""
        self._every, self._next = every, 0.0

    def give_back(self) -> None:
        """Where the C library is glibc, and the last time is long enough ago."""
        if (libc := _glibc()) is not None and time.monotonic() >= self._next:
            libc.malloc_trim(0)
            self._next = time.monotonic() + self._every


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if libc is not None and hasattr(libc, "gnu_get_libc_version") else None

"""Scorers that do what foreign code does at its worst, for `bench.judges.run`. Called in judge workers only."""

from __future__ import annotations

import contextlib
import os
import signal
import time


def same(gold: str, answer: str) -> bool:
    """A scorer that behaves."""
    return gold == answer


def work(seconds: float) -> bool:
    """A scorer that behaves and takes a while, without a processor."""
    time.sleep(seconds)
    return True


def swallow_alarms() -> None:
    """Arms an alarm of its own and swallows whatever comes."""

    def ring(*_) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


def loop_in_c() -> bool:
    """One operation that never ends."""
    return 9**9**9 > 0


def take_memory() -> int:
    """2 GB at once."""
    return len(bytearray(2 << 30))


def fork_bomb() -> None:
    """Processes without end."""
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def leave() -> None:
    """Ends its process."""
    os._exit(7)

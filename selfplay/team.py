"""Workers: the same program in one process a core, with gradients summed between them.

Every rank runs the same loop on its own share of problems and rows (single program, multiple data), so generation,
verification and training all scale with cores, and nothing waits for an interpreter lock. Sums over ranks are the only
thing exchanged; they are the same bits on every rank, so the ranks' weights never drift apart. Actors and learner take
turns rather than overlap: both cores are busy in either (docs/results/loop.md), so overlap has little left to win.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pkgutil import resolve_name
from threading import Event, Thread
from types import FunctionType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kit.command import OURS
from kit.process import begun, keep_memory, name_of
from models.device import within_memory

LOOPBACK = "127.0.0.1"
GRACE = 10.0  # seconds in which a leader should have noticed by itself that a worker was killed
PATIENCE = timedelta(minutes=30)  # of a rank that waits for the others
SMALLER = (
    "lower learner.chunk_tokens, learner.tokens or workers, set model.dtype=bfloat16 or learner.checkpointing=true"
)


class TeamError(RuntimeError):
    """A worker failed, and the run with it. The message is one line: the worker's own."""


@dataclass(frozen=True)
class Team:
    """This process among its peers. Rank 0 leads: it writes, shows and decides."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place; the same bits everywhere."""
        if self.size > 1:
            here = tensor.cpu()  # gloo's ranks meet on the CPU
            dist.all_reduce(here)
            tensor.copy_(here)
        return tensor

    def gather(self, item: Any) -> list[Any]:
        """`item` of every rank, by rank, on every rank."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def lead(self, item: Any) -> Any:
        """Rank 0's item, on every rank."""
        if self.size == 1:
            return item
        box = [item]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, items: list) -> list:
        """This rank's part of a list that every rank holds."""
        return items[self.rank :: self.size]

    def weave(self, items: list) -> list:
        """Inverse of `share`: every rank's part, back in the common order, on every rank."""
        parts = self.gather(items)
        woven = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            woven[rank :: self.size] = part
        return woven


def run_as_team(size: int, body: FunctionType, *args: Any) -> Any:
    """Run `body(team, *args)` in `size` processes; return rank 0's result.

    Rank 0 is this process, so its errors surface here. The others end with it, even if it is killed.
    """
    prepare_process()
    if size == 1:
        with within_memory(SMALLER):
            return body(Team(), *args)
    store = dist.TCPStore(
        LOOPBACK, 0, size, is_master=True, wait_for_workers=False, timeout=PATIENCE
    )  # no file is left
    context = mp.get_context("spawn")
    peers = [
        context.Process(
            target=begun, args=(os.getpid(), name_of(_peer), rank, size, store.port, name_of(body), args), daemon=True
        )
        for rank in range(1, size)
    ]
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # peers inherit it: Ctrl-C is the leader's alone
    try:
        for peer in peers:
            peer.start()
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    over = Event()
    Thread(target=_watch, args=(peers, over), daemon=True).start()
    try:
        _join(0, size, store)
        with within_memory(SMALLER):
            result = body(Team(0, size), *args)
        for peer in peers:
            peer.join()
        return result
    except RuntimeError as error:
        if _of_the_meeting(error) and (why := _why(store, peers)):
            raise TeamError(why) from error
        raise
    finally:
        over.set()
        for peer in peers:
            peer.kill()
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(rank: int, size: int, store: dist.TCPStore) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)


def _peer(rank: int, size: int, port: int, body: str, args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the leader's to handle
    prepare_process()
    store = dist.TCPStore(LOOPBACK, port, size, is_master=False, timeout=PATIENCE)
    _join(rank, size, store)
    try:
        with within_memory(SMALLER):
            resolve_name(body)(Team(rank, size), *args)
    except Exception as error:  # noqa: BLE001 (whatever it is, the leader tells it)
        if not _of_the_meeting(error):
            if not isinstance(error, OSError) and not type(error).__module__.startswith(OURS):
                traceback.print_exc()  # a defect of the program, not a refusal
            store.set(f"failed-{rank}", " ".join(str(error).split()) or type(error).__name__)
        os._exit(1)
    dist.destroy_process_group()


def _why(store: dist.TCPStore, peers: Sequence[BaseProcess]) -> str | None:
    """What ended a worker: its own words, or the signal that killed it; None: nobody knows."""
    for rank, peer in enumerate(peers, start=1):
        if store.check([f"failed-{rank}"]):
            return f"worker {rank}: {store.get(f'failed-{rank}').decode()}"
        peer.join(1.0)
    return _killed(peers)


def _killed(peers: Sequence[BaseProcess]) -> str | None:
    """Which worker a signal has ended; None: none."""
    for rank, peer in enumerate(peers, start=1):
        if (code := peer.exitcode) is not None and code < 0:
            return (
                f"worker {rank} was killed ({signal.Signals(-code).name}), perhaps for want of memory: resume the run, or take "
                "fewer workers"
            )
    return None


def _watch(peers: Sequence[BaseProcess], over: Event) -> None:
    """End a leader that waits for a worker who is dead: before they have met, nothing tells it."""
    while not over.is_set():
        wait([peer.sentinel for peer in peers], timeout=5.0)
        if (why := _killed(peers)) and not over.wait(GRACE):
            sys.stderr.write(f"error: {why}\n")
            for peer in peers:
                peer.kill()
            os._exit(2)
        over.wait(0.2)


def _of_the_meeting(error: Exception) -> bool:
    """Whether a collective failed because another rank is gone; the reason is that rank's to tell."""
    return type(error).__module__.startswith(("builtins", "torch")) and "gloo" in str(error).lower()


def prepare_process() -> None:
    """Set one thread for torch, and freed memory that stays: giving it back takes a sixth of acting's time with a small net."""
    torch.set_num_threads(1)
    keep_memory()


class CpuClock:
    """CPU-seconds of all ranks together, with pauses left out."""

    def __init__(self, team: Team, spent: float = 0.0):
        self._team, self._spent, self._start = team, spent, time.process_time()

    def read(self) -> float:
        """CPU-seconds so far, summed over ranks. Collective: every rank must call it."""
        mine = torch.tensor([time.process_time() - self._start], dtype=torch.float64)
        return self._spent + float(self._team.sum_(mine))

"""Foreign scorers in processes that can be killed: whatever a text makes of one, the caller gets an outcome in time.

Libraries that score answers run them as code, loop in C, swallow alarms, take all memory. So they run in workers that have
been confined (`confine.py`), each with a hard deadline: a worker that is late or dead is killed by SIGKILL and replaced. Jobs
and verdicts cross as JSON lines, never as pickles. *Timeout* and *crash* are outcomes of their own, not "wrong".

    with JudgePool({"verify": "tasks.foreign_math:verify"}) as pool:
        outcomes = pool.judge([Job("verify", {"gold": "1/2", "answer": "0.5"})])
"""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from .judge_process import ROOT, Job, JudgeProcess, Outcome, StartError


class PoolError(RuntimeError):
    """The pool is closed, or belongs to another process."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker of a pool may take."""

    deadline_s: float = 5.0  # a job
    start_s: float = 60.0  # a start, imports included
    memory_mb: int = 512  # resident or private, imports included
    jobs: int | None = None  # before the worker is replaced; 1: no job can prepare the ground for the next

    def __post_init__(self):
        if self.deadline_s <= 0 or self.start_s <= 0 or self.memory_mb < 1 or (self.jobs is not None and self.jobs < 1):
            raise ValueError(f"{self}: every limit of a judge pool is above 0")


class JudgePool:
    """`workers` confined processes that share one queue of jobs. Thread-safe; processes start at the first job.

    `scorers`: name -> "module:function", the only functions that can be called; every worker imports them when it starts.
    `pending`: jobs that wait before `submit` blocks. `path`: folders of the workers' imports besides this project's.
    """

    def __init__(
        self,
        scorers: Mapping[str, str],
        *,
        workers: int = 2,
        limits: Limits | None = None,
        pending: int = 1024,
        path: Iterable[str | Path] = (),
    ):
        if workers < 1 or pending < 1:
            raise ValueError("a judge pool needs at least one worker and one place in its queue")
        self.scorers, self.limits = dict(scorers), limits or Limits()
        self.import_path = os.pathsep.join(map(str, (ROOT, *path)))
        self._places, self._lock, self._owner = threading.Semaphore(pending), threading.Lock(), os.getpid()
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Outcome]] | None] = queue.SimpleQueue()
        self._slots = [_Slot(self, k) for k in range(workers)]
        self._folder = ""
        self.closed = False

    def judge(self, jobs: Iterable[Job]) -> list[Outcome]:
        """Outcomes in the order of `jobs`, whatever a job does.

        Raises:
            PoolError: see `submit`.
        """
        return [future.result() for future in [self.submit(job) for job in jobs]]

    def submit(self, job: Job) -> Future[Outcome]:
        """The job's outcome, later; blocks while the queue is full.

        Raises:
            PoolError: the pool is closed, or was made before a fork.
        """
        if os.getpid() != self._owner:
            raise PoolError("this judge pool belongs to another process: make one after the fork")
        future: Future[Outcome] = Future()
        if job.scorer not in self.scorers:
            future.set_result(Outcome("refused", detail=f"no scorer {job.scorer!a} here: {', '.join(self.scorers)}"))
            return future
        self._places.acquire()
        with self._lock:
            if self.closed:
                self._places.release()
                raise PoolError("the judge pool is closed")
            self._start()
            self._jobs.put((job, future))
        return future

    def pids(self) -> list[int]:
        """Of the workers that live now."""
        return [worker.pid for slot in self._slots if (worker := slot.worker) is not None]

    @property
    def starts(self) -> int:
        """Workers started so far, replacements included."""
        return sum(slot.starts for slot in self._slots)

    @property
    def confinement(self) -> str:
        """What holds the workers: "seccomp" or "hook", "" before the first has started."""
        return next((slot.confinement for slot in self._slots if slot.confinement), "")

    def close(self) -> None:
        """Kill every worker; jobs without an outcome are given back as crashed. Idempotent."""
        with self._lock:
            if self.closed or os.getpid() != self._owner:
                return
            self.closed = True
        for _ in self._slots:
            self._jobs.put(None)  # whoever takes it
        for slot in self._slots:
            slot.end()
        while not self._jobs.empty():
            if (waiting := self._jobs.get()) is not None:
                self._done(waiting[1], Outcome("crash", detail="the pool was closed"))
        if self._folder:
            self._sweep()

    def __enter__(self) -> JudgePool:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _start(self) -> None:
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix="judges-")
            self._sweep = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # at exit, too
            for slot in self._slots:
                slot.start()

    def _done(self, future: Future[Outcome], outcome: Outcome) -> None:
        self._places.release()
        if future.set_running_or_notify_cancel():
            future.set_result(outcome)


class _Slot(threading.Thread):
    """A place for one worker after the other. The kernel kills a worker when the thread that started it ends."""

    def __init__(self, pool: JudgePool, number: int):
        super().__init__(name=f"judge-{number}", daemon=True)
        self._pool = pool
        self._lock = threading.Lock()  # a worker is replaced by its own thread, killed by another
        self.worker: JudgeProcess | None = None
        self.starts, self.confinement = 0, ""

    def run(self) -> None:
        pool = self._pool
        while not pool.closed:
            self._ready()  # a replacement starts before the next job comes
            if (waiting := pool._jobs.get()) is None:
                break
            job, future = waiting
            pool._done(future, self._ask(job))
        self._drop()

    def end(self) -> None:
        """Kill the worker and wait for the thread."""
        if self.is_alive():
            with self._lock:
                if self.worker is not None:
                    self.worker.stop()
            self.join()

    def _ask(self, job: Job) -> Outcome:
        why = self._ready() and self._ready()  # a start that failed gets one more chance
        if self._pool.closed or self.worker is None:
            return Outcome("crash", detail=why or "the pool was closed")
        return self.worker.ask(job, self._pool.limits.deadline_s)

    def _ready(self) -> str:
        """Have an idle worker; else why there is none."""
        limits = self._pool.limits
        if self.worker is not None and not (self.worker.idle() and self.worker.asked != limits.jobs):
            self._drop()
        if self.worker is None:
            try:
                worker = JudgeProcess(
                    self._pool.scorers, self._pool._folder, self._pool.import_path, limits.memory_mb, limits.start_s
                )
            except (StartError, OSError) as error:
                return str(error)
            self.starts += 1
            self.confinement = worker.confinement
            with self._lock:
                self.worker = worker
        return ""

    def _drop(self) -> None:
        with self._lock:
            if self.worker is not None:
                self.worker.kill()
            self.worker = None

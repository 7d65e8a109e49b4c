"""Foreign scorers in processes that can be killed: whatever a text makes of one, the caller gets an outcome in time.

Libraries that score answers run them as code, loop in C, swallow alarms, take all memory. So they run in workers that have
been confined (`confine.py`), each with a hard deadline: a worker that is late or dead is killed by SIGKILL and replaced. Jobs
and verdicts cross as JSON lines, never as pickles. *Timeout* and *crash* are outcomes of their own, not "wrong".

    with JudgePool({"equal": "tasks.judging.math_verify:equal"}) as pool:
        outcomes = pool.judge([Job("equal", {"gold": "x+1", "answer": "1+x"})])
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
from dataclasses import dataclass, field
from pathlib import Path

from tasks.sandbox.process import ROOT, Job, JudgeProcess, Outcome, StartError

CLOSED = Outcome("crash", detail="the pool was closed")


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
    `pending`: jobs that wait before `submit` blocks. `path`: folders of the workers' imports besides this project's. A scorer
    that can be made to run text as code may prepare the ground for the next job in its worker: `Limits(jobs=1)` is for those.
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
        import_path = os.pathsep.join(map(str, (ROOT, *path)))
        self._shared = _Shared(dict(scorers), limits or Limits(), import_path, threading.Semaphore(pending))
        self._slots = [_Slot(self._shared, k) for k in range(workers)]
        self._end = weakref.finalize(self, _close, self._shared, self._slots)  # when forgotten, and at exit

    def judge(self, jobs: Iterable[Job]) -> list[Outcome]:
        """Outcomes in the order of `jobs`, whatever a job does.

        Raises:
            PoolError: see `submit`.
        """
        futures: list[Future[Outcome]] = []
        try:
            futures.extend(self.submit(job) for job in jobs)
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def submit(self, job: Job) -> Future[Outcome]:
        """The job's outcome, later; blocks while the queue is full. A cancelled one is not judged.

        Raises:
            PoolError: the pool is closed, was made before a fork, or cannot start.
        """
        shared = self._shared
        if os.getpid() != shared.owner:
            raise PoolError("this judge pool belongs to another process: make one after the fork")
        future: Future[Outcome] = Future()
        if job.scorer not in shared.scorers:
            known = ", ".join(shared.scorers)
            future.set_result(Outcome("refused", detail=f"no scorer {job.scorer!a} here: {known}"))
            return future
        shared.places.acquire()
        try:
            with shared.lock:
                if shared.closed:
                    raise PoolError("the judge pool is closed")
                for slot in self._slots:
                    slot.begin()
                shared.jobs.put((job, future))
        except BaseException as error:
            shared.places.release()
            if isinstance(error, OSError | RuntimeError) and not isinstance(error, PoolError):
                raise PoolError(f"the judge pool cannot start: {error}") from None
            raise
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
        """What holds the workers: "seccomp" or "hook", "" before the first is ready."""
        return next((slot.confinement for slot in self._slots if slot.confinement), "")

    def close(self) -> None:
        """Kill every worker; jobs without an outcome are given back as crashed. Idempotent."""
        self._end()

    def __enter__(self) -> JudgePool:
        return self

    def __exit__(self, *_) -> None:
        self.close()


@dataclass(eq=False)
class _Shared:
    """What the slots of a pool share; none of them knows the pool, so that a forgotten one can be collected."""

    scorers: dict[str, str]
    limits: Limits
    import_path: str
    places: threading.Semaphore
    jobs: queue.SimpleQueue[tuple[Job, Future[Outcome]] | None] = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    owner: int = field(default_factory=os.getpid)
    closed: bool = False
    folder: str = ""

    def folder_there(self) -> str:
        """The folder that holds the workers' folders."""
        with self.lock:
            if not os.path.isdir(self.folder):
                self.folder = tempfile.mkdtemp(prefix="judges-")
        return self.folder

    def done(self, future: Future[Outcome], outcome: Outcome) -> None:
        self.places.release()
        future.set_result(outcome)


def _close(shared: _Shared, slots: list[_Slot]) -> None:
    if os.getpid() != shared.owner:
        return
    with shared.lock:
        shared.closed = True
    for _ in slots:
        shared.jobs.put(None)  # whoever takes it
    for slot in slots:
        slot.end()
    while not shared.jobs.empty():
        waiting = shared.jobs.get()
        if waiting is not None and waiting[1].set_running_or_notify_cancel():
            shared.done(waiting[1], CLOSED)
    shutil.rmtree(shared.folder, ignore_errors=True)


class _Slot(threading.Thread):
    """A place for one worker after the other. The kernel kills a worker when the thread that started it ends."""

    def __init__(self, shared: _Shared, number: int):
        super().__init__(name=f"judge-{number}", daemon=True)
        self._shared = shared
        self._lock = threading.Lock()  # a worker is replaced by its own thread, killed by another
        self._begun = False
        self.worker: JudgeProcess | None = None
        self.starts, self.confinement = 0, ""

    def begin(self) -> None:
        """Start the thread, once."""
        if not self._begun:
            self.start()
            self._begun = True

    def run(self) -> None:
        shared = self._shared
        while not shared.closed:
            self._ready()  # a replacement starts before the next job comes
            if (waiting := shared.jobs.get()) is None:
                break
            job, future = waiting
            if future.set_running_or_notify_cancel():
                shared.done(future, self._ask(job))
            else:
                shared.places.release()
        self._drop()

    def end(self) -> None:
        """Kill the worker and wait for the thread."""
        if self.is_alive():
            with self._lock:
                if self.worker is not None:
                    self.worker.stop()
            self.join()

    def _ask(self, job: Job) -> Outcome:
        why = self._ready()
        if self._shared.closed:
            return CLOSED
        if why or self.worker is None:
            return Outcome("crash", detail=why)
        try:
            return self.worker.ask(job, self._shared.limits.deadline_s)
        except Exception as error:  # noqa: BLE001 (a slot that ended would leave its jobs without an outcome)
            self._drop()
            return Outcome("crash", detail=f"the judge failed: {type(error).__name__}")

    def _ready(self) -> str:
        """Have an idle worker; else why there is none."""
        shared = self._shared
        if self.worker is not None and not (self.worker.idle() and self.worker.asked != shared.limits.jobs):
            self._drop()
        if self.worker is None and not shared.closed:
            try:
                worker = JudgeProcess(
                    shared.scorers, shared.folder_there(), shared.import_path, shared.limits.memory_mb
                )
                with self._lock:
                    self.worker = worker
                    if shared.closed:
                        worker.stop()
                self.starts += 1
                worker.wait_until_ready(shared.limits.start_s)
                self.confinement = worker.confinement
            except Exception as error:  # noqa: BLE001 (see above)
                self._drop()
                return (
                    str(error)
                    if isinstance(error, StartError)
                    else f"no worker starts: {type(error).__name__}: {error}"
                )
        return ""

    def _drop(self) -> None:
        with self._lock:
            if self.worker is not None:
                self.worker.kill()
            self.worker = None

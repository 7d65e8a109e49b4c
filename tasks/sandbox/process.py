"""One worker process of a `JudgePool`, seen from outside: start it, ask it, kill it."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
MOST_SENT = 60_000  # bytes of a job
MOST_RETURNED = 60_000  # bytes of a reply
MOST_DETAIL = 200  # characters
NEWLINE = b"\n"

Status = Literal["ok", "error", "timeout", "crash", "refused"]


@dataclass(frozen=True, slots=True)
class Job:
    """One call of one scorer by keyword arguments that JSON can hold."""

    scorer: str
    arguments: dict


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. `value` is the scorer's own, of any JSON type: nothing about it has been checked."""

    status: Status  # ok | error: it raised | timeout, crash: the worker was killed, or died | refused: never sent
    value: object = None
    detail: str = ""  # one short line for a person
    seconds: float = 0.0  # from sending the job to its reply or to the kill


class StartError(RuntimeError):
    """A worker did not come up. The message is one line."""


class JudgeProcess:
    """A confined worker in a session and a folder of its own, without this process's environment. Used by one thread.

    Jobs and replies cross a socket: unlike a pipe, it cannot be opened anew through /proc. The process starts at once; it is
    usable when `wait_until_ready` has returned.

    Raises:
        OSError: no process, folder or socket could be had.
    """

    def __init__(self, scorers: Mapping[str, str], folder: str, import_path: str, memory_mb: int):
        setting = {"parent": os.getpid(), "memory_mb": memory_mb, "scorers": dict(scorers)}
        self.asked = 0
        self.confinement = ""  # "seccomp" or "hook", once it is ready
        self._folder = tempfile.mkdtemp(dir=folder)
        try:
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-s", "-B", "-m", "tasks.sandbox.worker", json.dumps(setting)],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    cwd=self._folder,
                    env={
                        "PYTHONPATH": import_path,
                        "PYTHONHASHSEED": "0",
                        "OMP_NUM_THREADS": "1",
                        "OPENBLAS_NUM_THREADS": "1",
                    },
                    start_new_session=True,
                )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for the worker's imports and confinement.

        Raises:
            StartError: it did not say in `seconds` that it is ready, e.g. since a scorer cannot be imported.
        """
        status, reply, _ = self._reply(time.monotonic() + seconds, seconds)
        if "ready" not in reply:
            raise StartError(f"a judge worker does not start: {reply.get('failed') or status}"[:MOST_DETAIL])
        self.confinement = str(reply["ready"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def idle(self) -> bool:
        """Alive, and silent as a worker without a job has to be."""
        return self._process.poll() is None and not self._poll.poll(0)

    def ask(self, job: Job, deadline_s: float) -> Outcome:
        """The job's outcome within `deadline_s`. After timeout and crash the worker has been killed."""
        self.asked += 1
        try:
            order = {"id": self.asked, "scorer": job.scorer, "arguments": job.arguments}
            line = json.dumps(order).encode("ascii") + NEWLINE
        except (TypeError, ValueError, RuntimeError, MemoryError) as error:
            return Outcome("refused", detail=f"JSON cannot hold the job: {type(error).__name__}")
        if len(line) > MOST_SENT:
            return Outcome("refused", detail=f"the job takes {len(line)} bytes, over {MOST_SENT}: shorten it")
        began = time.monotonic()
        status, reply, detail = self._exchanged(line, began + deadline_s, deadline_s)
        seconds = time.monotonic() - began
        if status == "ok" and reply.get("id") != self.asked:
            status, detail = "crash", "the worker's reply is not to this job"
        if status != "ok":
            self.kill()
            return Outcome(status, detail=detail, seconds=seconds)
        if "error" in reply:
            return Outcome("error", detail=" ".join(str(reply["error"])[:MOST_DETAIL].split()), seconds=seconds)
        return Outcome("ok", value=reply.get("value"), seconds=seconds)

    def stop(self) -> None:
        """Kill the process; for any thread, `ask` then tells of a crash. It can have started no other."""
        self._process.kill()

    def kill(self) -> None:
        """`stop`, and leave nothing behind. Idempotent."""
        self.stop()
        self._process.wait()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _exchanged(self, line: bytes, end: float, seconds: float) -> tuple[Status, dict, str]:
        """Send a job and wait for its reply until `end`."""
        sender = select.poll()
        sender.register(self._socket, select.POLLOUT)
        while line:
            try:
                line = line[self._socket.send(line) :]
            except BlockingIOError:
                if not sender.poll(1000 * max(0.0, end - time.monotonic())):
                    return "timeout", {}, f"the job was not taken in {seconds:g} s"
            except OSError:
                return "crash", {}, self._death()
        return self._reply(end, seconds)

    def _reply(self, end: float, seconds: float) -> tuple[Status, dict, str]:
        """(status, reply, detail): one line of JSON until `end`, or why there is none."""
        data = b""
        while not data.endswith(NEWLINE):
            left = end - time.monotonic()
            if left <= 0 or not self._poll.poll(1000 * left):
                return "timeout", {}, f"no reply in {seconds:g} s"
            try:
                part = self._socket.recv(MOST_RETURNED)
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            data += part
            if not part or len(data) > MOST_RETURNED:
                return "crash", {}, self._death() if not part else f"a reply of over {MOST_RETURNED} bytes"
        try:
            reply = json.loads(data)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            return "crash", {}, "the worker's reply is not JSON"
        return "ok", reply, ""

    def _death(self) -> str:
        """How the process ended that closed its end of the socket."""
        try:
            code = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            return "the worker closed its socket"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"

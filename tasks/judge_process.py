"""One worker process of a `JudgePool`, seen from outside: start it, ask it, kill it. Used by one thread."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]
MOST_SENT = 60_000  # bytes of a job: less than a pipe holds, so that a worker which does not read holds nobody up
MOST_RETURNED = 60_000  # bytes of a reply
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
    """A confined worker in a session and a folder of its own, without this process's environment.

    Raises:
        StartError: it did not say in `start_s` seconds that it is ready, e.g. since a scorer cannot be imported.
    """

    def __init__(self, scorers: Mapping[str, str], folder: str, import_path: str, memory_mb: int, start_s: float):
        self._folder = tempfile.mkdtemp(dir=folder)
        setting = {"parent": os.getpid(), "memory_mb": memory_mb, "scorers": dict(scorers)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-B", "-m", "tasks.judge_worker", json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=self._folder,
            env={"PYTHONPATH": import_path, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._jobs, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._jobs, False)
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        self.asked = 0
        status, reply, _ = self._reply(start_s)
        if "ready" not in reply:
            self.kill()
            raise StartError(f"a judge worker does not start: {reply.get('failed') or status}")
        self.confinement: str = str(reply["ready"])

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
        except (TypeError, ValueError, RecursionError) as error:
            return Outcome("refused", detail=f"JSON cannot hold the job: {type(error).__name__}")
        if len(line) > MOST_SENT:
            return Outcome("refused", detail=f"the job takes {len(line)} bytes, over {MOST_SENT}: shorten it")
        began = time.monotonic()
        try:
            sent = os.write(self._jobs, line) == len(line)
        except OSError:  # it is dead, or does not read
            sent = False
        status, reply, detail = self._reply(deadline_s) if sent else ("crash", {}, "the worker takes no job")
        seconds = time.monotonic() - began
        if status == "ok" and reply.get("id") != self.asked:
            status, detail = "crash", "the worker's reply is not to this job"
        if status != "ok":
            self.kill()
            return Outcome(status, detail=detail, seconds=seconds)
        if "error" in reply:
            return Outcome("error", detail=str(reply["error"])[:200], seconds=seconds)
        return Outcome("ok", value=reply.get("value"), seconds=seconds)

    def stop(self) -> None:
        """Kill the process and all that it may have started; for any thread, `ask` then tells of a crash."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """`stop`, and leave nothing behind. Idempotent."""
        if self._process.returncode is None:
            self.stop()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _reply(self, seconds: float) -> tuple[Status, dict, str]:
        """(status, reply, detail): one line of JSON in time, or why there is none."""
        end, data = time.monotonic() + seconds, b""
        while not data.endswith(NEWLINE):
            left = end - time.monotonic()
            if left <= 0 or not self._poll.poll(1000 * left):
                return "timeout", {}, f"no reply in {seconds:g} s"
            part = os.read(self._replies, MOST_RETURNED)
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
        """How the process ended that closed its end of the pipe."""
        try:
            code = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            return "the worker closed its pipe"
        return f"killed by signal {-code}" if code < 0 else f"exit status {code}"

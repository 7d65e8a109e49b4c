"""Kills: a tiny run of self-play that is killed again and again, and what is left of a driver that was."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from bench.command import CHECKOUT
from selfplay.run.ledger import Ledger

WORKERS = 2
KILLS = 8  # of one run, at most
LONGEST = 9.0  # seconds from a start to a kill
FORKED = 4  # of five runs, so many are forked from a process that has imported all it needs, so that kills meet work
SOONER = 3.0  # seconds from such a start to a kill
PRELOADED = ["selfplay.cli", "selfplay.report", "solve.strategies", "models.device", "torch.distributed"]
PRELOADED += ["transformers.models.llama.modeling_llama", "matplotlib.pyplot", "pyarrow.parquet"]
HANGS = 240.0  # seconds after which a run that was not killed is said to hang
MARK = "REVERSE_O1_TRUST"  # in the environment of all that a driver starts
LINGER = 5.0  # seconds after which nothing may be left


def arguments(folder: Path, resume: bool, workers: int) -> list[str]:
    """The command line of a tiny run."""
    where = [f"resume={folder}"] if resume else ["experiment=tiny", f"run_dir={folder}"]
    return [*where, "plain=true", f"workers={workers}"]


def start(folder: Path, *, resume: bool, mark: str = "", workers: int = WORKERS) -> subprocess.Popen:
    """A tiny run in a session of its own; what it complains of stands in a file beside its folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with said(folder).open("wb") as complaints:
        return subprocess.Popen(
            [sys.executable, "-m", "selfplay", *arguments(folder, resume, workers)],
            cwd=CHECKOUT,
            env=os.environ | {MARK: mark, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
        )


def said(folder: Path) -> Path:
    """Where the last start of a run says what is wrong."""
    return folder.with_name("said")


def marked(mark: str) -> list[int]:
    """Processes that carry a mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def trial(seed: int, folder: Path) -> Counter[str]:
    """One run, killed up to KILLS times at random instants, then ended and compared with one that nobody killed."""
    return forked_trial(seed, folder) if seed % (FORKED + 1) else team_trial(seed, folder)


def team_trial(seed: int, folder: Path) -> Counter[str]:
    """A run of WORKERS, each process started as a user starts it."""
    rng, run, mark = np.random.default_rng(seed), folder / "run", f"kill-{seed}-{os.getpid()}"
    outcomes: Counter[str] = Counter()
    for _ in range(KILLS):
        process = start(run, resume=resumable(run), mark=mark)
        wait = rng.uniform(0.2, LONGEST)
        try:
            process.wait(wait)
            break  # it ended before
        except subprocess.TimeoutExpired:
            everybody = marked(mark)
            victim = "leader" if rng.random() < 0.7 or len(everybody) < 2 else "worker"
            target = (
                process.pid if victim == "leader" else int(rng.choice([pid for pid in everybody if pid != process.pid]))
            )
            kill(target)
            try:
                process.wait(60.0)
            except subprocess.TimeoutExpired:
                kill(process.pid)
                outcomes["fault: a run whose worker was killed hung"] += 1
        outcomes[f"{victim} killed"] += 1
    process = start(run, resume=resumable(run), mark=mark)
    try:
        code = process.wait(HANGS)
    except subprocess.TimeoutExpired:
        kill(process.pid)
        return outcomes + Counter({"fault: the last resume hung": 1})
    return outcomes + ended(run, WORKERS, code)


def forked_trial(seed: int, folder: Path) -> Counter[str]:
    """A run of one process."""
    rng, run = np.random.default_rng(seed), folder / "run"
    outcomes: Counter[str] = Counter()
    for _ in range(KILLS):
        process = fork(run, resume=resumable(run))
        process.join(rng.uniform(0.2, SOONER))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        outcomes["alone killed"] += 1
    process = fork(run, resume=resumable(run))
    process.join(HANGS)
    if process.exitcode is None:
        process.kill()
        return outcomes + Counter({"fault: the last resume hung": 1})
    return outcomes + ended(run, 1, process.exitcode)


def ended(run: Path, workers: int, code: int) -> Counter[str]:
    """The fault of a run that should have ended as if nobody had killed it; nothing where it did."""
    if code:
        complaint = said(run).read_text(errors="replace").strip()[-200:]
        return Counter({f"fault: the last resume was refused: {complaint}": 1})
    if (mine := result(run)) != (wanted := reference(workers)):
        return Counter({f"fault: another result {mine[:2]}, not {wanted[:2]}": 1})
    return Counter()


def resumable(run: Path) -> bool:
    """Whether a killed run had begun."""
    return (run / "config.json").exists()


def fork(folder: Path, *, resume: bool) -> ForkServerProcess:
    """A tiny run of one process, forked."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_forked, args=(arguments(folder, resume, 1), said(folder)))
    process.start()
    return process


def _forked(argv: list[str], complaints: Path) -> None:
    with complaints.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["selfplay", *argv]
    from selfplay.cli import hydra_main

    hydra_main()


def leftover(seed: int, folder: Path) -> Counter[str]:
    """A driver killed at a random instant; what is alive some seconds later."""
    rng, mark = np.random.default_rng(seed), f"left-{seed}-{os.getpid()}"
    process = start(folder / "run", resume=False, mark=mark)
    time.sleep(rng.uniform(0.5, LONGEST))
    kill(process.pid)
    process.wait()
    ends = time.monotonic() + LINGER
    while (left := marked(mark)) and time.monotonic() < ends:
        time.sleep(0.1)
    for pid in left:
        kill(pid)
    return Counter({f"fault: {len(left)} processes left": 1} if left else {"none left": 1})


def kill(pid: int) -> None:
    """SIGKILL; nothing where the process has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def result(run: Path) -> tuple:
    """(committed iterations, digest of the last weights, digest of the traces)."""
    with Ledger(run / "ledger.sqlite") as ledger:
        lines = ledger.metrics()
        ledger.verify_shards(run / "traces")
        last = ledger.last()
    assert last is not None, "a run that has ended has committed"
    weights = run / "checkpoints" / f"step-{last.iteration:06d}" / "model.safetensors"
    rows = sorted((run / "traces").glob("*.rows.parquet"))
    return [line["iteration"] for line in lines], *(digest(files) for files in ([weights], rows))


def digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()


@cache
def reference(workers: int) -> tuple:
    """The result of a run that nobody killed."""
    folder = Path(mkdtemp(prefix="reverse-o1-trust-"))
    try:
        assert start(folder / "run", resume=False, workers=workers).wait(HANGS) == 0
        return result(folder / "run")
    finally:
        shutil.rmtree(folder)

"""Damage: bytes of a finished run and of a file of answers changed, one file at a time, then everything opened again."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from bench.trust.kills import HANGS, start
from models.files.digests import weights_hash
from models.files.manifest import CheckpointError
from models.policy import PolicyError, open_policy
from selfplay.run.commit import Folders, restore, rewind_damage
from selfplay.run.folder import RunDirError, frozen_config
from selfplay.run.ledger import Ledger, LedgerError
from selfplay.run.traces import read_rows, read_shard
from solve.cli.answers_file import Answers
from solve.types import SolveError

NOTICED = (CheckpointError, LedgerError, RunDirError, PolicyError, SolveError)
BATCH = 40  # of one call
# For people: nothing is learned from them.
DRAWN = ("summary.json", "learning_curve.png", "thinking.png", "metrics.jsonl", "run.lock")
ANSWERS = "answers.jsonl"
HOW = {"seed": 0}


def trials(seed: int, folder: Path) -> Counter[str]:
    """Some mutations of a copy."""
    rng, outcomes = np.random.default_rng(seed), Counter()
    whole, expected = original()
    files = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file() and file.name not in DRAWN)
    copy = folder / "run"
    shutil.copytree(whole, copy)
    for _ in range(BATCH):
        file = files[rng.integers(len(files))]
        before = (whole / file).read_bytes()
        how, data = mutated(rng, before, (whole / files[rng.integers(len(files))]).read_bytes())
        (copy / file).write_bytes(data)
        outcomes[judged(copy, expected, f"{how} {file}")] += 1
        for part in files:  # what was rewound, rewritten or swept comes back
            if not (copy / part).exists() or (copy / part).read_bytes() != (whole / part).read_bytes():
                (copy / part).parent.mkdir(parents=True, exist_ok=True)
                (copy / part).write_bytes((whole / part).read_bytes())
    return outcomes


def mutated(rng: np.random.Generator, data: bytes, other: bytes) -> tuple[str, bytes]:
    """(what was done, the bytes after it)."""
    at = int(rng.integers(max(len(data), 1)))
    match rng.integers(5):
        case 0:
            bit = bytes([data[at] ^ (1 << int(rng.integers(8)))]) if data else b""
            return "flipped bit in", data[:at] + bit + data[at + 1 :]
        case 1:
            return "cut", data[:at]
        case 2:
            return "emptied", b""
        case 3:
            size = int(rng.integers(1, 200))
            return "noise in", data[:at] + rng.bytes(size) + data[at + size :]
        case _:
            return "swapped", other


def judged(run: Path, expected: tuple, what: str) -> str:
    """Noticed, harmless (all that can be read is what was written), or a fault in words."""
    try:
        found = opened(run)
    except NOTICED as error:
        return "noticed" if "\n" not in str(error) else f"fault: {what}: said in many lines"
    except Exception as error:  # noqa: BLE001 (a fault is what this looks for)
        return f"fault: {what}: {type(error).__name__} {str(error)[:80]}"
    *read, done = found
    *written, all_done = expected
    if read == written and set(done) <= set(all_done):  # an answer that is lost is asked for again
        return "harmless"
    return "noticed" if found[0] else f"fault: {what}: read as something else"


def opened(run: Path) -> tuple:
    """(damage that a resume has told and mended, all that a resume, `solve` and a reader of traces get)."""
    config = frozen_config(str(run))
    folders = Folders(run)
    told = rewind_damage(folders)
    with Ledger(folders.ledger) as ledger:
        last, lines = ledger.last(), ledger.metrics()
        assert last is not None, "rewound to nothing"
        shards = [s for k in range(1, last.iteration + 1) for s in ledger.shards(k)]
    rows = [
        read_rows(folders.traces / s.name, s.sha256).tokens.tobytes()
        if s.name.endswith(".rows.parquet")
        else len(read_shard(folders.traces / s.name, s.sha256))
        for s in shards
    ]
    model, optimizer, promoted, _ = restore(folders, last.state)
    calibration = open_policy(str(run)).calibration
    with closing(Answers(run / ANSWERS, HOW)) as answers:
        done = sorted(answers.done.items())
    return (
        told,
        json.dumps(str(config)),
        [weights_hash(model), weights_hash(promoted)],
        sorted((name, tensor.numpy().tobytes()) for name, tensor in optimizer.items()),
        [line["iteration"] for line in lines],
        rows,
        str(calibration),
        done,
    )


@cache
def original() -> tuple[Path, tuple]:
    """A finished tiny run with a file of answers beside it, and what it reads as."""
    run = Path(mkdtemp(prefix="reverse-o1-trust-")) / "run"
    assert start(run, resume=False).wait(HANGS) == 0
    with closing(Answers(run / ANSWERS, HOW)) as answers:
        for k in range(5):
            answers.write({"id": str(k), "asked": f"{k} 2 3 = 9", "answer": f"{k} + 2 = {k + 2}", "solved": k % 2 == 0})
    return run, opened(run)

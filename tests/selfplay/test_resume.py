"""SIGKILL at random instants, resume, and the result is the uninterrupted run's, bit for bit: nothing lost, nothing twice."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sqlite3
from pathlib import Path

import pytest
from safetensors.torch import load_file

from selfplay.run.traces import read_shard
from tests.selfplay.tiny import run_until_killed

GRPO = ("selfplay.phases=[{teacher: hindsight, iterations: 1, steps: 10}, {teacher: grpo, iterations: 3, steps: 4}]",)
CLOCKS = ("seconds", "cpu_seconds")  # the only figures that may differ between two runs
VALUE_LAST = (
    "selfplay.phases=[{teacher: hindsight, iterations: 2, steps: 4}, "
    "{teacher: hindsight, iterations: 2, steps: 4, train: value}]",
)


def attempt(context, root: Path, resume: bool, kill_at: int | None, overrides: tuple[str, ...]) -> bool:
    """Whether the run came to its end."""
    process = context.Process(target=run_until_killed, args=(root, resume, kill_at, overrides))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def weights(root: Path) -> dict:
    checkpoint = Path(json.loads((root / "summary.json").read_text())["checkpoint"])
    return {
        (file.name, name): tensor
        for file in (root / "checkpoints" / checkpoint.name).glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def metrics(root: Path) -> list[dict]:
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def committed_traces(root: Path) -> list[tuple]:
    with sqlite3.connect(root / "ledger.sqlite") as db:
        names = [name for (name,) in db.execute("SELECT name FROM shards ORDER BY name")]
    db.close()
    on_disk = {path.name for path in (root / "traces").iterdir()}
    assert set(names) == on_disk  # no orphan, no hole
    return [trace for name in names if "traces" in name for trace in read_shard(root / "traces" / name)]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ((), 2),
        pytest.param((), 20, marks=pytest.mark.slow),
        pytest.param(GRPO, 4, marks=pytest.mark.slow),
        pytest.param(VALUE_LAST, 4, marks=pytest.mark.slow),
    ],
    ids=["search", "search, more", "grpo", "what learns"],
)
def test_kills_lose_nothing_double_nothing_and_change_no_bit(tmp_path, overrides, wanted):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["selfplay.report", "tests.selfplay.tiny"])
    whole = tmp_path / "whole"
    assert attempt(context, whole, False, None, overrides)
    calls = int((tmp_path / "whole.calls.txt").read_text())
    rng, kills, run = random.Random(0), 0, 0
    while kills < wanted:
        root, done, run = tmp_path / f"killed{run}", False, run + 1
        while not done:
            kill_at = rng.randrange(1, calls) if kills < wanted else None
            done = attempt(context, root, root.joinpath("config.json").exists(), kill_at, overrides)
            kills += not done
        assert weights(root).keys() == weights(whole).keys()
        assert all((weights(root)[name] == tensor).all() for name, tensor in weights(whole).items())
        assert metrics(root) == metrics(whole)
        assert committed_traces(root) == committed_traces(whole)

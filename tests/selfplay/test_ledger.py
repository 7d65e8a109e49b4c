from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selfplay.run.ledger import Ledger, LedgerError
from selfplay.run.traces import Shard

ROOT = Path(__file__).parents[2]


def put(folder: Path, name: str, data: bytes = b"data") -> Shard:
    (folder / name).write_bytes(data)
    return Shard(name, hashlib.sha256(data).hexdigest(), 1)


@pytest.fixture
def three(tmp_path) -> Path:
    """Path of a ledger with iterations 0, 1 and 2, shards beside it."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for i in range(3):
            shards = [put(tmp_path, f"{i}-{kind}.parquet") for kind in ("rows", "traces")]
            ledger.commit_iteration(i, shards, f"step-{i}", {"greedy": i / 7}, {"position": i})
    return tmp_path / "ledger.sqlite"


def test_a_new_ledger_is_empty(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.last() is None
        assert ledger.shards() == []
        assert ledger.metrics() == []


def test_commits_read_back_after_reopening(three):
    with Ledger(three) as ledger:
        last = ledger.last()
        assert last.iteration == 2
        assert [shard.name for shard in last.shards] == ["2-rows.parquet", "2-traces.parquet"]
        assert (last.checkpoint, last.metrics, last.state) == ("step-2", {"greedy": 2 / 7}, {"position": 2})
        assert ledger.metrics() == [{"greedy": i / 7} for i in range(3)]


def test_shards_come_by_iteration_by_range_or_all(three):
    with Ledger(three) as ledger:
        assert [shard.name for shard in ledger.shards(1)] == ["1-rows.parquet", "1-traces.parquet"]
        assert [shard.name[0] for shard in ledger.shards(1, 2)] == ["1", "1", "2", "2"]
        assert len(ledger.shards()) == 6
        assert ledger.shards(9) == []


def test_floats_and_big_integers_read_back_exactly(tmp_path):
    state = {"random": np.random.default_rng(0).bit_generator.state, "third": 1 / 3, "tiny": 5e-324}
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.commit_iteration(0, [], None, {}, state)
        assert ledger.last().state == state


def test_iterations_are_neither_skipped_nor_committed_twice(three):
    with Ledger(three) as ledger:
        for wrong in (2, 4, -1):
            with pytest.raises(LedgerError, match=f"ends at iteration 2, so {wrong} cannot"):
                ledger.commit_iteration(wrong, [], None, {}, {})
        ledger.commit_iteration(3, [], None, {}, {})


def test_a_shard_is_committed_once(three):
    with Ledger(three) as ledger:
        with pytest.raises(LedgerError, match="name of its own"):
            ledger.commit_iteration(3, [("0-rows.parquet", "", 1)], None, {}, {})
        with pytest.raises(LedgerError, match="name of its own"):
            ledger.commit_iteration(3, [("a", "", 1), ("a", "", 1)], None, {}, {})
        assert ledger.last().iteration == 2


def test_a_commit_costs_the_same_in_a_long_run(tmp_path, monkeypatch):
    counted, connect = [0], sqlite3.connect

    def counting(*args, **more):
        connection = connect(*args, **more)
        connection.set_progress_handler(
            lambda: counted.__setitem__(0, counted[0] + 1), 1
        )  # each of SQLite's instructions
        return connection

    monkeypatch.setattr("selfplay.run.ledger.sqlite3.connect", counting)
    cost = []
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for iteration in range(400):
            before = counted[0]
            ledger.commit_iteration(iteration, [(f"{iteration}-{k}", "", 1) for k in "ab"], None, {}, {})
            ledger.newest(2)
            cost.append(counted[0] - before)
    assert max(cost[390:]) < 1.5 * max(cost[2:12])


def test_a_ledger_of_a_release_without_its_index_gets_it(three):
    with sqlite3.connect(three) as database:
        database.execute("DROP INDEX shards_by_iteration")
    database.close()
    with Ledger(three) as ledger:
        assert len(ledger.shards(1)) == 2
    with sqlite3.connect(three) as database:
        assert database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'shards_by_iteration'").fetchone()
    database.close()


def test_a_failed_commit_changes_nothing(three):
    with Ledger(three) as ledger:
        with pytest.raises(LedgerError):
            ledger.commit_iteration(
                3, [("a.parquet", "", 1), ("b.parquet", None, 1)], None, {}, {}
            )  # sha256 is NOT NULL
        assert ledger.last().iteration == 2
        assert len(ledger.shards()) == 6
        ledger.commit_iteration(3, [("a.parquet", "", 1)], None, {}, {})
    with Ledger(three) as ledger:
        assert ledger.last().iteration == 3


def test_a_failed_json_value_changes_nothing(three):
    with Ledger(three) as ledger:
        with pytest.raises(TypeError):
            ledger.commit_iteration(3, [], None, {}, {"array": np.zeros(2)})
        ledger.commit_iteration(3, [], None, {}, {})


def test_orphans_are_swept_and_nothing_else(three):
    folder = three.parent
    put(folder, "3-rows.parquet")
    put(folder, ".4-rows.parquet.tmp")
    put(folder, "notes.txt")
    (folder / "folder.parquet").mkdir()
    before = {file.name for file in folder.iterdir()}
    with Ledger(three) as ledger:
        assert ledger.sweep_orphans(folder) == [".4-rows.parquet.tmp", "3-rows.parquet"]
        assert ledger.sweep_orphans(folder) == []
    after = {file.name for file in folder.iterdir()}
    assert before - after - {"ledger.sqlite-wal", "ledger.sqlite-shm"} == {".4-rows.parquet.tmp", "3-rows.parquet"}


def test_a_lost_ledger_does_not_sweep_the_run_away(three):
    three.unlink()
    with Ledger(three) as ledger, pytest.raises(LedgerError, match=r"missing or empty although .* holds shards"):
        ledger.sweep_orphans(three.parent)
    assert (three.parent / "0-rows.parquet").exists()


def test_orphans_of_a_first_iteration_that_was_killed_are_swept(tmp_path):
    Ledger(tmp_path / "ledger.sqlite").close()
    put(tmp_path, "0-rows.parquet")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.sweep_orphans(tmp_path) == ["0-rows.parquet"]


def test_missing_and_altered_shards_are_named(three):
    with Ledger(three) as ledger:
        ledger.verify_shards(three.parent)
        put(three.parent, "1-rows.parquet", b"dat0")
        with pytest.raises(LedgerError, match=r"1-rows\.parquet was altered"):
            ledger.verify_shards(three.parent)
        (three.parent / "0-traces.parquet").unlink()
        with pytest.raises(LedgerError, match=r"0-traces\.parquet cannot be read \(No such file"):
            ledger.verify_shards(three.parent)
        ledger.verify_shards(three.parent, 2)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE iterations SET state = '{\"position\": 8}' WHERE iteration = 1",
        "UPDATE iterations SET checkpoint = 'step-9' WHERE iteration = 2",
        "UPDATE shards SET sha256 = 'x' WHERE name = '0-rows.parquet'",
        "DELETE FROM shards WHERE iteration = 1",
        "DELETE FROM iterations WHERE iteration = 1",
    ],
)
def test_a_changed_record_is_noticed_at_the_next_start(three, sql):
    with sqlite3.connect(three) as db:
        db.execute(sql)
    db.close()
    with pytest.raises(
        LedgerError, match=r"ledger\.sqlite cannot be used \(iteration \d does not match its digest\); restore"
    ):
        Ledger(three)


@pytest.mark.parametrize("damage", ["garbage", "header", "middle", "truncated"])
def test_a_damaged_file_gives_one_line_that_names_it(three, damage):
    whole = bytearray(three.read_bytes())
    damaged = {
        "garbage": b"not a database " * 100,
        "header": b"X" * 100 + whole[100:],
        "middle": whole[:5000] + b"\xff" * 3000 + whole[8000:],
        "truncated": whole[: len(whole) // 2],
    }
    three.write_bytes(damaged[damage])
    with pytest.raises(LedgerError) as caught:
        Ledger(three)
    assert str(three) in str(caught.value)
    assert "restore it from a copy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_version_is_refused(three):
    with sqlite3.connect(three) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerError, match="format version 99"):
        Ledger(three)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LedgerError, match=r"gone/ledger\.sqlite cannot be used"):
        Ledger(tmp_path / "gone" / "ledger.sqlite")


def test_several_processes_may_read_while_one_writes(three):
    with Ledger(three) as writer, Ledger(three) as reader:
        writer.commit_iteration(3, [], None, {}, {})
        assert reader.last().iteration == 3


WRITER = """
import hashlib, pathlib, sys
from selfplay.run.ledger import Ledger
from kit.files import write_whole
from selfplay.run.traces import Shard
folder = pathlib.Path(sys.argv[1])
ledger = Ledger(folder / "ledger.sqlite")
ledger.sweep_orphans(folder)
last = ledger.last()
for i in range(0 if last is None else last.iteration + 1, 10**9):
    data = str(i).encode()
    write_whole(folder / f"{i}.parquet", data)
    shard = Shard(f"{i}.parquet", hashlib.sha256(data).hexdigest(), 1)
    ledger.commit_iteration(i, [shard], None, {"i": i}, {"i": i})
    print(i, flush=True)
"""


def test_a_kill_at_any_instant_loses_no_commit_and_doubles_none(tmp_path, rng):
    promised = -1
    for lines in rng.integers(0, 12, size=10):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            seen = [int(writer.stdout.readline()) for _ in range(lines)]  # then it runs on: the kill falls anywhere
            writer.kill()
            seen += [int(line) for line in writer.stdout.read().splitlines()]
        promised = max([promised, *seen])
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.sweep_orphans(tmp_path)
            ledger.verify_shards(tmp_path)
            committed = [line["i"] for line in ledger.metrics()]
        assert committed == list(range(len(committed)))
        assert len(committed) > promised
    on_disk = {file.name for file in tmp_path.glob("*.parquet")}
    assert on_disk == {f"{i}.parquet" for i in committed}


def test_metrics_without_a_number_survive(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.commit_iteration(0, [], None, {"auc": float("nan")}, {})
        assert json.dumps(ledger.metrics()) == '[{"auc": NaN}]'

"""Bad input and damage: one line that names the mend, exit code 2, and every file stays as it was.

Where a run can be mended without its user (a damaged last commit, Ctrl-C, a full disk), it ends with the weights of a run
that nothing happened to.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from kit.command import INTERRUPTED
from models.files.manifest import MANIFEST
from selfplay import cli
from selfplay.run.commit import Folders, rewind_damage
from selfplay.run.folder import LOCK_NAME, open_run_dir
from selfplay.run.ledger import Ledger
from tests.selfplay.tiny import QUICK, run

LAST = 5  # iteration that the tiny schedule ends with
HELP = "python -m selfplay --help"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "whole"
    run(f"run_dir={root}")
    return root


@pytest.fixture
def damaged(finished, tmp_path) -> Path:
    """A copy of the finished run, free to be damaged; its ledger is one file."""
    root = shutil.copytree(finished, tmp_path / "damaged")
    Ledger(root / "ledger.sqlite").close()
    return root


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., tuple[int, str]]:
    """(exit code, stderr) of `python -m selfplay` with these arguments."""

    def run_command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["selfplay", *arguments])
        capfd.readouterr()
        try:
            cli.hydra_main()
        except SystemExit as ended:
            return ended.code, capfd.readouterr().err
        return 0, capfd.readouterr().err

    return run_command


@pytest.fixture
def refusal(command, tmp_path) -> Callable[..., str]:
    """The one line that a command is refused with; checks that it changed no file."""

    def refuse(*arguments: str) -> str:
        before = content(tmp_path)
        code, said = command(*arguments)
        assert code == 2
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        assert "; " in said or ": " in said.removeprefix("error: ")  # what is wrong, and the mend
        assert content(tmp_path) == before
        return said

    return refuse


def content(root: Path) -> dict[str, bytes | None]:
    """Every file below a folder, the lock excepted."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.name != LOCK_NAME
    }


def flip(file: Path) -> None:
    """Flip one bit: in the middle, or in a ledger where SQLite keeps the kind of its first page."""
    data = bytearray(file.read_bytes())
    data[100 if file.suffix == ".sqlite" else len(data) // 2] ^= 0x10
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def checkpoint(root: Path, iteration: int = LAST) -> Path:
    return root / "checkpoints" / f"step-{iteration:06d}"


def same_end(root: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, optimiser state and committed shards, bit for bit."""

    def ending(run: Path) -> dict[str, bytes]:
        files = [*checkpoint(run).glob("*.safetensors"), *run.glob("learner/*"), *run.glob("traces/*")]
        return {str(file.relative_to(run)): file.read_bytes() for file in files}

    return ending(root) == ending(other)


# ---------------------------------------------------------------------------------------------- where a run may live


def test_a_run_dir_below_a_file_is_refused(tmp_path, refusal):
    (tmp_path / "file").write_text("mine")
    assert "choose another run_dir" in refusal("experiment=tiny", f"run_dir={tmp_path / 'file' / 'run'}")


def test_a_run_dir_that_is_a_file_is_refused(tmp_path, refusal):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refusal("experiment=tiny", f"run_dir={tmp_path / 'file'}")


def test_a_folder_with_something_in_it_is_refused(tmp_path, refusal):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not empty; empty it" in refusal("experiment=tiny", f"run_dir={tmp_path}")


def test_a_run_that_is_running_is_not_resumed(damaged, refusal):
    frozen = {"any": "config"}
    with open_run_dir(damaged.parent / "other", False, frozen):
        shutil.copy(damaged / "config.json", damaged.parent / "other")
        assert f"another run (pid {os.getpid()}) uses" in refusal(f"resume={damaged.parent / 'other'}")


def test_a_run_is_not_resumed_with_another_config(damaged, refusal):
    said = refusal(f"resume={damaged}", "learner.rows=64", "task.target_max=31")
    assert "learner.rows was 16, now 64; task.target_max was 30, now 31" in said


def test_a_setting_younger_than_the_run_is_no_other_config(damaged, refusal):
    config = json.loads((damaged / "config.json").read_text())
    del config["actor"]["dead_share"], config["sha256"]
    (damaged / "config.json").write_text(json.dumps(config))
    assert "(learner.rows was 16, now 64);" in refusal(f"resume={damaged}", "learner.rows=64")


def test_a_config_of_another_release_is_named(damaged, refusal):
    config = json.loads((damaged / "config.json").read_text())
    config["sead"] = config.pop("seed")
    del config["sha256"]  # as a release wrote it that had none
    (damaged / "config.json").write_text(json.dumps(config))
    said = refusal(f"resume={damaged}")
    assert f"{damaged / 'config.json'} does not fit this release (Key 'sead' not in" in said


# ---------------------------------------------------------------------------------------------- what Hydra refuses

MISTYPED = {
    "learnr.rows=3": "Could not override 'learnr.rows'",
    "learner.rwos=3": "Key 'rwos' not in 'LearnerConfig'",
    "+learner.rwos=3": "Key 'rwos' not in 'LearnerConfig'",
    "+colour=red": "Key 'colour' not in 'SelfplayConfig'",
    "learner.rows=abc": "Value 'abc' of type 'str' could not be converted to Integer",
    "learner.rows=null": "field 'learner.rows' is not Optional",
    "learner.rows": "missing EQUAL",
    "learner={": "no viable alternative at input '{'",
    "plain=maybe": "'maybe' is not a valid bool",
    "seed=${nothing}": "Value '${nothing}' of type 'str' could not be converted to Integer",
    "task=chess": "Available options in 'task': blocksworld chain countdown gym jsonl jugs sliding",
    "experiment=nothing": "Could not find 'experiment/nothing'",
    "selfplay.phases=[{iterations:1}]": "missing mandatory value: teacher",
    "selfplay.phases=[{teacher:random,rounds:1}]": "Key 'rounds' not in 'Phase'",
}


@pytest.mark.parametrize("argument", MISTYPED)
def test_a_mistyped_setting_is_named_in_one_line(argument, tmp_path, refusal):
    said = refusal("plain=true", f"run_dir={tmp_path / 'run'}", argument)
    assert MISTYPED[argument] in said
    assert HELP in said


def test_a_run_without_a_name_takes_the_next_that_is_free(tmp_path):
    name = tmp_path / "countdown-search-seed0"
    assert cli.unused(name) == name
    name.mkdir()
    assert cli.unused(name) == name  # empty
    (name / "config.json").touch()
    assert cli.unused(name).name == "countdown-search-seed0-2"
    (tmp_path / "countdown-search-seed0-2").touch()  # a file in its place
    assert cli.unused(name).name == "countdown-search-seed0-3"


# ---------------------------------------------------------------------------------------------- checkpoint=DIR


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "value_head.safetensors", "tokenizer.json", MANIFEST])
def test_a_damaged_checkpoint_is_refused_before_a_run_begins(damaged, refusal, tmp_path, name, damage):
    damage(checkpoint(damaged) / name)
    start = f"checkpoint={checkpoint(damaged)}"
    said = refusal("experiment=tiny", "workers=2", start, f"run_dir={tmp_path / 'run'}")
    assert str(checkpoint(damaged)) in said
    assert "use the checkpoint before this one" in said


def test_a_checkpoint_of_another_task_is_refused_before_a_run_begins(finished, refusal, tmp_path):
    said = refusal("experiment=sliding", f"checkpoint={checkpoint(finished)}", f"run_dir={tmp_path / 'run'}")
    assert "its tokens are not those of task sliding" in said


def test_a_checkpoint_of_shorter_chains_is_refused_before_a_run_begins(refusal, tmp_path):
    said = refusal(
        "task.numbers=4", f"checkpoint={cli.CONF.parent}/models/shipped/countdown3", f"run_dir={tmp_path / 'run'}"
    )
    assert "its 25 positions are fewer than the 37 tokens of this task's longest chain" in said


def test_undiscounted_values_are_refused_where_steps_can_be_undone(refusal, tmp_path):
    assert "add experiment=sliding, or actor.discount=0.9" in refusal("task=sliding", f"run_dir={tmp_path / 'run'}")


def test_what_only_hydra_refuses_is_one_line_too(refusal, tmp_path):
    assert "must be a string or a list" in refusal("experiment=tiny", "selfplay=null", f"run_dir={tmp_path / 'run'}")


# ---------------------------------------------------------------------------------------------- damage in a run


def shard_of(root: Path, iteration: int, kind: str) -> Path:
    return root / "traces" / f"iteration-{iteration:06d}-rank0.{kind}.parquet"


DAMAGE_TO_THE_LAST_COMMIT: dict[str, Callable[[Path], Path]] = {
    "weights": lambda root: checkpoint(root) / "model.safetensors",
    "manifest": lambda root: checkpoint(root) / MANIFEST,
    "optimiser": lambda root: root / "learner" / f"{checkpoint(root).name}.safetensors",
    "rows": lambda root: shard_of(root, LAST, "rows"),
    "traces": lambda root: shard_of(root, LAST, "traces"),
}


@pytest.mark.parametrize("what", DAMAGE_TO_THE_LAST_COMMIT)
def test_a_damaged_last_commit_is_made_again_bit_for_bit(finished, damaged, command, what):
    file = DAMAGE_TO_THE_LAST_COMMIT[what](damaged)
    (flip if what in ("rows", "weights") else truncate)(file)
    assert not same_end(damaged, finished) or what == "manifest"
    code, said = command(f"resume={damaged}")
    assert code == 0
    assert said.startswith("warning: ")
    assert str(file) in said
    assert said.endswith(f"going on from iteration {LAST - 1}, the last that is whole\n")
    assert same_end(damaged, finished)


@pytest.mark.parametrize("name", ["checkpoints/step-{:06d}", "learner/step-{:06d}.safetensors"])
def test_an_older_one_copied_over_the_last_is_noticed(damaged, name):
    last, older = (damaged / name.format(iteration) for iteration in (LAST, LAST - 1))
    shutil.rmtree(last) if last.is_dir() else last.unlink()
    shutil.copytree(older, last) if older.is_dir() else shutil.copy(older, last)
    said = rewind_damage(Folders(damaged)) or ""
    assert "is a copy of" in said
    assert said.endswith(f"going on from iteration {LAST - 1}, the last that is whole")


DAMAGE_BEYOND_REPAIR: dict[str, Callable[[Path], Path]] = {
    "rows of an earlier iteration": lambda root: shard_of(root, LAST - 1, "rows"),
    "traces of an earlier iteration": lambda root: shard_of(root, LAST - 1, "traces"),
    "the ledger": lambda root: root / "ledger.sqlite",
}


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("what", DAMAGE_BEYOND_REPAIR)
def test_damage_beyond_repair_is_named_and_nothing_is_touched(damaged, refusal, what, damage):
    file = DAMAGE_BEYOND_REPAIR[what](damaged)
    damage(file)
    for _ in range(2):  # a second attempt finds what the first one found
        said = refusal(f"resume={damaged}")
        assert str(file) in said
        assert "restore it from a copy, or start a new run" in said


def test_no_whole_checkpoint_is_refused_and_the_newest_is_named(damaged, refusal):
    for iteration in (LAST - 1, LAST):
        flip(checkpoint(damaged, iteration) / "model.safetensors")
    said = refusal(f"resume={damaged}")
    assert str(checkpoint(damaged) / "model.safetensors") in said
    assert "restore it from a copy, or start a new run" in said


def test_an_emptied_ledger_does_not_start_the_run_again(damaged, refusal):
    (damaged / "ledger.sqlite").write_bytes(b"")
    assert "is missing or empty" in refusal(f"resume={damaged}")


def test_a_changed_record_in_the_ledger_is_refused(damaged, refusal):
    with sqlite3.connect(damaged / "ledger.sqlite") as db:
        db.execute("UPDATE iterations SET metrics = '{}' WHERE iteration = 2")
    db.close()
    assert "iteration 2 does not match its digest" in refusal(f"resume={damaged}")


def test_a_run_of_any_task_is_resumed_by_its_folder_alone(tmp_path, command):
    phases = "selfplay.phases=[{teacher:random,iterations:1,steps:1}]"
    run(f"run_dir={tmp_path / 'run'}", phases, "actor.tokens=20", experiment="sliding")
    assert command(f"resume={tmp_path / 'run'}") == (0, "")


# ---------------------------------------------------------------------------------------------- Ctrl-C and a full disk


def run_in_child(folder: Path, arguments: tuple[str, ...], since: str, stop_at: int | None, limit: int | None) -> None:
    """`python -m selfplay` in a process of its own; what it says goes to `said.txt`, its number of calls to `calls.txt`.

    `stop_at`: SIGINT at this Python or C call, counted from the first call of the function `since`. `limit`: largest
    file, in bytes, that can be written, as if the disk were full.
    """
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the process)
    sys.stderr = open(folder / "said.txt", "w")  # noqa: SIM115
    sys.argv = ["selfplay", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal; a background job inherits "ignore"
    calls = 0

    def count(frame: FrameType, event: str, _argument) -> None:
        nonlocal calls
        if event in ("call", "c_call") and (calls or frame.f_code.co_name == since):
            calls += 1
            if calls == stop_at:
                signal.raise_signal(signal.SIGINT)

    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    sys.setprofile(count)
    try:
        cli.hydra_main()
    finally:
        sys.setprofile(None)
        sys.stderr.flush()
        (folder / "calls.txt").write_text(str(calls))


def in_child(
    folder: Path, *arguments: str, since: str = "run_as_team", stop_at: int | None = None, limit: int | None = None
) -> tuple[int | None, str]:
    """(exit code, what it said)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["selfplay.report", "tests.selfplay.tiny"])
    process = context.Process(target=run_in_child, args=(folder, arguments, since, stop_at, limit))
    process.start()
    process.join()
    return process.exitcode, (folder / "said.txt").read_text()


NEW = ("experiment=tiny", *QUICK)


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> int:
    """Python and C calls of a whole run."""
    folder = tmp_path_factory.mktemp("counted")
    assert in_child(folder, *NEW, f"run_dir={folder / 'run'}") == (0, "")
    return int((folder / "calls.txt").read_text())


@pytest.mark.parametrize("share", [0.5, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 0.9))])
def test_ctrl_c_stops_with_a_line_and_the_resumed_run_ends_as_if_nothing_had_been(
    finished, calls, tmp_path, command, share
):
    root = tmp_path / "run"
    code, said = in_child(tmp_path, *NEW, f"run_dir={root}", stop_at=int(share * calls))
    assert code == 0
    assert said == f"stopped; everything up to the last commit is saved: go on with resume={root}\n"
    assert command(f"resume={root}") == (0, "")
    assert same_end(root, finished)


def test_ctrl_c_before_the_run_begins_is_one_line(tmp_path):
    code, said = in_child(tmp_path, *NEW, f"run_dir={tmp_path / 'run'}", since="check_config", stop_at=1)
    assert (code, said) == (INTERRUPTED, "stopped; the same command starts again, or goes on from what was written\n")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line_and_the_resumed_run_ends_as_if_nothing_had_been(finished, tmp_path, command):
    root, weights = tmp_path / "run", (checkpoint(finished) / "model.safetensors").stat().st_size
    code, said = in_child(tmp_path, *NEW, f"run_dir={root}", limit=weights - 1)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "free space" in said
    assert command(f"resume={root}") == (0, "")
    assert same_end(root, finished)

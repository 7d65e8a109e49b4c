from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.files import write_whole
from selfplay.run.folder import RunDirError, frozen_config, open_run_dir

CONFIG = {
    "seed": 1,
    "task": {"name": "countdown", "numbers": [1, 15]},
    "phases": [{"teacher": "search", "seconds": 60.0}],
}
ROOT = Path(__file__).parents[2]


def refusal(path: Path, resume: bool, config: dict = CONFIG, **options) -> str:
    """The one line with which a run directory is refused."""
    with pytest.raises(RunDirError) as caught:
        open_run_dir(path, resume, config, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_new_directory_is_created_with_its_config_frozen(tmp_path):
    with open_run_dir(tmp_path / "deep" / "run", False, CONFIG) as run:
        assert run.path == tmp_path / "deep" / "run"
        assert not run.resumed
    assert frozen_config(tmp_path / "deep" / "run") == CONFIG


def test_an_empty_directory_is_taken(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    assert frozen_config(tmp_path) == CONFIG


def test_a_run_is_resumed_with_the_same_config(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    (tmp_path / "ledger.sqlite").touch()
    with open_run_dir(tmp_path, True, CONFIG) as run:
        assert run.resumed


def test_a_setting_that_came_after_the_run_does_not_keep_it_from_being_resumed(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    now = CONFIG | {"new": 0.6}
    with open_run_dir(tmp_path, True, now, filled=lambda frozen: {"new": 0.6} | frozen) as run:
        assert run.resumed
    assert "new was 0.6, now 0.5" in refusal(tmp_path, True, now | {"new": 0.5}, filled=lambda was: {"new": 0.6} | was)


def test_a_run_directory_is_not_overwritten_and_the_mend_is_named(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    before = (tmp_path / "config.json").read_bytes()
    assert f"resume={tmp_path}" in refusal(tmp_path, False, CONFIG | {"seed": 2})
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "is not empty; empty it, or choose another run_dir" in refusal(tmp_path, False)
    assert "holds no run to resume" in refusal(tmp_path, True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_killed_before_its_config_was_whole_counts_as_empty(tmp_path):
    (tmp_path / "run.lock").write_text("4711\n")
    (tmp_path / ".config.json.4711.tmp").write_text('{"seed"')
    open_run_dir(tmp_path, False, CONFIG).close()
    assert frozen_config(tmp_path) == CONFIG


def test_a_file_in_its_place_is_named(tmp_path):
    file = tmp_path / "run"
    file.write_text("")
    for resume in (False, True):
        assert "is a file" in refusal(file, resume)


def test_a_place_that_cannot_be_written_is_named():
    assert "cannot be written" in refusal(Path("/proc/run"), False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_named(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written (Permission denied)" in refusal(tmp_path, False)


def test_resuming_what_is_not_there_is_refused_and_creates_nothing(tmp_path):
    assert "holds no run to resume" in refusal(tmp_path / "gone", True)
    assert not (tmp_path / "gone").exists()


def test_another_config_is_refused_key_by_key(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    other = {"seed": 2, "task": {"name": "countdown", "numbers": [1, 20]}, "phases": CONFIG["phases"], "extra": True}
    line = refusal(tmp_path, True, other)
    assert "seed was 1, now 2" in line
    assert "task.numbers.1 was 15, now 20" in line
    assert "extra was unset, now true" in line
    assert "phases" not in line


def test_a_long_list_of_differing_keys_is_cut(tmp_path):
    open_run_dir(tmp_path, False, {f"key{i:02}": 0 for i in range(20)}).close()
    assert refusal(tmp_path, True, {f"key{i:02}": 1 for i in range(20)}).count(" was ") == 9  # 8 keys and the sentence
    assert "and 12 more" in refusal(tmp_path, True, {f"key{i:02}": 1 for i in range(20)})


def test_keys_that_may_differ_cover_all_below_them_and_nothing_beside(tmp_path):
    open_run_dir(tmp_path, False, {"display": {"plain": False}, "display_seed": 1}).close()
    open_run_dir(tmp_path, True, {"display": {"plain": True}, "display_seed": 1}, may_differ={"display"}).close()
    changed = {"display": {"plain": True}, "display_seed": 2}
    assert "display_seed was 1, now 2" in refusal(tmp_path, True, changed, may_differ={"display"})


def test_tuples_and_lists_are_the_same_config(tmp_path):
    open_run_dir(tmp_path, False, {"numbers": (1, 15)}).close()
    open_run_dir(tmp_path, True, {"numbers": [1, 15]}).close()


@pytest.mark.parametrize("damage", [b"", b'{"seed": 1', b"[]", b"\xff\xfe"])
def test_a_damaged_config_is_named(tmp_path, damage):
    open_run_dir(tmp_path, False, CONFIG).close()
    (tmp_path / "config.json").write_bytes(damage)
    assert "config.json cannot be read; restore it" in refusal(tmp_path, True)


def test_two_processes_do_not_share_a_run(tmp_path):
    program = (
        "import sys; from selfplay.run.folder import open_run_dir\n"
        "run = open_run_dir(sys.argv[1], False, {}); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        assert f"another run (pid {other.pid}) uses" in refusal(tmp_path, True, {})
        other.kill()
        other.wait()
    open_run_dir(tmp_path, True, {}).close()  # a killed process holds nothing


def test_a_refused_resume_gives_the_lock_back(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    refusal(tmp_path, True, CONFIG | {"seed": 2})
    open_run_dir(tmp_path, True, CONFIG).close()


def test_the_lock_falls_with_the_run_and_not_with_a_forked_worker_that_outlives_it(tmp_path):
    gate_read, gate_write = os.pipe()
    run = open_run_dir(tmp_path, False, CONFIG)
    worker = os.fork()
    if worker == 0:
        os.close(gate_write)
        os.read(gate_read, 1)  # alive until the parent lets go
        os._exit(0)
    try:
        assert "another run" in refusal(tmp_path, True)
        run.close()
        open_run_dir(tmp_path, True, CONFIG).close()
    finally:
        os.close(gate_write)
        os.waitpid(worker, 0)
        os.close(gate_read)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    (tmp_path / f".file.{os.getpid()}.tmp").mkdir()  # stands in the way of the temporary file
    with pytest.raises(OSError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_frozen_config_is_readable_json(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    written = json.loads((tmp_path / "config.json").read_text())
    assert {name: value for name, value in written.items() if name != "sha256"} == CONFIG
    assert frozen_config(tmp_path) == CONFIG


def test_a_frozen_config_that_was_changed_is_noticed(tmp_path):
    open_run_dir(tmp_path, False, CONFIG).close()
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(written | {"seed": -1}))
    with pytest.raises(RunDirError, match="is not as it was written; restore it from a copy"):
        frozen_config(tmp_path)


def test_a_file_without_a_digest_is_the_config_of_an_older_run_or_nothing(tmp_path):
    older = {"task": {"name": "countdown"}, "actor": {}, "learner": {}, "seed": 3}
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert frozen_config(tmp_path) == older
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')  # a checkpoint's, copied over it
    with pytest.raises(RunDirError, match="is not as it was written; restore it from a copy"):
        frozen_config(tmp_path)

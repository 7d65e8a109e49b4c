"""Files that appear whole or not at all."""

from __future__ import annotations

import pytest

from kit.files import replacing, write_whole


def test_what_failed_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "file"
    write_whole(file, "old")

    def fail() -> None:
        with replacing(file) as new:
            new.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_two_processes_that_write_one_file_do_not_share_its_unfinished_name(tmp_path, monkeypatch):
    file = tmp_path / "file"
    with replacing(file) as mine:
        mine.write_text("mine")
        monkeypatch.setattr("os.getpid", lambda: -1)
        write_whole(file, "theirs")
        assert mine.read_text() == "mine"
    assert file.read_text() == "mine"

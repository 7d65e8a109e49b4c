"""Words of a command line: written so that they are read as they were meant, in any terminal."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kit.command import keep_writing, sweep_folder, word

TEXTS = (
    "runs/mine",
    "runs/a b",
    "it's",
    'a "b"',
    "a\\'b",
    "a,b=c",
    "$HOME",
    "`ls`",
    "über",
    "[x]",
    "{y}",
    "!z",
    "a\\",
    "100%",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_word_comes_back_through_shell_and_hydra(text):
    (spelled,) = shlex.split(word("resume", text))
    (override,) = OverridesParser.create().parse_overrides([spelled])
    assert str(override.value()) == text


def test_a_letter_that_the_terminal_lacks_ends_nothing(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    keep_writing()
    sys.stdout.write("3 × 7 ✓\n")
    sys.stdout.flush()
    assert raw.getvalue() == b"3 \\xd7 7 \\u2713\n"


def test_a_sweep_leaves_no_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["selfplay", "-m", "seed=1,2"])
    with sweep_folder():
        folder = Path(sys.argv[-1].removeprefix("hydra.sweep.dir="))
        (folder / "multirun.yaml").write_text("")
    assert not folder.exists()
    monkeypatch.setattr(sys, "argv", ["selfplay", "seed=1"])
    with sweep_folder():
        assert sys.argv == ["selfplay", "seed=1"]

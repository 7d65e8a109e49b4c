"""`make check` is clean: lint, formatting and types of the whole tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].splitlines()


@pytest.mark.parametrize("command", [line.strip().removeprefix("$(BIN)/") for line in COMMANDS])
def test_make_check_is_clean(command):
    program, *arguments = command.split()
    tool = Path(sys.executable).parent / program
    ran = subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr

"""A wheel answers: nets, pages of settings and all, beside the installed dependencies and away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.mark.slow
def test_what_a_wheel_installs_answers_the_readme_s_problem(tmp_path):
    built, site, work = tmp_path / "dist", tmp_path / "site", tmp_path / "work"
    source = tmp_path / "source"
    source.mkdir()
    work.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", built, source], check=True)
    subprocess.run([*PIP, "install", "--no-deps", "--target", site, *built.glob("*.whl")], check=True)
    ask = [sys.executable, "-m", "solve", "task=countdown", "problem='3 7 8 8 = 24'", "effort=high"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    told = subprocess.run(ask, cwd=work, env=environment, capture_output=True, text=True, check=True).stdout
    assert "accepted by the verifier" in told
    where = [sys.executable, "-c", "import solve; print(solve.__file__)"]
    assert (
        str(site) in subprocess.run(where, cwd=work, env=environment, capture_output=True, text=True, check=True).stdout
    )
    assert not list(work.iterdir())

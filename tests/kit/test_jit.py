"""The cache of compiled code: what it sees, where it lies, and what it does with a file that is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "__init__.py": "",
    "constants.py": "LIMIT = 10\n",
    "low.py": "from kit.jit import jit\n\n\n@jit\ndef twice(x):\n    return 2 * x\n",
    "high.py": (
        "from kit.jit import jit\nfrom small.constants import LIMIT\nfrom small.low import twice\n\n\n"
        "@jit\ndef answer(x):\n    return twice(x) + LIMIT\n"
    ),
    "apart.py": '"""Prose."""\n',
}
PROGRAM = """
import sys
import small.apart
from kit.jit import digest
from small.high import answer
print(answer(16), digest(answer.py_func), answer.stats.cache_hits[answer.signatures[0]] if answer.stats.cache_hits else 0)
print(answer._cache.cache_path)
"""


@pytest.fixture
def package(tmp_path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def run(package: Path, **environment: str) -> tuple[int, str, int, Path]:
    """(answer(16), digest, cache hits, folder of compiled code) in a process of its own."""
    settings = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    paths = os.pathsep.join((str(package.parent), str(ROOT)))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True,
        env=settings | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
    )  # fmt: skip
    first, folder = ran.stdout.splitlines()
    value, digest, hits = first.split()
    return int(value), digest, int(hits), Path(folder)


def test_compiled_code_is_found_again_beside_its_source(package):
    value, digest, hits, folder = run(package)
    assert (value, hits) == (42, 0)
    assert folder.is_relative_to(package / "__pycache__")
    assert run(package) == (42, digest, 1, folder)


def test_a_change_in_a_kernel_file_that_another_imports_is_seen(package):
    _, before, _, _ = run(package)
    (package / "low.py").write_text(FILES["low.py"].replace("2 * x", "3 * x"))
    value, after, hits, _ = run(package)
    assert (value, hits) == (58, 0)
    assert after != before


def test_a_changed_constant_of_another_file_is_seen(package):
    run(package)
    (package / "constants.py").write_text("LIMIT = 11\n")
    assert run(package)[0] == 43


def test_an_edit_elsewhere_costs_nothing(package):
    _, before, _, _ = run(package)
    (package / "apart.py").write_text('"""Other prose."""\n')
    (package / "constants.py").write_text('"""The limit."""\nLIMIT = 10\n')
    assert run(package)[:3] == (42, before, 1)


def test_where_neither_checkout_nor_home_can_be_written_a_temporary_folder_serves(package, tmp_path):
    for name in ("__pycache__", "home"):  # a file where a folder should be: root may write anywhere else
        ((package if name == "__pycache__" else tmp_path) / name).write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home"), "TMPDIR": str(temporary)}
    value, _, _, folder = run(package, **settings)
    assert value == 42
    assert folder.is_relative_to(temporary)
    assert not (temporary / f"reverse-o1-{os.getuid()}").stat().st_mode & 0o077
    assert run(package, **settings)[2] == 1


def test_the_setting_of_numba_goes_first(package, tmp_path):
    assert run(package, NUMBA_CACHE_DIR=str(tmp_path / "mine"))[3].is_relative_to(tmp_path / "mine")


@pytest.mark.parametrize("kind", ["nbi", pytest.param("nbc", marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", [pytest.param(b"", marks=pytest.mark.slow), b"\x80\x05garbage"])
def test_a_damaged_file_is_thrown_away(package, kind, damage):
    folder = run(package)[3]
    for file in folder.glob(f"*.{kind}"):
        file.write_bytes(damage)
    assert run(package)[0] == 42
    assert run(package)[:3:2] == (42, 1)

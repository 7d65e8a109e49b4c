"""The house rules that a reader should be able to trust: who imports whom, what is never called, how long a file is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

# What each room may import of ours, itself excepted. `bench` measures every room, so it stands above the other verbs.
MAY_IMPORT: dict[str, set[str]] = {
    "mcts": set(),
    "tasks": set(),
    "models": {"mcts", "tasks"},
    "solve": {"models", "mcts", "tasks"},
    "selfplay": {"solve", "models", "mcts", "tasks"},
    "serve": {"solve", "models", "mcts", "tasks"},
    "bench": {"selfplay", "solve", "models", "mcts", "tasks"},
}
MCTS_LIBRARIES = {"numpy", "numba", "llvmlite", "safetensors"}  # llvmlite: numba's own, for intrinsics
TENSOR_LIBRARIES = {"torch", "transformers", "safetensors", "tokenizers"}  # not for tasks
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "np.load", "numpy.load", "yaml.load", "yaml.unsafe_load"}
UNSAFE_SETTINGS = {"trust_remote_code", "allow_pickle"}


def imported_modules(tree: ast.AST, room: str) -> set[str]:
    """Top-level names of every module imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(room if node.level else (node.module or "").partition(".")[0])
    return names


def dotted_name(node: ast.AST) -> str:
    """`torch.load` for the attribute of a name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted_name(node.value)):
        return f"{before}.{node.attr}"
    return ""


def offences(source: str, room: str) -> Iterator[str]:
    """Every breach of the rules in one file of a room."""
    tree = ast.parse(source)
    imports = imported_modules(tree, room)
    for module in sorted(imports & MAY_IMPORT.keys() - MAY_IMPORT[room] - {room}):
        yield f"{room} imports {module}"
    for module in sorted(imports & (UNSAFE_MODULES | {"tests"})):
        yield f"imports {module}"
    if room == "mcts":
        for module in sorted(imports - MCTS_LIBRARIES - sys.stdlib_module_names - {room}):
            yield f"mcts imports {module}"
    if room == "tasks":
        for module in sorted(imports & TENSOR_LIBRARIES):
            yield f"tasks imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted_name(node.func) in UNSAFE_CALLS:
            yield f"line {node.lineno}: calls {dotted_name(node.func)}"
        if isinstance(node, ast.ImportFrom) and node.module == "torch" and any(a.name == "load" for a in node.names):
            yield f"line {node.lineno}: imports torch.load"
        if isinstance(node, ast.keyword) and node.arg in UNSAFE_SETTINGS and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: sets {node.arg}"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"
    if (lines := source.count("\n")) > MAX_LINES:
        yield f"{lines} lines, more than {MAX_LINES}"


def room_files() -> list[Path]:
    return sorted(file for room in MAY_IMPORT for file in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("file", room_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_keeps_the_house_rules(file):
    room = file.relative_to(ROOT).parts[0]
    assert list(offences(file.read_text(), room)) == []


@pytest.mark.parametrize(
    ("room", "source", "offence"),
    [
        ("mcts", "import models", "mcts imports models"),
        ("mcts", "import torch", "mcts imports torch"),
        ("tasks", "from mcts.types import Budget", "tasks imports mcts"),
        ("tasks", "def f():\n    import torch", "tasks imports torch"),
        ("models", "from solve import strategies", "models imports solve"),
        ("solve", "import selfplay.loop", "solve imports selfplay"),
        ("serve", "import selfplay", "serve imports selfplay"),
        ("selfplay", "import bench", "selfplay imports bench"),
        ("selfplay", "from tests.conftest import rng", "imports tests"),
        ("selfplay", "import pickle", "imports pickle"),
        ("models", "import torch as t\nx = torch.load(f)", "line 2: calls torch.load"),
        ("models", "from torch import load", "line 1: imports torch.load"),
        ("models", "f(trust_remote_code=True)", "line 1: sets trust_remote_code"),
        ("tasks", "eval('1+1')", "line 1: calls eval"),
        ("tasks", "exec('1+1')", "line 1: calls exec"),
        ("solve", "try:\n    pass\nexcept:\n    pass", "line 3: bare except"),
        ("solve", "x = 1\n" * 401, "401 lines, more than 400"),
    ],
)
def test_a_planted_breach_is_found(room, source, offence):
    assert offence in list(offences(source, room))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("models", "model.eval()"),
        ("models", "f(trust_remote_code=False)"),
        ("selfplay", "import torch\nfrom mcts import search\nfrom selfplay.loop import run"),
        ("mcts", "from . import kernels\nfrom collections import deque\nimport numpy as np"),
        ("bench", "from selfplay.learner import Learner"),
    ],
)
def test_what_is_allowed_is_not_reported(room, source):
    assert list(offences(source, room)) == []


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_no_other_file_grows_beyond_the_limit(folder):
    long = {str(file): n for file in (ROOT / folder).rglob("*.py") if (n := file.read_text().count("\n")) > MAX_LINES}
    assert long == {}


@pytest.mark.parametrize("room", ["mcts", "tasks"])
def test_the_ground_floor_pulls_no_torch(room):
    program = f"import sys, {room}; print([m for m in {sorted(TENSOR_LIBRARIES)} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_search_with_a_small_net_pulls_no_transformers():
    program = "import sys; from solve import solve; solve('3 7 12 = 15'); print('transformers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

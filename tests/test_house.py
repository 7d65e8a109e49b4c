"""The house rules that a reader should be able to trust: who imports whom, what is never called, how long a file is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import house

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

# What each room may import of ours, itself excepted. `bench` measures every room, so it stands above the other verbs.
MAY_IMPORT: dict[str, set[str]] = {
    "kit": set(),
    "mcts": {"kit"},
    "tasks": {"kit"},
    "models": {"mcts", "tasks", "kit"},
    "solve": {"models", "mcts", "tasks", "kit"},
    "selfplay": {"solve", "models", "mcts", "tasks", "kit"},
    "serve": {"solve", "models", "mcts", "tasks", "kit"},
    "bench": {"selfplay", "solve", "models", "mcts", "tasks", "kit"},
}
MCTS_LIBRARIES = {
    "kit",
    "numpy",
    "numba",
    "llvmlite",
    "safetensors",
    "lazy_loader",
}  # llvmlite: numba's own, for intrinsics
TENSOR_LIBRARIES = {"torch", "transformers", "safetensors", "tokenizers"}  # not for tasks
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "np.load", "numpy.load", "yaml.load", "yaml.unsafe_load"}
UNSAFE_SETTINGS = {"trust_remote_code", "allow_pickle"}

VERBS = ("solve", "selfplay", "serve", "bench")
# Who proposes steps is opened in one place, `models.policy`; `models.local_policy` is the policy of a model at hand. No verb
# makes an evaluator, a forward or a rollout, or opens a model. By module behind that door: what a verb may take all the same.
BEHIND_THE_DOOR: dict[str, set[str]] = {
    "steps.evaluator": set(),
    "steps.rollout": {"Rollout"},  # what a chain is
    "forward.choose": set(),
    "forward.causal": set(),
    "net.fast_training": set(),
    "files.bare_llama": set(),
    "files.pretrained": set(),
    "files.checkpoint": {"save_checkpoint", "save_tensors", "load_tensors"},  # tensors: of an optimiser
    "remote.client": set(),
    "remote.answers": set(),
    "remote.evaluator": set(),
    "remote.loop": set(),
    "remote.policy": set(),
}
MEASURES_FORWARDS = {"bench/speed/expand.py"}  # times the forward itself beside other engines', without steps or a task
AT_THE_DOOR = "takes models."  # how such an offence begins


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


def taken_from_behind_the_door(tree: ast.AST) -> Iterator[str]:
    """`module` or `module.name` of `models` that a verb leaves to `models.policy`, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.partition("models.")[2] for alias in node.names if alias.name.startswith("models.")]
            yield from (name for name in names if name in BEHIND_THE_DOOR)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("models"):
            module = node.module.removeprefix("models").removeprefix(".")
            allowed = BEHIND_THE_DOOR.get(module)
            for alias in node.names:
                name = f"{module}.{alias.name}".removeprefix(".")
                if name in BEHIND_THE_DOOR or (allowed is not None and alias.name not in allowed):
                    yield name


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
    if room in VERBS:
        for taken in taken_from_behind_the_door(tree):
            yield f"{AT_THE_DOOR}{taken}: ask models.policy"
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


MOST_BOXES, FEWEST_FILES = 14, 3
ROOMS = [room for room in house.ROOMS if (ROOT / room).is_dir()]
# Counts of tests/house.py that a change may lower. Boxes, floors and arrows inside the largest room; what one expansion enters.
MODELS = {"boxes": 14, "floors": 6, "arrows": 30}


@pytest.fixture(scope="module")
def graph():
    return house.imports()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_few_boxes_and_no_circle(room, graph):
    arrows = house.boxes(room, graph)
    assert len(arrows) <= MOST_BOXES
    assert house.in_circles(arrows) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_no_folder_holds_fewer_than_three_files(room):
    folders = {file.parent for file in (ROOT / room).rglob("*.py")} - {ROOT / room}
    files = {folder: [file.name for file in folder.glob("*.py") if file.name != "__init__.py"] for folder in folders}
    assert {str(folder): names for folder, names in files.items() if len(names) < FEWEST_FILES} == {}


def test_no_file_stands_in_a_circle(graph):
    assert house.in_circles(graph) == set()


def test_models_keeps_its_few_floors_and_arrows(graph):
    arrows = house.boxes("models", graph)
    counts = {"boxes": len(arrows), "floors": house.floors(arrows), "arrows": sum(map(len, arrows.values()))}
    assert {name: count for name, count in counts.items() if count > MODELS[name]} == {}


def test_counts_of_a_small_house():
    graph = {"r.a.one": {"r.b"}, "r.a.two": {"r.c", "r.a.one"}, "r.b": {"r.c"}, "r.c": set(), "r": {"r.c"}}
    arrows = house.boxes("r", graph)
    assert arrows == {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert house.floors(arrows) == 3
    assert house.in_circles(graph | {"r.c": {"r.b"}}) == {"r.b", "r.c"}
    assert house.climbs_and_returns([("r.a.one", "r.b"), ("r.b", "r.c"), ("r.c", "r.b")], graph) == (1, 1)
    assert house.code_lines('"""Text."""\n\n# why\nx = """a\nb"""\n') == 2


def room_files() -> list[Path]:
    return sorted(file for room in MAY_IMPORT for file in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("file", room_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_keeps_the_house_rules(file):
    name = file.relative_to(ROOT)
    found = list(offences(file.read_text(), name.parts[0]))
    if str(name) in MEASURES_FORWARDS:
        found = [offence for offence in found if not offence.startswith(AT_THE_DOOR)]
    assert found == []


def test_no_exception_outlives_its_need():
    for name in MEASURES_FORWARDS:
        assert list(taken_from_behind_the_door(ast.parse((ROOT / name).read_text())))
    modules = {
        ".".join(file.relative_to(ROOT / "models").with_suffix("").parts) for file in (ROOT / "models").rglob("*.py")
    }
    assert modules >= BEHIND_THE_DOOR.keys()


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
        (
            "solve",
            "from models.steps.evaluator import ModelEvaluator",
            "takes models.steps.evaluator.ModelEvaluator: ask models.policy",
        ),
        (
            "bench",
            "from models.steps.rollout import Rollout, rollouts",
            "takes models.steps.rollout.rollouts: ask models.policy",
        ),
        ("bench", "import models.steps.rollout as r", "takes models.steps.rollout: ask models.policy"),
        ("serve", "def f():\n    from models.remote import client", "takes models.remote.client: ask models.policy"),
        (
            "selfplay",
            "from models.forward.choose import forward_for",
            "takes models.forward.choose.forward_for: ask models.policy",
        ),
        (
            "selfplay",
            "from models.files.checkpoint import load_latest",
            "takes models.files.checkpoint.load_latest: ask models.policy",
        ),
        (
            "bench",
            "from models.files.pretrained import smollm2",
            "takes models.files.pretrained.smollm2: ask models.policy",
        ),
        ("solve", "from models.remote.policy import *", "takes models.remote.policy.*: ask models.policy"),
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
        ("bench", "from selfplay.learn.learner import Learner"),
        ("solve", "from models.policy import open_policy\nfrom models.local_policy import LocalPolicy"),
        ("selfplay", "from models.steps.rollout import Rollout\nfrom models.files.checkpoint import save_checkpoint"),
        ("models", "from models.steps.evaluator import ModelEvaluator"),
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

"""Counts of the house: boxes, arrows and floors of a room, circles, files and boxes that a call enters, lines of code.

    python -m tests.house        prints them for this checkout

A box is a folder or a file that lies directly in a room; a package's `__init__` is its door, no box. One box has an arrow to
another whose code it imports, inside functions too; imports for type checkers alone are left out. A box stands one floor above
the highest that it has an arrow to. A call climbs when the file that it enters imports the caller's, through others too. It
returns when it goes back into a file that was entered before.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from numba.core.dispatcher import Dispatcher

from models.abilities import Rollout, Step

ROOT = Path(__file__).parents[1]
ROOMS = ("kit", "mcts", "tasks", "models", "solve", "selfplay", "serve", "bench")
Graph = dict[str, set[str]]


# ---- who imports whom -------------------------------------------------------------------------------------------------------


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the rooms by its dotted name."""
    files = [file for room in ROOMS for file in sorted((root / room).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(root: Path = ROOT) -> Graph:
    """The modules that each module of the rooms imports."""
    known = modules(root)
    return {
        name: set(_imported(ast.parse(file.read_text()), known, file, name)) - {name} for name, file in known.items()
    }


def _imported(tree: ast.AST, known: dict[str, Path], file: Path, name: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            for alias in node.names:
                yield from [part for part in (f"{base}.{alias.name}", base) if part in known][:1]
        yield from _imported(node, known, file, name)


def boxes(room: str, graph: Graph) -> Graph:
    """The boxes of a room, each with those that it has an arrow to."""
    inside = {name: name.split(".")[1] for name in graph if name.startswith(f"{room}.")}
    arrows: Graph = {box: set() for box in inside.values()}
    for name, box in inside.items():
        arrows[box] |= {inside[other] for other in graph[name] if other in inside} - {box}
    return arrows


def floors(arrows: Graph) -> int:
    """Boxes on the longest way down. Defined where there is no circle."""
    height: dict[str, int] = {}

    def of(box: str) -> int:
        if box not in height:
            height[box] = 1 + max(map(of, arrows[box]), default=0)
        return height[box]

    return max(map(of, arrows), default=0)


def reachable(start: str, graph: Graph) -> set[str]:
    """All that `start` imports, through others too; itself where it stands in a circle."""
    seen: set[str] = set()
    queue = [start]
    while queue:
        new = graph[queue.pop()] - seen
        seen |= new
        queue.extend(new)
    return seen


def in_circles(graph: Graph) -> set[str]:
    """The nodes that lead back to themselves."""
    return {name for name in graph if name in reachable(name, graph)}


# ---- where a call goes ------------------------------------------------------------------------------------------------------


def files_entered(call: Callable[[], object], root: Path = ROOT) -> set[str]:
    """Modules of the rooms whose code runs in `call`: Python's, and the compiled functions that it can call."""
    entered: dict[CodeType, dict[str, Any]] = {}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            entered[frame.f_code] = frame.f_globals

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    kernels: dict[str, Dispatcher] = {}
    for code, names in entered.items():
        _kernels(code, names, kernels)
    files = [code.co_filename for code in entered] + [
        kernel.py_func.__code__.co_filename for kernel in kernels.values()
    ]
    return set(_named(files, root))


def _kernels(code: CodeType, names: dict[str, Any], kernels: dict[str, Dispatcher]) -> None:
    """Add the compiled functions that `code` names, and those that they name."""
    for name in code.co_names:
        value = names.get(name)
        holders = [value, *(vars(value).get(part) for part in code.co_names)] if hasattr(value, "__file__") else [value]
        for kernel in holders:
            if (
                isinstance(kernel, Dispatcher)
                and (key := f"{kernel.py_func.__module__}.{kernel.py_func.__name__}") not in kernels
            ):
                kernels[key] = kernel
                _kernels(kernel.py_func.__code__, kernel.py_func.__globals__, kernels)


def _named(files: Iterable[str], root: Path) -> Iterator[str]:
    known = {str(file): name for name, file in modules(root).items()}
    yield from (known[file] for file in files if file in known)


def boxes_entered(files: Iterable[str]) -> set[str]:
    """`room.box` of each module."""
    return {".".join(name.split(".")[:2]) for name in files}


def walk(passenger: object, call: Callable[[], object], root: Path = ROOT) -> list[tuple[str, str]]:
    """(caller's module, module entered) of each call that hands `passenger` on as an argument, each pair once, in order."""
    known = {str(file): name for name, file in modules(root).items()}
    steps: dict[tuple[str, str], None] = {}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_back is None:
            return
        code = frame.f_code
        n = code.co_argcount + code.co_kwonlyargcount
        here, there = known.get(frame.f_back.f_code.co_filename), known.get(code.co_filename)
        if (
            here
            and there
            and here != there
            and any(frame.f_locals.get(name) is passenger for name in code.co_varnames[:n])
        ):
            steps[here, there] = None

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(steps)


def carriers(text: str, call: Callable[[], object], root: Path = ROOT) -> list[str]:
    """Modules of whose functions one held the step `text`, a `Step` or a `Rollout` of it when it returned, in that order."""
    known = {str(file): name for name, file in modules(root).items()}
    held: dict[str, None] = {}

    def holds(value: object) -> bool:
        if isinstance(value, list | tuple) and len(value) < 64:
            return any(map(holds, value))
        return (isinstance(value, str) and value == text) or any(
            holds(getattr(value, name))
            for name in ("text", "steps")
            if isinstance(value, Step | Rollout) and hasattr(value, name)
        )

    def watch(frame: FrameType, event: str, argument: object) -> None:
        name = known.get(frame.f_code.co_filename)
        if event == "return" and name and name not in held and any(map(holds, [argument, *frame.f_locals.values()])):
            held[name] = None

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(held)


def climbs_and_returns(steps: list[tuple[str, str]], graph: Graph) -> tuple[int, int]:
    """Of a walk: calls into a file that imports the caller's, and calls into a file that had been entered before."""
    entered: set[str] = {steps[0][0]} if steps else set()
    climbs = returns = 0
    for here, there in steps:
        climbs += here in reachable(there, graph)
        returns += there in entered
        entered.add(there)
    return climbs, returns


# ---- lines of code ----------------------------------------------------------------------------------------------------------


def code_lines(source: str) -> int:
    """Lines that hold more than comments, docstrings and blanks."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            prose |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    no_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in no_code:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - prose)


def main() -> None:
    """Print the counts."""
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    graph = imports(root)
    total = 0
    for room in ROOMS:
        files = [*(root / room).rglob("*.py"), *(root / room).rglob("*.pyi")]
        if not files:
            continue
        arrows = boxes(room, graph)
        lines = sum(code_lines(file.read_text()) for file in files)
        total += lines
        circle = sorted(in_circles(arrows))
        print(
            f"{room:9} {len(arrows):3} boxes {'-' if circle else floors(arrows)} floors "
            f"{sum(map(len, arrows.values())):3} arrows {lines:6} lines of code; in circles: {', '.join(circle) or 'none'}"
        )
    print(f"{total} lines of code; files in circles: {', '.join(sorted(in_circles(graph))) or 'none'}")


if __name__ == "__main__":
    main()

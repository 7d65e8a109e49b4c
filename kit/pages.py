"""Settings as a page for people: names, defaults and comments, read from the code that holds them.

A holder is a dataclass, a class or a function. Its settings are its fields or parameters; the comment beside one is its
explanation. So a default and what is said of it stand once.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import is_dataclass
from typing import Any

COMMENTED = re.compile(r"\s+(\w+): .*?  # (.*)$")


def defaults(holder: Any) -> dict[str, Any]:
    """The default of each setting; None where it has none, and a dict where it is a dataclass itself."""
    if is_dataclass(holder):
        return {name: _plain(holder, name) for name in inspect.signature(holder).parameters}
    found = {name: parameter.default for name, parameter in inspect.signature(holder).parameters.items()}
    return {name: None if value is inspect.Parameter.empty else value for name, value in found.items()}


def _plain(holder: Any, name: str) -> Any:
    field = holder.__dataclass_fields__[name]
    if is_dataclass(field.default_factory):
        return defaults(field.default_factory)
    if callable(field.default_factory):
        return field.default_factory()
    return field.default if isinstance(field.default, str | int | float) and field.default != "???" else None


def page(holder: Any, inset: str = "") -> str:
    """Every setting as a line of YAML with its comment."""
    code = holder.__init__ if inspect.isclass(holder) and not is_dataclass(holder) else holder
    found = map(COMMENTED.match, inspect.getsource(code).splitlines())
    comments = {match[1]: match[2] for match in found if match}
    lines = []
    for name, value in defaults(holder).items():
        part = holder.__dataclass_fields__[name].default_factory if is_dataclass(holder) else None
        if is_dataclass(part):
            lines.append(f"\n{inset}{name}:\n{page(part, inset + '  ')}\n")
            continue
        line = f"{inset}{name}: {value if isinstance(value, str) else json.dumps(value)}"
        lines.append(f"{line:28} # {comments[name]}" if name in comments else line)
    return "\n".join(lines).strip("\n").replace("\n\n\n", "\n\n")

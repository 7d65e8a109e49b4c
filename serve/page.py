"""The page that shows a search: one HTML file out of its parts, which asks nobody else for anything.

The parts are markup, style, code, and d3-hierarchy (Mike Bostock, ISC licence) for where states stand.

What the page holds of data stands in a JSON island in which no text can end it; the code writes texts as text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "assets"


def live_page(model: str, *, efforts: Sequence[str], effort: str) -> str:
    """The page of a running server."""
    return _page({"model": model, "efforts": list(efforts), "effort": effort})


def tree_page(tree: dict[str, Any]) -> str:
    """The page of a `tree.json` that `solve tree=` has saved; it needs no server.

    Raises:
        ValueError: it is no such tree. One line.
    """
    try:
        count = len(tree["nodes"])
        assert all(0 <= edge["from"] < count and 0 <= edge["to"] < count for edge in tree["edges"])
        assert all(isinstance(edge["step"], str) for edge in tree["edges"])
        assert all(isinstance(node["depth"], int) for node in tree["nodes"])
    except (KeyError, TypeError, AssertionError):
        raise ValueError("this is no tree that solve tree=FILE.json has saved: give one that is") from None
    return _page({"tree": tree})


def _page(data: dict[str, Any]) -> str:
    island = json.dumps(data).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    page = _part("page.html")
    parts = {
        "/*style*/": _part("page.css"), "/*licence*/": _part("d3-hierarchy.LICENSE"),
        "/*d3*/": _part("d3-hierarchy.min.js"), "/*code*/": _part("model.js") + _part("page.js"), "/*data*/": island,
    }  # fmt: skip
    for mark, text in parts.items():
        before, found, after = page.partition(mark)
        assert found, f"page.html lacks {mark}"
        page = before + text + after
    return page


@cache
def _part(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")

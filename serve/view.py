"""`python -m serve.view TREE.json [OUT.html]`: a saved search tree as one page that needs no server and no network."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kit.files import write_whole
from serve.page import tree_page

USAGE = "python -m serve.view TREE.json [OUT.html], TREE.json as solve tree=FILE.json saves it"


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or 2 with one line that says why nothing was written."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        print(f"usage: {USAGE}", file=sys.stderr)
        return 2
    source = Path(arguments[0])
    target = Path(arguments[1]) if len(arguments) == 2 else source.with_suffix(".html")
    try:
        page = tree_page(json.loads(source.read_text(encoding="utf-8")))
        write_whole(target, page)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        print(f"error: {source}: {said}", file=sys.stderr)
        return 2
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The cells of `bench.budget`: a file for each (model, strategy, mode, seed), named by all that its numbers depend on.

The name ends in a digest of weights, problems, budgets and choices: a run into the folder of another one, with other settings
or a model trained further, measures anew and mixes nothing. The code is not part of it: a folder is of one version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.manifest import MANIFEST


def digest(*facts: Any) -> str:
    """Of anything whose repr tells it apart: 12 hexadecimal digits."""
    return blake2b(repr(facts).encode(), digest_size=6).hexdigest()


def cell_file(root: Path, model: str, strategy: str, mode: str, seed: int, facts: str) -> Path:
    """Where a cell of these `facts` (a digest) lies."""
    name = f"{model}-{strategy}-{mode}-{seed}".replace("/", "_").replace(":", "_")
    return root / "cells" / f"{name}-{facts}.parquet"


def weights_of(path: str) -> list[tuple]:
    """What tells the weights under `path` from others: digests out of a checkpoint's manifest, else files, sizes and times."""
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return sorted((name, entry["sha256"]) for name, entry in files.items() if name.endswith(".safetensors"))
    found = sorted(folder.iterdir()) if folder.is_dir() else [folder] if folder.is_file() else []
    return [(file.name, (told := file.stat()).st_size, told.st_mtime_ns) for file in found]


def label(model: str, models: Iterable[str]) -> str:
    """What a model is called in tables: the name of its folder, or the whole path where two folders have the same name."""
    alike = [other for other in set(models) if Path(other).name == Path(model).name]
    return Path(model).name if len(alike) < 2 else model


def reported(root: Path, asked: dict[str, list[str]], now: dict[tuple[str, str], str]) -> pa.Table | None:
    """The cells that belong into one report: of the strategies `asked` for by mode, all seeds, one digest a (model, mode).

    now: by (model, mode), the digest of what was asked for just now; of what lies there from before the newest one counts.
    None: there are no cells.
    """
    found: dict[tuple[str, str], list[tuple[float, str, pa.Table]]] = {}
    for file in sorted((root / "cells").glob("*.parquet")):
        cell = pq.read_table(file)
        model, strategy, mode = (cell[name][0].as_py() for name in ("model", "strategy", "mode"))
        if strategy in asked.get(mode, []):
            found.setdefault((model, mode), []).append((file.stat().st_mtime, file.stem.rpartition("-")[2], cell))
    cells = []
    for panel, there in found.items():
        counts = now.get(panel) or max(there, key=lambda entry: entry[0])[1]
        cells += [cell for _, facts, cell in there if facts == counts]
    return pa.concat_tables(cells) if cells else None

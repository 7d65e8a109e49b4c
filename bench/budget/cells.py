"""The cells of `bench.budget.run`: a file for each (model, strategy, mode, seed), named by all that its numbers depend on.

The name ends in a digest of the weights, problems, budgets, choices and source code: a run into the folder of another one, with
other settings, a model trained further or a changed search, measures anew and mixes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kit.files import replacing

ROOMS = ("kit", "mcts", "models", "solve", "tasks", "bench/budget/run.py")  # sources that the numbers come from

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("task", "model", "strategy", "mode", "split", "problem")),
        *((name, pa.int64()) for name in ("seed", "rung", "budget_tokens")),
        ("solved", pa.bool_()),
        *((name, pa.float64()) for name in ("tokens", "simulations", "prefilled", "seconds", "flops", "value_auc")),
        ("value_on", pa.bool_()),
        ("alone", pa.string()),
    ]
)


def digest(*facts: Any) -> str:
    """Of anything whose repr tells it apart: 12 hexadecimal digits."""
    return blake2b(repr(facts).encode(), digest_size=6).hexdigest()


@cache
def code() -> str:
    """Digest of the source code that the numbers come from."""
    root = Path(__file__).parents[2]
    files = [
        path for room in ROOMS for path in ([root / room] if room.endswith(".py") else (root / room).rglob("*.py"))
    ]
    return digest([(str(file.relative_to(root)), file.read_bytes()) for file in sorted(files)])


def cell_file(root: Path, model: str, strategy: str, mode: str, seed: int, facts: str) -> Path:
    """Where a cell of these `facts` (a digest) lies."""
    name = f"{model}-{strategy}-{mode}-{seed}".replace("/", "_").replace(":", "_")
    return root / "cells" / f"{name}-{facts}.parquet"


def write_cell(path: Path, columns: dict[str, Any]) -> None:
    """A cell appears whole or not at all. `columns`: those of SCHEMA."""
    with replacing(path) as new:
        pq.write_table(pa.table(columns, schema=SCHEMA), new)


def label(model: str, models: Iterable[str]) -> str:
    """What a model is called in tables: the name of its folder, or the whole path where two folders have the same name."""
    alike = [other for other in set(models) if Path(other).name == Path(model).name]
    return Path(model).name if len(alike) < 2 else model


def reported(root: Path, asked: dict[str, list[str]], now: dict[tuple[str, str], str]) -> pa.Table | None:
    """The cells of one report, of all seeds; None: there are none.

    asked: strategies by mode. now: the digest of what was asked for, by (model, mode).
    """
    cells = [(file.stem.rpartition("-")[2], pq.read_table(file)) for file in sorted((root / "cells").glob("*.parquet"))]
    found = []
    for facts, cell in cells:
        model, strategy, mode = (cell[name][0].as_py() for name in ("model", "strategy", "mode"))
        if strategy in asked.get(mode, []) and now.get((model, mode)) == facts:
            found.append(cell)
    return pa.concat_tables(found) if found else None

"""What one iteration leaves on disk, in the order that survives a SIGKILL at any instant.

Shards and checkpoint first, each written aside and renamed; then one row in the ledger: that row is the commit. A run
that is killed before the row repeats the iteration, and its orphans are swept.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from selfplay.ledger import Ledger
from selfplay.team import Team

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Folders:
    """Where things lie in a run directory."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def learner(self) -> Path:
        return self.root / "learner"

    @property
    def traces(self) -> Path:
        return self.root / "traces"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    def checkpoint(self, iteration: int) -> Path:
        return self.checkpoints / f"step-{iteration:06d}"

    def optimizer(self, iteration: int) -> Path:
        return self.learner / f"step-{iteration:06d}.safetensors"

    def make(self) -> None:
        for folder in (self.checkpoints, self.learner, self.traces):
            folder.mkdir(parents=True, exist_ok=True)


def commit(
    folders: Folders,
    ledger: Ledger | None,
    team: Team,
    iteration: int,
    *,
    model,
    tokenizer,
    optimizer_state: dict[str, torch.Tensor],
    shards: list,
    metrics: dict,
    state: dict,
) -> None:
    """Make an iteration permanent. Collective; only rank 0 holds a ledger and writes besides its shards."""
    everywhere = [shard for part in team.gather(shards) for shard in part]
    if ledger is not None:
        save_checkpoint(folders.checkpoint(iteration), model, tokenizer, {"iteration": iteration})
        save_tensors(folders.optimizer(iteration), optimizer_state)
        ledger.commit_iteration(
            iteration, shards=everywhere, checkpoint=folders.checkpoint(iteration).name, metrics=metrics, state=state
        )
        with folders.metrics.open("a") as lines:
            lines.write(json_line(metrics))
        _prune(folders, keep={iteration, state["promoted"], state["before"]})
    team.gather(None)  # no rank goes on before the row is there


def restore(folders: Folders, state: dict):
    """(learner model, its optimiser tensors, promoted model, tokenizer) as the last commit left them."""
    model, tokenizer, _ = load_checkpoint(folders.checkpoint(state["iteration"]))
    promoted, _, _ = load_checkpoint(folders.checkpoint(state["promoted"]))
    return model, load_tensors(folders.optimizer(state["iteration"])), promoted, tokenizer


def sweep(folders: Folders, ledger: Ledger, last: int) -> None:
    """Remove what a killed run left beyond its last commit, and make metrics.jsonl say what the ledger says."""
    ledger.sweep_orphans(folders.traces)
    committed = {f"step-{iteration:06d}" for iteration in range(last + 1)}
    for path in [*folders.checkpoints.iterdir(), *folders.learner.iterdir()]:
        if path.stem not in committed:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folders.metrics.write_text("".join(json_line(line) for line in ledger.metrics()))


def json_line(metrics: dict) -> str:
    """One strict-JSON line; NaN becomes null."""
    return json.dumps(_without_nan(metrics), allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prune(folders: Folders, keep: set[int]) -> None:
    newest = sorted(folders.checkpoints.glob("step-*"))[-KEPT_CHECKPOINTS:]
    names = {path.name for path in newest} | {folders.checkpoint(i).name for i in keep}
    for path in folders.checkpoints.glob("step-*"):
        if path.name not in names:
            shutil.rmtree(path)
    for path in folders.learner.glob("step-*.safetensors"):
        if path.stem not in names:
            path.unlink()

"""What one iteration leaves on disk, in the order that survives a SIGKILL at any instant.

Shards and checkpoint first, each written aside and renamed; then one row in the ledger: that row is the commit. A run
that is killed before the row repeats the iteration, and its orphans are swept.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from kit.files import json_line, write_whole
from models.files.checkpoint import load_tensors, save_checkpoint, save_tensors
from models.files.manifest import EXTRA, CheckpointError, verify_checkpoint
from models.local_policy import LocalPolicy
from models.policy import PROMOTED, open_policy
from selfplay.run.ledger import SHARD_SUFFIX, Commit, Ledger, LedgerError
from selfplay.team import Team
from tasks.base import Task

KEPT_COMMITS = 2  # that a run can go on from: the last, and the one before in case the last is damaged


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
    def promoted(self) -> Path:
        """Names the checkpoint that the gate let through last: what `open_policy(RUN)` reads."""
        return self.root / PROMOTED

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
    task: dict,
    model,
    tokenizer,
    optimizer_state: dict[str, torch.Tensor],
    shards: list,
    metrics: dict,
    state: dict,
) -> None:
    """Make an iteration permanent. Collective; only rank 0 holds a ledger and writes besides its shards.

    `task`: name and options, kept in the checkpoint so that a solver needs nothing but its folder.
    """
    everywhere = [shard for part in team.gather(shards) for shard in part]
    if ledger is not None:
        save_checkpoint(folders.checkpoint(iteration), model, tokenizer, {"iteration": iteration, "task": task})
        save_tensors(folders.optimizer(iteration), optimizer_state)
        ledger.commit_iteration(
            iteration, shards=everywhere, checkpoint=folders.checkpoint(iteration).name, metrics=metrics, state=state
        )
        _name_promoted(folders, state)
        with folders.metrics.open("a") as lines:
            lines.write(json_line(metrics))
        _prune(folders, ledger.newest(KEPT_COMMITS))
    team.gather(None)  # no rank goes on before the row is there


def needed(commit: Commit) -> set[int]:
    """Iterations whose checkpoints a run needs to go on from `commit`."""
    return {commit.iteration, commit.state["promoted"], commit.state["before"]}


def check_start(folder: Path, task: Task, longest: int) -> None:
    """Refuse the checkpoint of `checkpoint=` before anything is written. `longest`: tokens of the longest context to come.

    Raises:
        CheckpointError: it is damaged, of another task, or of one with shorter chains.
    """
    policy = open_policy(str(folder), trainable=True, device="cpu").policy
    if not policy.in_words:
        return  # a pretrained model reads any text
    if isinstance(policy, LocalPolicy) and policy.lacks(task):
        return  # it is given the words, and positions
    policy.check(task)
    positions = getattr(policy.model.config.get_text_config(), "max_position_embeddings", longest)
    if positions < longest:
        raise CheckpointError(
            f"{folder}: its {positions} positions are fewer than the {longest} tokens of this task's longest chain;"
            " use a checkpoint of a task as long"
        )


def rewind_damage(folders: Folders) -> str | None:
    """Before a resume: check every file that the ledger names, and take the last commit back if that is what it takes.

    The iteration taken back is repeated, bit for bit. Returns what was damaged and is made anew; None: nothing was.

    Raises:
        LedgerError: the ledger is damaged or lost, or no kept commit is whole; nothing was changed.
    """
    lost = LedgerError(
        f"ledger {folders.ledger} is missing or empty although {folders.traces} holds shards; "
        "restore it from a copy, or start a new run"
    )
    used = any(folders.traces.glob(f"*{SHARD_SUFFIX}"))
    if not folders.ledger.exists() or not folders.ledger.stat().st_size:
        if used:
            raise lost
        return None  # killed before its first commit
    damage: list[str] = []
    with Ledger(folders.ledger) as ledger:
        kept = ledger.newest(KEPT_COMMITS)
        if used and not kept:
            raise lost
        for commit in kept:
            try:
                _check_files(folders, ledger, commit)
            except (CheckpointError, LedgerError) as error:
                damage.append(str(error).rpartition(";")[0])
                continue
            if not damage:
                return None
            ledger.rewind(commit.iteration)
            return f"{damage[0]}; going on from iteration {commit.iteration}, the last that is whole"
    if damage:
        raise LedgerError(f"{damage[0]}; restore it from a copy, or start a new run")
    return None


def _check_files(folders: Folders, ledger: Ledger, commit: Commit) -> None:
    for iteration in sorted(needed(commit)):
        folder = folders.checkpoint(iteration)
        verify_checkpoint(folder)
        if (found := json.loads((folder / EXTRA).read_text())["iteration"]) != iteration:
            raise CheckpointError(f"{folder}: this is a copy of iteration {found}; use an earlier one")
    load_tensors(folders.optimizer(commit.iteration))
    ledger.verify_shards(folders.traces, 0, commit.iteration)


def restore(folders: Folders, state: dict, device: str = "cpu"):
    """(learner model, its optimiser tensors, promoted model, tokenizer) as the last commit left them."""
    last, promoted = (
        open_policy(str(folders.checkpoint(state[which])), trainable=True, device=device).policy
        for which in ("iteration", "promoted")
    )
    return last.model, load_tensors(folders.optimizer(state["iteration"])), promoted.model, last.tokenizer


def sweep(folders: Folders, ledger: Ledger, last: int) -> None:
    """Remove what a killed run left beyond its last commit, and make metrics.jsonl say what the ledger says."""
    ledger.sweep_orphans(folders.traces)
    committed = {f"step-{iteration:06d}" for iteration in range(last + 1)}
    for path in [*folders.checkpoints.iterdir(), *folders.learner.iterdir()]:
        if path.stem not in committed:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if (newest := ledger.last()) is not None:
        _name_promoted(folders, newest.state)
    folders.metrics.write_text("".join(json_line(line) for line in ledger.metrics()))


def _name_promoted(folders: Folders, state: dict) -> None:
    write_whole(folders.promoted, json_line({"checkpoint": folders.checkpoint(state["promoted"]).name}))


def _prune(folders: Folders, kept: list[Commit]) -> None:
    """Remove checkpoints and optimiser states that none of the commits `kept` needs."""
    names = {folders.checkpoint(iteration).name for commit in kept for iteration in needed(commit)}
    for path in folders.checkpoints.glob("step-*"):
        if path.name not in names:
            shutil.rmtree(path)
    for path in folders.learner.glob("step-*.safetensors"):
        if path.stem not in names:
            path.unlink()

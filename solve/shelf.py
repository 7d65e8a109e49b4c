"""Which model answers: a checkpoint with what it says of itself, one of those shipped with the repository, or any causal LM.

A checkpoint knows its task, how well its value head was measured, and how its confidence was calibrated (`bench calibration`
writes both). No value is trusted before it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.manifest import EXTRA, MANIFEST, CheckpointError
from models.plain_llama import load_plain
from solve.confidence import Calibration, ChainFit
from solve.types import SolveError
from tasks import TASKS, Problem, Task, TaskError, make_task

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "shipped"
TRUSTED_AUC = 0.7  # a value head below this, or never measured, is not looked at; docs/results/budget.md says why
TRUSTED_WITHIN = 0.55  # nor one below this among states of one problem
FEW_SHOT = 3  # solved examples that a pretrained model sees before a question


@dataclass(frozen=True)
class Shelved:
    """A model with its task. `value_auc`: of its value head on dev problems, None: never measured."""

    name: str
    model: Any
    task: Task
    options: dict[str, Any]  # of the task, its name included
    value_auc: float | None = None
    value_within: float | None = None  # its AUC over pairs of states of one problem; None: not told apart
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)  # by name of the strategy, without a judge
    chain_fit: ChainFit | None = None  # None: never fitted

    @property
    def trusted(self) -> bool:
        """Whether the value head was measured, and well enough to be looked at."""
        return self.value_auc is not None and trustworthy(self.value_auc, self.value_within)


def trustworthy(auc: float, within: float | None) -> bool:
    """Whether a value of such AUC over all dev states, and over those of one problem (None: not measured), is worth a look."""
    return auc >= TRUSTED_AUC and (within is None or within >= TRUSTED_WITHIN)


def take(
    checkpoint: str | None = None,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    problem: str | None = None,
) -> Shelved:
    """The model to answer with.

    Args:
        checkpoint: a folder, a folder or GGUF file of any causal LM, "smollm2", or None for one of the shipped ones.
        task, options: of the task; what is not given comes from the checkpoint.
        problem: a text that the task has to be able to read, where one is to be found among the shipped ones.

    Raises:
        SolveError: no model fits. One line that names the mend.
        CheckpointError, TaskError: what was named cannot be read.
    """
    given = dict(options or {})
    if not isinstance(problem, str | None):
        raise SolveError(f"a problem of type {type(problem).__name__}: give its text")
    if task is not None and task not in TASKS:
        raise SolveError(f"unknown task {task!r}: use one of {', '.join(TASKS)}")
    if checkpoint is None:
        return _shipped(task, given, problem)
    folder = Path(checkpoint)
    if checkpoint == "smollm2" or (folder.exists() and not (folder / MANIFEST).exists()):
        return _pretrained(checkpoint, task, given)
    return _checkpoint(folder, task, given)


def shipped() -> dict[str, dict[str, Any]]:
    """Task options of every shipped checkpoint, by folder name."""
    return {folder.name: _told(folder)["task"] for folder in sorted(SHIPPED.iterdir()) if (folder / MANIFEST).exists()}


def _shipped(task: str | None, given: dict[str, Any], problem: str | None) -> Shelved:
    """The first shipped checkpoint that reads the problem."""
    refused: dict[str, list[str]] = {}  # names by reason
    for name, options in shipped().items():
        if (task and options["name"] != task) or any(options.get(key) != value for key, value in given.items()):
            continue
        try:
            if problem is not None:
                make_task(**options).parse_problem(problem)
        except TaskError as error:
            refused.setdefault(str(error), []).append(name)
            continue
        return _checkpoint(SHIPPED / name, task, given)
    if task is not None and given:
        make_task(name=task, **given)  # says which options there are, where one of these is none
    wanted = f"task={task}" + "".join(f" task.{key}={value}" for key, value in given.items()) if task else "this"
    names = ", ".join(shipped())
    reasons = [f"{', '.join(alike)}: {reason}; " for reason, alike in refused.items()]
    raise SolveError(
        f"none of the shipped checkpoints ({names}) answers {wanted}; {''.join(reasons)}"
        "or train one with make selfplay and give checkpoint=FOLDER"
    )


def _told(folder: Path) -> dict[str, Any]:
    import json

    return json.loads((folder / EXTRA).read_text())


def _checkpoint(folder: Path, task: str | None, given: dict[str, Any]) -> Shelved:
    model, token_ids, extra = load_plain(folder) or _whole(folder)
    saved = (extra.get("task") or {}) if isinstance(extra, dict) else None
    if not isinstance(saved, dict) or (saved and not isinstance(saved.get("name"), str)):
        raise CheckpointError(f"{folder / EXTRA}: does not say a task as training writes it; use another checkpoint")
    if not saved and not task:
        raise SolveError(f"{folder} does not say which task it is for: give task=NAME and its options")
    if saved and task and saved["name"] != task:
        raise SolveError(f"{folder} is a checkpoint of task {saved['name']}, not {task}: give one of task {task}")
    options = {**(saved or {"name": task}), **given}
    made = make_task(**options)
    if model.tokenizer is None and token_ids != made.token_ids:
        raise CheckpointError(
            f"{folder}: its tokens are not those of task {made.name} with these options; leave them out"
        )
    if any(not bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise CheckpointError(f"{folder}: has weights that are not finite; use the checkpoint before this one")
    return Shelved(folder.name, model, made, options, *_measured(folder, extra))


def _measured(folder: Path, extra: dict) -> tuple[float | None, float | None, dict[str, Calibration], ChainFit | None]:
    """(AUC of the value, the same within problems, fits of confidence by strategy, fit of chains), as told."""
    value, confidence, chain = (extra.get(name) or {} for name in ("value", "confidence", "chain"))
    try:
        auc = float(value["auc"]) if value else None
        within = None if value.get("auc_within") is None else float(value["auc_within"])
        calibrations = {name: Calibration(**_finite(fit)) for name, fit in confidence.items()}
        return auc, within, calibrations, ChainFit(**_finite(chain)) if chain else None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{folder}: what {EXTRA} says of its value and confidence is not what bench calibration writes: "
            f"write it anew with python -m bench calibration models={folder} write=yes"
        ) from None


def _finite(weights: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: float(number) for name, number in weights.items()}
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("a weight that is not finite")
    return numbers


def _whole(folder: Path) -> tuple[Any, dict[str, int], dict]:
    from models.checkpoint import load_checkpoint  # with transformers, which takes seconds to import

    model, tokenizer, extra = load_checkpoint(folder)
    return model, tokenizer.get_vocab(), extra


def _pretrained(path: str, task: str | None, given: dict[str, Any]) -> Shelved:
    if task is None:
        raise SolveError("a language model reads many tasks: give task=NAME")
    from models.pretrained import load_pretrained, smollm2

    made = make_task(name=task, **given)
    model, _ = load_pretrained(smollm2() if path == "smollm2" else Path(path), few_shot=FEW_SHOT)
    return Shelved(Path(path).name, model, made, {"name": task, **given})


def read_problem(task: Task, text: str) -> Problem:
    """The problem that a text asks.

    Raises:
        SolveError: none of this task.
    """
    if not isinstance(text, str):
        raise SolveError(f"a problem of type {type(text).__name__}: give its text")
    try:
        return task.parse_problem(text)
    except TaskError as error:
        raise SolveError(str(error)) from None

"""The typed configuration of `python -m solve`, registered with Hydra; `conf/solve.yaml` gives every default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from tasks.registry import register_tasks


@dataclass
class BudgetConfig:
    """Limits in place of an effort's; the first one reached stops."""

    tokens: int | None  # generated, a problem
    simulations: int | None  # a problem
    seconds: float | None  # of one problem, or of those of a batch that are searched at once


@dataclass
class SolveConfig:
    problem: str | None
    file: str | None
    out: str | None
    policy: str | None
    checkpoint: str | None
    device: str
    strategy: str | None
    effort: str
    budget: BudgetConfig
    verify: str | None
    choose: str | None
    trust_value: bool | None
    share: str
    batch: int
    tree: str | None
    show: str
    json: bool
    seed: int
    task: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Make the schema known to Hydra. Called once."""
    ConfigStore.instance().store(name="solve_schema", node=SolveConfig)
    register_tasks()

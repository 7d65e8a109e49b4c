"""The typed configuration of `python -m solve`, registered with Hydra; `conf/solve.yaml` is the page to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class BudgetConfig:
    """Limits in place of an effort's; the first one reached stops."""

    tokens: int | None = None  # generated, a problem
    simulations: int | None = None  # a problem
    seconds: float | None = None  # of one problem, or of those of a batch that are searched at once


@dataclass
class SolveConfig:
    problem: str | None = None
    file: str | None = None
    out: str | None = None
    policy: str | None = None
    checkpoint: str | None = None
    strategy: str | None = None
    effort: str = "low"
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    verify: str | None = None
    choose: str | None = None
    trust_value: bool | None = None
    share: str = "none"
    batch: int = 32
    tree: str | None = None
    json: bool = False
    seed: int = 0
    task: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Make the schema known to Hydra. Called once."""
    ConfigStore.instance().store(name="solve_schema", node=SolveConfig)

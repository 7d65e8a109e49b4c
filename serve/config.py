"""The typed configuration of `python -m serve`, registered with Hydra; `conf/serve.yaml` gives every default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from tasks.registry import register_tasks


class ServeError(ValueError):
    """A server that cannot be started. The message is one line and names the mend."""


@dataclass
class ServeConfig:
    policy: str | None
    name: str | None
    device: str
    host: str
    port: int
    api_key: str | None
    secret: str | None
    effort: str
    strategy: str | None
    trust_value: bool | None
    reasoning_visibility: str
    slots: int
    queue: int
    seconds: float
    drain: float
    task: dict[str, Any] = field(default_factory=dict)


def register() -> None:
    """Make the schema known to Hydra. Called once."""
    ConfigStore.instance().store(name="serve_schema", node=ServeConfig)
    register_tasks()

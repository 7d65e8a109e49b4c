"""What a server serves: one policy under a name, and what its owner lets requests have."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from serve.api.errors import ApiError
from serve.engine.engine import Engine
from serve.thoughts import Visibility
from solve.search.think import thinks
from solve.strategies import THINK
from tasks.base import Task

_SECRET, _NUMBERS = os.urandom(16), itertools.count()


def fresh_id(kind: str) -> str:
    """An id that nobody can guess; the system is asked for randomness once, not with every request."""
    number = next(_NUMBERS).to_bytes(8, "little")
    return f"{kind}{hashlib.blake2b(number, key=_SECRET, digest_size=16).hexdigest()}"


@dataclass(frozen=True)
class Served:
    """A running engine and its settings."""

    engine: Engine
    name: str  # of the model, as clients ask for it
    effort: str = "low"  # where a request names none
    default_strategy: str | None = None  # where a request names none; None: a stream where the net was taught to think
    most_visible: Visibility = "show"
    seconds: float = 600.0  # of a request; then the best so far is the answer
    heartbeat: float = 10.0  # seconds between signs of life of a stream
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def task(self) -> Task:
        """What its policy reads."""
        return self.engine.solver.shelved.task

    @property
    def strategy(self) -> str | None:
        """How requests are searched that do not say how; None: best first."""
        return self.default_strategy or (THINK if thinks(self.task, self.engine.solver.shelved.policy) else None)

    @cached_property
    def fingerprint(self) -> str:
        """Which weights answer."""
        return f"fp_{hashlib.sha256(self.engine.solver.shelved.policy.version.encode()).hexdigest()[:12]}"

    def check_model(self, name: str) -> None:
        """Refuse a request for another model.

        Raises:
            ApiError: 404.
        """
        if name != self.name:
            raise ApiError(
                404, f"this server has no such model: use {self.name}", param="model", code="model_not_found"
            )

    def model(self) -> dict[str, Any]:
        """As `/v1/models` lists it."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "reverse-o1"}

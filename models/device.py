"""Which device computes."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from models.abilities import PolicyError

DEVICES = ("auto", "cpu", "cuda")


def device_of(name: str | None, *, small: bool = False) -> str:
    """The device that a setting names: cpu or cuda.

    Args:
        name: auto (or None): a GPU where there is one; the CPU for a `small` net, whose kernels are the CPU's.

    Raises:
        PolicyError: no such device, or no such name.
    """
    if name not in (*DEVICES, None):
        raise PolicyError(f"device={name} is unknown: use one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyError("device=cuda: torch sees no GPU here; use device=cpu, or install torch for CUDA")
    if name in ("cpu", "cuda"):
        return name
    return "cuda" if torch.cuda.is_available() and not small else "cpu"


def repeatable(device: str) -> None:
    """From now on a GPU computes the same bits from the same numbers, wherever torch knows how."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def within_memory(mend: str) -> Generator[None]:
    """Say in one line what helps where a GPU is too small.

    Raises:
        PolicyError: it is.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PolicyError(f"the GPU has too little memory: {mend}, or use device=cpu") from error

"""What tensors hold: which net this is, whether a file still holds what was written, and whether all of it are numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.files.manifest import CheckpointError


def weights_hash(model: nn.Module) -> str:
    """sha256 of all weights: which net made a trace."""
    return tensors_digest(model.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).cpu().numpy())
    return digest.hexdigest()


def refuse_not_finite(where: object, tensors: Mapping[str, Tensor], mend: str) -> None:
    """Weights of which one is NaN or infinite compute nothing.

    Raises:
        CheckpointError: the first such tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{where}: {name} holds NaN or infinity; {mend}")

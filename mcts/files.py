"""Trees on disk: safetensors with a sha256 over their arrays. A tree that was loaded goes on as the one that was saved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kit.files import replacing
from mcts.forest.forest import Forest
from mcts.store.store import Store

_FORMAT = "reverse-o1.tree/1"


class TreeFileError(ValueError):
    """A file that holds no tree of ours, or a damaged one; one line that names it."""


def save(tree: Store | Forest, path: str | os.PathLike[str]) -> None:
    """Write a store or a forest between two waves; a forest's wave under way is saved with it.

    The file appears whole or not at all.
    """
    settings: dict = {}
    if isinstance(tree, Forest):
        arrays, settings = tree.state()
    else:
        arrays = tree.state()
    kind = "forest" if isinstance(tree, Forest) else "store"
    header = {"format": _FORMAT, "kind": kind, "settings": json.dumps(settings), "sha256": _digest(arrays, settings)}
    with replacing(Path(path)) as new:
        save_file(arrays, new, header)


def load(path: str | os.PathLike[str]) -> Store | Forest:
    """What `save` wrote.

    Raises:
        TreeFileError: not such a file, or its bytes have changed.
        FileNotFoundError: no file.
    """
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if header.get("format") != _FORMAT:
            raise TreeFileError(f"{path} is no {_FORMAT} file")
        settings = json.loads(header["settings"])
        if _digest(arrays, settings) != header["sha256"]:
            raise TreeFileError(f"{path} is damaged: its sha256 is another")
        return Forest.from_state(arrays, settings) if header["kind"] == "forest" else Store.from_state(arrays)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise TreeFileError(f"{path} holds no tree: {error}") from None


def _digest(arrays: Mapping[str, np.ndarray], settings: dict) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

"""The files of a checkpoint: a manifest of what belongs to it, and writing that is whole or not at all. No tensors here.

A folder appears whole or not at all: it is written under a hidden name, synced to disk and renamed. Only safetensors and
JSON are read, and nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from kit.files import one_line

MANIFEST, EXTRA, VALUE_HEAD = "manifest.json", "extra.json", "value_head.safetensors"
CALIBRATION = "calibration.json"  # beside the manifest and outside it, see `models.files.calibration`
FORMAT_VERSION, CALIBRATION_VERSION = 1, 1
FEW_SHOT = "few_shot"  # in EXTRA, of a pretrained model: how many examples stand before a question
_FORBIDDEN_KEYS = {"auto_map", "quantization_config", "attn_implementation", "_attn_implementation", "custom_pipelines"}
READ_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError, SafetensorError)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. The message is one line and names the file and the mend."""


def verify_checkpoint(folder: Path | str, *, calibration: bool = True) -> None:
    """Compare every file with the manifest, and the calibration with its digest and with the weights.

    `calibration`: False leaves the calibration out, which is about to be replaced.

    Raises:
        CheckpointError: the first file that differs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder; check the path")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, files = manifest["version"], dict(manifest["files"])
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except READ_ERRORS as error:
        raise CheckpointError(f"{folder / MANIFEST}: missing or damaged; use the checkpoint before this one") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder / MANIFEST}: version {version}, not {FORMAT_VERSION}; use a matching reverse-o1"
        )
    for name in sorted({"config.json", EXTRA, VALUE_HEAD} - expected.keys()):
        raise CheckpointError(f"{folder / name}: not in the manifest; use the checkpoint before this one")
    for name, (size, digest) in expected.items():
        file = folder / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise CheckpointError(f"{file}: missing or not a plain file; use the checkpoint before this one")
        found = fingerprint(file)
        if found["bytes"] != size:
            raise CheckpointError(f"{file}: {found['bytes']} bytes, not {size}; use the checkpoint before this one")
        if found["sha256"] != digest:
            raise CheckpointError(f"{file}: content changed (sha256); use the checkpoint before this one")
    for file in sorted(folder.iterdir()):
        beside = file.name in (MANIFEST, CALIBRATION, f".{CALIBRATION}.new") or file.suffix == ".md"
        if file.name not in expected and not beside:
            raise CheckpointError(f"{file}: not in the manifest; remove it")
    if calibration and os.path.lexists(folder / CALIBRATION):
        _verify_calibration(folder)


def _verify_calibration(folder: Path) -> None:
    file = folder / CALIBRATION
    anew = f"measure anew with python -m bench calibration policy={folder} write=yes, or remove it"
    try:
        if file.is_symlink() or not file.is_file():
            raise ValueError("a link, a folder or a pipe")
        facts = json.loads(file.read_text())
        version, digest, weights = facts["version"], facts.pop("digest"), facts["weights"]
    except READ_ERRORS as error:
        raise CheckpointError(f"{file}: not what a calibration writes; {anew}") from error
    if version != CALIBRATION_VERSION:
        raise CheckpointError(f"{file}: version {version}, not {CALIBRATION_VERSION}; {anew}")
    if digest != calibration_digest(facts):
        raise CheckpointError(f"{file}: content changed (sha256); {anew}")
    if weights != weights_digest(folder):
        raise CheckpointError(f"{file}: measured other weights; {anew}")


def calibration_digest(facts: dict) -> str:
    """sha256 of a calibration's facts, its own digest left out; layout of the file does not matter."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def weights_digest(folder: Path | str) -> str:
    """sha256 over the weights that a checkpoint's manifest names: which net this is.

    Raises:
        CheckpointError: no manifest that can be read.
    """
    try:
        files = json.loads((Path(folder) / MANIFEST).read_text())["files"]
        named = sorted((name, entry["sha256"]) for name, entry in files.items() if name.endswith(".safetensors"))
    except READ_ERRORS as error:
        raise CheckpointError(f"{Path(folder) / MANIFEST}: missing or damaged; use another checkpoint") from error
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def refuse_code(config: Path) -> None:
    """A config that names code, a kernel or a quantiser to fetch."""
    try:
        fields = json.loads(config.read_text())
    except READ_ERRORS as error:
        raise CheckpointError(f"{config}: not JSON; use the checkpoint before this one") from error
    for key in _keys(fields):
        if key in _FORBIDDEN_KEYS:
            raise CheckpointError(f"{config}: names code to run ({key}); only built-in architectures are loaded")


def fingerprint(file: Path) -> dict[str, str | int]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


@contextmanager
def writing(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({one_line(error)}); free space or make it writable, then resume"
        ) from error


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)

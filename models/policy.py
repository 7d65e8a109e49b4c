"""Who proposes steps: one protocol, opened in one place.

    opened = open_policy("countdown4")                              a net that comes with the repository
    opened = open_policy("runs/mine")                               the net that a run has promoted
    opened = open_policy("smollm2")                                 or a folder of any causal LM, or a GGUF file
    opened = open_policy("http://127.0.0.1:8000/v1@Qwen2.5-7B")     a model on a server that speaks OpenAI's API

A new kind of policy is a class that implements `Policy`, and a line of `open_policy`; no verb knows which kind it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from models.abilities import Abilities, PolicyError, Rollout, StepEvaluator
from models.device import device_of
from models.files.bare_llama import load_plain
from models.files.calibration import Calibration, read_calibration
from models.files.manifest import EXTRA, MANIFEST, CheckpointError, weights_digest
from models.local_policy import LocalPolicy
from models.steps.codec import Codec
from models.steps.stream_decoder import StreamWave
from models.steps.stream_types import Planted, Rules, Stream
from models.trie.continuing import Continuations
from tasks.base import Problem, Task

SHIPPED = Path(__file__).parent / "shipped"
SMOLLM2 = "smollm2"
PROMOTED, SUMMARY, CHECKPOINTS = "promoted.json", "summary.json", "checkpoints"  # of a run folder
FEW_SHOT = 3  # solved examples that a language model sees before a question
_REMOTE = re.compile(r"(https?://[^@\s]+/v1)/?@(\S+)")
_LOGIN = re.compile(r"(?<=//)[^/@]*@")


class Policy(Protocol):
    """Proposes steps. A model in this process, or on a server."""

    name: str  # in tables
    can: Abilities
    model: Any  # the net in this process; None: it is elsewhere

    @property
    def in_words(self) -> bool:
        """A token is a word of the task: a small net, whose steps cost less than what surrounds them."""
        ...

    @property
    def version(self) -> str:
        """Which weights propose."""
        ...

    @property
    def flops_per_token(self) -> float | None:
        """Of a forward; None: not known."""
        ...

    def check(self, task: Task) -> None:
        """Refuse a task that the policy does not read.

        Raises:
            CheckpointError: one line.
        """
        ...

    @property
    def tokenizer(self) -> Any:
        """What is saved beside the model; None: there is none here."""
        ...

    def codec(self, task: Task) -> Codec | None:
        """How the policy reads and writes `task` in tokens; None: nobody here knows its tokens."""
        ...

    def evaluator(
        self, task: Task, *, temperature: float = 1.0, seed: int = 0, most: int | None = None
    ) -> StepEvaluator:
        """Steps for a search. `temperature` shapes what is drawn; log-probabilities stay those of the policy at 1.

        `most`: tokens of a chain in free text, where the policy counts them.
        """
        ...

    def chains(
        self,
        task: Task,
        problems: Sequence[Problem],
        n: int = 1,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        no_reentry: bool = False,
        first: Sequence[int] | None = None,
        most: int | None = None,
        on_prefill: Callable[[int], None] | None = None,
    ) -> list[list[Rollout]]:
        """`n` whole chains of each problem: independent samples, or the greedy one at temperature 0; see
        `models.steps.rollout`.

        Raises:
            PolicyError: `no_reentry` where the policy cannot draw without replacement.
        """
        ...

    def streams(
        self,
        task: Task,
        problems: Sequence[Problem],
        effort: int,
        rules: Rules | None = None,
        *,
        seed: int = 0,
        first: Sequence[int] | None = None,
        planted: Sequence[Planted] | None = None,
        on_prefill: Callable[[int], None] | None = None,
    ) -> list[Stream]:
        """One stream of each problem: a chain that judges itself, goes back and tries again; see `models.steps.stream_decoder`.

        `planted`: what each stream is made to begin with; effort 0 has none.

        Raises:
            PolicyError: the policy writes none, or the task says not what they need.
        """
        ...

    def stream_wave(self, task: Task, effort: int, rules: Rules, *, seed: int = 0) -> StreamWave:
        """The same for problems that come one after another: they join streams that go on.

        Raises:
            PolicyError: as `streams`.
        """
        ...

    def continuations(self, task: Task) -> Continuations:
        """Plain text in the policy's own tokens, many together; see `models.trie.continuing`.

        Raises:
            PolicyError: the policy is elsewhere.
        """
        ...


@dataclass(frozen=True)
class Opened:
    """A policy, and what is known of it."""

    policy: Policy
    task_options: dict[str, Any] | None  # of the task that it was trained on, its name included; None: it reads any
    calibration: Calibration | None  # None: never measured
    version: str
    folder: Path | None = None  # of its checkpoint; None: it has none


def open_policy(
    spec: str,
    *,
    trainable: bool = False,
    dtype: str = "auto",
    device: str | None = None,
    few_shot: int = FEW_SHOT,
    calibration: bool = True,
) -> Opened:
    """The policy that `spec` names.

    Args:
        spec: the name of a shipped net, a checkpoint or `save_pretrained` folder, a run folder (its promoted checkpoint),
            "smollm2", a GGUF file, or http(s)://HOST/v1@MODEL. "./NAME" is a folder whatever names there are.
        trainable: with the modules that a learner needs; else a small net is read without them, in a tenth of the time.
        dtype: of a language model's weights in this process, see `models.files.pretrained.load_pretrained`.
        device: of a model in this process, see `models.device.device_of`; nets of a task's words are small.
        few_shot: solved examples that a language model sees before a question; a checkpoint keeps its own number.
        calibration: False leaves what was measured of a checkpoint unread, right or wrong: for who measures anew.

    Raises:
        PolicyError: no such policy, or one that cannot be trained.
        CheckpointError: a folder or file that cannot be read. RemoteError: a server that does not answer. All of one line.
    """
    if not isinstance(spec, str) or not spec.strip():
        raise PolicyError(f"policy={spec!r}: name one, see python -m solve --help")
    if spec.startswith(("http://", "https://")):
        if trainable:
            raise PolicyError(f"policy {_shown(spec)} is on a server and cannot be trained here: name a folder")
        return _served(spec, few_shot)
    folder = located(spec)
    if _ours(folder):
        return _checkpoint(folder, trainable, calibration, device)
    return _pretrained(folder, Path(spec).name, dtype, device_of(device), few_shot)


def located(spec: str) -> Path:
    """The folder that a policy in this process is read from, once it looks like a model; weights are not read.

    Raises:
        CheckpointError: there is none. One line.
    """
    folder = Path(spec)
    if spec != SMOLLM2 and not spec.endswith(".gguf"):
        folder = SHIPPED / spec if spec in shipped() else folder
        try:
            if (folder / CHECKPOINTS).is_dir():
                folder = promoted(folder)
            if _ours(folder):
                return folder
            if not folder.is_dir():
                said = "a file, not a folder" if folder.exists() else "no such checkpoint folder"
                raise CheckpointError(
                    f"policy={spec}: {said}; check the path, or use one of {', '.join(shipped())}, {SMOLLM2}, "
                    "a GGUF file, or http://HOST/v1@MODEL"
                )
        except OSError as error:
            raise CheckpointError(f"policy={spec}: cannot be looked at ({error.strerror}); check the path") from error
    from models.files.pretrained import checked, smollm2  # with transformers, which takes seconds to import

    return checked(smollm2() if spec == SMOLLM2 else folder)


def _ours(folder: Path) -> bool:
    """A checkpoint of this project, whole or damaged: one that lost its manifest is no language model of somebody else's."""
    return any((folder / name).exists() for name in (MANIFEST, EXTRA))


def shipped() -> dict[str, dict[str, Any]]:
    """Task options of every net that comes with the repository, by name."""
    folders = [folder for folder in sorted(SHIPPED.iterdir()) if (folder / MANIFEST).exists()]
    return {folder.name: json.loads((folder / EXTRA).read_text())["task"] for folder in folders}


def promoted(run: Path) -> Path:
    """The checkpoint that a run keeps: the last one that its gate let through.

    Raises:
        CheckpointError: the run has none.
    """
    for page, key in ((PROMOTED, "checkpoint"), (SUMMARY, "checkpoint")):
        try:
            name = Path(json.loads((run / page).read_text())[key]).name
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if name not in ("", "..") and (run / CHECKPOINTS / name).is_dir():
            return run / CHECKPOINTS / name
    raise CheckpointError(
        f"{run}: a run without a promoted checkpoint; let it commit an iteration, or name a folder of {run / CHECKPOINTS}"
    )


def _served(spec: str, few_shot: int) -> Opened:
    from models.remote.client import RemoteClient  # httpx, which a search with a net of ours does without
    from models.remote.policy import RemotePolicy

    named = _REMOTE.fullmatch(spec)
    if named is None:
        raise PolicyError(f"policy={_shown(spec)}: write http://HOST:PORT/v1@MODEL, without user or password")
    try:
        client = RemoteClient(named[1], named[2])
    except ValueError as error:
        raise PolicyError(f"policy={spec}: {error}") from None
    policy = RemotePolicy(client, few_shot=few_shot)
    return Opened(policy, None, None, policy.version)


def _shown(address: str) -> str:
    """An address without what may be a password."""
    return _LOGIN.sub("***@", address)


def _pretrained(folder: Path, name: str, dtype: str, device: str, few_shot: int) -> Opened:
    from models.files.pretrained import load_pretrained  # with transformers

    model, tokenizer = load_pretrained(folder, dtype=dtype, device=device, few_shot=few_shot)
    version = _files(folder)
    policy = LocalPolicy(model, name=name, version=version, tokenizer=tokenizer)
    return Opened(policy, None, None, version)


def _files(folder: Path) -> str:
    """What tells these weights from others on this machine: names, sizes and times. Gigabytes are not read twice."""
    weights = sorted(folder.glob("*.safetensors"))
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in weights)


def _checkpoint(folder: Path, trainable: bool, calibration: bool, device: str | None) -> Opened:
    read = None if trainable or device_of(device, small=True) != "cpu" else load_plain(folder, calibration=calibration)
    tokenizer = None
    if read is None:
        from models.files.checkpoint import load_checkpoint  # with transformers

        model, tokenizer, extra = load_checkpoint(folder, calibration=calibration)
        token_ids = tokenizer.get_vocab() if model.tokenizer is None else None
        model.to(device_of(device, small=model.tokenizer is None))
        if model.tokenizer is not None:
            model.adopt(tokenizer, model.few_shot)  # for the device
    else:
        model, token_ids, extra = read
    options = (extra.get("task") or None) if isinstance(extra, dict) else []
    if options is not None and not (isinstance(options, dict) and isinstance(options.get("name"), str)):
        raise CheckpointError(f"{folder / EXTRA}: does not say a task as training writes it; use another checkpoint")
    version = weights_digest(folder)
    policy = LocalPolicy(model, name=folder.name, version=version, token_ids=token_ids, tokenizer=tokenizer)
    return Opened(policy, options, read_calibration(folder) if calibration else None, version, folder)

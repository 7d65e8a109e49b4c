"""The folder of one run: who may write to it, with which config, and how a file in it survives a crash.

config.json     resolved config of the run, frozen at its start
run.lock        held (flock) by the one process that writes here; holds its pid
ledger.sqlite   the record of what is committed (`selfplay.run.ledger`)
traces/         parquet shards (`selfplay.run.traces`)
checkpoints/    model folders
"""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from kit.command import word
from kit.files import ASIDE, write_whole

CONFIG_NAME = "config.json"
DIGEST = "sha256"  # its last key
UNSEALED = {"task", "actor", "learner"}  # keys of a config of release 0.2, which had no digest
LOCK_NAME = "run.lock"
SHOWN_DIFFERENCES = 8  # keys named in an error before "and N more"


class RunDirError(RuntimeError):
    """A run directory that cannot be used as asked. The message is one line and names the mend."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """An open, locked run directory. Use as a context manager; leaving it gives the lock back."""

    path: Path
    resumed: bool
    _lock: IO[str]

    def close(self) -> None:
        """Let another process use the directory. Closing twice is fine."""
        if not self._lock.closed:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # at once, even if a worker was just forked and holds its copy yet
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_run_dir(
    path: str | os.PathLike[str],
    resume: bool,
    config: Mapping[str, Any],
    may_differ: Collection[str] = (),
    filled: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
) -> RunDir:
    """Create a run directory, or open that of a run to go on with, and lock it.

    Args:
        config: the resolved config, JSON values only. Kept as `config.json` by a new run; compared with it by a resume.
        may_differ: dotted keys that a resume may change (`display`, `limits.seconds`); a key covers all below it.
        filled: a run's config with settings that came after the run at their defaults, as they had no effect then.

    Raises:
        RunDirError: a file in its place, not writable, not empty without `resume`, no run to resume, a config that
            differs elsewhere than in `may_differ`, or another process that uses the directory.
    """
    path = Path(path)
    wanted = json.loads(json.dumps(config))  # tuples become lists, as they read back
    if os.path.exists(path) and not os.path.isdir(path):
        raise RunDirError(f"{path} is a file, not a run directory; choose another run_dir")
    with ExitStack() as on_error:
        try:
            if resume:
                frozen_config(path)  # leaves no lock file in a folder that is not ours
                lock = on_error.enter_context(_lock(path))
                _check_same_config(path, filled(frozen_config(path)), wanted, may_differ)
            else:
                path.mkdir(parents=True, exist_ok=True)
                _refuse_non_empty(path)
                lock = on_error.enter_context(_lock(path))
                _refuse_non_empty(path)  # another process may have come between
                write_whole(path / CONFIG_NAME, json.dumps(wanted | {DIGEST: _digest(wanted)}, indent=2) + "\n")
        except OSError as error:
            raise RunDirError(
                f"{path} cannot be written ({error.strerror}); make it writable, or choose another run_dir"
            ) from None
        on_error.pop_all()
    return RunDir(path, resume, lock)


def frozen_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The config with which the run in `path` was started.

    Raises:
        RunDirError: there is no run, or its config is damaged.
    """
    file = Path(path) / CONFIG_NAME
    if not os.path.isfile(file):
        raise RunDirError(
            f"{path} holds no run to resume; name the run_dir of a run, or start a new one without resume"
        )
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise RunDirError(f"{file} cannot be read; restore it from a copy, or start a new run")
    sealed = config.pop(DIGEST, None)
    if sealed != _digest(config) if sealed else not config.keys() >= UNSEALED:
        raise RunDirError(f"{file} is not as it was written; restore it from a copy, or start a new run")
    return config


def _digest(config: dict[str, Any]) -> str:
    """sha256 of all settings but the digest itself."""
    settings = {name: value for name, value in config.items() if name != DIGEST}
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _refuse_non_empty(path: Path) -> None:
    """What a run leaves that died before `config.json` was whole counts as empty."""
    for entry in path.iterdir():
        if entry.name == LOCK_NAME or (entry.name.startswith(f".{CONFIG_NAME}.") and entry.name.endswith(ASIDE)):
            continue
        mend = f"go on with {word('resume', path)}" if (path / CONFIG_NAME).is_file() else "empty it"
        raise RunDirError(f"{path} is not empty; {mend}, or choose another run_dir")


def _check_same_config(
    path: Path, frozen: Mapping[str, Any], wanted: Mapping[str, Any], may_differ: Collection[str]
) -> None:
    was, now = _flatten(frozen), _flatten(wanted)
    differing = [
        f"{key} was {_shown(was, key)}, now {_shown(now, key)}"
        for key in sorted(was.keys() | now.keys())
        if _shown(was, key) != _shown(now, key) and not any(f"{key}.".startswith(f"{free}.") for free in may_differ)
    ]
    if differing:
        more = f"; and {len(differing) - SHOWN_DIFFERENCES} more" if len(differing) > SHOWN_DIFFERENCES else ""
        listed = "; ".join(differing[:SHOWN_DIFFERENCES]) + more
        raise RunDirError(
            f"{path} was run with another config ({listed}); resume with those values, or start a new run"
        )


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as dotted keys (`phases.0.teacher`). An empty one stays a value."""
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    flat: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(value, (Mapping, list)) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(flat: dict[str, Any], key: str) -> str:
    """JSON text of a value, so that 1, 1.0 and true differ; "unset" for a missing key."""
    return json.dumps(flat[key]) if key in flat else "unset"


def _lock(path: Path) -> IO[str]:
    """Take the exclusive lock of a directory without waiting.

    A forked worker gives up its copy at once: the lock must fall with this process, not with a worker that outlives it.
    """
    file = open(path / LOCK_NAME, "a+", encoding="utf-8")  # noqa: SIM115 (lives as long as the run)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read(20).strip() or "unknown"
        file.close()
        raise RunDirError(
            f"another run (pid {pid}) uses {path}; wait for it or stop it, or choose another run_dir"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    _held.add(file)
    return file


_held: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def _drop_locks_in_child() -> None:
    for file in list(_held):
        file.close()


os.register_at_fork(after_in_child=_drop_locks_in_child)

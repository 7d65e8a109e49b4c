"""One decorator for every compiled function: numba, and a cache on disk that knows which sources it was made from.

numba's own cache sees a change in the file of a function, not in the files whose compiled functions and constants it uses. Here
a kernel file has a digest over itself, over every kernel file that it takes from, and over the constants that it imports; the
digest names the folder of its compiled code. So kernels call each other across files, and an edit elsewhere costs nothing.

The folder lies in `__pycache__` beside the sources, else in the user's cache folder, else in a temporary folder of that user;
NUMBA_CACHE_DIR goes before all. A file of compiled code that cannot be read is made again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # fastmath that assumes nothing about NaN and infinity
config: Any = numba.config
_CONSTANTS = (bool, int, float, str, tuple, np.generic)


def jit(function: FunctionType | None = None, **options: Any) -> Any:
    """`numba.njit` that releases the GIL, divides as numpy does, and keeps its code on disk; `options` are numba's.

    A file imports what its kernels use before it defines the first of them, and imports constants by name, not by module.
    """
    if function is None:
        return functools.partial(jit, **options)
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"} | options
    compiled = numba.njit(**settings)(function)
    folder = _folder(function.__code__.co_filename, digest(function))
    if folder is not None:
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            compiled._cache = _Cache(function)
        finally:
            config.CACHE_DIR = before
    return compiled


class _Cache(FunctionCache):
    """numba's cache of one function, to which a file that is cut, foreign or unreadable is a file that is not there."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001  what pickle raises for a damaged file is of any type
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk, or a folder that has gone: compiled code is used all the same
            return
        except Exception:  # noqa: BLE001  an index that cannot be read is written anew
            self.flush()
            super().save_overload(sig, data)


def digest(function: FunctionType) -> str:
    """16 hex digits over the file of a function and all that its compiled code may take from other files."""
    return _digest_of(function.__code__.co_filename, function.__globals__)


_DIGESTS: dict[str, str] = {}  # by file, as its first function is compiled


def _digest_of(file: str, names: dict[str, Any]) -> str:
    if file not in _DIGESTS:
        sources: dict[str, None] = {__file__: None}  # its settings are part of what is compiled
        constants: set[str] = set()
        _collect(file, names, sources, constants)
        total = hashlib.sha256()
        for part in (
            *(hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in sources),
            *sorted(constants),
        ):
            total.update(part.encode())
        _DIGESTS[file] = total.hexdigest()[:16]
    return _DIGESTS[file]


def _collect(file: str, names: dict[str, Any], sources: dict[str, None], constants: set[str]) -> None:
    """Add `file` and the kernel files that it takes from to `sources`, and the constants that they see to `constants`."""
    if file in sources:
        return
    sources[file] = None
    for name, value in names.items():
        if isinstance(value, _CONSTANTS) and not name.startswith("__"):
            constants.add(f"{name}={value!r}")
        elif isinstance(value, ModuleType):
            if vars(value).get("jit") is jit:
                _collect(str(value.__file__), vars(value), sources, constants)
        elif isinstance(value, (Dispatcher, _Intrinsic)):
            source = value._defn if isinstance(value, _Intrinsic) else value.py_func
            _collect(source.__code__.co_filename, source.__globals__, sources, constants)


@functools.cache
def _folder(file: str, digest_of_sources: str) -> Path | None:
    """Where compiled code of this file goes, made if need be; None where nothing can be written."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR) / digest_of_sources
    name = f"{Path(file).stem}-{digest_of_sources}"
    beside = Path(file).parent / "__pycache__"
    for place in (lambda: beside, _user_cache, _temporary):  # the last is made only where it is needed
        folder = place() / name
        if _writable(folder):
            for stale in folder.parent.glob(f"{Path(file).stem}-*") if folder.parent == beside else ():
                if stale != folder and len(stale.name) == len(folder.name):
                    shutil.rmtree(stale, ignore_errors=True)
            return folder
    return None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "reverse-o1" / "kernels"


@functools.cache
def _temporary() -> Path:
    """A folder that this user alone can write: compiled code is run."""
    folder = Path(tempfile.gettempdir()) / f"reverse-o1-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="reverse-o1-"))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

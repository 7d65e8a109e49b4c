"""What command lines share: Hydra's of the verbs, `KEY=VALUE` settings of the rest, and one line for a mistake.

What people write is text: `${...}` in it stays as it is. Only pages of `conf/` interpolate.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

Config = TypeVar("Config")
CONF = Path(__file__).resolve().parent.parent / "conf"
REFUSALS = (HydraException, OmegaConfBaseException, OSError)  # of others, that say what is wrong with the input
HYDRA_ADVICE = ("To append", "See https", "full_key", "reference_type", "object_type")  # lines that help nobody here
OURS = (
    "selfplay.",
    "solve.",
    "bench.",
    "serve.",
    "tasks.",
    "models.",
)  # modules whose errors are one line that names the mend
INTERPOLATION = re.compile(r"(\\*)\$\{")
UNKNOWN_KEY = re.compile(r"Key '(\w+)' not in")
VERBS = ("selfplay", "solve", "bench", "serve")
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + SIGINT, 128 + SIGPIPE, as a shell reports them
UNQUOTED = ("mismatched input", "LexerNoViableAlt", "token recognition error")  # of Hydra's grammar


class UsageError(ValueError):
    """A command line that cannot be run. The message is one line."""


def settings(arguments: Iterable[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `KEY=VALUE` words choose, each of the type of its default; None stands for a whole number or null.

    Raises:
        UsageError: a key without a default, or a value of another type.
    """
    chosen: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or name not in defaults:
            raise UsageError(f"{argument!r} is no setting: write KEY=VALUE, KEY one of {', '.join(defaults)}")
        chosen[name] = _value(argument, name, text, defaults[name])
    return chosen


def _value(argument: str, name: str, text: str, default: Any) -> Any:
    kind = int if default is None else type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return None if default is None and text == "null" else kind(text)
    except (ValueError, KeyError):
        raise UsageError(f"{argument}: {name} is of type {kind.__name__}") from None


def keep_writing() -> None:
    """Let no letter end a run that the terminal's encoding lacks (PYTHONIOENCODING=ascii): it is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def word(key: str, value: object) -> str:
    """KEY=VALUE as a shell and Hydra read it, whatever the value holds."""
    text = str(value)
    if re.fullmatch(r"[\w./@:+-]+", text, re.ASCII):
        return f"{key}={text}"
    escaped = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text)  # as Hydra wants it in quotes
    setting = f"{key}='{escaped}'"
    return shlex.quote(setting) if re.search(r'["$`\\!]', setting) else f'"{setting}"'


@contextmanager
def sweep_folder() -> Generator[None]:
    """What Hydra writes of a sweep (-m) goes into a folder that is gone when the sweep is."""
    if not {"-m", "--multirun"} & set(sys.argv[1:]):
        yield
        return
    with TemporaryDirectory(prefix="reverse-o1-sweep-") as folder:
        sys.argv.append(f"hydra.sweep.dir={folder}")
        yield


def run(
    verb: str, composed_main: Callable[[], None], help_text: Callable[[], str], *, keeps_sweeps: bool = False
) -> None:
    """`python -m VERB` with the command line of this process. `keeps_sweeps`: its page says where a sweep is written."""
    keep_writing()
    if {"--help", "-h"} & set(sys.argv[1:]):
        guarded(verb, lambda: print(help_text(), flush=True) or 0)
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises what it would print over many lines
    sys.argv[1:] = [INTERPOLATION.sub(r"\1\1\\${", argument) for argument in sys.argv[1:]]
    try:
        with sweep_folder() if not keeps_sweeps else nullcontext():
            composed_main()
    except REFUSALS as error:
        sys.exit(refused(error, verb))
    except ValueError as error:  # Hydra has some refusals of no type of its own
        if not {"hydra", "omegaconf"} & set(Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts):
            raise
        sys.exit(refused(HydraException(str(error)), verb))
    except KeyboardInterrupt:
        print("stopped; the same command starts again, or goes on from what was written", file=sys.stderr)
        sys.exit(INTERRUPTED)


def in_sweep() -> bool:
    """Whether this is one of the jobs of a sweep (-m), which an interrupt has to end whole."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def guarded(verb: str, play: Callable[[], int]) -> None:
    """Exit with what `play` returns, or with 2 and one line where it refuses; other errors are raised."""
    try:
        code = play()
    except BrokenPipeError:  # who reads the answers has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        if not isinstance(error, (*REFUSALS, UsageError)) and not type(error).__module__.startswith(OURS):
            raise
        code = refused(error, verb)
    if code:
        sys.exit(code)


def refused(error: Exception, verb: str) -> int:
    """Say in one line why, and which mend helps; returns the exit code."""
    said = [error, *([error.__cause__] if isinstance(error.__cause__, OmegaConfBaseException) else [])]
    lines = [line.strip() for part in said for line in str(part).partition("Config search path")[0].splitlines()]
    if isinstance(error, HydraException | OmegaConfBaseException):
        lines = [line for line in lines if line and not line.startswith(HYDRA_ADVICE)]
        meant = [name for key in UNKNOWN_KEY.findall(" ".join(lines)) for name in _named(key, verb)]
        advice = f"python -m {verb} --help shows every setting"
        if any(word in line for word in UNQUOTED for line in lines):
            advice = "quote what holds spaces, commas or =, as in \"problem='3 7 12 = 15'\""
        lines[-1] += f"; did you mean {' or '.join(meant)}?" if meant else f"; {advice}"
    print(f"error: {' '.join(' '.join(lines).split())}", file=sys.stderr)
    return 2


def _named(key: str, verb: str) -> list[str]:
    """Full names of the verb's settings that end in `key`."""
    groups = defaults_of(verb.split()[-1]).items()
    return [f"{group}.{key}" for group, known in groups if isinstance(known, dict) and key in known]


def typed(schema: type[Config], page: Any) -> Config:
    """What was composed, plain data, as a dataclass; OmegaConfBaseException where its keys or types are others."""
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), page))
    assert isinstance(config, schema)
    return config


def defaults_of(verb: str) -> dict[str, Any]:
    """What the schema of a verb and its page in `conf/` say, as plain data; interpolations stay as they are."""
    schema = ConfigStore.instance().load(f"{verb}_schema.yaml").node
    said = [OmegaConf.to_container(part) for part in (schema, OmegaConf.load(CONF / f"{verb}.yaml"))]
    return {str(key): value for part in said if isinstance(part, dict) for key, value in part.items()}


def help_page(verb: str, pages: Iterable[str], groups: Sequence[str] = ()) -> str:
    """Every setting with its comment: the root page of the verb, `pages`, then the pages of its `groups` in `conf/`."""
    parts = [f"python -m {verb} [SETTING=VALUE ...]", (CONF / f"{verb.split()[-1]}.yaml").read_text().strip(), *pages]
    for group in groups:
        choices = sorted((CONF / group).glob("*.yaml"))
        parts.extend(f"## {group}={choice.stem}\n{choice.read_text().strip()}" for choice in choices)
    return "\n\n".join(parts)


def main() -> None:
    """Console script: `reverse-o1 VERB ...` is `python -m VERB ...`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in VERBS:
        print(f"usage: reverse-o1 VERB [overrides], VERB one of: {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    runpy.run_module(verb, run_name="__main__", alter_sys=True)

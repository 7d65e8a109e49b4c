"""`python -m serve`: open the policy, open the port, answer until told to end.

Exit code 2: refused, with one line that says why. SIGTERM and Ctrl-C let requests under way come to their end (`drain`).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kit.command import CONF, guarded, help_page, run, typed
from serve.config import ServeConfig, ServeError, register
from serve.thoughts import VISIBILITIES, Visibility
from solve.budgets import chains_of
from solve.cli.main import given_options, use_threads
from tasks.registry import task_pages

if TYPE_CHECKING:
    from solve.policies import Shelved

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEY = "RO1_API_KEY"
SWITCH = 0.0005  # seconds after which the engine's thread lets the routes' one have a turn
KEPT = 75  # seconds that an idle connection is kept: longer than clients wait when they are told to come back
GRACE = 5.0  # seconds beyond `drain` until connections are cut

register()
log = logging.getLogger("reverse_o1.serve")


@hydra.main(config_path=str(CONF), config_name="serve", version_base="1.3")
def composed_main(composed: DictConfig) -> None:
    guarded("serve", lambda: configured(composed, HydraConfig.get().overrides.task))


def hydra_main() -> None:
    """`python -m serve` with the command line of this process."""
    run("serve", composed_main, lambda: help_page("serve", task_pages()))


def configured(composed: DictConfig, overrides: Iterable[str]) -> int:
    """Check what was composed and serve it; returns the exit code. `overrides`: those of the command line."""
    config = typed(ServeConfig, OmegaConf.to_container(composed))
    return serve(config, given_options(config.task, overrides))


def serve(config: ServeConfig, options: dict[str, Any]) -> int:
    """Answer until told to end.

    Raises:
        ServeError: a setting that cannot be, a port that is taken, or packages that are not installed.
    """
    key = config.api_key or os.environ.get(KEY) or None
    check(config, key)
    door = _door(config.host, config.port)  # before a policy is opened, which takes seconds
    try:
        import uvicorn

        from serve.api.app import create_app
        from serve.api.served import Served
        from serve.engine.engine import Engine
    except ImportError as error:
        raise ServeError(f"serving needs its extra ({error.name}): pip install -e '.[serve]'") from error
    from solve.solver import Solver

    use_threads()
    sys.setswitchinterval(SWITCH)
    named = config.task.get("name")
    solver = Solver(config.policy, task=named, trust_value=config.trust_value, device=config.device, **options)
    warnings.showwarning = told_by_kind  # ty: ignore[invalid-assignment]  Python's own way to set it
    engine = Engine(solver, slots=config.slots, queue=config.queue)
    served = Served(
        engine, config.name or _named(config, solver.shelved), config.effort, config.strategy,
        cast(Visibility, config.reasoning_visibility), config.seconds,
    )  # fmt: skip
    app = create_app(served, api_key=key, drain=config.drain, secret=config.secret)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            threading.Thread(target=engine.close, args=(config.drain,), daemon=True).start()
            super().handle_exit(sig, frame)

    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(config.drain + GRACE), server_header=False,
        timeout_keep_alive=KEPT,
    )  # fmt: skip
    host, port = door.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    print(f"{served.name}, task {served.task.name}: http://{address}:{port}/v1, Ctrl-C ends it", flush=True)
    Server(settings).run(sockets=[door])
    return 0


def told_by_kind(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in the log without its words: those of a policy may quote another server, and that what was thought."""
    log.warning("%s at %s:%d", category.__name__, filename, lineno)


def check(config: ServeConfig, key: str | None) -> None:
    """Refuse settings that cannot be, before a policy is opened.

    Raises:
        ServeError, SolveError: one line.
    """
    if config.policy is None:
        raise ServeError("nothing to serve: give policy=NAME, e.g. policy=countdown4think, see python -m serve --help")
    if config.host not in LOOPBACK and key is None:
        raise ServeError(f"host={config.host} lets other machines in: give api_key=KEY or {KEY}, or host=127.0.0.1")
    if config.reasoning_visibility not in VISIBILITIES:
        raise ServeError(f"reasoning_visibility={config.reasoning_visibility}: use one of {', '.join(VISIBILITIES)}")
    for name, least in (("slots", 1), ("queue", 0), ("port", 0), ("seconds", 0.0), ("drain", 0.0)):
        if not getattr(config, name) >= least:
            raise ServeError(f"{name}={getattr(config, name)}: {least} or more")
    if chains_of(config.effort) is None:
        raise ServeError(f"effort={config.effort} has no limit of its own: use another one where requests name none")


def _door(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        door = socket.create_server((host, port), family=family)
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the body waits 40 ms for the head's receipt
        return door
    except (OSError, OverflowError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise ServeError(
            f"port={port} at host={host} cannot be opened ({said}): give another one, 0 for any"
        ) from error


def _named(config: ServeConfig, shelved: Shelved) -> str:
    """What clients call the model: the policy as it was named, a folder by its own name."""
    return shelved.policy.name or str(config.policy)

"""Small runs for the tests of the loop: the real thing at toy size, composed from conf/ like a user's."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from selfplay.cli import CONF, play

QUICK = (
    "workers=1",
    "plain=true",
    "model.hidden_size=32",
    "model.layers=1",
    "learner.rows=16",
    "actor.problems=4",
    "actor.tokens=40",
    "evaluation.dev=4",
    "evaluation.test=4",
    "evaluation.search_tokens=[40]",
)


def composed(*overrides: str, experiment: str = "tiny"):
    """The configuration of a command line."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose(config_name="selfplay", overrides=[f"experiment={experiment}", *QUICK, *overrides])


def run(*overrides: str, experiment: str = "tiny") -> None:
    """`python -m selfplay` in this process, without Hydra's outer shell."""
    config = composed(*overrides, experiment=experiment)
    assert play(OmegaConf.to_object(config), OmegaConf.to_container(config, resolve=True)) == 0


def run_until_killed(root: Path, resume: bool, kill_at: int | None, overrides: tuple[str, ...] = ()) -> None:
    """A run in a process of its own that SIGKILLs itself at its `kill_at`-th Python or C call. None: runs to its end.

    The calls of a whole run are counted into `calls.txt`.
    """
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the process)
    calls = 0

    def count(_frame, event: str, _argument) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    where = f"resume={root}" if resume else f"run_dir={root}"
    config = composed(where, *overrides)
    sys.setprofile(count)
    play(OmegaConf.to_object(config), OmegaConf.to_container(config, resolve=True))
    sys.setprofile(None)
    (root.parent / f"{root.name}.calls.txt").write_text(str(calls))

"""`python -m selfplay`: compose the configuration, open the run directory, run the loop, report.

Exit code 0: done, or stopped by Ctrl-C with everything up to the last commit saved. 2: refused, with one line
that says why.
"""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from selfplay.config import SelfplayConfig, check_config, register

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("task", "selfplay", "experiment")  # an override of a whole group may touch anything
ALLOWED_ON_RESUME = ("resume", "run_dir", "plain", "tensorboard")  # may differ from the run that is resumed

register()


@hydra.main(config_path=str(CONF), config_name="selfplay", version_base="1.3")
def hydra_main(composed: DictConfig) -> None:
    try:
        if composed.resume:
            composed = resumed_config(composed, HydraConfig.get().overrides.task)
        config: SelfplayConfig = OmegaConf.to_object(composed)  # type: ignore[assignment]
        check_config(config)
        code = play(config, OmegaConf.to_container(composed, resolve=True))
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("selfplay.", "tasks.", "models.")):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    if code:
        sys.exit(code)


def play(config: SelfplayConfig, plain_config: dict) -> int:
    """One run, from scratch or resumed; returns the exit code."""
    from selfplay.report import job
    from selfplay.rundir import open_run_dir
    from selfplay.team import core_count, run_as_team
    from tasks import make_task

    make_task(**config.task)  # an impossible task is refused before anything is written
    if not config.workers:
        config.workers = plain_config["workers"] = core_count()
    root = Path(config.resume or config.run_dir or default_run_dir(config))
    with open_run_dir(root, resume=bool(config.resume), config=plain_config, may_differ=ALLOWED_ON_RESUME):
        try:
            run_as_team(config.workers, job, config, str(root), bool(config.resume))
        except KeyboardInterrupt:
            print(f"stopped; everything up to the last commit is saved: go on with resume={root}", file=sys.stderr)
    return 0


def resumed_config(composed: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration that the run was started with, with this command line's overrides on top.

    Raises:
        RunDirError: there is no run to resume.
    """
    from selfplay.rundir import frozen_config

    keys = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    if any(key in GROUPS for key in keys):
        return composed
    config = OmegaConf.merge(composed, frozen_config(composed.resume))
    for key in keys:
        OmegaConf.update(config, key, OmegaConf.select(composed, key))
    return config


def default_run_dir(config: SelfplayConfig) -> Path:
    return Path("runs") / f"{config.task['name']}-{config.selfplay.mode}-seed{config.seed}"


def main() -> None:
    """Console script: `reverse-o1 selfplay ...`."""
    verbs = {"selfplay": hydra_main}
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in verbs:
        print(f"usage: reverse-o1 VERB [overrides], VERB one of: {', '.join(verbs)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    verbs[verb]()

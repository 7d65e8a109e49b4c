"""`python -m selfplay`: compose the configuration, open the run directory, run the loop, report.

Exit code 0: done, or stopped by Ctrl-C with everything up to the last commit saved. 2: refused, with one line
that says why. 130: Ctrl-C before the run began.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kit.command import CONF, guarded, help_page, in_sweep, run, word
from kit.pages import page
from kit.process import core_count
from selfplay.config import ConfigError, SelfplayConfig, actor_in, check_config, learns, register
from selfplay.teachers import PLAYED, TEACHERS
from tasks.registry import task_pages

GROUPS = ("task", "selfplay", "model", "experiment")  # an override of a whole group may touch anything
MOVED = ("device", "learner.chunk_tokens", "learner.checkpointing")  # of a run that goes on where memory is another
ALLOWED_ON_RESUME = ("resume", "run_dir", "plain", "tensorboard", *MOVED)  # may differ from the run that is resumed

register()


@hydra.main(config_path=str(CONF), config_name="selfplay", version_base="1.3")
def composed_main(composed: DictConfig) -> None:
    guarded("selfplay", lambda: configured(composed))


def configured(composed: DictConfig) -> int:
    """Check what was composed and play it; returns the exit code."""
    if composed.resume:
        composed = resumed_config(composed, HydraConfig.get().overrides.task)
    known = OmegaConf.merge(OmegaConf.structured(SelfplayConfig), OmegaConf.to_container(composed))
    config = cast("SelfplayConfig", OmegaConf.to_object(known))
    check_config(config)
    return play(config, cast("dict", OmegaConf.to_container(known, resolve=True)))


def hydra_main() -> None:
    """`python -m selfplay` with the command line of this process."""
    run("selfplay", composed_main, lambda: help_page("selfplay", [page(SelfplayConfig), *task_pages()], GROUPS[1:]))


def play(config: SelfplayConfig, plain_config: dict) -> int:
    """One run, from scratch or resumed; returns the exit code."""
    from models.device import device_of
    from models.net.adapters import peft_library
    from models.policy import located
    from selfplay.parts import fixed_policy, longest_path, start_of
    from selfplay.report import job
    from selfplay.run.commit import Folders, check_start, rewind_damage
    from selfplay.run.folder import open_run_dir
    from selfplay.teach.search import tree_of
    from selfplay.team import run_as_team
    from solve.strategies import way
    from tasks import make_scorer, make_task, task_report

    device = device_of(config.device, small=config.model.kind == "tiny")
    if "lora" in [learns(config, phase) for phase in range(len(config.selfplay.phases))]:
        peft_library()
    task = make_task(**config.task)
    task.count("train")  # an impossible task is refused before anything is written
    check_task(config, task)
    if report := task_report(**config.task):
        make_scorer(**config.task)  # answers that nobody here can judge are refused, too
        print(report)
    if config.checkpoint and not config.resume:
        check_start(Path(config.checkpoint), task, longest_path(task))
    elif config.model.kind != "tiny" and not config.resume:
        located(start_of(config))
    fixed = fixed_policy(config, task)
    for actor in [config.actor, *(actor_in(config, phase) for phase in range(len(config.selfplay.phases)))]:
        tree_of(actor, task)  # a strategy that is none is refused, too
        if fixed is not None:
            way(actor.strategy, task).check(actor.strategy, fixed.policy)
    if not config.workers:
        config.workers = plain_config["workers"] = 1 if device == "cuda" else core_count()
    root = Path(config.resume or config.run_dir or unused(default_run_dir(config)))

    def settings(frozen: dict[str, Any]) -> dict[str, Any]:
        return cast("dict", OmegaConf.to_container(completed(frozen, str(root)), resolve=True))

    with open_run_dir(root, bool(config.resume), plain_config, ALLOWED_ON_RESUME, filled=settings):
        try:
            if config.resume and (damage := rewind_damage(Folders(root))):
                print(f"warning: {damage}", file=sys.stderr)
            run_as_team(config.workers, job, config, str(root), bool(config.resume))
        except KeyboardInterrupt:
            print(
                f"stopped; everything up to the last commit is saved: go on with {word('resume', root)}",
                file=sys.stderr,
            )
            if in_sweep():
                raise
    return 0


def check_task(config: SelfplayConfig, task) -> None:
    """Refuse a task that the loop cannot run on.

    Raises:
        ConfigError: a split without problems, or values that would not say how far a goal is.
    """
    from solve.search.think import has_streams
    from tasks import SPLITS
    from tasks.free_play import FreePlay

    for split in SPLITS:
        if not task.count(split):
            raise ConfigError(
                f"the {split} split of task {task.name} has no problems: widen its ranges, or change its split fractions"
            )
    if not task.exact:
        check_answers(config, task)
    if any(phase.teacher == "think" for phase in config.selfplay.phases) and not has_streams(task):
        raise ConfigError(
            f"teacher think: chains of task {task.name} cannot be thought about; use task=sums or countdown, or a net "
            "taught to think"
        )
    thinks = {phase.teacher for phase in config.selfplay.phases if TEACHERS[phase.teacher].streams} - PLAYED
    if thinks and not task.stream_words:
        raise ConfigError(f"teacher {min(thinks)} needs a net with words for streams: add +task.streams=true")
    if "stream_grpo" in thinks and (task.stream.markov or task.stream.checked):
        raise ConfigError(
            f"teacher stream_grpo reads contexts that keep all their steps, and streams of task {task.name} do not: use stream"
        )
    checked = bool(task.stream_words) and getattr(type(task), "check_play", None) is not FreePlay.check_play
    if "checks" in {config.learner.fill, *(phase.teacher for phase in config.selfplay.phases)} and not checked:
        raise ConfigError(
            f"task {task.name} has no checks to teach: use experiment=chain_stream, or another teacher and learner.fill"
        )
    if task.reversible and config.actor.discount == 1.0:
        raise ConfigError(
            f"task {task.name} can undo steps, so a value must fall with distance: add experiment={task.name}, or "
            "actor.discount=0.9"
        )


def check_answers(config: SelfplayConfig, task) -> None:
    """Refuse free rows where a task has none.

    Raises:
        ConfigError: a teacher or a fill that plays legal moves, or given chains where none were given.
    """
    from tasks import given_chains

    needed = {phase.teacher for phase in config.selfplay.phases} | {config.learner.fill}
    if free := needed & PLAYED:
        raise ConfigError(
            f"task {task.name} has no legal moves to play ({', '.join(sorted(free))}): add experiment=data or gym"
        )
    if "given" in {phase.teacher for phase in config.selfplay.phases} and not given_chains(**config.task):
        raise ConfigError(
            f"no train line of task {task.name} has steps to warm up on: take the phase of teacher given out"
        )


def resumed_config(composed: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration that the run was started with, with this command line's overrides on top.

    Raises:
        RunDirError: there is no run to resume, or another release wrote its config.
    """
    from selfplay.run.folder import frozen_config

    keys = [override.split("=", 1)[0].lstrip("+~") for override in overrides]
    if any(key in GROUPS for key in keys):
        return composed
    config = completed(frozen_config(composed.resume), composed.resume)
    for key in keys:
        OmegaConf.update(config, key, OmegaConf.select(composed, key))
    return config


def completed(frozen: dict[str, Any], folder: str) -> DictConfig:
    """The config of the run in `folder`; settings that came after the run have their defaults.

    Raises:
        RunDirError: another release wrote it.
    """
    from selfplay.run.folder import CONFIG_NAME, RunDirError

    try:
        return cast("DictConfig", OmegaConf.merge(OmegaConf.structured(SelfplayConfig), frozen))
    except OmegaConfBaseException as error:
        raise RunDirError(
            f"{Path(folder) / CONFIG_NAME} does not fit this release ({str(error).splitlines()[0]}); "
            "use the release that wrote it, or start a new run"
        ) from None


def default_run_dir(config: SelfplayConfig) -> Path:
    return Path("runs") / f"{config.task['name']}-{config.selfplay.mode}-seed{config.seed}"


def unused(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that holds nothing yet."""
    tried, k = folder, 1
    while tried.exists() and not (tried.is_dir() and not any(tried.iterdir())):
        k += 1
        tried = folder.with_name(f"{folder.name}-{k}")
    return tried

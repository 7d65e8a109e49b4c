"""The configuration of a self-play run: names, types and defaults, as `python -m selfplay --help` shows them.

Every limit is optional; the first one reached ends what it limits. Units stand in the names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from math import inf
from operator import attrgetter
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selfplay.teachers import FILLS, TEACHERS
from tasks.registry import register_tasks
from tasks.streams import EFFORTS


class ConfigError(ValueError):
    """A setting that cannot work. The message is one line and names the mend."""


@dataclass
class ModelConfig:
    """A small Llama trained from scratch, about 0.18 M parameters as it stands; or a pretrained causal LM."""

    kind: str = "tiny"  # tiny | smollm2 | hf
    path: str | None = None  # hf: a folder of safetensors, or a GGUF file
    dtype: str = "float32"  # of a pretrained model's weights
    few_shot: int = 3  # solved problems shown to a pretrained model before each question
    train: str = (
        "all"  # all | value: its head alone | last:K: the last K layers, too | lora: adapters, merged when saved
    )
    lora_rank: int = 16  # of the adapters of train=lora
    hidden_size: int = 64  # of a net from scratch, as the three below
    layers: int = 3
    heads: int = 4
    intermediate: int = 192


@dataclass
class Phase:
    """One stretch of the schedule with one teacher. It ends at the first limit reached."""

    teacher: str = MISSING
    iterations: int | None = None
    generated_tokens: int | None = None  # by the policy, in this phase
    cpu_seconds: float | None = None  # all workers together, evaluation excluded
    seconds: float | None = None  # wall clock
    steps: int = 100  # learner steps an iteration (at most, where a teacher generates)
    rate: float = 1.0  # share of the peak learning rates; low where targets are noise, which a fast learner walks after
    train: str | None = None  # what learns in it, in the words of model.train; null: as there
    actor: dict[str, Any] = field(default_factory=dict)  # settings of actor for this phase alone: {tokens: 200}


@dataclass
class ScheduleConfig:
    mode: str = (
        "search"  # search | star | grpo | stream | hindsight: the teacher that the run is about; a label in every table
    )
    phases: list[Phase] = field(default_factory=list)  # in order; limits and rates: conf/selfplay/search.yaml


@dataclass
class ActorConfig:
    """How new experience is made, by search or by sampling (star)."""

    problems: int = 256  # an iteration, all workers together
    tokens: int = 400  # generated tokens a problem and search
    simulations: int | None = None  # a second limit on a search
    strategy: str = "selfplay"  # how trees are searched: a strategy of solve, settings behind a colon
    go_on: bool = True  # search on after a problem's first solution; false where tokens are dear
    group: int = 8  # grpo's samples of a problem
    advantage: str = (
        "group"  # grpo's: group (r - mean of the group) | steps (what each step changed, by the value head)
    )
    temperature: float = 1.0  # of star's and grpo's samples and think's streams; a search has its strategy's
    effort: str = "medium"  # of think's streams: how hard they think
    dtype: str = "auto"  # of the acting net's products; auto: bfloat16 where the CPU multiplies pairs of it | float32
    discount: float = 1.0  # value of a proven state: discount^distance; below 1 where steps can be undone
    full_share: float = 1.0  # playout-cap randomisation: share of problems searched with the full budget ...
    cheap_tokens: int = 100  # ... the others get these, and teach the value only
    mine: bool = True  # search only problems that the greedy policy fails (its tokens are counted)
    policy_target: str = "shortest"  # shortest | completed_q | visits
    rows_per_problem: int = 8  # training rows kept of one problem
    known_share: float = (
        1.0  # of the problems that a net can do already (its first chain, all of star's samples) those taught
    )
    detour: int | None = None  # reversible: rows of states on ways this much longer than the best; null: all
    dead_share: float = 0.6  # stream's: of what the policy would do from a state, tried in vain: it is presumed dead
    losing_rows: int = 4  # rows of states that did not reach the goal; they teach the value only


@dataclass
class LearnerConfig:
    rows: int = 256  # rows a step, all workers together
    tokens: int | None = (
        None  # of a step at most: as many of `rows` as have them; of a teacher on policy: about as many
    )
    chunk_tokens: int | None = None  # computed at once: what takes memory; null: 2048 on a CPU, 16384 on a GPU
    dtype: str = "auto"  # of a pretrained model's products; auto: bfloat16 on a GPU, else float32 | bfloat16 | float32
    checkpointing: bool = False  # layers are computed again for the gradient: less memory, a third more time
    optimizer: str = "muon"  # muon: for the matrices inside the layers, AdamW for the rest | adamw: for everything
    learning_rate: float = 3e-3  # AdamW's peak
    muon_learning_rate: float = 0.02  # Muon's peak
    final_rate: float = 0.01  # share of the peaks at which the linear decay ends
    decay_from: float = 0.3  # share of the run after which the rate falls linearly
    warmup_steps: int = 50  # at which the rates reach their peaks
    weight_decay: float = 0.1  # AdamW's, decoupled
    muon_weight_decay: float = 0.15  # Muon's, decoupled; what makes a net that could learn by heart generalise
    beta1: float = 0.9
    beta2: float = 0.98
    gradient_norm: float = 1.0  # at which gradients are cut
    value_coefficient: float = 0.5  # value BCE against token cross-entropy
    value_smoothing: float = 0.02  # value targets lie in [this, 1 - this]: a policy walks into false certainty
    replay_share: float = 0.5  # rows of a step that come from replay when a teacher generates
    replay_window: int = 8  # iterations kept
    nearness: float = 3.4  # a replayed step is drawn as (value target)^this: near the goal first; .9^3.4 = .7 a step
    reuse: float = 6.0  # times that a new row is seen, on average
    rules_share: float = 0.1  # of the rows beside replay: random play that teaches results and new states, not choices
    value_share: float = 0.06  # of them: values of random play, by Monte Carlo (hindsight only)
    ended_share: float = 0.0  # of them: finished chains, right and wrong: a value that reads answers (hindsight only)
    fill: str = "hindsight"  # beside replay: hindsight | random | rules (neither relabels) | given (your data)


@dataclass
class EvaluationConfig:
    dev: int = 400  # dev problems; the gate and the curve look at these
    samples: int = 4  # sampled chains a dev problem
    every: int = 4  # iterations between evaluations
    test: int = 1000  # test problems of the final table (all, where the split holds fewer)
    search_tokens: list[int] = field(
        default_factory=lambda: [100, 400]
    )  # a problem, of the final table; []: no search there
    gate_alpha: float = 0.05  # a net is held back when it is worse at this level (paired, one-sided)
    calibration: int = 300  # dev problems of the last act: how far value and confidence can be trusted
    calibration_seconds: float = 60.0  # most that it takes; a slow policy is measured on fewer problems


@dataclass
class SelfplayConfig:
    task: dict[str, Any] = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    selfplay: ScheduleConfig = field(default_factory=ScheduleConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0  # same seed, settings and workers: the same weights, unless a phase runs out of time
    device: str = "auto"  # auto: a GPU where there is one, the CPU for a net from scratch | cpu | cuda
    workers: int = 0  # processes, one thread each; 0: one a core, or one where a GPU computes
    run_dir: str | None = None  # null: runs/<task>-<mode>-seed<seed>, with -2, -3, ... where that is taken
    resume: str | None = None  # go on with this run_dir (same config)
    checkpoint: str | None = None  # start from these weights: a checkpoint or run folder, or the name of a shipped net
    policy: str | None = None  # acts, and the net of model= learns from it: a folder, smollm2, http://HOST/v1@MODEL
    tensorboard: bool = False  # true: also write TensorBoard events (extra "tensorboard")
    plain: bool = False  # true: one line an iteration instead of the live table


CHOICES = {
    "actor.advantage": ("group", "steps"),
    "actor.dtype": ("auto", "float32"),
    "actor.policy_target": ("shortest", "completed_q", "visits"),
    "actor.effort": EFFORTS[1:],
    "device": ("auto", "cpu", "cuda"),
    "learner.dtype": ("auto", "bfloat16", "float32"),
    "learner.optimizer": ("muon", "adamw"),
    "learner.fill": tuple(FILLS),
    "model.kind": ("tiny", "smollm2", "hf"),
}
RANGES = (
    (
        "model.heads model.layers model.hidden_size model.intermediate actor.problems actor.tokens learner.rows "
        "learner.replay_window evaluation.dev evaluation.test evaluation.every evaluation.samples evaluation.calibration",
        lambda value: value >= 1,
        "must be at least 1",
    ),
    (
        "actor.dead_share actor.full_share actor.known_share learner.replay_share learner.value_share learner.rules_share "
        "learner.ended_share learner.decay_from",
        lambda value: 0 <= value <= 1,
        "is a share: use 0 to 1",
    ),
    (
        "actor.temperature learner.learning_rate learner.muon_learning_rate learner.gradient_norm learner.reuse "
        "evaluation.calibration_seconds",
        lambda value: 0 < value < inf,
        "must be above 0",
    ),
    ("model.lora_rank", lambda value: value >= 1, "must be at least 1"),
    ("learner.tokens learner.chunk_tokens", lambda value: value is None or value >= 1, "must be at least 1, or null"),
    ("model.few_shot", lambda value: value >= 0, "must be 0 or more"),
    ("actor.group", lambda value: value >= 2, "compares samples: use 2 or more"),
    ("workers", lambda value: value >= 0, "must be 0 (one a core) or more"),
    ("actor.discount", lambda value: 0 < value <= 1, "must lie in (0, 1]"),
    ("learner.value_smoothing", lambda value: 0 <= value < 0.5, "must lie in [0, 0.5)"),
    ("evaluation.gate_alpha", lambda value: 0 < value < 1, "must lie in (0, 1)"),
    ("seed", lambda value: 0 <= value < 2**63, "must lie in 0..2^63 - 1"),
)


def check_config(config: SelfplayConfig) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: one line that names the setting and the mend.
    """
    if not config.selfplay.phases:
        raise ConfigError("selfplay.phases is empty: choose selfplay=search, star, think, grpo or hindsight")
    for i, phase in enumerate(config.selfplay.phases):
        where = f"selfplay.phases[{i}]"
        if phase.teacher not in TEACHERS:
            raise ConfigError(f"{where}.teacher={phase.teacher!r} is unknown: use one of {', '.join(TEACHERS)}")
        if all(limit is None for limit in phase_limits(phase)):
            raise ConfigError(f"{where} never ends: give it iterations, generated_tokens, cpu_seconds or seconds")
        timed = phase_limits(phase)[:1] + phase_limits(phase)[2:]
        if TEACHERS[phase.teacher].act is None and not any(timed):
            raise ConfigError(
                f"{where} generates no tokens, so generated_tokens never ends it: give it iterations or seconds"
            )
        if phase.steps < 1:
            raise ConfigError(f"{where}.steps={phase.steps} teaches nothing: use at least 1")
        check_train(f"{where}.train", learns(config, i))
        if phase.actor:
            check_ranges(replace(config, actor=actor_in(config, i)), f"{where}.")
    check_train("model.train", config.model.train)
    check_ranges(config)
    if config.model.kind == "hf" and not (config.model.path or config.checkpoint or config.resume):
        raise ConfigError("model=hf needs a model: set model.path=FOLDER (or a GGUF file)")
    learner = config.learner
    free = round(learner.value_share + learner.rules_share + learner.ended_share, 9)
    if free > 1:
        raise ConfigError(f"learner.value_share + rules_share + ended_share={free} is a share: use 0 to 1")
    if min(config.evaluation.search_tokens, default=1) < 1:
        raise ConfigError(
            f"evaluation.search_tokens={config.evaluation.search_tokens}: give budgets of at least 1 token"
        )
    if config.model.hidden_size % (2 * config.model.heads):
        raise ConfigError(
            f"model.hidden_size={config.model.hidden_size} must be an even multiple of model.heads={config.model.heads}"
        )


def check_ranges(config: SelfplayConfig, where: str = "") -> None:
    """Refuse a setting beyond its choices or range. `where` stands before its name.

    Raises:
        ConfigError: one line that names the setting and the mend.
    """
    for name, allowed in CHOICES.items():
        if (value := attrgetter(name)(config)) not in allowed:
            raise ConfigError(f"{where}{name}={value!r} is unknown: use one of {', '.join(allowed)}")
    for names, holds, must in RANGES:
        for name in names.split():
            if not holds(value := attrgetter(name)(config)):
                raise ConfigError(f"{where}{name}={value} {must}")


def check_train(name: str, value: str) -> None:
    """Refuse what names no part of a model.

    Raises:
        ConfigError: one line.
    """
    if not re.fullmatch("all|value|lora|last:[1-9][0-9]*", value):
        raise ConfigError(f"{name}={value} is unknown: use all, value, lora or last:K, as in last:10")


def learns(config: SelfplayConfig, phase: int) -> str:
    """What of the model learns in a phase, in the words of `model.train`."""
    return config.selfplay.phases[phase].train or config.model.train


def actor_in(config: SelfplayConfig, phase: int) -> ActorConfig:
    """How experience is made in a phase.

    Raises:
        ConfigError: a setting that actor has not, or of another type.
    """
    changed = config.selfplay.phases[phase].actor
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config.actor), changed)
    except OmegaConfBaseException as error:
        said = " ".join(str(error).splitlines()[0].split())
        raise ConfigError(f"selfplay.phases[{phase}].actor={dict(changed)}: {said}") from None
    return cast("ActorConfig", OmegaConf.to_object(merged))


def phase_limits(phase: Phase) -> tuple[float | None, ...]:
    """(iterations, generated tokens, CPU-seconds, seconds) of a phase, in the order of `PhaseSpent`."""
    return phase.iterations, phase.generated_tokens, phase.cpu_seconds, phase.seconds


def register() -> None:
    """Make the schema known to Hydra under the name that `conf/selfplay.yaml` extends, and that of every task."""
    ConfigStore.instance().store(name="selfplay_schema", node=SelfplayConfig)
    register_tasks()

"""The typed configuration of a self-play run, registered with Hydra; `conf/selfplay.yaml` is the page to read.

Every limit is optional; the first one reached ends what it limits. Units stand in the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass(frozen=True)
class Teacher:
    """Who makes the rows of a phase, as far as the rest of a run asks."""

    colour: str  # in the learning curve
    acts: str | None = (
        None  # how the acting net makes experience: search (trees) | sample (chains); None: rows are free
    )
    plays: bool = False  # needs a task with legal moves to play


TEACHERS = {
    "random": Teacher("tab:gray", plays=True),
    "hindsight": Teacher("tab:blue", plays=True),
    "given": Teacher("tab:purple"),
    "star": Teacher("tab:orange", acts="sample"),
    "search": Teacher("tab:green", acts="search"),
}
FILLS = ("random", "hindsight", "rules", "given")


class ConfigError(ValueError):
    """A setting that cannot work. The message is one line and names the mend."""


@dataclass
class ModelConfig:
    """A small Llama trained from scratch, about 0.18 M parameters as it stands; or a pretrained causal LM."""

    kind: str = "tiny"  # tiny | smollm2 | hf
    path: str | None = None  # hf: a folder of safetensors, or a GGUF file
    dtype: str = "float32"  # of a pretrained model's weights
    few_shot: int = 3  # solved problems shown to a pretrained model before each question
    train: str = "all"  # all | value: the value head only, the trunk stays as it is
    hidden_size: int = 64
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


@dataclass
class ScheduleConfig:
    mode: str = "search"  # search | star | hindsight: the teacher that the run is about; a label in every table
    phases: list[Phase] = field(default_factory=list)


@dataclass
class ActorConfig:
    """How new experience is made, by search or by sampling (star)."""

    problems: int = 256  # an iteration, all workers together
    tokens: int = 400  # generated tokens a problem and search
    simulations: int | None = None  # a second limit
    strategy: str = "selfplay"  # how trees are searched: an entry of `solve.strategies`, settings behind a colon
    temperature: float = 1.0  # of star's samples; that of a search is a setting of its strategy
    dtype: str = "auto"  # of the acting net's products; auto: bfloat16 where the CPU multiplies pairs of it | float32
    discount: float = 1.0  # value target of a proven state is discount^distance; 1 where states can die
    full_share: float = 1.0  # playout-cap randomisation: share of problems searched with the full budget ...
    cheap_tokens: int = 100  # ... the others get this and teach the value only
    mine: bool = True  # search only problems that the greedy policy fails (its tokens are counted)
    policy_target: str = "shortest"  # shortest | completed_q | visits
    rows_per_problem: int = 8  # training rows kept of one problem
    detour: int | None = None  # reversible: rows of states on ways at most this much longer than the best; None: all
    losing_rows: int = 4  # rows of proven-lost or never-solved states, value only


@dataclass
class LearnerConfig:
    rows: int = 256  # rows a step, all workers together
    optimizer: str = "muon"  # muon: for the matrices inside the layers, AdamW for the rest | adamw: for everything
    learning_rate: float = 3e-3  # AdamW's peak
    muon_learning_rate: float = 0.02  # Muon's peak
    final_rate: float = 0.01  # share of the peaks at which the linear decay ends
    decay_from: float = 0.3  # share of the run after which the decay begins
    warmup_steps: int = 50
    weight_decay: float = 0.1  # AdamW's, decoupled
    muon_weight_decay: float = 0.15  # Muon's, decoupled; what makes a net that could learn by heart generalise
    beta1: float = 0.9
    beta2: float = 0.98
    gradient_norm: float = 1.0
    value_coefficient: float = 0.5
    value_smoothing: float = 0.02  # value targets lie in [this, 1 - this]
    replay_share: float = 0.5  # rows of a step that come from replay when a teacher generates
    replay_window: int = 8  # iterations kept
    nearness: float = 3.4  # a replayed step is drawn as (value target) ** nearness; .9 ** 3.4 = .7 a step of distance
    reuse: float = 6.0  # times that a new row is seen, on average
    rules_share: float = 0.1  # of the rows beside replay: random play that teaches results, not choices
    value_share: float = 0.06  # of the rows beside replay: Monte-Carlo values of random play, under hindsight only
    ended_share: float = 0.0  # of the rows beside replay: finished chains, right and wrong, under hindsight only
    fill: str = "hindsight"  # what fills a batch up beside replay: hindsight | random | rules | given


@dataclass
class EvaluationConfig:
    dev: int = 400  # dev problems, the same in every iteration
    samples: int = 4  # sampled chains a dev problem
    every: int = 4  # iterations between evaluations
    test: int = 1000  # test problems of the final table (all, where the split holds fewer)
    search_tokens: list[int] = field(default_factory=lambda: [100, 400])
    gate_alpha: float = 0.05
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
    seed: int = 0
    workers: int = 0  # processes, one thread each; 0: one a core
    run_dir: str | None = None  # None: runs/<task>-<mode>-seed<seed>, with -2, -3, ... where that is taken
    resume: str | None = None  # a run_dir to go on with
    checkpoint: str | None = None  # start from these weights instead of from scratch
    policy: str | None = None  # a fixed policy, local or remote, acts in place of the net that learns
    tensorboard: bool = False
    plain: bool = False  # lines instead of the live table


def check_config(config: SelfplayConfig) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: one line that names the setting and the mend.
    """
    if not config.selfplay.phases:
        raise ConfigError("selfplay.phases is empty: choose selfplay=search, star or hindsight")
    for i, phase in enumerate(config.selfplay.phases):
        where = f"selfplay.phases[{i}]"
        if phase.teacher not in TEACHERS:
            raise ConfigError(f"{where}.teacher={phase.teacher!r} is unknown: use one of {', '.join(TEACHERS)}")
        if all(limit is None for limit in phase_limits(phase)):
            raise ConfigError(f"{where} never ends: give it iterations, generated_tokens, cpu_seconds or seconds")
        timed = phase_limits(phase)[:1] + phase_limits(phase)[2:]
        if TEACHERS[phase.teacher].acts is None and not any(timed):
            raise ConfigError(
                f"{where} generates no tokens, so generated_tokens never ends it: give it iterations or seconds"
            )
        if phase.steps < 1:
            raise ConfigError(f"{where}.steps={phase.steps} teaches nothing: use at least 1")
    choices = {
        "actor.dtype": (config.actor.dtype, ("auto", "float32")),
        "actor.policy_target": (config.actor.policy_target, ("shortest", "completed_q", "visits")),
        "learner.optimizer": (config.learner.optimizer, ("muon", "adamw")),
        "learner.fill": (config.learner.fill, FILLS),
        "model.kind": (config.model.kind, ("tiny", "smollm2", "hf")),
        "model.train": (config.model.train, ("all", "value")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise ConfigError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}")
    if config.model.kind == "hf" and not (config.model.path or config.checkpoint or config.resume):
        raise ConfigError("model=hf needs a model: set model.path=FOLDER (or a GGUF file)")
    if config.model.few_shot < 0:
        raise ConfigError(f"model.few_shot={config.model.few_shot} must be 0 or more")
    counts = {
        "actor.problems": config.actor.problems,
        "actor.tokens": config.actor.tokens,
        "learner.rows": config.learner.rows,
        "learner.replay_window": config.learner.replay_window,
        "evaluation.dev": config.evaluation.dev,
        "evaluation.test": config.evaluation.test,
        "evaluation.every": config.evaluation.every,
        "evaluation.samples": config.evaluation.samples,
        "evaluation.calibration": config.evaluation.calibration,
        "model.heads": config.model.heads,
        "model.layers": config.model.layers,
        "model.hidden_size": config.model.hidden_size,
        "model.intermediate": config.model.intermediate,
    }
    free_shares = round(config.learner.value_share + config.learner.rules_share + config.learner.ended_share, 9)
    shares = {
        "actor.full_share": config.actor.full_share,
        "learner.replay_share": config.learner.replay_share,
        "learner.value_share": config.learner.value_share,
        "learner.rules_share": config.learner.rules_share,
        "learner.ended_share": config.learner.ended_share,
        "learner.value_share + rules_share + ended_share": free_shares,
        "learner.decay_from": config.learner.decay_from,
    }
    above_zero = {
        "actor.temperature": config.actor.temperature,
        "learner.learning_rate": config.learner.learning_rate,
        "learner.muon_learning_rate": config.learner.muon_learning_rate,
        "learner.gradient_norm": config.learner.gradient_norm,
        "learner.reuse": config.learner.reuse,
        "evaluation.calibration_seconds": config.evaluation.calibration_seconds,
    }
    ranges = (
        (counts, lambda value: value >= 1, "must be at least 1"),
        (shares, lambda value: 0 <= value <= 1, "is a share: use 0 to 1"),
        (above_zero, lambda value: 0 < value < inf, "must be above 0"),
    )
    for settings, holds, must in ranges:
        for name, value in settings.items():
            if not holds(value):
                raise ConfigError(f"{name}={value} {must}")
    if not 0 < config.actor.discount <= 1:
        raise ConfigError(f"actor.discount={config.actor.discount} must lie in (0, 1]")
    if not 0 <= config.learner.value_smoothing < 0.5:
        raise ConfigError(f"learner.value_smoothing={config.learner.value_smoothing} must lie in [0, 0.5)")
    if not config.evaluation.search_tokens or min(config.evaluation.search_tokens) < 1:
        raise ConfigError(
            f"evaluation.search_tokens={config.evaluation.search_tokens}: give budgets of at least 1 token"
        )
    if not 0 < config.evaluation.gate_alpha < 1:
        raise ConfigError(f"evaluation.gate_alpha={config.evaluation.gate_alpha} must lie in (0, 1)")
    if not 0 <= config.seed < 2**63:
        raise ConfigError(f"seed={config.seed} must lie in 0..2^63 - 1")
    if config.workers < 0:
        raise ConfigError(f"workers={config.workers} must be 0 (one a core) or more")
    if config.model.hidden_size % (2 * config.model.heads):
        raise ConfigError(
            f"model.hidden_size={config.model.hidden_size} must be an even multiple of model.heads={config.model.heads}"
        )


def phase_limits(phase: Phase) -> tuple[float | None, ...]:
    """(iterations, generated tokens, CPU-seconds, seconds) of a phase, in the order of `PhaseSpent`."""
    return phase.iterations, phase.generated_tokens, phase.cpu_seconds, phase.seconds


def register() -> None:
    """Make the schema known to Hydra under the name that `conf/selfplay.yaml` extends."""
    ConfigStore.instance().store(name="selfplay_schema", node=SelfplayConfig)

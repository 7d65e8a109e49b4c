"""Where a run stands: its progress, its place in the phases, and the learning rate there. Pure arithmetic."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from selfplay.config import LearnerConfig, Phase, phase_limits

PACE = 0.25  # share of a phase's time by which it may fall behind before the clock sets its progress


@dataclass
class PhaseSpent:
    """What the present phase has used, in the order of `phase_limits`."""

    iterations: int = 0
    generated_tokens: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0

    def shares(self, phase: Phase) -> list[float | None]:
        """Used share of each limit, 1 or more where it is reached, None where the phase does not have it."""
        used = (self.iterations, self.generated_tokens, self.cpu_seconds, self.seconds)
        limits = phase_limits(phase)
        return [None if limit is None else u / limit if limit else 1.0 for u, limit in zip(used, limits, strict=True)]

    def over(self, phase: Phase) -> bool:
        """Whether any limit is reached."""
        return any(share is not None and share >= 1.0 for share in self.shares(phase))

    def share_of(self, phase: Phase) -> float:
        """Progress in [0, 1], by what can be counted: the nearer of iterations and tokens.

        The clock sets it where the phase has nothing else, or has fallen far behind; until then the same seed takes the same
        steps at the same rates, however fast the machine is.
        """
        shares = self.shares(phase)
        counted = [share for share in shares[:2] if share is not None]
        timed = [share for share in shares[2:] if share is not None]
        late = [(share - PACE) / (1.0 - PACE) for share in timed] if counted else timed
        return min(1.0, max(0.0, *counted, *late))


@dataclass
class Position:
    """Place in the schedule; saved with every commit."""

    phase: int = 0
    spent: PhaseSpent = field(default_factory=PhaseSpent)

    def advance(self, phases: list[Phase], *, generated_tokens: int, cpu_seconds: float, seconds: float) -> None:
        """Book one iteration; step into the next phase when this one is over."""
        self.spent.iterations += 1
        self.spent.generated_tokens += generated_tokens
        self.spent.cpu_seconds += cpu_seconds
        self.spent.seconds += seconds
        if self.spent.over(phases[self.phase]):
            self.phase += 1
            self.spent = PhaseSpent()

    def done(self, phases: list[Phase]) -> bool:
        return self.phase >= len(phases)

    def share(self, phases: list[Phase]) -> float:
        """Share of the whole schedule in [0, 1]; phases weigh by their learner steps, or equally where unknown."""
        weights = phase_weights(phases)
        if self.done(phases):
            return 1.0
        here = self.spent.share_of(phases[self.phase]) * weights[self.phase]
        return (sum(weights[: self.phase]) + here) / sum(weights)

    @staticmethod
    def from_dict(data: dict) -> Position:
        return Position(data["phase"], PhaseSpent(**data["spent"]))


@dataclass
class Progress:
    """What a run has done and decided so far; saved with every commit, and all of it is what `resume` goes on from."""

    iteration: int = 0
    code: str = ""  # commit of the code that started the run
    promoted: int = 0  # iteration of the net that the gate let through last
    before: int = 0  # of the net that knows only the rules: the end of random play, or the start
    gate_open: bool = True  # False after a rejection: the promoted net acts until a newer one passes
    value_auc: float = 0.0  # of the promoted net, against exact labels on dev; 0 where it could not be told
    value_within: float | None = None  # the same within a problem; None where no problem had both kinds of states
    outcomes: list[bool] | None = None  # the promoted net's greedy outcomes on dev
    position: Position = field(default_factory=Position)
    generated_tokens: int = 0
    prefilled_tokens: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0

    def spend(self, phases: list[Phase], *, prefilled_tokens: int, **spent) -> None:
        """Book what one iteration cost, and step into the next phase when the present one is over."""
        self.position.advance(phases, **spent)
        for name, cost in {"prefilled_tokens": prefilled_tokens, **spent}.items():
            setattr(self, name, getattr(self, name) + cost)

    def to_dict(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_dict(data: dict) -> Progress:
        return replace(Progress(**data), position=Position.from_dict(data["position"]))


def phase_weights(phases: list[Phase]) -> list[float]:
    """How much of the run a phase is, from whichever limit all phases state."""
    stated = (
        [(phase.iterations or 0) * phase.steps for phase in phases],
        [phase.cpu_seconds for phase in phases],
        [phase.seconds for phase in phases],
    )
    for weights in stated:
        if all(weights):
            return [float(weight) for weight in weights if weight]
    return [1.0] * len(phases)


def learning_rate(config: LearnerConfig, progress: float, step: int) -> float:
    """Share of the peak learning rates: linear warm-up by steps, constant, linear decay from `decay_from` to the end."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    tail = (1.0 - progress) / max(1.0 - config.decay_from, 1e-9)
    return warm * (config.final_rate + (1.0 - config.final_rate) * min(1.0, tail))

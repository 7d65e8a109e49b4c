"""The loop that learns: act, learn, measure, commit, and again until the schedule ends.

`python -m selfplay` calls `run`; each verb below is one function. Read in this order: `run`, `Run.act`, `Run.learn`,
`Run.measure`, `Run.commit`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from kit.command import word
from kit.process import Spare
from kit.seeds import derived_seed, generator
from models.files.calibration import trustworthy
from models.local_policy import LocalPolicy
from models.net.adapters import choose
from models.policy import Opened
from models.steps.codec import Codec
from selfplay.config import SelfplayConfig, actor_in, learns
from selfplay.learn.learner import Learner, within
from selfplay.learn.replay import Replay
from selfplay.measure.evaluate import Evaluation, evaluate
from selfplay.measure.gate import decide
from selfplay.parts import first_model, fixed_policy, given_rows, learner_of
from selfplay.run import commit as commits
from selfplay.run.ledger import Ledger
from selfplay.run.provenance import commit_of
from selfplay.run.traces import read_rows, write_rows, write_shard
from selfplay.schedule import Progress, learning_rate
from selfplay.teach.actor import Experience, act
from selfplay.teach.mixing import Mixture, batch, dealt, mixture
from selfplay.teachers import TEACHERS
from selfplay.team import CpuClock, Team
from tasks import Rows, Scorer, Task, make_scorer, make_task


@dataclass
class Run:
    """Everything that one rank of a run holds between iterations."""

    config: SelfplayConfig
    team: Team
    task: Task
    folders: commits.Folders
    ledger: Ledger | None  # rank 0 only
    learner: Learner
    promoted: torch.nn.Module  # the last net that the gate let through: what acts, and what is kept
    tokenizer: object
    scorer: Scorer  # judges when a search has ended; alone holds gold answers
    given: Rows | None  # solved chains that came with the task's data
    learning: int = 0  # phase that the learner was made for
    fixed: Opened | None = None  # acts in place of the net that learns
    replay: Replay = field(default_factory=lambda: Replay(1))
    progress: Progress = field(default_factory=Progress)
    spare: Spare = field(default_factory=Spare)

    @cached_property
    def measured(self) -> LocalPolicy:
        """The net that learns, in float32. It stands for the whole run, so that what it works in is made once."""
        return LocalPolicy(self.learner.model)

    @cached_property
    def actors(self) -> dict[bool, LocalPolicy]:
        """Who acts, by whether the gate is open: the net that learns, or the promoted one."""
        quick = self.config.actor.dtype == "auto" and self.measured.in_words
        learning = LocalPolicy(self.learner.model, quick=True) if quick else self.measured
        return {True: learning, False: LocalPolicy(self.promoted, quick=quick)}

    @property
    def codec(self) -> Codec:
        """How the net that learns reads the task."""
        return self.measured.codec(self.task)

    @property
    def trusts(self) -> bool:
        """Whether a search may look at the promoted net's value head."""
        return trustworthy(self.progress.value_auc, self.progress.value_within)

    # ------------------------------------------------------------------ the four verbs

    def act(self, teacher: str) -> Experience:
        """New experience from the acting net on train problems. Empty for free teachers."""
        if TEACHERS[teacher].act is None:
            return Experience.empty()
        if self.fixed is not None:
            policy, codec, measured = self.fixed.policy, self.codec, self.fixed.calibration
            trusted = policy.can.values and measured is not None and measured.trusted
        else:
            policy, codec, trusted = self.actors[self.progress.gate_open], None, self.trusts
        return act(
            policy,
            self.task,
            teacher,
            actor_in(self.config, self.progress.position.phase),
            self.team,
            seed=self.config.seed,
            iteration=self.progress.iteration,
            trust_value=trusted,
            scorer=self.scorer,
            codec=codec,
        )

    def learn(self, teacher: str, new: Rows, mix: Mixture, share: float) -> dict[str, float]:
        """The updates of one iteration, `new` its rows, at `share` of the schedule's rate; mean losses over them."""
        config, iteration, rank, losses = self.config.learner, self.progress.iteration, self.team.rank, []
        rows = max(1, config.rows // self.team.size)
        share_done = self.progress.position.share(self.config.selfplay.phases)
        once = dealt(new, mix.steps, generator(self.config.seed, "deal", iteration, rank)) if mix.once else []
        for step in range(mix.steps):
            rng = generator(self.config.seed, "batch", iteration, step, rank)
            drawn = (
                once[step]
                if mix.once
                else batch(self.task, self.codec, teacher, rows, self.replay, config, rng, mix.replay_share, self.given)
            )
            if config.tokens is not None and not mix.once:
                drawn = within(drawn, max(1, config.tokens // self.team.size), rng)
            losses.append(self.learner.step(drawn, share * learning_rate(config, share_done, self.learner.steps)))
        self.learner.merge()
        finite = [loss for loss in losses if loss]
        means = {name: float(np.mean([loss[name] for loss in finite])) for name in (finite[0] if finite else {})}
        rate = share * learning_rate(config, share_done, self.learner.steps)
        return means | {"learning_rate": rate, "steps": mix.steps, "replay_share": mix.replay_share}

    def measure(self) -> tuple[Evaluation, dict]:
        """Dev problems, then the gate: a net that is significantly worse than the promoted one is not promoted."""
        config, done = self.config.evaluation, self.progress
        found = evaluate(
            self.measured,
            self.task,
            dev_problems(self.task, self.config),
            self.team,
            samples=config.samples,
            discount=self.config.actor.discount,
            seed=derived_seed(self.config.seed, "evaluation"),
            scorer=self.scorer,
        )
        before = found.headline if done.outcomes is None else np.array(done.outcomes, bool)
        decision = decide(before, found.headline, alpha=config.gate_alpha)
        done.gate_open = decision.promote
        if decision.promote:
            done.value_auc = 0.0 if np.isnan(found.value_auc) else found.value_auc
            done.value_within = None if np.isnan(found.value_within) else found.value_within
            self.promoted.load_state_dict(self.learner.model.state_dict())
            done.promoted, done.outcomes = done.iteration, found.headline.tolist()
        gate = {"promoted": decision.promote, "reason": decision.reason}
        return found, gate

    def commit(self, experience: Experience, metrics: dict) -> None:
        """Traces, checkpoint and one ledger row; from here on the iteration cannot be lost."""
        shards = []
        if len(experience.rows) or experience.traces:
            name = f"iteration-{self.progress.iteration:06d}-rank{self.team.rank}"
            shards.append(write_rows(self.folders.traces / f"{name}.rows.parquet", experience.rows))
            shards.append(write_shard(self.folders.traces / f"{name}.traces.parquet", experience.traces))
        commits.commit(
            self.folders,
            self.ledger,
            self.team,
            self.progress.iteration,
            task=self.config.task,
            model=self.learner.model,
            tokenizer=self.tokenizer,
            optimizer_state=self.learner.state(),
            shards=shards,
            metrics=metrics,
            state=self.progress.to_dict(),
        )

    # ------------------------------------------------------------------ one iteration

    def iterate(self) -> dict:
        """One turn of the loop; returns its line of metrics."""
        config, done = self.config, self.progress
        phases, phase_index = config.selfplay.phases, done.position.phase
        phase = phases[phase_index]
        teacher = phase.teacher
        started, clock = time.monotonic(), CpuClock(self.team)
        if learns(config, phase_index) != learns(config, self.learning):
            self.learner = learner_of(self.learner.model, config, self.team, phase_index).goes_on(self.learner)
        self.learning = phase_index
        done.iteration += 1
        experience = self.act(teacher)
        self.replay.add(replayed(teacher, experience.rows))
        new_rows = sum(self.team.gather(len(experience.rows)))
        new_tokens = sum(self.team.gather(int(experience.rows.used.sum())))
        mix = mixture(teacher, new_rows, phase.steps, config.learner, new_tokens)
        losses = self.learn(teacher, experience.rows, mix, phase.rate)
        done.spend(
            phases,
            generated_tokens=sum(self.team.gather(experience.generated_tokens)),
            prefilled_tokens=sum(self.team.gather(experience.prefilled_tokens)),
            cpu_seconds=clock.read(),
            seconds=self.team.lead(time.monotonic() - started),
        )
        last_of_phase = done.position.phase != phase_index
        if last_of_phase and TEACHERS[teacher].rules_only:
            done.before = done.iteration
        metrics = self.totals() | {
            "teacher": teacher,
            "phase": phase_index,
            "new_rows": new_rows,
            "losses": losses,
            "actor": experience.summary(self.team),
        }
        if last_of_phase or done.iteration % config.evaluation.every == 0:
            found, gate = self.measure()
            metrics |= {"dev": found.to_dict(), "gate": gate}
        self.commit(experience, metrics)
        self.spare.give_back()
        return metrics

    def totals(self) -> dict:
        """Everything spent so far."""
        done = self.progress
        return {
            "iteration": done.iteration,
            "progress": done.position.share(self.config.selfplay.phases),
            "generated_tokens": done.generated_tokens,
            "prefilled_tokens": done.prefilled_tokens,
            "trained_tokens": self.learner.trained_tokens,
            "seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds,
        }


def run(team: Team, config: SelfplayConfig, folder: str, resume: bool, display) -> Run:
    """The whole schedule, from its start or from the last commit. Collective."""
    state = resumed(team, config, Path(folder)) if resume else started(team, config, Path(folder))
    phases = config.selfplay.phases
    if display is not None:
        display.opened(
            f"{config.task['name']} by {config.selfplay.mode}, seed {config.seed}, {team.size} workers; "
            f"run folder {folder}; Ctrl-C is safe, go on with {word('resume', folder)}"
        )
    while not state.progress.position.done(phases):
        metrics = state.iterate()
        if display is not None:
            display.iteration(metrics)
    return state


def replayed(teacher: str, rows: Rows) -> Rows:
    """What of an iteration's rows may be learned again."""
    return Experience.empty().rows if TEACHERS[teacher].on_policy else rows


def dev_problems(task: Task, config: SelfplayConfig) -> list:
    """The dev problems of every iteration; all of the split where it holds fewer than asked."""
    return task.first_problems("dev", config.evaluation.dev)


def started(team: Team, config: SelfplayConfig, root: Path) -> Run:
    """A fresh run: new weights (or `checkpoint=`), measured and committed as iteration 0."""
    task = make_task(**config.task)
    torch.manual_seed(derived_seed(config.seed, "weights") % 2**31)
    model, tokenizer = first_model(task, config)
    folders = commits.Folders(root)
    if team.leads:
        folders.make()
    team.gather(None)
    promoted, _ = first_model(task, config)
    promoted.load_state_dict(model.state_dict())
    state = made(
        team, config, task, folders, Ledger(folders.ledger) if team.leads else None, model, promoted, tokenizer
    )
    state.progress.code = team.lead(commit_of(Path(__file__).parent))
    found, gate = state.measure()
    state.commit(
        Experience.empty(), state.totals() | {"teacher": "none", "phase": -1, "dev": found.to_dict(), "gate": gate}
    )
    return state


def resumed(team: Team, config: SelfplayConfig, root: Path) -> Run:
    """A run as its last commit left it; what came after is swept and done again, bit for bit."""
    folders = commits.Folders(root)
    if team.leads:
        Ledger(folders.ledger).close()  # made by one rank where a kill came before it
    team.gather(None)
    ledger = Ledger(folders.ledger)
    last = ledger.last()
    if last is None:  # killed before its first commit
        ledger.close()
        return started(team, config, root)
    if team.leads:
        commits.sweep(folders, ledger, last.iteration)
    team.gather(None)
    model, optimizer_state, promoted, tokenizer = commits.restore(folders, last.state, config.device)
    task = make_task(**config.task)
    state = made(
        team,
        config,
        task,
        folders,
        ledger if team.leads else None,
        model,
        promoted,
        tokenizer,
        max(0, ledger.metrics()[-1]["phase"]),
    )
    state.learner.load_state(optimizer_state)
    state.progress = Progress.from_dict(last.state)
    teachers = {line["iteration"]: line["teacher"] for line in ledger.metrics()}
    for iteration in range(max(1, last.iteration - config.learner.replay_window + 1), last.iteration + 1):
        mine = [s for s in ledger.shards(iteration) if s.name.endswith(f"-rank{team.rank}.rows.parquet")]
        rows = read_rows(folders.traces / mine[0].name, mine[0].sha256) if mine else Experience.empty().rows
        state.replay.add(replayed(teachers[iteration], rows))
    return state


def made(
    team, config: SelfplayConfig, task, folders, ledger: Ledger | None, model, promoted, tokenizer, phase: int = 0
) -> Run:
    """A run that has done nothing yet, of parts that are made or read; `phase`: whose learner it begins with.

    Raises:
        TrainError: what is to learn in a phase is not in the model.
    """
    for k in range(len(config.selfplay.phases)):
        choose(model, learns(config, k))
    return Run(
        config,
        team,
        task,
        folders,
        ledger,
        learner_of(model, config, team, phase),
        promoted,
        tokenizer,
        make_scorer(**config.task),
        given_rows(task, config, LocalPolicy(model).codec(task)),
        learning=phase,
        fixed=fixed_policy(config, task),
        replay=Replay(config.learner.replay_window, config.learner.nearness),
    )

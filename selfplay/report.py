"""The end of a run: the test table with its controls, the curve, three solved problems, and summary.json.

Test problems are looked at here and nowhere else; every choice was made on dev.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.table import Table

from kit.files import json_line, write_whole
from kit.seeds import derived_seed
from kit.statistics import wilson
from models.abilities import Rollout
from models.files.calibration import Calibration, write_calibration
from models.local_policy import LocalPolicy
from models.policy import FEW_SHOT, Policy, open_policy
from models.steps.stream_types import Rules, threshold_of
from selfplay.config import SelfplayConfig
from selfplay.loop import Run, run
from selfplay.measure.curve import learning_curve
from selfplay.measure.display import Display
from selfplay.measure.evaluate import Evaluation, evaluate
from selfplay.measure.thinking import WITH_AND_WITHOUT, hidden_chains, thinking, thinking_curve, thinking_table
from selfplay.parts import start_of
from selfplay.teach.settle import scored
from selfplay.teachers import TEACHERS
from selfplay.team import Team
from solve.calibrate.measure import calibrate
from solve.search.enumeration import enumeration
from solve.search.solved_at import solved_at
from solve.search.think import thinks
from solve.strategies import way
from solve.types import Workbench
from tasks import make_guesser
from tasks.base import Problem, Task
from tasks.guessing import guessed
from tasks.streams import EFFORTS

SHOWN_CHAINS = 3
IN_THE_LOOP = "verifier in the loop"
MEASURED = ("best_first", "best_of_n")  # entries of `solve.strategies` in the final table
GUESSES = 8  # of the guessing control


def job(team: Team, config: SelfplayConfig, folder: str, resume: bool) -> None:
    """The whole of `python -m selfplay` on one rank: the loop, then the report."""
    if not team.leads:
        final_report(run(team, config, folder, resume, None), None)
        return
    with Display(Path(folder), plain=config.plain, tensorboard=config.tensorboard) as display:
        finished = run(team, config, folder, resume, display)
        assert finished.ledger is not None, "rank 0 keeps the ledger"
        display.opened("calibrating on the dev split ...")
        calibration = calibrated(finished)
        display.opened("measuring on the test split ...")
        summary = final_report(finished, calibration)
        root = finished.folders.root
        write_whole(root / "summary.json", json_line(summary))
        learning_curve(finished.ledger.metrics(), root / "learning_curve.png", title=_title(config))
        thought = "thinking" in summary
        drawn = thought and EFFORTS[-1] in summary["thinking"]
        if drawn:
            thinking_curve(summary["thinking"], summary["test"]["n"], root / "thinking.png", title=_title(config))
        display.closed(
            test_table(summary),
            *([thinking_table(summary["thinking"], summary["test"]["n"])] if thought else []),
            phase_table(finished.ledger.metrics()),
            *solved_chains(finished),
            *(thoughts(finished, calibration) if thought else ()),
            f"calibration {said(calibration)}",
            f"checkpoint  {summary['checkpoint']}",
            f"traces      {finished.folders.traces}",
            f"curve       {root / 'learning_curve.png'}",
            *([f"thinking    {root / 'thinking.png'}"] if drawn else []),
            f"summary     {root / 'summary.json'}",
        )
        finished.ledger.close()


def final_report(finished: Run, calibration: Calibration | None) -> dict:
    """Everything of summary.json. Collective; the calibration is that of the rank that leads."""
    config, task, team = finished.config, finished.task, finished.team
    problems = test_problems(task, config)
    policy = LocalPolicy(finished.promoted)
    before = open_policy(str(finished.folders.checkpoint(finished.progress.before)), device=config.device).policy
    before, after = measure(finished, before, problems), measure(finished, policy, problems)
    base = base_rate(finished, problems)
    low, high = wilson(int(after.headline.sum()), len(problems))
    seed = derived_seed(config.seed, "test")
    budgets = sorted(config.evaluation.search_tokens)
    most = max(budgets, default=0)

    def searched(strategy: str) -> np.ndarray:
        bench = Workbench(policy, task, "task", finished.trusts, seed)
        return shared(lambda mine: solved_at(bench, way(strategy, task).search, mine, most))

    def shared(strategy: Callable[[list[Problem]], np.ndarray]) -> np.ndarray:
        return np.array(team.weave(list(strategy(team.share(problems)))), np.int64)

    thought = {}
    taught = any(TEACHERS[phase.teacher].thinks for phase in config.selfplay.phases)
    if task.self_verifying and thinks(task, policy) and (taught or not task.stream_words):
        rules = Rules(threshold=threshold_of(task, team.lead(calibration and calibration.verdict_threshold)))
        efforts = EFFORTS if task.stream_words else WITH_AND_WITHOUT
        thought = {"thinking": thinking(policy, task, problems, team, rules, seed, efforts)}
    spent = (
        {
            **{strategy: searched(strategy) for strategy in MEASURED},
            "enumeration": shared(lambda mine: enumeration(task, mine, most, seed=seed)),
        }
        if task.self_verifying and budgets
        else {}
    )
    guesser = make_guesser(**config.task)
    guesses = np.array(team.weave(list(guessed(guesser, finished.scorer, team.share(problems), GUESSES))))
    return {
        "task": dict(config.task),
        "mode": config.selfplay.mode,
        "seed": config.seed,
        "commit": finished.progress.code,
        "seconds": finished.progress.seconds,
        "cpu_seconds": finished.progress.cpu_seconds,
        "generated_tokens": finished.progress.generated_tokens,
        "prefilled_tokens": finished.progress.prefilled_tokens,
        "trained_tokens": finished.learner.trained_tokens,
        "test": {
            "n": len(problems),
            **({} if base is None else {"greedy_base": base, "base_examples": FEW_SHOT}),
            "greedy_before": float(before.headline.mean()),
            "greedy_after": float(after.headline.mean()),
            "greedy_ci95": [low, high],
            "sampled_before": before.sampled,
            "sampled_after": after.sampled,
            "sampled_ci95": after.to_dict()["sampled_ci95"],
            "judge": IN_THE_LOOP if task.self_verifying else "gold, after the last token",
            "guess": {str(n): float(guesses[:, n - 1].mean()) for n in (1, GUESSES)},
            **{name: {str(budget): float((at <= budget).mean()) for budget in budgets} for name, at in spent.items()},
        },
        **thought,
        "illegal_rate": after.illegal_rate,
        "illegal_steps": after.illegal_steps,
        "value_auc": after.value_auc,
        "value_ece": after.value_ece,
        "checkpoint": str(finished.folders.checkpoint(finished.progress.promoted)),
    }


def thoughts(finished: Run, calibration: Calibration) -> list[str]:
    """Hidden chains of some test problems. On one rank."""
    policy = LocalPolicy(finished.promoted)
    problems = test_problems(finished.task, finished.config)[: 50 if policy.in_words else 16]
    rules = Rules(threshold=threshold_of(finished.task, calibration.verdict_threshold))
    return hidden_chains(policy, finished.task, problems, rules, finished.config.seed)


def calibrated(finished: Run) -> Calibration:
    """What `solve` may believe of the promoted net, measured on dev and written beside its weights. On one rank."""
    config = finished.config.evaluation
    measured = calibrate(
        LocalPolicy(finished.promoted),
        finished.task,
        finished.scorer,
        finished.task.first_problems("dev", config.calibration),
        seconds=config.calibration_seconds,
        seed=derived_seed(finished.config.seed, "calibration"),
        known=Calibration(finished.progress.value_auc or None, finished.progress.value_within),
    )
    write_calibration(finished.folders.checkpoint(finished.progress.promoted), measured.calibration)
    return measured.calibration


def said(calibration: Calibration) -> str:
    """One line for a person."""
    auc, within = calibration.value_auc, calibration.value_within
    ranks = "value not measured" if auc is None else f"value's AUC {auc:.2f}"
    ranks += "" if within is None else f", within a problem {within:.2f}"
    trust = "looked at" if calibration.trusted else "not looked at"
    fits = len(calibration.confidence)
    return f"{ranks}: {trust} in solve; a greedy chain is {calibration.greedy_tokens:.1f} tokens; {fits} confidences fitted"


def measure(finished: Run, policy: Policy, problems: list[Problem]) -> Evaluation:
    config = finished.config
    return evaluate(
        policy,
        finished.task,
        problems,
        finished.team,
        samples=config.evaluation.samples,
        discount=config.actor.discount,
        seed=derived_seed(config.seed, "test"),
        scorer=finished.scorer,
    )


def base_rate(finished: Run, problems: list[Problem]) -> float | None:
    """Greedy rate of the language model that came, with solved examples before each question. Collective.

    None where there was none, or where the "before" of the table is that model itself.
    """
    config, team = finished.config, finished.team
    if config.model.kind == "tiny" or config.checkpoint or not finished.progress.before:
        return None
    base = open_policy(start_of(config), dtype=config.model.dtype, device=config.device).policy
    mine = team.share(problems)
    chains = scored(finished.scorer, mine, base.chains(finished.task, mine, temperature=0.0))
    return float(np.mean(team.weave([of_one[0].verdict.reward >= 1 for of_one in chains])))


def test_problems(task: Task, config: SelfplayConfig) -> list[Problem]:
    """The test problems of the final table; all of the split where it holds fewer than asked."""
    return task.first_problems("test", config.evaluation.test)


def test_table(summary: dict) -> Table:
    """Before and after on test, search and its controls at equal generated tokens."""
    test = summary["test"]
    table = Table(title=f"test split, n={test['n']} (solved, %)", title_justify="left", caption_justify="left")
    has_base, notes = "greedy_base" in test, []
    if has_base:
        notes.append(
            f"base: the model that came, shown {test['base_examples']} solved problems; before: it knows the form"
        )
    if test["judge"] == IN_THE_LOOP and MEASURED[0] in test:
        notes.append(f"with a budget in generated tokens: {IN_THE_LOOP}")
    table.caption = "\n".join(notes)
    for name in ("", *["base"] * has_base, "before", "after", "95 % CI"):
        table.add_column(name, justify="left" if not name else "right")

    def row(name: str, before: float | None, after: float, interval=None, base: float | None = None) -> None:
        low, high = interval or wilson(round(after * test["n"]), test["n"])
        earlier = ["" if rate is None else f"{100 * rate:.1f}" for rate in (base, before)]
        table.add_row(name, *earlier[not has_base :], f"{100 * after:.1f}", f"{100 * low:.1f} to {100 * high:.1f}")

    row("greedy, one chain", test["greedy_before"], test["greedy_after"], base=test.get("greedy_base"))
    row("one sample", test["sampled_before"], test["sampled_after"], test["sampled_ci95"])
    for n, rate in test["guess"].items():
        row("guessing, no model" if n == "1" else f"any of {n} guesses, no model", None, rate)
    for name, note in ((MEASURED[0], ""), (MEASURED[1], ""), ("enumeration", ", no policy")):
        for budget, rate in test.get(name, {}).items():
            row(f"{name}{note}, {budget} tokens", None, rate)
    return table


def phase_table(metrics: list[dict]) -> Table:
    """Which phase gained what on dev."""
    table = Table(title="what each phase gained (dev greedy, %)", title_justify="left")
    for name in ("teacher", "from", "to", "generated tokens", "trained tokens", "seconds"):
        table.add_column(name, justify="left" if name == "teacher" else "right")
    measured = [m for m in metrics if "dev" in m]
    for previous, end in _phase_ends(measured):
        start_rate, end_rate = (m["dev"].get("greedy_no_reentry", m["dev"]["greedy"]) for m in (previous, end))
        table.add_row(
            end["teacher"],
            f"{100 * start_rate:.1f}",
            f"{100 * end_rate:.1f}",
            f"{end['generated_tokens'] - previous['generated_tokens']:,}",
            f"{end['trained_tokens'] - previous['trained_tokens']:,}",
            f"{end['seconds'] - previous['seconds']:.0f}",
        )
    return table


def _phase_ends(measured: list[dict]) -> list[tuple[dict, dict]]:
    last_of = {m["phase"]: m for m in measured}
    ends = [last_of[phase] for phase in sorted(last_of)]
    return list(pairwise(ends))


def solved_chains(finished: Run) -> list[str]:
    """A few test problems that the greedy policy solves now, its chain before and after; those first that it failed before."""
    task, problems = finished.task, test_problems(finished.task, finished.config)[:50]
    known = open_policy(str(finished.folders.checkpoint(finished.progress.before))).policy
    before, after = (
        [chains[0] for chains in scored(finished.scorer, problems, policy.chains(task, problems, temperature=0.0))]
        for policy in (known, LocalPolicy(finished.promoted))
    )
    solved = [k for k, chain in enumerate(after) if chain.verdict.reward >= 1]
    solved.sort(key=lambda k: before[k].verdict.reward >= 1)
    shown = []
    for k in solved[:SHOWN_CHAINS]:
        told = "solved" if before[k].verdict.reward >= 1 else before[k].verdict.reason
        shown.append(
            f"{task.prompt(problems[k]).strip()}\n  before: {told}\n{_lines(before[k])}\n  after: solved\n{_lines(after[k])}"
        )
    return shown


def _lines(chain: Rollout) -> str:
    return "\n".join("    " + step.strip() for step in chain.steps)


def _title(config: SelfplayConfig) -> str:
    return f"{config.task['name']}, {config.selfplay.mode}, seed {config.seed}"

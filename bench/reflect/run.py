"""What thinking in one stream buys: efforts beside what the same net does with as many tokens; and what labels are worth.

    python -m bench reflect policy=RUN [problems=600]               efforts, and their controls
    python -m bench reflect policy=RUN part=labels [problems=300]   labels of the teacher against exact ones
    python -m bench reflect policy=RUN part=checks [problems=600]   false steps noticed, right ones refused
    python -m bench reflect policy=RUN part=verdicts                what it says of its own chains, and of planted errors
    python -m bench reflect policy=RUN part=rules                   the rules of decoding, switched off one by one
    python -m bench reflect policy=RUN task=operand_max=99          on another range than it was taught on

No judge is in any loop but that of best of N; it says afterwards what was right. Every token in a stream is counted.
Controls of the same net, with the same threshold:

    restarts            tries drawn independently, the first one greedy, up to the first `yes`
    distinct restarts   every `no` goes back to the root, and no first step is taken twice
    distinct chains     no chain is begun twice, but a first step may be: back one step and on with the next most probable,
                        which takes those steps again that stood before the one refused, and pays for them
    same tries          the stream itself, back to where it would go, the steps that stand taken again and paid for
    best of N           plain samples and the true judge
    tree search         best first with the true judge, and with the value head where it can be trusted
    vote                where one answer alone is right: the commonest one of plain samples, a draw going to the first

A control of tries gets the next whole number of them, never fewer tokens than the stream. `quick=true`, of large models, leaves
out those that take many runs: distinct chains, same tries, tree search.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import command
from bench.reflect.controls import paid_anew, tree, votes, within
from bench.reflect.inside import checks, labels
from bench.reflect.planted import verdicts
from bench.reflect.rules import switched_off
from bench.tables import points, share, table
from kit.command import settings
from kit.seeds import generator
from kit.statistics import bootstrap_difference, wilson
from models.policy import Policy, open_policy
from models.steps.stream_types import NATURAL, Rules, threshold_of
from selfplay.measure.thinking import JUDGED, at_least, judged_samples, restarts, solved
from tasks import Problem, Task, make_task
from tasks.streams import EFFORTS

TREE = 16  # tokens that a tree search may pay for a problem, in those of a plain sample
BESIDE = ("distinct restarts", "distinct chains", "same tries", "tree search")
PARTS = ("efforts", "labels", "checks", "verdicts", "rules")


def main(
    policy: str = "",
    part: str = "efforts",
    problems: int = 600,
    split: str = "test",
    tries: int = 24,
    temperature: float = 0.7,
    label_tokens: int = 400,
    donor: str = "",
    seed: int = 1,
    quick: bool = False,
    task: str = "",
    run_dir: str = "",
) -> dict[str, Any]:
    """Print the tables of one net that was taught to think. `donor`: whose chains are planted; "": its own samples.

    `task`: options of its task that are others than those it was taught on, between commas.

    Raises:
        command.UsageError: no policy, or no such part, split or option.
    """
    if not policy:
        raise command.UsageError("nothing to measure: write policy=RUN, of selfplay.mode=stream")
    command.one_of("part", part, PARTS)
    torch.set_num_threads(1)
    opened = open_policy(policy)
    options: dict[str, Any] = opened.task_options or {}
    options |= settings(filter(None, task.split(",")), options)
    thinker, game = opened.policy, make_task(**options)
    asked = game.first_problems(command.one_of("split", split, ("train", "dev", "test")), problems)
    fitted = None if opened.calibration is None else opened.calibration.verdict_threshold
    rules = Rules(threshold=threshold_of(game, fitted))
    if part == "labels":
        result = labels(thinker, game, asked, label_tokens, seed)
    elif part == "checks":
        result = checks(thinker, game, asked, rules)
    elif part == "verdicts":
        giver = open_policy(donor).policy if donor else thinker
        if donor:
            plain: dict[str, Any] = options | {"streams": False}
            giver.check(make_task(**plain))
        result = verdicts(thinker, game, asked, rules, giver, seed)
    elif part == "rules":
        result = switched_off(thinker, game, asked, rules, seed)
    else:
        trusted = opened.calibration is not None and opened.calibration.trusted
        result = efforts(thinker, game, asked, rules, tries, temperature, trusted, seed, quick)
        if run_dir:
            picture(result, Path(run_dir) / "reflect.png")
    command.save(result, run_dir, f"reflect_{part}")
    return result


def efforts(
    policy: Policy,
    task: Task,
    asked: list[Problem],
    rules: Rules,
    tries: int,
    temperature: float,
    trusted: bool,
    seed: int,
    quick: bool = False,
) -> dict[str, Any]:
    """Accuracy and tokens of every effort, and of controls at equal tokens."""
    by_tries = {
        "restarts": restarts(policy, task, asked, replace(rules, undos=0), tries, temperature, seed),
        JUDGED: judged_samples(policy, task, asked, tries, temperature, seed),
    }
    if task.one_answer:
        by_tries["vote"] = votes(policy, task, asked, tries, temperature, seed)
    most = TREE * max(1, round(by_tries[JUDGED][1][0].mean()))
    searched = None if quick else tree(policy, task, asked, most, trusted, seed)
    rows, told = [], []
    for effort, name in enumerate(EFFORTS):
        made = policy.streams(task, asked, effort, rules, seed=seed)
        right, tokens = solved(task, asked, made), float(np.mean([stream.tokens for stream in made]))
        low, high = wilson(int(right.sum()), len(asked))
        row: dict[str, Any] = {
            "effort": name, "solved": float(right.mean()), "low": low, "high": high, "tokens": tokens,
            "undos": float(np.mean([stream.undos for stream in made])),
            "natural": float(np.mean([stream.end in NATURAL for stream in made])),
            "false_yes": sum(stream.accepted and not ok for stream, ok in zip(made, right, strict=True)),
        }  # fmt: skip
        line = [name, share(row["solved"], low, high), f"{tokens:.1f}", f"{row['undos']:.2f}",
                f"{100 * row['natural']:.1f}", str(row["false_yes"])]  # fmt: skip
        if effort:
            rooted = policy.streams(task, asked, effort, replace(rules, back="root", mended=False), seed=seed)
            controls = {BESIDE[0]: (solved(task, asked, rooted), float(np.mean([s.tokens for s in rooted])))}
            if searched is not None:
                last = replace(rules, back="last", mended=False)
                controls |= {
                    "distinct chains": paid_anew(policy, task, asked, effort, last, seed, tokens),
                    "same tries": paid_anew(policy, task, asked, effort, rules, seed, tokens),
                    "tree search": within(searched, most, tokens),
                }
            controls |= {control: at_least(found, tokens) for control, found in by_tries.items()}
            for control, (other, price) in controls.items():
                between = bootstrap_difference(right, other, generator(seed, "bootstrap", effort))
                lead = {"difference": between.estimate, "from": between.low, "to": between.high}
                row[control] = {"solved": float(other.mean()), "tokens": price, **lead}
                line.append(f"{100 * other.mean():.1f} at {price:.1f}: {points(*lead.values())}")
        rows.append(row)
        told.append(line)
    beside = BESIDE[:1] if quick else BESIDE
    heads = ["effort", "solved, %", "tokens", "undos", "natural, %", "false yes", *beside, *by_tries]
    print("\n".join(table(heads, [line + [""] * (len(heads) - len(line)) for line in told])))
    curves = {
        control: [(float(spent), float(rate)) for spent, rate in zip(paid.mean(1), right.mean(1), strict=True)]
        for control, (right, paid) in by_tries.items()
    }
    return {"rows": rows, "curves": curves, "problems": len(asked), "threshold": rules.threshold, "seed": seed}


def picture(result: dict[str, Any], path: Path) -> None:
    """Share solved against tokens really used: efforts of one stream, and what the same net does without being one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes, rows = figure.subplots(), result["rows"]
    tokens, rate = ([row[name] for row in rows] for name in ("tokens", "solved"))
    axes.fill_between(
        tokens, [100 * row["low"] for row in rows], [100 * row["high"] for row in rows], alpha=0.2, linewidth=0
    )
    axes.plot(tokens, [100 * r for r in rate], marker="o", label="one hidden stream, by effort")
    for k, row in enumerate(rows):  # neighbours may lie close together
        at, beside = (row["tokens"], 100 * row["solved"]), (-4, 9) if k % 2 else (4, -15)
        axes.annotate(row["effort"], at, beside, textcoords="offset points", fontsize=9)
    for control, colour in zip(BESIDE, ("tab:olive", "tab:green", "tab:pink", "tab:cyan"), strict=True):
        found = [(row[control]["tokens"], 100 * row[control]["solved"]) for row in rows if control in row]
        if found:
            axes.plot(*zip(*found, strict=True), marker=".", linestyle=":", color=colour, label=control)
    for (control, curve), colour in zip(
        result["curves"].items(), ("tab:orange", "tab:red", "tab:purple"), strict=False
    ):
        seen = [(spent, 100 * r) for spent, r in curve if spent <= 1.3 * max(tokens)]
        axes.plot(*zip(*seen, strict=True), marker=".", linestyle="--", color=colour, label=control)
    axes.set_xlabel("tokens really used a problem, all of the hidden chain included")
    axes.set_ylabel("test problems solved, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)

"""What thinking in one stream buys: efforts beside what the same net does with as many tokens; and what labels are worth.

    python -m bench reflect policy=RUN [problems=600]               efforts, and three controls
    python -m bench reflect policy=RUN part=labels [problems=300]   labels of the teacher against exact ones
    python -m bench reflect policy=RUN part=checks [problems=600]   false steps noticed, right ones refused

No judge is in any loop but that of best of N; it says afterwards what was right. Every token in a stream is counted.
Controls of the same net, with the same threshold:

    restarts            tries drawn independently, the first one greedy, up to the first `yes`
    distinct restarts   every `no` goes back to the root, and no first step is taken twice
    distinct chains     no chain is begun twice, but a first step may be: each try takes those steps again that stood before the
                        one refused, and pays for them
    best of N           plain samples and the true judge
    vote                where steps are checked: the commonest answer of plain samples, a draw going to the first

A control of tries gets the next whole number of them, never fewer tokens than the stream.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench import command
from bench.tables import table
from kit.seeds import generator
from kit.statistics import bootstrap_difference, wilson
from models.policy import Opened, Policy, open_policy
from models.steps.stream_types import THRESHOLD, Rules, Stream
from models.steps.stream_words import StreamWords
from selfplay.config import ActorConfig
from selfplay.teach.actor import Acting, Origin
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.stream import played, replayed, searched
from tasks import Problem, Task, make_task
from tasks.judging.scorers import Replay
from tasks.oracle import Oracle, oracle
from tasks.streams import CHECK, EFFORTS, UNDOS, YES

HIGH = len(EFFORTS) - 1
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)  # of mass tried in vain
AT_ONCE = 128  # problems at once
NATURAL = ("yes", "no", "stop", "plain")


def main(
    policy: str = "",
    part: str = "efforts",
    problems: int = 600,
    split: str = "test",
    tries: int = 24,
    temperature: float = 0.7,
    label_tokens: int = 400,
    seed: int = 1,
    run_dir: str = "",
) -> dict[str, Any]:
    """Print the tables of one net that was taught to think.

    Raises:
        command.UsageError: no policy, or no such part or split.
    """
    if not policy:
        raise command.UsageError("nothing to measure: write policy=RUN, of selfplay.mode=stream")
    command.one_of("part", part, ("efforts", "labels", "checks"))
    torch.set_num_threads(1)
    opened = open_policy(policy)
    task = make_task(**(opened.task_options or {}))
    asked = task.first_problems(command.one_of("split", split, ("train", "dev", "test")), problems)
    if part == "labels":
        result = labels(opened.policy, task, asked, label_tokens, seed)
    elif part == "checks":
        result = checks(opened.policy, task, asked)
    else:
        result = efforts(opened, task, asked, tries, temperature, seed)
    command.save(result, run_dir, f"reflect_{part}")
    return result


def efforts(
    opened: Opened, task: Task, asked: list[Problem], tries: int, temperature: float, seed: int
) -> dict[str, Any]:
    """Accuracy and tokens of every effort, and of controls at equal tokens."""
    fitted = None if opened.calibration is None else opened.calibration.verdict_threshold
    rules, policy = Rules(threshold=THRESHOLD if fitted is None else fitted), opened.policy
    again = restarts(policy, task, asked, replace(rules, undos=0), tries, temperature, seed)
    best = judged_samples(policy, task, asked, tries, temperature, seed)
    voted = votes(policy, task, asked, tries, temperature, seed) if StreamWords.of(task).form.checks else None
    rows, told = [], []
    for effort, name in enumerate(EFFORTS):
        made = policy.streams(task, asked, effort, rules, seed=seed)
        right, tokens = solved(task, asked, made), np.array([stream.tokens for stream in made])
        low, high = wilson(int(right.sum()), len(asked))
        row: dict[str, Any] = {
            "effort": name,
            "solved": float(right.mean()), "low": low, "high": high, "tokens": float(tokens.mean()),
            "natural": float(np.mean([stream.end in NATURAL for stream in made])),
            "false_yes": sum(stream.accepted and not ok for stream, ok in zip(made, right, strict=True)),
            "undos": float(np.mean([stream.undos for stream in made])),
        }  # fmt: skip
        line = [name, _share(row["solved"], low, high), f"{row['tokens']:.1f}", f"{row['undos']:.2f}",
                f"{100 * row['natural']:.1f}", str(row["false_yes"])]  # fmt: skip
        if effort:
            rooted = policy.streams(task, asked, effort, replace(rules, back="root"), seed=seed)
            spent = np.array([stream.tokens for stream in rooted])
            controls = {"distinct restarts": (solved(task, asked, rooted), float(spent.mean()))}
            controls |= {
                "distinct chains": chains_again(policy, task, asked, effort, rules, seed, float(tokens.mean()))
            }
            controls |= {"restarts": at_least(again, tokens.mean()), "best of N, judge": at_least(best, tokens.mean())}
            controls |= {"vote": at_least(voted, tokens.mean())} if voted else {}
            for control, (other, price) in controls.items():
                between = bootstrap_difference(right, other, generator(seed, "bootstrap", effort))
                row[control] = {"solved": float(other.mean()), "tokens": price, **vars_of(between)}
                line.append(f"{100 * other.mean():.1f} at {price:.1f}: {_points(row[control])}")
        rows.append(row)
        told.append(line)
    heads = [
        "effort",
        "solved, %",
        "tokens",
        "undos",
        "natural, %",
        "false yes",
        "distinct restarts",
        "distinct chains",
        "restarts",
        "best of N, judge",
    ]
    heads += ["vote"] if voted else []
    print("\n".join(table(heads, [line + [""] * (len(heads) - len(line)) for line in told])))
    return {"rows": rows, "problems": len(asked), "threshold": rules.threshold, "seed": seed}


def solved(task: Task, asked: list[Problem], made: list[Stream]) -> np.ndarray:
    """bool [P]: accepted by the stream itself, and right."""
    return np.array(
        [s.accepted and task.verdict(problem, s.steps).reward >= 1 for problem, s in zip(asked, made, strict=True)]
    )


def chains_again(
    policy: Policy, task: Task, asked: list[Problem], effort: int, rules: Rules, seed: int, tokens: float
) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) of as few tries of distinct chains as cost so many tokens; of all where none do.

    The most probable chain that none of those refused begins is, but for mass that is used up, the last one up to the step
    that was refused, and then another: a stream that always goes back one step, its standing steps paid anew.
    """
    for undos in range(UNDOS[EFFORTS[HIGH]] + 1):
        made = policy.streams(task, asked, effort, replace(rules, back="last", undos=undos), seed=seed)
        paid = float(np.mean([stream.tokens + rederived(stream) for stream in made]))
        if paid >= tokens:
            break
    return solved(task, asked, made), paid


def rederived(stream: Stream) -> int:
    """Tokens of the steps that stood, each time that a stream went back."""
    path: list[int] = []
    total = 0
    for thought in stream.thoughts:
        if thought.back is not None:
            del path[thought.back :]
            total += sum(path)
        elif thought.kind in ("propose", "answer"):
            path.append(len(thought.tokens))
    return total


def restarts(
    policy: Policy, task: Task, asked: list[Problem], rules: Rules, tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(solved bool [K, P], tokens int64 [K, P]) after 1 to K tries of each problem, up to its first `yes`."""
    right, paid = np.zeros((tries, len(asked)), np.bool_), np.zeros((tries, len(asked)), np.int64)
    going = np.arange(len(asked))
    for k in range(tries):
        some = [asked[i] for i in going]
        drawn = replace(rules, temperature=temperature if k else 0.0)
        made = policy.streams(task, some, HIGH, drawn, seed=seed, first=[k] * len(some)) if some else []
        right[k:, going] = solved(task, some, made) if some else False
        paid[k:, going] += np.array([stream.tokens for stream in made], np.int64)
        going = going[[not stream.accepted for stream in made]] if some else going
    return right, paid


def judged_samples(
    policy: Policy, task: Task, asked: list[Problem], tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same for plain samples, up to the first that the judge accepts."""
    drawn = policy.chains(task, asked, tries, temperature=temperature, seed=seed)
    right = np.array([[chain.verdict.reward >= 1 for chain in chains] for chains in drawn]).T
    tokens = np.array([[chain.tokens for chain in chains] for chains in drawn]).T
    before = np.vstack([np.zeros_like(right[:1]), np.logical_or.accumulate(right)[:-1]])
    return np.logical_or.accumulate(right), np.cumsum(np.where(before, 0, tokens), 0)


def votes(
    policy: Policy, task: Task, asked: list[Problem], tries: int, temperature: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the commonest answer of plain samples, nobody being asked."""
    drawn = policy.chains(task, asked, tries, temperature=temperature, seed=seed)
    right = np.zeros((tries, len(asked)), np.bool_)
    for i, (problem, chains) in enumerate(zip(asked, drawn, strict=True)):
        first: dict[str | None, int] = {}
        count: Counter[str | None] = Counter()
        for k, chain in enumerate(chains):
            answer = task.answer(problem, chain.steps)
            first.setdefault(answer, k)
            count[answer] += 1
            right[k, i] = chains[first[max(count, key=lambda a: (count[a], -first[a]))]].verdict.reward >= 1
    return right, np.cumsum([[chain.tokens for chain in chains] for chains in drawn], 1).T


def checks(policy: Policy, task: Task, asked: list[Problem]) -> dict[str, Any]:
    """Of steps in greedy streams, from states that exact labels call right: which were checked, and what came of it."""
    exact, rows = oracle(task), []
    for effort in range(1, len(EFFORTS)):
        counts: Counter[str] = Counter()
        for problem, stream in zip(asked, policy.streams(task, asked, effort), strict=True):
            path: list[str] = []
            for thought, after in zip(stream.thoughts, (*stream.thoughts[1:], None), strict=True):
                if thought.back is not None:
                    del path[thought.back :]
                elif thought.kind == "propose":
                    before, path = truth(exact, task, problem, path), [*path, thought.text]
                    checked = after is not None and after.text.startswith(CHECK)
                    refused = checked and after is not None and not after.text.endswith(f" {YES}\n")
                    if before:
                        kind = "right" if truth(exact, task, problem, path) else "wrong"
                        counts.update({kind: 1, f"{kind}, checked": checked, f"{kind}, refused": refused})
        rows.append({"effort": EFFORTS[effort], **counts})
    heads = ["effort", *(f"{kind}{what}" for kind in ("wrong", "right") for what in ("", ", checked", ", refused"))]
    print("\n".join(table(heads, [[str(row.get(head, 0)) for head in heads] for row in rows])))
    return {"rows": rows, "problems": len(asked)}


def truth(exact: Oracle, task: Task, problem: Problem, steps: list[str]) -> bool:
    """Whether right steps still lead to the end, or have."""
    state: tuple | None = task.initial_state(problem)
    for step in steps:
        if state is None:
            return False
        verdict, state = task.advance(problem, state, step)
    return exact.solvable(problem, state) if state is not None else verdict.reward >= 1


def at_least(found: tuple[np.ndarray, np.ndarray], tokens: float) -> tuple[np.ndarray, float]:
    """(solved bool [P], mean tokens) after the fewest tries that cost as many tokens; after all where none do."""
    right, paid = found
    k = min(int(np.searchsorted(paid.mean(1), tokens)), len(right) - 1)
    return right[k], float(paid[k].mean())


def labels(policy: Policy, task: Task, asked: list[Problem], tokens: int, seed: int) -> dict[str, Any]:
    """Precision and coverage of the teacher's labels, by depth, over the states of high-effort streams."""
    exact, codec = oracle(task), policy.codec(task)
    assert codec is not None, "a net that writes streams reads in this process"
    config = ActorConfig(tokens=tokens, strategy="unique_merged")
    acting = Acting(
        policy, task, asked, config, Replay(task), RowBuilder(task, codec), generator(seed, "labels"),
        Origin(seed, 0, policy.version), False,
    )  # fmt: skip
    streams, _ = played(acting, np.full(len(asked), HIGH))
    known = [one for k in range(0, len(asked), AT_ONCE) for one in searched(acting, asked[k : k + AT_ONCE]).evidence]
    seen: dict[tuple[str, bytes], tuple[int, bool, bool, float]] = {}  # depth, alive, labelled alive, share tried
    for problem, stream, evidence in zip(asked, streams, known, strict=True):
        for boundary in list(replayed(acting, problem, stream, evidence)):
            for depth, (state, key) in enumerate(zip(boundary.states, boundary.keys, strict=True)):
                alive, share = evidence.label(key) == "alive", evidence.tried_share(key)
                seen[problem.id, key] = depth, exact.solvable(problem, state), alive, share
    rows = []
    facts = np.array(list(seen.values()), float)
    for depth in np.unique(facts[:, 0]):
        _, truth, alive, share = facts[facts[:, 0] == depth].T
        for least in SHARES:
            dead = (alive == 0) & (share >= least)
            rows.append({
                "depth": int(depth), "share": least, "states": len(truth), "alive": int(truth.sum()),
                "labelled_alive": int(alive.sum()), "labelled_dead": int(dead.sum()),
                "precision": float((truth[dead] == 0).mean()) if dead.any() else None,
                "coverage": float(dead[truth == 0].mean()) if (truth == 0).any() else None,
            })  # fmt: skip
    cells = [
        ["" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    print("\n".join(table(list(rows[0]), cells)))
    return {"rows": rows, "tokens": tokens, "problems": len(asked), "seed": seed, "undos": UNDOS[EFFORTS[HIGH]]}


def vars_of(between: Any) -> dict[str, float]:
    """Difference and interval, plain."""
    return {"difference": between.estimate, "from": between.low, "to": between.high}


def _share(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _points(row: dict[str, Any]) -> str:
    return f"{100 * row['difference']:+.1f} ({100 * row['from']:+.1f}, {100 * row['to']:+.1f})"

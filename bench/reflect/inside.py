"""Inside a stream, beside exact labels: steps that were checked, and what the teacher knew of its states."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from bench.tables import table
from kit.seeds import generator
from models.policy import Policy
from models.steps.stream_types import Rules
from selfplay.config import ActorConfig
from selfplay.measure.thinking import HIGH
from selfplay.teach.actor import Acting, Origin
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.streams.boundaries import Boundary, replayed
from selfplay.teach.streams.evidence import Evidence
from selfplay.teach.streams.stream import played, searched
from tasks import Problem, Task
from tasks.judging.scorers import Replay
from tasks.oracle import Oracle, oracle
from tasks.streams import CHECK, EFFORTS, KEPT, UNDOS, YES

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)  # of mass tried in vain
AT_ONCE = 128  # problems at once


def checks(policy: Policy, task: Task, asked: list[Problem], rules: Rules) -> dict[str, Any]:
    """Of steps in greedy streams, from states that exact labels call right: which were checked, and what came of it."""
    exact, rows = oracle(task), []
    for effort in range(1, len(EFFORTS)):
        counts: Counter[str] = Counter()
        for problem, stream in zip(asked, policy.streams(task, asked, effort, rules), strict=True):
            path: list[str] = []
            for thought, after in zip(stream.thoughts, (*stream.thoughts[1:], None), strict=True):
                if thought.back is not None:
                    del path[thought.back :]
                elif thought.kind == "propose":
                    before, path = truth(exact, task, problem, path), [*path, thought.text]
                    checked = after is not None and after.text.startswith(CHECK)
                    refused = checked and after is not None and not after.text.endswith((f" {YES}\n", f" {KEPT}\n"))
                    if before:
                        kind = "right" if truth(exact, task, problem, path) else "wrong"
                        counts.update({kind: 1, f"{kind}, checked": checked, f"{kind}, refused": refused})
        rows.append({"effort": EFFORTS[effort], **counts})
    heads = ["effort", *(f"{kind}{what}" for kind in ("wrong", "right") for what in ("", ", checked", ", refused"))]
    print("\n".join(table(heads, [[str(row.get(head, 0)) for head in heads] for row in rows])))
    return {"rows": rows, "problems": len(asked), "threshold": rules.threshold}


def truth(exact: Oracle, task: Task, problem: Problem, steps: list[str]) -> bool:
    """Whether right steps still lead to the end, or have."""
    state: tuple | None = task.initial_state(problem)
    for step in steps:
        if state is None:
            return False
        verdict, state = task.advance(problem, state, step)
    return exact.solvable(problem, state) if state is not None else verdict.reward >= 1


def labels(policy: Policy, task: Task, asked: list[Problem], tokens: int, seed: int) -> dict[str, Any]:
    """Precision and coverage of the teacher's labels, by depth, over the states of high-effort streams."""
    exact = oracle(task)
    replays = of_streams(policy, task, asked, tokens, seed)
    if task.stream is not None and task.stream.markov:
        return {"rows": of_steps(exact, replays), "tokens": tokens, "problems": len(asked), "seed": seed}
    seen: dict[tuple[str, bytes], tuple[int, bool, bool, float]] = {}  # depth, alive, labelled alive, share tried
    for problem, boundaries, evidence in replays:
        for boundary in boundaries:
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


def of_streams(
    policy: Policy, task: Task, asked: list[Problem], tokens: int, seed: int
) -> list[tuple[Problem, list[Boundary], Evidence]]:
    """Boundaries of a high-effort stream of each problem, and what a search of it has seen."""
    codec = policy.codec(task)
    assert codec is not None, "a net that writes streams reads in this process"
    config = ActorConfig(tokens=tokens, strategy="unique_merged")
    acting = Acting(
        policy, task, asked, config, Replay(task), RowBuilder(task, codec), generator(seed, "labels"),
        Origin(seed, 0, policy.version), False,
    )  # fmt: skip
    streams, _ = played(acting, np.full(len(asked), HIGH))
    known = [one for k in range(0, len(asked), AT_ONCE) for one in searched(acting, asked[k : k + AT_ONCE]).evidence]
    return [
        (problem, list(replayed(acting, problem, stream, evidence)), evidence)
        for problem, stream, evidence in zip(asked, streams, known, strict=True)
    ]


def of_steps(exact: Oracle, replays: list[tuple[Problem, list[Boundary], Evidence]]) -> list[dict[str, Any]]:
    """Of legal steps of streams that go on: whether they are nearer to the goal, and what the teacher would say."""
    counts: Counter[tuple[bool, bool | None]] = Counter()
    for problem, boundaries, evidence in replays:
        for boundary in boundaries:
            if boundary.stepped and boundary.status == "open":
                before, after = (exact.distance(problem, state) for state in boundary.states[-2:])
                assert before is not None, "a state that is left can reach the goal"
                assert after is not None, "moves can be taken back"
                counts[after < before, evidence.nearer(*boundary.keys[-2:])] += 1
    rows = [
        {"steps": "nearer" if truth else "not nearer", "n": sum(counts[truth, said] for said in (True, False, None)),
         "said nearer": counts[truth, True], "said not nearer": counts[truth, False]}
        for truth in (True, False)
    ]  # fmt: skip
    print("\n".join(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows])))
    return rows

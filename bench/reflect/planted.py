"""What a net says of chains: of its own, and of errors that are planted into its stream as if it had written them.

Errors of a net's own are as probable as its right steps; planted ones are not, and a rule of decoding sees that: the two say
different things. A planted stream stands behind the planted steps, which count as tried. *Noticed*: the first line that it
writes goes back. *Recovered*: it ends with `yes` and a right chain. Of right chains that are planted, to be noticed is a false
alarm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench import command
from bench.tables import share, table
from kit.seeds import derived_seed, generator
from kit.statistics import wilson
from models.abilities import Step
from models.policy import Policy
from models.steps.codec import Codec
from models.steps.stream_types import Planted, Rules, Stream, Thought
from models.steps.stream_words import StreamWords
from selfplay.measure.thinking import HIGH, solved
from tasks import Problem, Task
from tasks.oracle import Oracle, oracle

SLIPS = (-10, -2, -1, 1, 2, 10)  # that a planted result may be off by

RIGHT, WHOLE, DEAD, FIRST, LAST, FLIPPED, BACK = (
    "a right chain",
    "a wrong chain, steps legal",
    "a first step that loses",
    "a false first step",
    "a false last step that writes the target",
    "a right chain, refused",
    "a wrong chain, gone back from to a lost state",
)


def verdicts(
    policy: Policy, task: Task, asked: list[Problem], rules: Rules, donor: Policy, seed: int
) -> dict[str, Any]:
    """Both tables, at the highest effort.

    Raises:
        command.UsageError: a task whose answer lines do not say what they come to.
    """
    if task.stream is None or not task.stream.answer:
        raise command.UsageError(f"part=verdicts plants answers, and task {task.name} has none: use part=checks")
    made = policy.streams(task, asked, HIGH, rules, seed=seed)
    own = of_its_own(task, asked, made)
    print(
        "\n".join(
            table(["of its own streams", "share, %", "of"], [[name, *cells(*pair)] for name, pair in own.items()])
        )
    )
    rows: list[dict[str, Any]] = []
    for kind, some in planted(task, asked, donor, seed, policy.codec(task)).items():
        problems, begun = [problem for problem, _ in some], [plant for _, plant in some]
        streams = policy.streams(task, problems, HIGH, rules, seed=seed, planted=begun) if some else []
        rows.append({
            "planted": kind, "n": len(some),
            "noticed": sum(bool(s.thoughts) and s.thoughts[0].kind == "undo" for s in streams),
            "recovered": int(solved(task, problems, streams).sum()),
            "false_yes": sum(s.accepted for s in streams) - int(solved(task, problems, streams).sum()),
        })  # fmt: skip
    heads = ["planted", "n", "noticed at once, %", "recovered, %", "false yes"]
    shown = [[row["planted"], str(row["n"]), *(cells(row[k], row["n"])[0] for k in ("noticed", "recovered")),
              str(row["false_yes"])] for row in rows]  # fmt: skip
    print("\n".join(["", *table(heads, shown)]))
    return {"own": own, "planted": rows, "problems": len(asked), "threshold": rules.threshold, "seed": seed}


def cells(count: int, n: int) -> list[str]:
    """A rate and its n."""
    return [share(count / n, *wilson(count, n)), str(n)] if n else ["", "0"]


def of_its_own(task: Task, asked: list[Problem], made: list[Stream]) -> dict[str, tuple[int, int]]:
    """(count, of how many) of what the verdicts of streams were."""
    counts: Counter[str] = Counter()
    recovered = failed = false_yes = accepted = 0
    for problem, stream, right in zip(asked, made, solved(task, asked, made).tolist(), strict=True):
        seen = list(boundaries(task, oracle(task), problem, stream))
        for status, after in seen:
            counts.update({status: 1, f"{status}, no": after is not None and after.kind == "undo"})
        first_try = [
            status for status, _ in seen[: next((i + 1 for i, (_, a) in enumerate(seen) if undone(a)), len(seen))]
        ]
        if "right" not in first_try:
            failed, recovered = failed + 1, recovered + right
        accepted, false_yes = accepted + stream.accepted, false_yes + (stream.accepted and not right)
    return {
        "finished wrong chains refused": (counts["wrong, no"], counts["wrong"]),
        "finished right chains refused": (counts["right, no"], counts["right"]),
        "illegal steps refused at once": (counts["illegal, no"], counts["illegal"]),
        "lost states given up at once": (counts["lost, no"], counts["lost"]),
        "states that can be won given up": (counts["alive, no"], counts["alive"]),
        "`yes` that is false": (false_yes, accepted),
        "recovered after its first failure": (recovered, failed),
    }


def undone(thought: Thought | None) -> bool:
    return thought is not None and thought.kind == "undo"


def boundaries(task: Task, exact: Oracle, problem: Problem, stream: Stream) -> Iterator[tuple[str, Thought | None]]:
    """After each step of a stream what is so (right, wrong, illegal, alive, lost), and the line that it wrote then."""
    states: list[tuple | None] = [task.initial_state(problem)]
    for thought, after in zip(stream.thoughts, (*stream.thoughts[1:], None), strict=True):
        if thought.back is not None:
            del states[thought.back + 1 :]
        elif thought.kind in ("propose", "answer"):
            status, state = judged(task, exact, problem, states[-1], thought.text)
            states.append(state)
            yield status, after


def judged(task: Task, exact: Oracle, problem: Problem, before: tuple | None, step: str) -> tuple[str, tuple | None]:
    """What a step from `before` came to, and the state after it; None: the chain is over."""
    if before is None:
        return "illegal", None
    verdict, state = task.advance(problem, before, step)
    if not verdict.legal:
        return "illegal", None
    if state is None:
        return ("right" if verdict.reward >= 1 else "wrong"), None
    return ("alive" if exact.solvable(problem, state) else "lost"), state


def planted(
    task: Task, asked: list[Problem], donor: Policy, seed: int, codec: Codec | None = None
) -> dict[str, list[tuple[Problem, Planted]]]:
    """What is planted, by kind: chains of `donor`, sampled at T = 1, and slips put into them, in tokens of `codec`."""
    words, exact, rng = StreamWords.of(task, codec), oracle(task), generator(seed, "planted")
    found: dict[str, list[tuple[Problem, Planted]]] = {
        kind: [] for kind in (RIGHT, WHOLE, DEAD, FIRST, LAST, FLIPPED, BACK)
    }

    def step(text: str) -> Step:
        return Step(text, tuple(words.codec.tokens(text)))

    drawn = donor.chains(task, asked, temperature=1.0, seed=derived_seed(seed, "donor"))
    for problem, (chain,) in zip(asked, drawn, strict=True):
        state, statuses = task.initial_state(problem), []
        for text in chain.steps:
            status, state = judged(task, exact, problem, state, text)
            statuses.append(status)
        if not statuses or "illegal" in statuses or statuses[-1] not in ("right", "wrong"):
            continue
        steps = tuple(map(step, chain.steps))
        if statuses[-1] == "right":
            found[RIGHT].append((problem, Planted(steps)))
            found[FLIPPED].append((problem, Planted((), steps[0])))
        else:
            found[WHOLE].append((problem, Planted(steps)))
            written = with_result(chain.steps[-1], task.prompt(problem).split()[-1])
            found[LAST].append((problem, Planted((*steps[:-1], step(written)))))
            if len(steps) > 1 and statuses[-2] == "lost":
                found[BACK].append((problem, Planted(steps[:-1], steps[-1])))
        if len(steps) > 1 and statuses[0] == "lost":
            found[DEAD].append((problem, Planted(steps[:1])))
        if len(steps) > 1 and (slip := slipped(task, chain.steps[0], rng)):
            found[FIRST].append((problem, Planted((step(slip),))))
    return found


def slipped(task: Task, step: str, rng: np.random.Generator) -> str | None:
    """A step whose result is off, there and where it is carried on; None where no number of the task is near it."""
    assert task.stream is not None, "errors are planted into streams"
    words = step.split()
    at = words.index(task.stream.follows) + 1 if task.stream.follows in words else len(words)
    if at >= len(words) or not words[at].isdecimal():
        return None
    right = words[at]
    near = [str(int(right) + slip) for slip in rng.permutation(SLIPS).tolist()]
    false = next((number for number in near if number in task.token_ids), None)
    return None if false is None else with_result(step, false)


def with_result(step: str, result: str) -> str:
    """A step that comes to another result; of what it leaves, the last number that was its result is changed, too."""
    words: Sequence[str] = step.split()
    at = words.index("=") + 1
    places = [at, *[k for k in range(len(words) - 1, at, -1) if words[k] == words[at]][:1]]
    return " ".join(result if k in places else word for k, word in enumerate(words)) + "\n"

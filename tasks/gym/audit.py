"""What the datasets of reasoning-gym are worth as tasks: `python -m tasks.gym.audit [datasets=a,b out=FILE.md]` writes a
table.

The official scorers run in a judge pool, never here; ours run here. A dataset that `gym_scorers` refuses is measured as well,
so that the reason can be checked, but for those whose generation is no plain computing.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from kit.command import UsageError, refused, settings
from kit.files import write_whole
from tasks.base import TaskError
from tasks.gym.corpus import gold_of, why_not
from tasks.gym.items import Items, registry
from tasks.gym.scorers import ALLOWED, NEVER_MADE, REFUSED, right
from tasks.sandbox.pool import Job, JudgePool, Limits

DEFAULTS = {
    "datasets": "",  # names with commas between; none: all that reasoning-gym has
    "items": 20,  # oracles that meet the official scorer
    "out": "",  # FILE.md: where the table goes, beside FILE.json; none: it is printed
}
OFFICIAL = {"score": "tasks.gym.official:score"}
LIMITS = Limits(deadline_s=2.0, memory_mb=2048)
SEED, OTHER_SEED = 1_000_000_000, 3_000_000_000
CONSTANTS = 100  # items that offer a constant answer, and as many others to try it on
ATTACKED = 2  # items that meet the hostile texts
SECONDS = 20.0  # after which a dataset gets no more items
OUTCOMES = ("crash", "timeout", "error")  # worst first
NOT_MEASURED = "-"
ALLOWED_COLUMNS = [
    "Dataset", "Answer", "ms", "Usable", "Official = 1", "Constant", "Its reward", "Hostile, official", "Hostile, ours",
]  # fmt: skip
REFUSED_COLUMNS = ["Dataset", "Why", "ms", "Official = 1", "Hostile, official"]


def hostile(question: str, oracle: str) -> dict[str, str]:
    """15 texts that answer nothing: name -> text."""
    return {
        "empty": "",
        "blank": " ",
        "zero": "0",
        "question": question,
        "oracle+x": f"{oracle}x",
        "oracle twice": oracle + oracle,
        "digits": "0 1 2 3 4 5 6 7 8 9",
        "9**9**9": "9**9**9",
        "import": "__import__('os').getpid()",
        "nan": "nan",
        "long": "a" * 20_000,
        "brackets": "(" * 10_000,
        "wide digits": "４２",
        "yes no": "yes no",
        "json": '{"a": 1}',
    }


@dataclass
class Finding:
    """Of one dataset. Rewards and shares in [0, 1]; None where it was not measured."""

    dataset: str
    reason: str  # why it is refused; "" if it is allowed
    form: str = ""
    items: int = 0
    milliseconds: float | None = None  # median of an item's generation
    official_right: float | None = None  # share of oracles that the official scorer pays exactly 1.0
    usable: float | None = None  # share of items whose oracle is there, sound and right by our judge
    dropped: dict[str, int] = field(default_factory=dict)  # why the others are not
    constant: str = ""  # the best constant answer among 100 oracles
    constant_reward: float | None = None  # ours, on 100 other items
    hostile_official: str = ""  # the worst that a hostile text does: crash, timeout, error, or the largest reward
    hostile_paid: dict[str, float] = field(default_factory=dict)  # texts that the official scorer pays for
    hostile_own: int | None = None  # texts that our judge pays for


class Official:
    """The library's own rewards for items of one dataset, asked of a judge pool."""

    def __init__(self, pool: JudgePool, dataset: str, config: dict, size: int):
        self._pool, self._item = pool, {"dataset": dataset, "config": config, "seed": SEED, "size": size}

    def ask(self, texts: Iterable[tuple[int, str]]) -> list[tuple[float, str]]:
        """(reward, status) of each (item, text)."""
        outcomes = self._pool.judge(Job("score", {**self._item, "index": k, "answer": text}) for k, text in texts)
        return [(outcome.value if isinstance(outcome.value, float) else 0.0, outcome.status) for outcome in outcomes]


def audit(dataset: str, pool: JudgePool, n: int) -> Finding:
    """Measure one dataset; `n` oracles meet the official scorer."""
    form = ALLOWED.get(dataset)
    finding = Finding(dataset, "" if form else REFUSED.get(dataset, "new: nobody has looked at it"))
    if dataset in NEVER_MADE:
        return finding
    config, size = (dict(form.config), max(n, CONSTANTS)) if form else ({}, n)
    made, seconds = _make(dataset, config, SEED, size)
    if not made:
        return finding
    finding.items, finding.milliseconds = len(made), round(1000 * median(seconds), 2)
    official = Official(pool, dataset, config, size)
    oracles = [(form.oracle(item) if form else item["answer"]) or "" for item in made]
    rewards = official.ask(enumerate(oracles[:n]))
    finding.official_right = sum(reward == 1.0 for reward, _ in rewards) / len(rewards)
    _attack(finding, made[:ATTACKED], oracles, official)
    if form:
        finding.form = form.name
        flaws = Counter(why_not(dataset, item) for item in made)
        finding.usable, finding.dropped = flaws.pop("", 0) / len(made), dict(flaws)
        others, _ = _make(dataset, config, OTHER_SEED, CONSTANTS)
        finding.constant, finding.constant_reward = _best_constant(dataset, made[:CONSTANTS], others)
    return finding


def _make(dataset: str, config: dict, seed: int, n: int) -> tuple[list[dict], list[float]]:
    """Up to `n` items, and the seconds that each took; fewer where they are slow or the library fails."""
    made: list[dict] = []
    seconds: list[float] = []
    try:
        items = Items(dataset, config, seed, n)
        while len(made) < n and sum(seconds) < SECONDS:
            began = time.perf_counter()
            made.append(items[len(made)])
            seconds.append(time.perf_counter() - began)
    except TaskError as error:
        print(error, file=sys.stderr)
    return made, seconds


def _attack(finding: Finding, items: list[dict], oracles: list[str], official: Official) -> None:
    """Let the hostile texts that are not the oracle meet both judges."""
    texts = [
        (k, name, text)
        for k, item in enumerate(items)
        for name, text in hostile(item["question"], oracles[k]).items()
        if text.strip() != oracles[k].strip()
    ]
    results = official.ask((k, text) for k, _, text in texts)
    paid: dict[str, float] = {}
    for (_, name, _), (reward, _) in zip(texts, results, strict=True):
        paid[name] = max(paid.get(name, 0.0), round(reward, 3))
    statuses = {status for _, status in results}
    largest = f"{max(paid.values()):.2f}"
    finding.hostile_official = next((outcome for outcome in OUTCOMES if outcome in statuses), largest)
    finding.hostile_paid = {
        name: reward for name, reward in sorted(paid.items(), key=lambda pair: -pair[1]) if reward > 0
    }
    if not finding.reason:
        finding.hostile_own = sum(
            right(finding.dataset, text, gold_of(finding.dataset, items[k])) for k, _, text in texts
        )


def _best_constant(dataset: str, items: list[dict], others: list[dict]) -> tuple[str, float]:
    """The oracle of `items` that is right most often there, and how often it is right in `others`."""
    known, unseen = ([gold_of(dataset, item) for item in part] for part in (items, others))
    best = max(dict.fromkeys(gold["answer"] for gold in known), key=lambda answer: _rate(dataset, answer, known))
    return best, _rate(dataset, best, unseen)


def _rate(dataset: str, answer: str, golds: list[dict]) -> float:
    return sum(right(dataset, answer, gold) for gold in golds) / len(golds)


# ---- the report


def markdown(findings: list[Finding], n: int) -> str:
    """A page of two tables."""
    allowed = [finding for finding in findings if not finding.reason]
    refused = [finding for finding in findings if finding.reason]
    lines = [
        "# reasoning-gym: which datasets may be learned from",
        "",
        f"reasoning-gym {version('reasoning-gym')}: {len(allowed)} datasets allowed, {len(refused)} refused. Made by"
        " `python -m tasks.gym.audit`; all numbers are in the JSON file beside this one.",
        "",
        "* **ms**: median time of an item. **Usable**: share of 100 items whose oracle is there, sound and right by our judge.",
        f"* **Official = 1**: share of {n} oracles that the library's own scorer pays exactly 1.0.",
        f"* **Constant**: the best of {CONSTANTS} oracles as an answer to everything; its reward by our judge on {CONSTANTS}"
        " other items. A model has to beat it.",
        f"* **Hostile**: 15 texts that answer nothing, on {ATTACKED} items: the worst that the official scorer does with one"
        " (crash, timeout after 2 s, error, or its largest reward), and how many of them our judge pays for.",
        "",
        "## Allowed",
        "",
        *_table(
            ALLOWED_COLUMNS,
            [
                [f.dataset, f.form, _told(f.milliseconds), _told(f.usable), _told(f.official_right), f"`{_short(f.constant)}`",
                 _told(f.constant_reward), f.hostile_official, str(f.hostile_own)]
                for f in allowed
            ],
        ),
        "",
        "## Refused",
        "",
        *_table(
            REFUSED_COLUMNS,
            [
                [f.dataset, f.reason, _told(f.milliseconds), _told(f.official_right), f.hostile_official or NOT_MEASURED]
                for f in refused
            ],
        ),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _told(number: float | None) -> str:
    return NOT_MEASURED if number is None else f"{number:.2f}"


def _short(text: str, most: int = 30) -> str:
    text = text.replace("|", "\\|").replace("`", "'")
    return text if len(text) <= most else f"{text[:most]}..."


def main() -> None:
    """The command line."""
    try:
        asked: dict[str, Any] = DEFAULTS | settings(sys.argv[1:], DEFAULTS)
        names = asked["datasets"].split(",") if asked["datasets"] else sorted(registry())
        if unknown := [name for name in names if name not in registry()]:
            raise TaskError(
                f"reasoning-gym has no dataset {', '.join(unknown)}: use one of {', '.join(sorted(registry()))}"
            )
    except (TaskError, UsageError) as error:
        sys.exit(refused(error, "tasks.gym.audit"))
    findings = []
    with JudgePool(OFFICIAL, workers=1, limits=LIMITS) as pool:
        for name in names:
            findings.append(audit(name, pool, max(1, asked["items"])))
            print(f"{name}: {findings[-1].reason or 'allowed'}", file=sys.stderr)
    page = markdown(findings, max(1, asked["items"]))
    if not asked["out"]:
        print(page)
        return
    data = json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False) + "\n"
    for file, text in ((Path(asked["out"]), page), (Path(asked["out"]).with_suffix(".json"), data)):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)


if __name__ == "__main__":
    main()

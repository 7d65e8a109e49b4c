"""A policy whose every hidden line is made of words that stand nowhere else, and a recorder of all that a server sends."""

from __future__ import annotations

import base64
import gzip
import random
import urllib.parse
import zlib
from collections.abc import Iterable
from typing import Any

from models.abilities import Abilities, Rollout, Step
from models.steps.stream_types import Stream, Thought
from serve.engine.engine import Engine
from solve.policies import Shelved
from solve.solver import Solver
from tasks import make_task
from tasks.base import END_OF_TEXT, Verdict

GRAM = 6  # words in a row that betray a chain
ENDED = Verdict(0.0, True, True, "", scored=False)
ALPHABET = "bcdfghjklmnpqrstvwxz"


def words(seed: str, count: int) -> list[str]:
    """Words of no language, other ones for every seed."""
    rng = random.Random(seed)
    return ["".join(rng.choices(ALPHABET, k=7)) for _ in range(count)]


class CanaryPolicy:
    """Answers 42 behind a chain of canaries; of a question that says so, it does not come to an answer."""

    name, model, in_words, version, flops_per_token, tokenizer = "canary", None, False, "v1", None, None
    can = Abilities(values=False, token_ids=False, logprobs=False, without_replacement=False, streams=True)

    def __init__(self) -> None:
        self.written: list[str] = []

    def check(self, task: Any) -> None:
        """Reads any."""

    def codec(self, task: Any) -> None:
        """Nobody knows its tokens."""

    def hidden(self, problem: Any, sample: int) -> list[str]:
        """The lines that it thinks about a question."""
        lines = [" ".join(words(f"{problem.id}/{sample}/{k}", 9)) + "\n" for k in range(4)]
        self.written += lines
        return lines

    def chains(self, task, problems, n=1, *, first=None, seed=0, **settings) -> list[list[Rollout]]:
        """`n` chains of each problem."""
        return [
            [self._chain(problem, (first[i] if first else 0) + k) for k in range(n)]
            for i, problem in enumerate(problems)
        ]

    def _chain(self, problem, sample: int) -> Rollout:
        steps = self.hidden(problem, sample)
        if "no answer" not in problem.data[0]:
            steps.append(f"answer: 42{END_OF_TEXT}")
        n = len(steps)
        cut = "cut" in problem.data[0] and not steps[-1].startswith(
            "answer"
        )  # over without an end, so what it said last counts
        verdict = ENDED if cut or steps[-1].startswith("answer") else Verdict(0.0, True, False, "unfinished")
        return Rollout(tuple(steps), verdict, 40, -1.0, -0.5, ((0,),) * n, (0.5,) * n, 0.5, (None,) * n)

    def streams(self, task, problems, effort, rules=None, *, seed=0, first=None, planted=None, on_prefill=None):
        """One stream of each problem: two lines given up, then the answer."""
        made = []
        for problem in problems:
            lines = self.hidden(problem, effort)
            thoughts = [Thought("propose", line, (1,) * 9, k) for k, line in enumerate(lines)]
            thoughts.append(Thought("undo", "no b0", (1, 1), len(lines), back=0))
            answer = f"answer: 42{END_OF_TEXT}"
            thoughts.append(Thought("answer", answer, (1, 1), 0))
            made.append(Stream(tuple(thoughts), (Step(answer),), "yes", 0.9))
        return made


def canary_engine(**limits: int) -> tuple[Engine, CanaryPolicy]:
    """An engine over a canary policy, which answers any question in words."""
    policy, solver = CanaryPolicy(), Solver.__new__(Solver)
    solver.shelved = Shelved(policy, make_task("text", max_tokens=400), {"name": "text"})  # ty: ignore[invalid-argument-type]
    solver.trust_value, solver._compiled = False, set()
    return Engine(solver, **({"slots": 8, "queue": 64} | limits)), policy


def leaks(sent: bytes, hidden: Iterable[str]) -> list[str]:
    """Runs of `GRAM` hidden words that occur in what was sent, as it is or decoded."""
    grams = {" ".join(run) for line in hidden for run in _runs(line.split())}
    texts = [_plain(sent)]
    for part in {*sent.split(b'"'), *sent.split()}:
        texts += [_plain(decoded) for decoded in _decoded(part)]
    return sorted(gram for gram in grams if any(gram in text for text in texts))


def _runs(said: list[str]) -> list[list[str]]:
    return [said[i : i + GRAM] for i in range(len(said) - GRAM + 1)]


def _plain(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    for escape in ("\\n", "\\t", "\\u0020", "+", "_", "%20"):
        text = text.replace(escape, " ")
    return " ".join(urllib.parse.unquote(text).split())


def _decoded(part: bytes) -> list[bytes]:
    found = []
    for decode in (base64.b64decode, base64.urlsafe_b64decode, gzip.decompress, zlib.decompress):
        try:
            found.append(decode(part + b"=" * (-len(part) % 4) if "64" in decode.__name__ else part))
        except (ValueError, OSError, EOFError, zlib.error):
            continue
    return found

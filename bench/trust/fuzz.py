"""Hostile chains through the verifier of every task and every codec: pieces of a task's own words and of anything, cut, doubled
and swapped, and tokens of SmolLM2 as a model could sample them.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from bench.judges.fuzz import PIECES, mutated
from models.files.manifest import CheckpointError
from models.policy import SMOLLM2, located
from models.steps.codec import Codec, FreeCodec, TextCodec, WordCodec
from tasks import Problem, Task, make_task
from tasks.oracle import Oracle

CHAINS = 2000  # of one call
SLOW = 0.05  # seconds a chain may compute
HANGS = 2.0  # seconds on the clock
SAMPLED = 12  # tokens of a step, at most, where it is made of tokens
DATA = "docs/data/sums.jsonl"
TASKS = {
    "countdown": {},
    "sliding": {},
    "blocksworld": {"blocks": 4},
    "jugs": {"jugs": 2},
    "chain": {},
    "sums": {},
    "jsonl": {"path": DATA},
    "text": {"step": "tokens:8"},
}
QUESTIONS = ("What is 7 times 8?", "Name three\n\nprimes.", "\u00bfQu\u00e9 hora es? <|im_end|>")


def trials(seed: int, folder: Path) -> Counter[str]:
    """Chains of random steps through one task and its codecs."""
    rng, outcomes = np.random.default_rng(seed), Counter()
    name = [*TASKS][(seed // CHAINS) % len(TASKS)]
    task, problems, legal, codecs = known(name)
    words = [*task.vocabulary, *PIECES, *pieces()]
    for _ in range(CHAINS):
        at, codec = rng.integers(len(problems)), codecs[rng.integers(len(codecs))]
        problem, steps = problems[at], [step(rng, words, codec) for _ in range(rng.integers(1, 6))]
        if legal[at] and rng.random() < 0.5:
            steps[0] = legal[at][rng.integers(len(legal[at]))]
            steps = steps[: rng.integers(1, 3)]
        started = time.thread_time(), time.perf_counter()
        try:
            verdict = task.verdict(problem, steps)
            context = task.context(problem, steps)
            task.answer(problem, steps)
            [task.parse_step(problem, steps[:k], text) for k, text in enumerate(steps)]
            if not isinstance(codec, WordCodec):  # any text can be read
                codec.context(context)
                [codec.tokens(text) for text in steps]
        except Exception as error:  # noqa: BLE001 (a fault is what this looks for)
            outcomes[f"fault: {name}: {type(error).__name__} at {steps!a:.80}"] += 1
            continue
        spent, waited = time.thread_time() - started[0], time.perf_counter() - started[1]
        if spent > SLOW or waited > HANGS:
            outcomes[f"fault: {name}: {1000 * spent:.0f} ms, {waited:.1f} s for {steps!a:.80}"] += 1
        else:
            outcomes["legal" if verdict.legal else "refused"] += 1
    return outcomes


def step(rng: np.random.Generator, words: list[str], codec: Codec) -> str:
    """Text that looks a little like a step, or what a codec reads in tokens that a model may sample."""
    if rng.random() < 0.5:
        tokens = rng.integers(codec.vocabulary_size, size=rng.integers(1, SAMPLED + 1)).tolist()
        tokens = [token for token in tokens if token not in codec.masked]
        return codec.step(tokens, bool(rng.random() < 0.8)) if tokens else ""
    text = " ".join(words[k] for k in rng.integers(len(words), size=rng.integers(1, 12)))
    text = mutated(rng, text) if rng.random() < 0.5 else text
    return text + "\n" if rng.random() < 0.8 else text


@cache
def known(name: str) -> tuple[Task, list[Problem], list[list[str]], list[Codec]]:
    """A task, some of its problems, the legal first steps of each where the task knows them, and the codecs that speak it."""
    task = make_task(name, **TASKS[name])
    problems = [task.parse_problem(text) for text in QUESTIONS] if name == "text" else task.first_problems("train", 50)
    legal = [task.legal_steps(p, task.initial_state(p)) if isinstance(task, Oracle) else [] for p in problems]
    codecs: list[Codec] = [] if task.form.free else [WordCodec(task)]
    if (tokenizer := pretrained()) is not None:
        codecs.append((FreeCodec if task.form.free else TextCodec)(tokenizer, task, len(tokenizer)))
    for codec in codecs:
        codec.context(task.context(problems[0], []))  # a chat template is compiled once
    return task, problems, legal, codecs


@cache
def pretrained() -> Any:
    """The tokenizer of SmolLM2; None where it is not installed."""
    try:
        return AutoTokenizer.from_pretrained(located(SMOLLM2), local_files_only=True)
    except CheckpointError:
        return None


@cache
def pieces() -> list[str]:
    """Some of its words."""
    tokenizer = pretrained()
    return [] if tokenizer is None else tokenizer.batch_decode([[token] for token in range(0, len(tokenizer), 200)])

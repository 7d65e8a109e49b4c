"""Repeats: the same problems with the same seed, in a new process each time, in other company and with another hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from bench.command import CHECKOUT

PROBLEMS = ("3 7 8 8 = 24", "2 5 9 9 = 47", "1 4 6 8 = 30", "2 3 5 9 = 61", "4 4 7 9 = 51", "1 5 8 9 = 77")
SETTINGS = ("effort=low", "strategy=puct", "verify=none", "seed=3", "json=true")


def trial(seed: int, folder: Path) -> Counter[str]:
    """The problems in random order, in batches of a random size."""
    rng = np.random.default_rng(seed)
    found = answers(tuple(rng.permutation(PROBLEMS).tolist()), int(rng.integers(1, 7)), int(rng.integers(2**32)))
    return Counter({"the same" if found == reference() else "fault: another answer": 1})


def answers(problems: tuple[str, ...], batch: int, hash_seed: int) -> dict[str, tuple]:
    """What one process answers, by problem."""
    told = subprocess.run(
        [sys.executable, "-m", "solve", "task=countdown", "problem=-", f"batch={batch}", *SETTINGS],
        input="\n".join(problems),
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = map(json.loads, told.splitlines())
    return {
        line["asked"]: (line["answer"], line["steps"], line["confidence"], line["cost"]["generated_tokens"])
        for line in lines
    }


@cache
def reference() -> dict[str, tuple]:
    """Each problem alone in its batch."""
    return answers(PROBLEMS, 1, 0)

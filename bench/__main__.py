"""Measure the engine against its peers, on one thread.

    python -m bench [run_dir=DIR]             every bench at short settings, a minute or two each
    python -m bench NAME [KEY=VALUE ...]      one bench at its own settings; NAME: train, generate, store, merging, engine,
                                              acting, first_answer, judges, calibration, anatomy, sharing
    python -m bench paired before=CHECKOUT        this checkout beside another, in turns: which is faster, see bench/paired.py
    python -m bench budget [SETTING=VALUE ...]    strategies against budgets of search, see bench/budget/run.py
    python -m bench compare runs=... against=...  finished runs on the same test problems, see bench/loop/compare.py
    python -m bench trust run_dir=DIR             promises measured: kills, damage, repeats, fuzz, see bench/trust/run.py
    python -m bench transfer policies=A,B         harder forms of a task, and plain text: see bench/loop/transfer.py
    python -m bench reflect policy=RUN            efforts of a net that thinks, beside its controls: see bench/reflect/run.py
    python -m bench serving [policy=NAME]         a server under load, beside one request at a time: see bench/speed/serving.py
    python -m bench load [clients=256]            a server with more clients than places, see bench/speed/load.py
    python -m bench curves runs=... against=...   their learning curves in one picture
    python -m bench learner [train=last:10]       a language model learns, beside Trainer, see bench/loop/learner.py

With run_dir, each bench also writes its figures to DIR/NAME.json; bench/command.py says what holds for these.
Exit code 2: refused, with one line that says why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench import command, paired
from bench.budget import anatomy, calibration, merging, sharing
from bench.budget import run as budget
from bench.judges import run as judges
from bench.loop import acting, compare, curves, learner, train, transfer
from bench.reflect import run as reflect
from bench.speed import expand, first_answer, generate, load, serving, store
from bench.trust import run as trust

BENCHES: dict[str, command.Bench] = {
    "train": train.main,
    "generate": generate.main,
    "store": store.main,
    "merging": merging.main,
    "engine": expand.main,
    "acting": acting.main,
    "first_answer": first_answer.main,
    "judges": judges.main,
    "calibration": calibration.main,
    "anatomy": anatomy.main,
    "sharing": sharing.main,
}
ON_DEMAND: dict[str, command.Bench] = {
    "compare": compare.main,
    "curves": curves.main,
    "learner": learner.main,
    "load": load.main,
    "paired": paired.main,
    "serving": serving.main,
    "reflect": reflect.main,
    "transfer": transfer.main,
    "trust": trust.main,
}  # these need to be told what to measure
BUDGET = "budget"  # a Hydra application of its own, for its sweeps
SHORT = {
    "train": ("seconds=10",),
    "generate": ("leaves=128", "rounds=2"),
    "store": ("shapes=4x1x256,4x64x256", "largest=1e6", "rounds=2"),
    "merging": ("problems=60", "nodes=100"),
    "engine": ("leaves=16", "depths=8", "steps=20", "methods=ours,batched,slab", "rounds=1"),
    "acting": ("turns=2",),
    "first_answer": ("runs=2",),
    "calibration": ("problems=100", "chains=8"),
    "anatomy": ("problems=60", "rung=8"),
    "sharing": ("problems=60", "rungs=4"),
    "judges": ("own=50000", "foreign=500", "kills=20", "seconds=2"),
}


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    if arguments[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    if arguments and "=" not in arguments[0]:
        name, *rest = arguments
        if name == BUDGET:
            sys.argv[1:] = rest
            return budget.run()
        named = BENCHES | ON_DEMAND
        if name not in named:
            print(f"error: no bench is named {name!r}: choose one of {', '.join([*named, BUDGET])}", file=sys.stderr)
            return 2
        return command.run(named[name], rest)
    for name, bench in BENCHES.items():
        print(f"--- {name}")
        if code := command.run(bench, [*SHORT[name], *arguments]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

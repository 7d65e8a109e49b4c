"""One turn of `bench.acting`, in a process of its own: acting by the code of any checkout of this project.

    python bench/acting_turn.py CHECKOUT CHECKPOINT PROBLEMS ROUNDS DTYPE

Prints one JSON object. Uses what every commit since the first training loop has; settings that one lacks are left out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from time import perf_counter, process_time
from typing import Any


class Stopwatch:
    """Wall seconds inside some calls, and how much of them another watch ran meanwhile."""

    def __init__(self):
        self.seconds = self.of_it = 0.0

    def around(self, call: Callable, also: Stopwatch | None = None) -> Callable:
        def timed(*arguments, **keywords):
            before, started = also.seconds if also else 0.0, perf_counter()
            result = call(*arguments, **keywords)
            self.seconds += perf_counter() - started
            self.of_it += also.seconds - before if also else 0.0
            return result

        return timed


def main(checkout: str, checkpoint: str, problems: int, rounds: int, dtype: str) -> dict[str, Any]:
    """CPU-seconds and tokens of `rounds` rounds of acting after a warm-up, and the share of a search outside the forward."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    sys.path[:] = [checkout, *(entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent)]
    import torch

    import mcts
    from models import trie_forward
    from models.checkpoint import load_checkpoint
    from selfplay import team
    from selfplay.actor import act
    from selfplay.config import ActorConfig
    from tasks import make_task

    getattr(team, "prepare_process", lambda: torch.set_num_threads(1))()
    in_forward, in_search = Stopwatch(), Stopwatch()
    forward: Any = trie_forward.LlamaForward
    forward.__call__ = in_forward.around(forward.__call__)
    setattr(mcts, "search", in_search.around(mcts.search, also=in_forward))  # noqa: B010 (it is replaced for this process)
    model, _, _ = load_checkpoint(Path(checkpoint))
    task = make_task("countdown")
    chosen: dict[str, Any] = {"dtype": dtype} if "dtype" in {field.name for field in fields(ActorConfig)} else {}
    config = ActorConfig(problems=problems, mine=False, **chosen)
    figures: dict[str, Any] = {"rounds": []}
    for iteration in range(rounds + 1):
        started, in_search.seconds, in_search.of_it = process_time(), 0.0, 0.0
        found = act(model, task, "search", config, team.Team(), seed=1, iteration=iteration)
        cpu, outside = process_time() - started, 1 - in_search.of_it / in_search.seconds
        if iteration:
            figures["rounds"].append({"tokens": found.generated_tokens, "cpu_seconds": cpu, "outside_forward": outside})
    return figures


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])))

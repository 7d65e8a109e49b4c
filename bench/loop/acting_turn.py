"""One turn of `bench.loop.acting`, in a process of its own.

    python -m bench.loop.acting_turn [dtype=auto] [rounds=3] [problems=128]

Prints generated tokens a CPU-second of each round as JSON.
"""

from __future__ import annotations

import json
import sys
from time import process_time
from typing import Any

from bench import command
from models.local_policy import LocalPolicy
from models.policy import open_policy
from selfplay.config import ActorConfig
from selfplay.teach.actor import act
from selfplay.team import Team, prepare_process
from tasks import make_task

NET = "countdown3"


def main(dtype: str = "auto", rounds: int = 3, problems: int = 128) -> dict[str, Any]:
    """Act `rounds` times after a warm-up, each time on other problems; `dtype` is that of the products, `actor.dtype`."""
    prepare_process()
    policy = LocalPolicy(open_policy(NET, trainable=True).policy.model, quick=dtype == "auto")
    task, config = make_task("countdown"), ActorConfig(problems=problems, mine=False, dtype=dtype)
    speeds = []
    for iteration in range(rounds + 1):
        started = process_time()
        experience = act(policy, task, "search", config, Team(), seed=1, iteration=iteration)
        speeds.append(experience.generated_tokens / (process_time() - started))
    result = {"tokens_per_cpu_s": speeds[1:]}
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    sys.exit(command.run(main, sys.argv[1:]))

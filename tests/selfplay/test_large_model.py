"""Size alone breaks nothing: 1.5 billion random weights learn a step through adapters and search, on the CPU within 24 GiB."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT, NEEDED, FLOAT32_NEEDED = 24, 14, 23  # GiB, of the whole process
QWEN2_1B5 = {
    "vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip


def learn_and_search() -> dict[str, float]:
    """In a process of its own, whose peak is this alone: losses of a step, steps found by a search, GiB at most."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from models.local_policy import LocalPolicy
    from models.net.adapters import choose
    from models.net.policy_value import PolicyValueLM
    from selfplay.config import LearnerConfig
    from selfplay.learn.learner import Learner
    from selfplay.team import Team
    from tasks.base import Rows
    from tasks.numbers.countdown import Countdown
    from tests.selfplay.free_text import TOKENIZER

    torch.manual_seed(0)
    # a CPU without instructions for bfloat16 takes minutes for one gradient of the head
    slow = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    torch.set_default_dtype(torch.float32 if slow and available() > FLOAT32_NEEDED else torch.bfloat16)
    model = PolicyValueLM.from_trunk(LlamaForCausalLM(LlamaConfig(**QWEN2_1B5))).eval()
    torch.set_default_dtype(torch.float32)
    model.adopt(TOKENIZER, 0)
    learner = Learner(choose(model, "lora"), LearnerConfig(optimizer="adamw"), Team(), lora_rank=16)
    shape = (2, 8)  # few: without instructions for bfloat16 a CPU takes seconds a token
    tokens = np.random.default_rng(0).integers(5, 1000, shape).astype(np.int32)
    weight, value = np.ones(shape, np.float32), np.full(shape, np.nan, np.float32)
    weight[:, :2], value[:, -1] = 0, 1.0
    told = learner.step(Rows(tokens, weight, value), 1.0)
    learner.merge()
    state = learner.state()
    task = Countdown(numbers=3, number_max=9, target_max=30)
    evaluator = LocalPolicy(model).evaluator(task)
    handles = evaluator.begin(task.problems("dev", 2)).handles
    found = 0
    for _ in range(3):
        expansion = evaluator.expand(handles, 2)
        found += len(expansion.handles)
        handles = expansion.handles[~expansion.terminal] if (~expansion.terminal).any() else handles
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"loss": told["policy_loss"], "found": found, "gib": gib, "saved": len(state)}


def available() -> float:
    """GiB that this machine has left."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) / 2**20


@pytest.mark.slow
def test_a_model_of_1_5_billion_weights_learns_and_searches_within_24_gib():
    if available() < NEEDED:
        pytest.skip(f"needs {NEEDED} GiB of memory")
    code = "import json; from tests.selfplay.test_large_model import learn_and_search as it; print(json.dumps(it()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert 5 < told["loss"] < 30
    assert told["found"] > 0
    assert told["gib"] < LIMIT

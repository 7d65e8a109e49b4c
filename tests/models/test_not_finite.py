"""NaN and infinity are one line wherever they come in, and none of them reaches a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.files.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from models.files.manifest import CheckpointError
from models.local_policy import LocalPolicy
from models.net.policy_value import tiny_llama
from models.net.tokenizer import make_tokenizer
from models.policy import SHIPPED, open_policy
from models.trie.trie import NotFiniteError
from tasks import make_task

TASK = make_task("countdown")
BAD = (float("nan"), float("inf"), -float("inf"))


def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    longest = TASK.max_context_tokens + TASK.max_step_tokens
    return tiny_llama(len(TASK.vocabulary), hidden_size=32, layers=2, heads=2, intermediate=64, max_positions=longest)


def test_none_of_a_hundred_is_written(tmp_path):
    rng, model = np.random.default_rng(0), tiny()
    tensors = list(model.state_dict().values())
    save_checkpoint(tmp_path / "net", model, make_tokenizer(TASK.vocabulary))
    before = {file.name: file.read_bytes() for file in (tmp_path / "net").iterdir()}
    for k in range(100):
        flat = tensors[rng.integers(len(tensors))].view(-1)
        at = rng.integers(len(flat))
        whole = flat[at].item()
        flat[at] = BAD[k % 3]
        with pytest.raises(CheckpointError, match="holds NaN or infinity; nothing was written"):
            save_checkpoint(tmp_path / "net", model, make_tokenizer(TASK.vocabulary))
        with pytest.raises(CheckpointError, match="holds NaN or infinity"):
            save_tensors(tmp_path / "optimizer.safetensors", model.state_dict())
        flat[at] = whole
    assert {file.name: file.read_bytes() for file in (tmp_path / "net").iterdir()} == before
    assert not (tmp_path / "optimizer.safetensors").exists()
    save_tensors(tmp_path / "optimizer.safetensors", model.state_dict())
    assert load_tensors(tmp_path / "optimizer.safetensors").keys() == model.state_dict().keys()


@pytest.mark.parametrize("load", [load_checkpoint, lambda folder: open_policy(str(folder))])
def test_a_checkpoint_that_holds_one_is_refused(tmp_path, monkeypatch, load):
    model = tiny()
    model.trunk.model.norm.weight.data[3] = float("nan")
    monkeypatch.setattr("models.files.checkpoint.refuse_not_finite", lambda *_: None)
    save_checkpoint(tmp_path / "net", model, make_tokenizer(TASK.vocabulary), {"task": {"name": "countdown"}})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"holds NaN or infinity; use another checkpoint$"):
        load(tmp_path / "net")


DAMAGE = [(name, bad) for name in ("trunk.model.norm.weight", "trunk.lm_head.weight") for bad in BAD]


@pytest.mark.parametrize(
    ("where", "bad"), [*DAMAGE, ("value_head.outer.weight", BAD[0])]
)  # an infinite logit is a certainty
def test_a_search_says_so_instead_of_ending_without_a_step(where, bad):
    model = tiny()
    dict(model.named_parameters())[where].data.view(-1)[-1 if "lm_head" in where else 0] = bad
    policy = LocalPolicy(model)
    with pytest.raises(NotFiniteError, match="its weights are damaged"):
        policy.evaluator(TASK).begin(TASK.problems("train", 4))
    with pytest.raises(NotFiniteError):
        policy.chains(TASK, TASK.problems("train", 4), 2)


def test_shipped_nets_hold_numbers_alone():
    for folder in SHIPPED.iterdir():
        if (folder / "config.json").is_file():
            open_policy(str(folder))

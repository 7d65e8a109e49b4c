"""What of a model learns: its last layers, or adapters that are merged into it."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from models.net.adapters import Adapted, choose, layers_of
from models.net.output_rule import TrainError
from models.net.policy_value import PolicyValueLM
from tests.models.test_forward_families import SERVED, V, random_model

NORMS = {"llama": "model.norm", "gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}
LISTS = {"llama": "model.layers", "gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}


def trained(model: PolicyValueLM) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", NORMS)
def test_the_last_layers_learn_with_the_norm_behind_them_and_the_value_head(kind):
    model = choose(random_model(kind, SERVED[kind]), "last:1")
    assert layers_of(model.trunk) == LISTS[kind]
    begins = (f"trunk.{LISTS[kind]}.1.", f"trunk.{NORMS[kind]}.", "value_head.")
    assert trained(model) == {name for name, _ in model.named_parameters() if name.startswith(begins)}


def test_all_and_value_say_what_they_do():
    model = random_model("llama", SERVED["llama"])
    assert trained(choose(model, "value")) == {name for name, _ in model.named_parameters() if "value_head" in name}
    assert trained(choose(model, "all")) == {name for name, _ in model.named_parameters()}


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(TrainError, match=r"the model has 2 layers; use last:2 or all$"):
        choose(random_model("llama", SERVED["llama"]), "last:3")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3_moe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_adapters_compute_what_they_computed_before(kind, dtype):
    model = random_model(kind, SERVED[kind], dtype)
    adapted = Adapted(choose(model, "lora"), 4)
    tokens = torch.randint(3, V, (2, 9), generator=torch.Generator().manual_seed(0))
    learns = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert learns
    assert all("lora_" in name or name.startswith("value_head.") for name in learns)
    with torch.no_grad():
        plain = model.trunk(tokens).logits
        torch.testing.assert_close(adapted.trunk(tokens).logits, plain)  # adapters begin with saying nothing
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
        expected = adapted.trunk(tokens).logits
        assert (expected - plain).abs().max() > 0.05
        torch.testing.assert_close(model.trunk(tokens).logits, plain)
        adapted.merge()
        off = (model.trunk(tokens).logits - expected).norm() / expected.norm()
    assert off < (1e-5 if dtype == torch.float32 else 0.05)


def test_adapters_need_linear_layers_and_peft(monkeypatch):
    model = random_model("llama", SERVED["llama"])
    for layer in model.trunk.model.layers:
        layer.self_attn = layer.mlp = nn.Identity()
    with pytest.raises(TrainError, match=r"no linear layers that adapters fit: use model\.train=all"):
        Adapted(model, 4)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainError, match=r"pip install 'reverse-o1\[peft\]'"):
        Adapted(model, 4)

"""The fast trunk computes what transformers' Llama computes, forward and backward."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from models.net import fast_training_kernels as kernels
from models.net.fast_training import fast_forward, supports
from models.net.policy_value import PolicyValueConfig, PolicyValueLM, tiny_llama

VOCABULARY = 19


def llama(seed: int = 0, **shape) -> PolicyValueLM:
    """A model whose attention is far from uniform and whose gains are far from one."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "heads": 2, "layers": 2, "intermediate": 40} | shape
    model = tiny_llama(VOCABULARY, **shape)
    for name, parameter in model.trunk.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
        else:
            parameter.data *= 4
    return model


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("shape", [{}, {"heads": 1}, {"hidden_size": 128, "heads": 2, "layers": 1}])
def test_hidden_states_equal_transformers(length, shape):
    model, batch = llama(**shape), tokens(3, length)
    expected = copy.deepcopy(model).double().hidden(batch).float()  # transformers' own float32 is no closer than ours
    torch.testing.assert_close(fast_forward(model, batch), expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast_forward(model, batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("first", [0, 1, 6, 16])
@pytest.mark.parametrize("shape", [{}, {"heads": 1}, {"layers": 1}])
def test_gradients_equal_autograd_of_transformers(first, shape):
    model, batch = llama(**shape), tokens(4, 17)
    weights = list(model.trunk.model.parameters())
    direction = torch.randn(4, 17 - first, 32, generator=torch.Generator().manual_seed(6))
    expected = torch.autograd.grad((model.hidden(batch)[:, first:] * direction).sum(), weights)
    found = torch.autograd.grad((fast_forward(model, batch, first) * direction).sum(), weights)
    for e, f, (name, _) in zip(expected, found, model.trunk.model.named_parameters(), strict=True):
        assert (e - f).abs().max() <= 1e-5 * e.abs().max(), name


def test_training_step_sees_weights_changed_in_place():
    model, batch = llama(), tokens(2, 9)
    before = fast_forward(model, batch).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    after = fast_forward(model, batch).detach()
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.hidden(batch), rtol=0, atol=1e-5)


def test_same_batch_gives_the_same_bits():
    model, batch = llama(), tokens(4, 17)
    runs = []
    for _ in range(2):
        model.zero_grad()
        hidden = fast_forward(model, batch)
        hidden.square().sum().backward()
        runs.append([hidden.detach(), *(p.grad.clone() for p in model.trunk.model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_second_backward_is_refused():
    hidden = fast_forward(llama(), tokens(2, 5)).sum()
    hidden.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run fast_forward again"):
        hidden.backward()


def test_weights_changed_between_forward_and_backward_are_refused():
    model = llama()
    loss = fast_forward(model, tokens(2, 5)).sum()
    with torch.no_grad():
        model.trunk.model.layers[0].mlp.down_proj.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_extreme_scores_stay_finite():
    model = llama()
    for layer in model.trunk.model.layers:
        layer.self_attn.q_proj.weight.data *= 1e4
    batch = tokens(3, 20)
    hidden = fast_forward(model, batch)
    assert torch.isfinite(hidden).all()
    gradients = torch.autograd.grad(hidden.sum(), list(model.trunk.model.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)


def test_swiglu_matches_torch_over_the_whole_range():
    gate = torch.cat((torch.linspace(-120, 120, 481), torch.tensor([torch.nan]))).requires_grad_()
    up = torch.linspace(-2, 2, len(gate)).requires_grad_()
    expected = torch.nn.functional.silu(gate) * up
    gate_up, found = torch.cat((gate, up)).detach()[None].numpy().copy(), np.empty((1, len(gate)), np.float32)
    kernels.swiglu_forward(gate_up, found)
    np.testing.assert_allclose(found[0], expected.detach().numpy(), rtol=1e-6, atol=1e-6)
    kernels.swiglu_backward(np.ones_like(found), gate_up)
    d_gate, d_up = torch.autograd.grad(expected.sum(), (gate, up))
    np.testing.assert_allclose(gate_up[0], torch.cat((d_gate, d_up)).numpy(), rtol=2e-6, atol=2e-6)


def test_only_plain_llama_is_supported():
    assert supports(llama())
    assert supports(llama().trunk)
    gpt2 = GPT2Config(vocab_size=9, n_embd=16, n_layer=1, n_head=1, bos_token_id=1, eos_token_id=1)
    assert not supports(PolicyValueLM(PolicyValueConfig(gpt2)))
    small = {
        "vocab_size": 9,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    for change in (
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"num_key_value_heads": 1},
        {"num_attention_heads": 4},
        {"rope_parameters": scaled},
        {"attention_dropout": 0.1},
    ):
        assert not supports(LlamaForCausalLM(LlamaConfig(**small | change))), change
    assert supports(LlamaForCausalLM(LlamaConfig(**small)))
    assert not supports(LlamaForCausalLM(LlamaConfig(**small)).bfloat16())

"""The token trie computes what the model computes, once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from models.cpu import long_attention_bf16
from models.forward.causal import CausalForward
from models.forward.choose import forward_for
from models.forward.prefix import PrefixForward
from models.forward.small import LlamaForward
from models.net.policy_value import PolicyValueLM
from models.trie.trie import TokenTrie, TrieError
from tests.models.fakes import TableForward

V = 23


def llama(kv_heads: int = 4, **settings) -> PolicyValueLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=32,
        **settings,
    )
    return randomised(PolicyValueLM.from_trunk(LlamaForCausalLM(config)))


def randomised(model: PolicyValueLM) -> PolicyValueLM:
    """Weights large enough that a mistake shows, gains and biases included."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn_like(parameter) * 0.3 if parameter.ndim > 1 else torch.rand_like(parameter) + 0.5
            )
    return model.eval()


def grown_trie(trie: TokenTrie, rng: np.random.Generator, vocabulary: int = V) -> TokenTrie:
    """Prompts of uneven length, then a few waves of random children at random depths, then spans below them."""
    prompts = [[1, *rng.integers(3, vocabulary, rng.integers(1, 7))] for _ in range(9)]
    ends = trie.prefill(prompts)
    for _ in range(5):
        parents = rng.choice(trie.n_nodes, 20)
        ends = np.concatenate((ends, trie.extend(parents, rng.integers(3, vocabulary, 20))))
    trie.prefill([[4, 5, 6], [4, 5, 7], [8]], ends[:3])
    return trie


@torch.no_grad()
def assert_equals_the_model(trie: TokenTrie, model: PolicyValueLM, vocabulary_size: int = V) -> None:
    for node in np.flatnonzero(trie.has_row[: trie.n_nodes]):
        tokens = torch.from_numpy(trie.tokens[trie.path(node)]).long()[None]
        logits, value_logits = model(tokens)
        allowed = logits[0, -1, 3:vocabulary_size].log_softmax(-1)  # PAD, BOS and UNK dropped before normalising
        torch.testing.assert_close(torch.from_numpy(trie.logprobs[node, 3:]), allowed, atol=1e-4, rtol=0)
        assert trie.values[node] == pytest.approx(torch.sigmoid(value_logits[0, -1]).item(), abs=1e-5)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_llama_forward_equals_teacher_forcing_through_transformers(kv_heads, rng):
    model = llama(kv_heads)
    forward = forward_for(model)
    assert isinstance(forward, LlamaForward)
    assert_equals_the_model(grown_trie(TokenTrie(forward), rng), model)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.skipif(not long_attention_bf16.AVAILABLE, reason="the CPU does not multiply pairs of bfloat16")
def test_bfloat16_products_are_close_and_do_not_depend_on_the_batch(kv_heads, rng):
    model = llama(kv_heads)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    exact = grown_trie(TokenTrie(LlamaForward(model, V)), np.random.default_rng(5))
    tries = [
        grown_trie(
            TokenTrie(LlamaForward(model, V, batch_rows=rows, autocast=torch.bfloat16)), np.random.default_rng(5)
        )
        for rows in (512, 7)
    ]
    n = exact.n_nodes
    assert tries[0].kv.kv.dtype == torch.bfloat16
    np.testing.assert_array_equal(tries[0].logprobs[:n], tries[1].logprobs[:n])
    np.testing.assert_allclose(tries[0].logprobs[:n, 3:], exact.logprobs[:n, 3:], atol=0.05)
    assert np.abs(tries[0].logprobs[:n, 3:] - exact.logprobs[:n, 3:]).max() > 1e-5
    np.testing.assert_allclose(tries[0].values[:n], exact.values[:n], atol=0.01)


def test_a_wave_larger_than_the_batch_is_computed_in_order(rng):
    model = llama()
    assert_equals_the_model(grown_trie(TokenTrie(LlamaForward(model, V, batch_rows=7)), rng), model)


@pytest.mark.parametrize("settings", [{"attention_bias": True}, {"hidden_act": "gelu"}])
def test_an_unusual_llama_takes_the_generic_path(settings, rng):
    model = llama(**settings)
    forward = forward_for(model)
    assert isinstance(forward, CausalForward)
    assert_equals_the_model(grown_trie(TokenTrie(forward), rng), model)


def test_another_trunk_takes_the_generic_path(rng):
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    model = randomised(PolicyValueLM.from_trunk(GPT2LMHeadModel(config)))
    assert_equals_the_model(grown_trie(TokenTrie(forward_for(model)), rng), model)


@pytest.mark.parametrize("kind", [LlamaForward, PrefixForward])
def test_padding_of_the_embedding_and_special_tokens_get_no_mass(kind, rng):
    model = llama()
    trie = TokenTrie(kind(model, V - 4))
    trie.prefill([[1, *rng.integers(3, V - 4, 5)]])
    assert_equals_the_model(trie, model, V - 4)
    assert trie.logprobs.shape[1] == V - 4
    assert (trie.logprobs[:6, :3] == -np.inf).all()
    np.testing.assert_allclose(np.exp(trie.logprobs[:6].astype(float)).sum(1), 1.0, atol=1e-6)


def test_no_prefix_is_computed_twice():
    trie = TokenTrie(TableForward(V))
    start = trie.prefill([[1, 5]])[0]
    first = trie.extend(np.array([start, start, start]), np.array([7, 8, 7]))
    assert first[0] == first[2]
    assert trie.generated_tokens == 2
    again = trie.extend(np.array([start, start]), np.array([8, 7]))
    assert again.tolist() == [first[1], first[0]]
    assert (trie.n_nodes, trie.generated_tokens, trie.prefilled_tokens) == (4, 2, 2)


@pytest.mark.parametrize("kind", [LlamaForward, PrefixForward])
def test_values_inside_a_step_are_computed_when_first_asked_for(kind):
    model = llama()
    trie = TokenTrie(kind(model, V))
    start = trie.prefill([[1, 5]])
    inside = trie.extend(np.repeat(start, 3), np.array([7, 8, 9]), with_values=False)
    trie.extend(inside, np.array([4, 4, 4]), with_values=False)
    assert np.isnan(trie.values[2 : trie.n_nodes]).all()
    known = trie.logprobs[: trie.n_nodes].copy()
    assert (trie.prefill([[1, 5, 8, 4], [1, 5, 7]]) == [trie.extend(inside[1:2], np.array([4]))[0], inside[0]]).all()
    assert np.isnan(trie.values[: trie.n_nodes]).tolist() == [False, False, False, True, True, True, False, True]
    np.testing.assert_allclose(trie.logprobs[: trie.n_nodes], known, atol=1e-5)
    for span in ([1, 5, 8], [1, 5, 9], [1, 5, 7, 4], [1, 5, 9, 4]):
        trie.prefill([span])
    assert_equals_the_model(trie, model)


def test_shared_prefixes_are_prefilled_once():
    trie = TokenTrie(TableForward(V))
    a, b, c = trie.prefill([[1, 5, 6, 7], [1, 5, 6, 8, 9], [1, 5, 6, 7]])
    assert a == c != b
    assert trie.prefilled_tokens == 6  # 1 5 6, then 7, and 8 9
    assert trie.tokens[trie.path(b)].tolist() == [1, 5, 6, 8, 9]


def test_growing_keeps_every_node():
    small, large = TokenTrie(TableForward(V), capacity=1), TokenTrie(TableForward(V), capacity=1000)
    for trie in (small, large):
        grown_trie(trie, np.random.default_rng(3))
    n = small.n_nodes
    assert n == large.n_nodes
    for name in ("parents", "tokens", "depths", "logprobs", "values"):
        np.testing.assert_array_equal(getattr(small, name)[:n], getattr(large, name)[:n])


def test_weights_are_taken_when_the_trie_is_cleared():
    model = llama()
    trie = TokenTrie(forward_for(model))
    trie.prefill([[1, 5, 6]])
    before = trie.logprobs[2].copy()
    with torch.no_grad():
        model.trunk.lm_head.weight.mul_(2.0)
        model.value_head.outer.bias.add_(1.0)
    end = trie.prefill([[1, 5, 6]])[0]
    np.testing.assert_array_equal(trie.logprobs[end], before)
    trie.clear()
    trie.prefill([[1, 5, 6]])
    assert_equals_the_model(trie, model)
    assert abs(trie.logprobs[2, 3:] - before[3:]).max() > 0.1


def test_a_path_beyond_the_models_positions_is_refused_and_leaves_no_node():
    trie = TokenTrie(forward_for(llama()))
    end = trie.prefill([[1, *[5] * 31]])
    with pytest.raises(TrieError, match="33 tokens does not fit the model's 32 positions"):
        trie.extend(end, np.array([6]))
    assert trie.n_nodes == 32
    assert trie.extend(trie.prefill([[1]]), np.array([9]))[0] == 32

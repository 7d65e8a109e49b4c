"""Every architecture's trie equals its own full forward, whatever the batches, evictions and precision."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    OlmoConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from models.forward import fused_llama
from models.forward.causal import CausalForward
from models.forward.choose import forward_for
from models.forward.prefix import PrefixForward
from models.forward.trial import UnservedError
from models.net.policy_value import PolicyValueLM
from models.trie.sampling import StepSampler
from models.trie.trie import TokenTrie, TrieError

V = 1500  # more than is kept whole
POSITIONS = 128
COMMON = {
    "vocab_size": V,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**COMMON),
    "llama tied, one head of keys": LlamaConfig(**COMMON | {"num_key_value_heads": 1}, tie_word_embeddings=True),
    "mistral, window": MistralConfig(**COMMON, head_dim=12, sliding_window=9),
    "qwen2": Qwen2Config(**COMMON),
    "qwen2, window in half of the layers": Qwen2Config(
        **COMMON, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**COMMON, head_dim=24),
    "gemma2": Gemma2Config(**COMMON, head_dim=20, sliding_window=11, query_pre_attn_scalar=20),
    "gemma3": Gemma3TextConfig(**COMMON, head_dim=20, sliding_window=11, query_pre_attn_scalar=20),
    "gpt2": GPT2Config(vocab_size=V, n_embd=48, n_layer=3, n_head=4, n_positions=POSITIONS),
    "phi": PhiConfig(**COMMON),
    "phi3": Phi3Config(**COMMON, sliding_window=13),
    "olmo": OlmoConfig(**COMMON),
    "olmo2": Olmo2Config(**COMMON),
}


def random_model(config, dtype: torch.dtype = torch.float32) -> PolicyValueLM:
    """Weights large enough that a mistake shows, in a model whose logits spread by about 1."""
    torch.manual_seed(3)
    trunk = AutoModelForCausalLM.from_config(config)
    model = PolicyValueLM.from_trunk(trunk)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.8 * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            if "value_head.outer" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval().to(dtype)


def grow(trie: TokenTrie, seed: int = 0, waves: int = 7) -> np.ndarray:
    """A random tree: uneven prompts that share their openings, then waves of children at random depths. Nodes asked for."""
    rng = np.random.default_rng(seed)
    opening = rng.integers(3, V, 15).tolist()
    prompts = [opening[: rng.integers(1, 15)] + rng.integers(3, V, rng.integers(1, 22)).tolist() for _ in range(6)]
    asked = [trie.prefill(prompts)]
    for _ in range(waves):
        parents = rng.choice(np.unique(np.concatenate(asked)), 11)
        asked.append(trie.extend(parents, rng.integers(3, V, 11)))
    asked.append(trie.prefill([[7, 8, 9], [7, 8], [7, 8, 4, 4]], asked[-1][:3]))
    return np.unique(np.concatenate(asked))


@torch.no_grad()
def differences(trie: TokenTrie, model: PolicyValueLM, nodes: np.ndarray) -> tuple[float, float, float]:
    """Largest difference of log-probabilities, of values, and the share of equal most probable tokens."""
    worst = worst_value = 0.0
    same = []
    for node in nodes:
        tokens = torch.from_numpy(trie.tokens[trie.path(node)]).long()[None]
        expected = model.trunk(input_ids=tokens).logits[0, -1].float()
        expected[:3] = -torch.inf
        expected = expected.log_softmax(-1)
        row, kept = trie.logprobs[node], trie.choices[node if len(trie.choices) > 1 else 0]
        found = row > -np.inf
        worst = max(worst, float(np.abs(row[found] - expected[kept[found]].numpy()).max()))
        same.append(kept[row.argmax()] == int(expected.argmax()))
        value = torch.sigmoid(model.value_head(model.hidden(tokens))[0, -1].float()).item()
        worst_value = max(worst_value, abs(float(trie.values[node]) - value))
    return worst, worst_value, float(np.mean(same))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_equals_its_own_forward(name):
    model = random_model(CONFIGS[name])
    forward = forward_for(model)
    assert isinstance(forward, CausalForward)
    trie = TokenTrie(forward)
    logprob, value, same = differences(trie, model, grow(trie))
    assert logprob <= 1e-4
    assert value <= 1e-5
    assert same == 1.0


FUSED = [name for name in CONFIGS if name.startswith(("llama", "mistral", "qwen2"))]


@pytest.mark.parametrize("name", FUSED)
def test_fused_layers_and_transformers_own_give_the_same(name):
    model = random_model(CONFIGS[name])
    fused, plain = (TokenTrie(CausalForward(model, masked=(0, 1, 2), fused=fused)) for fused in (True, False))
    assert fused_llama.supports(model.trunk)
    nodes = grow(plain)
    assert (grow(fused) == nodes).all()
    logprob, value, same = differences(plain, model, nodes)
    assert (logprob <= 1e-4, value <= 1e-5, same) == (True, True, 1.0)
    np.testing.assert_allclose(
        np.sort(fused.logprobs[nodes], axis=1), np.sort(plain.logprobs[nodes], axis=1), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral, window", "gpt2"])
def test_the_padded_attention_of_a_gpu_gives_the_same(name):
    model = random_model(CONFIGS[name])
    trie = TokenTrie(CausalForward(model, masked=(0, 1, 2), compiled=False))
    logprob, value, same = differences(trie, model, grow(trie))
    assert (logprob <= 1e-4, value <= 1e-5, same) == (True, True, 1.0)


@pytest.mark.parametrize("settings", [{"dtype": torch.bfloat16}, {"autocast": torch.bfloat16}])
@pytest.mark.parametrize("compiled", [True, False])
def test_sixteen_bits_are_as_close_as_the_models_own_sixteen_bits(settings, compiled):
    exact = random_model(CONFIGS["llama"])
    model = random_model(CONFIGS["llama"], settings.get("dtype", torch.float32))
    trie = TokenTrie(CausalForward(model, masked=(0, 1, 2), autocast=settings.get("autocast"), compiled=compiled))
    nodes = grow(trie)
    ours, *_ = differences(trie, exact, nodes)
    plain = TokenTrie(PrefixForward(random_model(CONFIGS["llama"], torch.bfloat16), V))
    theirs, *_ = differences(plain, exact, grow(plain))
    assert trie.kv.kv.dtype == torch.bfloat16
    assert ours < 1.5 * theirs


def rows_of(trie: TokenTrie, nodes: np.ndarray) -> tuple[np.ndarray, ...]:
    return trie.logprobs[nodes], trie.choices[nodes], trie.values[nodes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_tenth_of_the_memory_and_small_batches_give_the_same_bits(name, dtype):
    if dtype == torch.bfloat16 and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("a CPU without 16-bit products: oneDNN chooses how to stand in for them by their size")
    model = random_model(CONFIGS[name], dtype)
    whole = TokenTrie(CausalForward(model, masked=(0, 1, 2)))
    nodes = grow(whole, waves=40)
    need = whole.n_nodes * whole.kv.bytes_per_node
    deepest = int(whole.depths[: whole.n_nodes].max()) + 1
    budget = max(need // 10, deepest * whole.kv.bytes_per_node)
    tight = TokenTrie(
        CausalForward(model, masked=(0, 1, 2), batch_rows=5),
        kv_bytes=budget,
    )
    assert (grow(tight, waves=40) == nodes).all()
    assert tight.kv.evicted > 0
    assert tight.recomputed_tokens > 0
    assert tight.kv.kv.nbytes <= budget
    for a, b in zip(rows_of(whole, nodes), rows_of(tight, nodes), strict=True):
        np.testing.assert_array_equal(a, b)


def test_steps_drawn_under_a_tenth_of_the_memory_are_the_same_ones():
    model = random_model(CONFIGS["llama"])
    rng = np.random.default_rng(5)
    prompts = [rng.integers(3, V, n).tolist() for n in (30, 8, 21, 40, 13)]

    def drawn(kv_bytes: int | None) -> tuple[list, TokenTrie]:
        trie = TokenTrie(CausalForward(model, masked=(0, 1, 2)), kv_bytes=kv_bytes)
        ends = np.arange(V) % 6 == 3
        sampler = StepSampler(trie, max_step_tokens=6, ends=ends)
        starts, waves = trie.prefill(prompts), []
        for wave in range(4):
            steps = sampler.draw(sampler.open(starts, np.arange(len(starts), dtype=np.uint64) + 10 * wave), 3)
            waves.append([steps.tokens.tolist(), steps.logprobs.tolist(), steps.unseen_logmass.tolist()])
            last = steps.tokens[np.arange(len(steps.tokens)), steps.lengths - 1]
            starts = trie.extend(steps.parent_nodes, last)[::2]
        return waves, trie

    waves, whole = drawn(None)
    again, tight = drawn(max(whole.n_nodes // 10, 70) * whole.kv.bytes_per_node)
    assert again == waves
    assert tight.recomputed_tokens > 0


def test_a_path_that_no_budget_can_hold_is_refused_with_the_mend():
    model = random_model(CONFIGS["llama"])
    forward = CausalForward(model)
    one = TokenTrie(forward).kv.bytes_per_node
    trie = TokenTrie(forward, kv_bytes=10 * one)
    trie.prefill([[1] * 10])
    with pytest.raises(TrieError, match=f"raise kv_bytes to at least {11 * one}"):
        trie.prefill([[1] * 11])
    assert trie.n_nodes == 10


def test_keys_and_values_take_what_the_model_itself_keeps():
    model = random_model(CONFIGS["qwen3"], torch.bfloat16)
    out = model.trunk(input_ids=torch.ones(1, 16, dtype=torch.long), use_cache=True)
    own = sum(layer.keys.nbytes + layer.values.nbytes for layer in out.past_key_values.layers) / 16
    assert TokenTrie(CausalForward(model)).kv.bytes_per_node == own


def test_training_shows_only_after_a_refresh():
    model = random_model(CONFIGS["llama"])
    trie = TokenTrie(CausalForward(model, masked=(0, 1, 2)))
    grow(trie)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    again = TokenTrie(trie.forward)
    nodes = grow(again)
    assert differences(again, model, nodes)[0] > 0.01
    trie.clear()
    assert differences(trie, model, grow(trie))[0] <= 1e-4


def test_a_state_space_model_takes_the_slow_path_and_says_so_once():
    config = MambaConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = random_model(config)
    with pytest.raises(UnservedError, match="Mamba"):
        CausalForward(model)
    with pytest.warns(UserWarning, match="reads its whole prefix anew"):
        forward = forward_for(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forward_for(model)
    trie = TokenTrie(forward)
    logprob, value, same = differences(trie, model, grow(trie))
    assert (logprob <= 1e-4, value <= 1e-5, same) == (True, True, 1.0)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_padding_of_the_embedding_is_no_token(name):
    model = random_model(CONFIGS[name])
    trie = TokenTrie(CausalForward(model, V - 100, masked=(0, 1, 2)))
    ends = trie.prefill([[5, 6, 7], [8, 9]])
    assert trie.choices[ends].max() < V - 100
    with torch.no_grad():
        expected = model.trunk(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1, : V - 100]
    expected[:3] = -torch.inf
    np.testing.assert_allclose(
        trie.logprobs[ends[0]], expected.log_softmax(-1)[trie.choices[ends[0]]].numpy(), atol=1e-4
    )


def test_the_models_own_attention_is_left_as_it_was():
    model = random_model(CONFIGS["llama"])
    before = model.trunk.config._attn_implementation
    grow(TokenTrie(CausalForward(model)))
    assert model.trunk.config._attn_implementation == before
    assert not model.trunk.model._forward_hooks

"""Each family of causal LMs gets rows and values of its own: node by node where its layers allow it, else the slow way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.forward import choose, fused_llama
from models.forward.causal import CausalForward
from models.forward.choose import forward_for
from models.forward.prefix import PrefixForward
from models.forward.trial import UnservedError, own_state
from models.local_policy import LocalPolicy
from models.net.policy_value import PolicyValueLM
from models.trie.trie import TokenTrie, TrieError
from tasks.numbers.countdown import Countdown

V = 60
SIZES = {
    "vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MHA = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}
GPT = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96}
SEQ2SEQ = {"vocab_size": V, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
EXPERTS = {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "head_dim": 8,
}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"], "head_dim": 8, "shared_expert_intermediate_size": 16,
}  # fmt: skip
SERVED = {  # node by node
    "llama": SIZES, "gpt2": GPT, "gpt_neox": MHA, "phi": SIZES, "gemma2": SIZES | {"head_dim": 8, "sliding_window": 7},
    "opt": MHA | {"ffn_dim": 48, "word_embed_proj_dim": 24}, "biogpt": MHA, "qwen3_moe": EXPERTS | {"head_dim": 8},
    "mistral": SIZES | {"sliding_window": 7}, "granite": SIZES, "olmo2": SIZES, "cohere2": SIZES | {"sliding_window": 7},
    "modernbert-decoder": MHA | {"local_attention": 14, "global_attn_every_n_layers": 2},
}  # fmt: skip
SLOW = {  # attention in code of their own
    "gptj": GPT | {"rotary_dim": 4}, "bloom": GPT | {"hidden_size": 32}, "codegen": GPT | {"rotary_dim": 4},
    "falcon": {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "mpt": {"vocab_size": V, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 96}, "bart": SEQ2SEQ,
    "openai-gpt": GPT, "doge": SIZES,
}  # fmt: skip
RECURRENT = {  # layers with a state of their own
    "mamba": {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "falcon_h1": SIZES | MAMBA2, "bamba": SIZES | MAMBA2 | {"attn_layer_indices": [1]},
    "lfm2": SIZES | {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": EXPERTS | DELTA,
    "recurrent_gemma": SIZES | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 9},
    "rwkv": {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    "jamba": SIZES | {"attn_layer_offset": 1, "attn_layer_period": 2, "mamba_d_state": 8, "num_experts": 2},
}  # fmt: skip


QUICK = ("gpt2", "gemma2", "opt", "qwen3_moe", "bloom", "falcon", "bart", "doge", "mamba", "lfm2", "falcon_h1")


def each(*families: dict[str, dict]) -> list:
    """Kinds, all but a few of them for the slow run."""
    kinds = [kind for family in families for kind in family]
    return [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in kinds]


def random_model(kind: str, sizes: dict, dtype: torch.dtype = torch.float32, seed: int = 3) -> PolicyValueLM:
    """Weights large enough that a mistake shows."""
    torch.manual_seed(seed)
    model = PolicyValueLM.from_trunk(AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn_like(parameter) * 0.8 * parameter.shape[-1] ** -0.5)
            if "value_head.outer" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval().to(dtype)


def grown(trie: TokenTrie, seed: int = 0, longest: int = 20) -> np.ndarray:
    """Nodes of prompts that share their openings, and of three waves of children."""
    rng = np.random.default_rng(seed)
    opening = rng.integers(3, V, longest).tolist()
    prompts = [opening[: rng.integers(1, longest)] + rng.integers(3, V, rng.integers(1, 5)).tolist() for _ in range(4)]
    asked = [trie.prefill(prompts)]
    for _ in range(3):
        parents = rng.choice(np.unique(np.concatenate(asked)), 5)
        asked.append(trie.extend(parents, rng.integers(3, V, 5)))
    return np.unique(np.concatenate(asked))


@torch.no_grad()
def farthest(trie: TokenTrie, model: PolicyValueLM, nodes: np.ndarray) -> tuple[float, float]:
    """Largest difference of log-probabilities and of values to the model's own on each whole path."""
    logprob = value = 0.0
    for node in nodes:
        tokens = torch.from_numpy(trie.tokens[trie.path(node)]).long()[None]
        expected = model.trunk(input_ids=tokens, use_cache=False).logits[0, -1].float()
        expected[:3] = -torch.inf
        found = torch.from_numpy(trie.logprobs[node])
        logprob = max(logprob, (found - expected.log_softmax(-1))[3:].abs().max().item())
        own = torch.sigmoid(model.value_head(model.hidden(tokens))[0, -1].float()).item()
        value = max(value, abs(float(trie.values[node]) - own))
    return logprob, value


@pytest.mark.parametrize("kind", each(SERVED))
def test_a_family_is_served_node_by_node_and_exactly(kind):
    model = random_model(kind, SERVED[kind])
    trie = TokenTrie(CausalForward(model, masked=(0, 1, 2)))
    logprob, value = farthest(trie, model, grown(trie))
    assert (logprob < 1e-4, value < 1e-5) == (True, True)


@pytest.mark.parametrize("kind", each(SLOW, RECURRENT, SERVED))
@pytest.mark.filterwarnings("ignore")  # of libraries that a family would rather use
def test_the_slow_path_is_exact_for_every_family(kind):
    model = random_model(kind, (SERVED | SLOW | RECURRENT)[kind])
    trie = TokenTrie(PrefixForward(model, V))
    logprob, value = farthest(trie, model, grown(trie))
    assert (logprob < 1e-4, value < 1e-5) == (True, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", each(RECURRENT))
@pytest.mark.filterwarnings("ignore")
def test_layers_with_a_state_of_their_own_are_known_without_a_trial(kind, dtype, monkeypatch):
    model = random_model(kind, RECURRENT[kind], dtype)
    monkeypatch.setattr("models.forward.causal.on_trial", lambda *unused: None)
    with pytest.raises(UnservedError, match=r"ForCausalLM has layers that are no plain attention \(.+\)$"):
        CausalForward(model)


@pytest.mark.parametrize("kind", each(RECURRENT))
@pytest.mark.filterwarnings("ignore")
def test_modules_alone_give_such_layers_away(kind):
    """A config that says nothing of its layers hides nothing."""
    trunk = random_model(kind, RECURRENT[kind]).trunk
    silent = AutoConfig.for_model("llama", **SIZES)
    trunk.config = silent
    assert own_state(trunk) is not None


@pytest.mark.parametrize("kind", each(SERVED))
def test_plain_layers_are_not_taken_for_others(kind):
    assert own_state(random_model(kind, SERVED[kind]).trunk) is None


@pytest.mark.parametrize("kind", each(SLOW))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.filterwarnings("ignore")
def test_attention_of_a_models_own_is_refused_in_plain_words(kind, dtype):
    with pytest.raises(UnservedError, match="cannot run node by node: ") as refused:
        CausalForward(random_model(kind, SLOW[kind], dtype))
    assert "operand" not in str(refused.value)
    assert "object" not in str(refused.value)
    if kind == "falcon":
        assert "its layers compute attention in code of their own" in str(refused.value)


def test_keys_wider_than_the_config_says_are_refused_before_they_are_stored():
    with pytest.raises(UnservedError, match="does not fit the key-value arena"):
        CausalForward(random_model("opt", SERVED["opt"] | {"num_key_value_heads": 2}))


# ---- longrope


def longrope(kind: str, **sizes: int) -> PolicyValueLM:
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [2.0, 5.0, 9.0, 20.0]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 16, "factor": 6.0} | factors
    return random_model(kind, SIZES | sizes | {"rope_parameters": rope, "original_max_position_embeddings": 16})


@pytest.mark.parametrize("kind", ["phi3", "llama"])
def test_paths_on_both_sides_of_a_change_of_angles_are_each_exact(kind):
    model = longrope(kind)
    trie = TokenTrie(PrefixForward(model, V))
    nodes = grown(trie, longest=40)
    assert trie.depths[nodes].min() < 15 < trie.depths[nodes].max()
    logprob, value = farthest(trie, model, nodes)
    assert (logprob < 1e-4, value < 1e-5) == (True, True)
    inside = trie.path(nodes[trie.depths[nodes].argmax()])[5:20]  # of a long path, asked later
    trie.extend(trie.path(inside[0])[-2:-1], trie.tokens[inside[:1]])
    logprob, value = farthest(trie, model, trie.prefill([trie.tokens[trie.path(node)].tolist() for node in inside]))
    assert (logprob < 1e-4, value < 1e-5) == (True, True)


@pytest.mark.parametrize("kind", ["phi3", "llama"])
def test_node_by_node_ends_where_the_angles_change(kind):
    model = longrope(kind)
    trie = TokenTrie(CausalForward(model, masked=(0, 1, 2)))
    ends = trie.prefill([[5] * 16, [6, 7, 8]])
    assert max(farthest(trie, model, ends)) < 1e-4
    with pytest.raises(TrieError, match="16 positions"):
        trie.extend(ends, np.array([4, 4], np.int32))
    assert isinstance(forward_for(model, longest=16), CausalForward)
    choose._WARNED.clear()
    with pytest.warns(UserWarning, match="turns texts longer than 16 tokens by other angles"):
        assert isinstance(forward_for(model, longest=17), PrefixForward)


def test_a_policy_takes_the_slow_path_where_its_task_has_longer_texts():
    task = Countdown(numbers=4, number_max=9)
    assert 16 < task.max_context_tokens < 96
    policy = LocalPolicy(longrope("llama", vocab_size=len(task.vocabulary)))
    choose._WARNED.clear()
    with pytest.warns(UserWarning, match="by other angles"):
        assert isinstance(policy.evaluator(task).trie.forward, PrefixForward)


def test_dynamic_angles_are_exact_up_to_the_last_position():
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    model = random_model("llama", SIZES | {"max_position_embeddings": 24, "rope_parameters": rope})
    assert not fused_llama.supports(model.trunk)
    for forward in (CausalForward(model, masked=(0, 1, 2)), PrefixForward(model, V)):
        trie = TokenTrie(forward)
        ends = trie.prefill([[5] * 24, [6, 7, 8]])
        assert max(farthest(trie, model, ends)) < 1e-4
        with pytest.raises(TrieError, match="24 positions"):
            trie.extend(ends[:1], np.array([4], np.int32))

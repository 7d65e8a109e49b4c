"""A small net read without transformers is the same net, bit for bit, or is left to transformers, or refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, LlamaConfig

from models.files.bare_llama import WEIGHTS, PlainPolicy, load_plain
from models.files.checkpoint import load_checkpoint, save_checkpoint
from models.files.manifest import CheckpointError
from models.forward.choose import forward_for
from models.forward.small import LlamaForward
from models.net.policy_value import PolicyValueConfig, PolicyValueLM
from models.net.tokenizer import make_tokenizer
from models.policy import SHIPPED, open_policy, shipped
from models.trie.trie import TokenTrie
from solve.policies import take
from solve.solver import Solver
from tests.models.test_checkpoint import TOKENIZER, WORDS, rewrite, seal
from tests.models.test_trie import grown_trie, randomised

V = len(WORDS)


def policy(config) -> PolicyValueLM:
    torch.manual_seed(3)
    return randomised(PolicyValueLM(PolicyValueConfig(config)))


def llama_config(**settings) -> LlamaConfig:
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaConfig(vocab_size=V, max_position_embeddings=32, **sizes, **settings)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "step-000001"


def read(folder: Path) -> tuple[PlainPolicy, dict[str, int], dict]:
    found = load_plain(folder)
    assert found is not None
    return found


def assert_the_same_net(folder: Path) -> None:
    (fast, token_ids, extra), (whole, tokenizer, told) = read(folder), load_checkpoint(folder)
    assert token_ids == tokenizer.get_vocab()
    assert extra == told
    size = len(token_ids)
    forwards = [forward_for(model, size) for model in (fast, whole)]
    assert all(isinstance(forward, LlamaForward) for forward in forwards)
    tries = [grown_trie(TokenTrie(forward), np.random.default_rng(5), size) for forward in forwards]
    for part in ("logprobs", "values"):
        first, second = (getattr(trie, part)[: trie.n_nodes] for trie in tries)
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_net_is_the_same_without_transformers(name):
    assert_the_same_net(SHIPPED / name)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": True},
        {"head_dim": 6, "rms_norm_eps": 1e-3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}},
    ],
    ids=["one key head", "tied", "head size of its own", "rotation"],
)
def test_a_plain_llama_of_any_shape_is_the_same_without_transformers(folder, settings):
    save_checkpoint(folder, policy(llama_config(**settings)), TOKENIZER, {"iteration": 4})
    assert_the_same_net(folder)


@pytest.mark.parametrize(
    "config",
    [
        llama_config(attention_bias=True),
        llama_config(hidden_act="gelu"),
        llama_config(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}),
        GPT2Config(vocab_size=V, n_embd=32, n_layer=1, n_head=2, n_positions=32),
    ],
    ids=["biases", "gelu", "linear rotation", "GPT-2"],
)
def test_what_is_not_plain_is_left_to_transformers(folder, config):
    save_checkpoint(folder, policy(config), TOKENIZER)
    assert load_plain(folder) is None


def test_a_shelf_takes_what_is_not_plain_with_transformers(folder):
    words = take(str(SHIPPED / "countdown3")).task.vocabulary
    model = policy(GPT2Config(vocab_size=len(words), n_embd=32, n_layer=1, n_head=2, n_positions=32))
    save_checkpoint(folder, model, make_tokenizer(words), {"task": {"name": "countdown"}})
    assert isinstance(open_policy(str(folder)).policy.model, PolicyValueLM)
    assert isinstance(open_policy("countdown3").policy.model, PlainPolicy)
    assert Solver(str(folder)).solve(["3 7 12 = 24"], tokens=30)[0].cost.generated_tokens > 0


def test_half_precision_is_left_to_transformers(folder):
    save_checkpoint(folder, policy(llama_config()).half(), TOKENIZER)
    assert load_plain(folder) is None


def change_weights(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    seal(folder / WEIGHTS)


def test_weights_of_sixteen_bits_under_a_config_of_thirty_two_are_read_as_transformers_reads_them(folder):
    save_checkpoint(folder, policy(llama_config()), TOKENIZER)
    change_weights(folder, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    assert_the_same_net(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(num_key_value_heads=3),
        lambda fields: fields.update(num_key_value_heads=0),
        lambda fields: fields["rope_parameters"].update(rope_theta="far"),
        lambda fields: fields.update(rope_parameters=None),
        lambda fields: fields.pop("head_dim"),
        lambda fields: fields.update(hidden_size="32"),
    ],
    ids=[
        "heads that do not divide",
        "no keys",
        "a word for a number",
        "no rotation",
        "no head size",
        "a size in words",
    ],
)
def test_a_config_that_does_not_add_up_is_left_to_transformers(folder, change):
    save_checkpoint(folder, policy(llama_config()), TOKENIZER)
    rewrite(folder / "config.json", change)
    assert load_plain(folder) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "lacks model.norm.weight"),
        (lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, 3)}), "cannot be loaded"),
    ],
    ids=["missing", "another shape"],
)
def test_tensors_that_are_missing_or_do_not_fit_are_refused(folder, change, said):
    save_checkpoint(folder, policy(llama_config()), TOKENIZER)
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=said) as refused:
        load_plain(folder)
    assert "\n" not in str(refused.value)


def test_a_damaged_checkpoint_is_refused_as_ever(folder):
    shutil.copytree(SHIPPED / "countdown3", folder)
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(CheckpointError, match="content changed"):
        load_plain(folder)


def test_a_config_that_names_code_is_refused(folder):
    save_checkpoint(folder, policy(llama_config()), TOKENIZER)
    rewrite(folder / "config.json", lambda fields: fields.update(auto_map={"AutoModel": "evil.Model"}))
    with pytest.raises(CheckpointError, match="names code to run"):
        load_plain(folder)


def test_loading_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_plain(SHIPPED / "countdown3")
    assert torch.equal(torch.rand(3), expected)

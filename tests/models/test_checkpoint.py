"""Checkpoints come back bit for bit, or not at all with one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from models.files.checkpoint import load_checkpoint, load_latest, load_tensors, save_checkpoint, save_tensors
from models.files.manifest import MANIFEST, CheckpointError, fingerprint
from models.net.fast_training import fast_forward
from models.net.policy_value import PolicyValueConfig, PolicyValueLM, tiny_llama
from models.net.tokenizer import make_tokenizer
from tasks.base import SPECIAL_TOKENS

WORDS = (*SPECIAL_TOKENS, *(str(i) for i in range(20)))
TOKENIZER = make_tokenizer(WORDS)


def llama(seed: int = 0) -> PolicyValueLM:
    torch.manual_seed(seed)
    model = tiny_llama(len(WORDS), hidden_size=32, layers=2, heads=2, intermediate=40)
    torch.nn.init.normal_(model.value_head.outer.weight)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "step-000012"
    save_checkpoint(folder, llama(), TOKENIZER, {"step": 12, "hash": "abc"})
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / saved.name))


def tokens() -> torch.Tensor:
    return torch.randint(0, len(WORDS), (5, 13), generator=torch.Generator().manual_seed(1))


def rewrite(file: Path, change) -> None:
    """Change a JSON file and its line in the manifest, as an attacker would."""
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))
    seal(file)


def seal(file: Path) -> None:
    """Write a changed file into the manifest."""
    manifest = json.loads((file.parent / MANIFEST).read_text())
    manifest["files"][file.name] = fingerprint(file)
    (file.parent / MANIFEST).write_text(json.dumps(manifest))


def test_outputs_after_loading_are_bit_identical(saved):
    model, (again, tokenizer, extra) = llama().eval(), load_checkpoint(saved)
    with torch.no_grad():
        for expected, found in zip(model(tokens()), again(tokens()), strict=True):
            assert torch.equal(expected, found)
        assert torch.equal(fast_forward(model, tokens()), fast_forward(again, tokens()))
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert extra == {"step": 12, "hash": "abc"}
    assert all(p.data_ptr() % 64 == 0 for p in again.parameters())


def test_training_on_after_loading_is_bit_identical(saved):
    def train(model: PolicyValueLM) -> list[torch.Tensor]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            sum(output.square().sum() for output in model(tokens())).backward()
            optimizer.step()
        return list(model.parameters())

    for expected, found in zip(train(llama()), train(load_checkpoint(saved)[0]), strict=True):
        assert torch.equal(expected, found)


def test_loading_leaves_the_random_state_alone(saved):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_checkpoint(saved)
    assert torch.equal(torch.rand(4), expected)


def test_any_program_loads_the_folder_as_a_causal_lm(saved):
    trunk, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    batch = tokenizer("1 2\n3\n", return_tensors="pt")
    torch.testing.assert_close(trunk(batch["input_ids"]).logits, llama()(batch["input_ids"])[0])


def test_other_trunks_with_tied_weights_round_trip(tmp_path):
    config = GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1)
    model = PolicyValueLM(PolicyValueConfig(config)).eval()
    save_checkpoint(tmp_path / "a", model, TOKENIZER)
    again, _, extra = load_checkpoint(tmp_path / "a")
    assert extra == {}
    assert again.trunk.lm_head.weight is again.trunk.transformer.wte.weight
    for expected, found in zip(model(tokens()), again(tokens()), strict=True):
        assert torch.equal(expected, found)


def test_saving_again_replaces_the_folder_and_leaves_nothing_else(tmp_path):
    for seed in (1, 2):
        (tmp_path / ".step.new").mkdir()  # what a killed writer leaves
        save_checkpoint(tmp_path / "step", llama(seed), TOKENIZER, {"seed": seed})
        assert [f.name for f in tmp_path.iterdir()] == ["step"]
        assert load_checkpoint(tmp_path / "step")[2] == {"seed": seed}


FILES = ["config.json", "model.safetensors", "value_head.safetensors", "tokenizer.json", "extra.json", MANIFEST]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_damaged_file_is_named_in_one_line(copy, name, damage):
    file = copy / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0x10
        file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(copy)
    assert "\n" not in str(caught.value)
    if not (name == MANIFEST and damage == "flipped"):  # a changed digest shows up at the file that it belongs to
        assert name in str(caught.value)


def test_a_missing_folder_is_an_error_of_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="check the path"):
        load_checkpoint(tmp_path / "nowhere")


def test_latest_falls_back_to_the_previous_whole_checkpoint(saved, tmp_path):
    for name in ("step-000009", "step-000010", "step-000011"):
        shutil.copytree(saved, tmp_path / name)
    (tmp_path / "step-000011" / MANIFEST).unlink()
    (tmp_path / "step-000010" / "model.safetensors").write_bytes(b"short")
    (tmp_path / ".step-000012.new").mkdir()
    folder, model, _, extra = load_latest(tmp_path)
    assert folder.name == "step-000009"
    assert extra["step"] == 12
    assert isinstance(model, PolicyValueLM)


def test_latest_of_nothing_says_what_is_wrong_with_the_last(saved, tmp_path):
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_latest(tmp_path / "nowhere")
    shutil.copytree(saved, tmp_path / "step-1")
    (tmp_path / "step-1" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no whole checkpoint.*config\.json"):
        load_latest(tmp_path)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "auto_map", {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}),
        ("config.json", "quantization_config", {"quant_method": "bitsandbytes"}),
        ("config.json", "_attn_implementation", "someone/kernel"),
        ("config.json", "model_type", "evil"),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}),
    ],
)
def test_a_config_that_names_code_is_refused_and_nothing_runs(copy, tmp_path, name, key, value):
    witness = tmp_path / "witness"
    code = copy / "evil.md"  # a listed name, so that only the config stands in the way
    code.write_text(f"open({str(witness)!r}, 'w')")
    rewrite(copy / name, lambda fields: fields.update({key: value}))
    with pytest.raises(CheckpointError, match=r"built-in"):
        load_checkpoint(copy)
    assert not witness.exists()


def test_a_file_outside_the_manifest_is_refused(copy):
    (copy / "evil.py").write_text("raise SystemExit")
    with pytest.raises(CheckpointError, match=r"evil\.py: not in the manifest"):
        load_checkpoint(copy)


def test_a_manifest_cannot_point_outside_the_folder(copy):
    outside = copy.parent / "outside.json"
    outside.write_text("{}")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["../outside.json"] = fingerprint(outside)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="not a plain file"):
        load_checkpoint(copy)


def test_tensors_of_another_shape_or_missing_are_refused(copy):
    rewrite(copy / "config.json", lambda fields: fields.update(num_hidden_layers=3))
    with pytest.raises(CheckpointError, match=r"layers\.2"):
        load_checkpoint(copy)
    rewrite(copy / "config.json", lambda fields: fields.update(num_hidden_layers=2, hidden_size=64))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_checkpoint(copy)


def test_optimizer_tensors_round_trip_bit_for_bit(tmp_path):
    tensors = {"m": torch.randn(3, 5), "v": torch.rand(4, 2).t(), "step": torch.tensor(7.0), "n": torch.tensor([1, 2])}
    save_tensors(tmp_path / "optimizer.safetensors", tensors)
    again = load_tensors(tmp_path / "optimizer.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert [f.name for f in tmp_path.iterdir()] == ["optimizer.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "another's"])
def test_damaged_optimizer_tensors_are_named(tmp_path, damage):
    file = tmp_path / "optimizer.safetensors"
    save_tensors(file, {"m": torch.randn(30, 5)})
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "another's":
        save_tensors(tmp_path / "older.safetensors", {"m": torch.randn(30, 5)})
        (tmp_path / "older.safetensors").replace(file)
    else:
        content[-9] ^= 1
        file.write_bytes(content[:-1] if damage == "truncated" else content)
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors"):
        load_tensors(file)

"""Pretrained models load from folders and GGUF files, and what cannot be used is refused in one line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import mcts
from models.files import pretrained
from models.files.checkpoint import load_checkpoint, save_checkpoint
from models.files.manifest import CheckpointError
from models.files.pretrained import load_pretrained
from models.forward.causal import CausalForward
from models.steps.codec import TextCodec, codec_of
from models.steps.evaluator import ModelEvaluator
from models.steps.rollout import rollouts
from models.trie.trie import TokenTrie
from tasks.numbers.countdown import Countdown

WORDS = 90


def write_folder(folder: Path, embeddings: int = 96) -> Path:
    """A tiny Llama and its tokenizer, as any program would save them."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=embeddings, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {"<end>": 0, "\n": 1} | {f"w{i}": i + 2 for i in range(WORDS - 2)}
    bare = Tokenizer(tokenizer_models.WordLevel(words, unk_token="<end>"))
    PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", unk_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "model")


@pytest.fixture(scope="module")
def task() -> Countdown:
    return Countdown(numbers=3, number_max=9, target_min=5, target_max=30)


def test_a_folder_loads_with_a_value_head_that_has_no_opinion(folder):
    model, tokenizer = load_pretrained(folder, dtype="float32", few_shot=2)
    ids = torch.randint(0, WORDS, (2, 9))
    logits, values = model(ids)
    torch.testing.assert_close(logits, AutoModelForCausalLM.from_pretrained(folder)(ids).logits)
    assert (values == 0).all()
    assert len(tokenizer) == WORDS
    assert (model.tokenizer, model.few_shot) == (tokenizer, 2)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_weights_come_in_the_type_asked_for(folder, name):
    model, _ = load_pretrained(folder, dtype=name)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, name)}


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_checkpoint_of_a_pretrained_model_comes_back_with_its_tokens_and_value_head(folder, tmp_path, task, name):
    model, tokenizer = load_pretrained(folder, dtype=name, few_shot=1)
    torch.nn.init.normal_(model.value_head.outer.weight)
    save_checkpoint(tmp_path / "saved", model, tokenizer, {"iteration": 3})
    ids = torch.randint(0, WORDS, (2, 9))
    again, _, extra = load_checkpoint(tmp_path / "saved")
    other, _ = load_pretrained(tmp_path / "saved", dtype=name)
    for loaded in (again, other):
        assert isinstance(codec_of(loaded, task), TextCodec)
        for a, b in zip(loaded(ids), model(ids), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert (again.few_shot, extra["iteration"]) == (1, 3)


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_pickle_only(folder: Path) -> None:
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").unlink()


def with_other_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder)
    write_folder(folder, embeddings=WORDS - 10)


def with_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))


def with_other_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def with_cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


REFUSED = {
    "no weights": (without_weights, "holds no weights"),
    "pickle": (with_pickle_only, "pickle can run code and is not read"),
    "no tokenizer": (without_tokenizer, "needs its tokenizer beside it"),
    "tokenizer does not fit": (with_other_tokenizer, "does not fit the model"),
    "code": (with_code, "names code to run"),
    "missing layers": (with_other_layers, "the weights lack model.layers.2"),
    "cut weights": (with_cut_weights, "cannot be loaded"),
    "no folder": (shutil.rmtree, "no such folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(folder, name):
    spoil, said = REFUSED[name]
    spoil(folder)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert "evil" not in sys.modules


def test_unknown_types_and_files_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="dtype 'int4' is unknown"):
        load_pretrained(folder, dtype="int4")
    with pytest.raises(CheckpointError, match=r"nowhere.gguf: no such file"):
        load_pretrained(tmp_path / "nowhere.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(CheckpointError, match=r"broken.gguf: cannot be converted"):
        load_pretrained(tmp_path / "broken.gguf")
    assert not list((tmp_path / "cache").glob("*"))
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="run make llm"):
        pretrained.smollm2()


# ---- the real small LLM


@pytest.fixture(scope="module")
def real(smollm2):
    return load_pretrained(smollm2, dtype="float32")[0]


@pytest.mark.llm
@torch.no_grad()
def test_the_real_model_decodes_a_tree_as_its_own_forward_does(real):
    real.inference_dtype = None
    forward = CausalForward(real)
    trie = TokenTrie(forward)
    rng = np.random.default_rng(0)
    prompt = real.tokenizer("Question: 3 4 5 = 17\n3 * 4 = 12 | 5 12\n").input_ids
    ends = trie.prefill([prompt, [*prompt, *rng.integers(100, 40_000, 20).tolist()]])
    for _ in range(3):
        ends = trie.extend(np.repeat(ends[-2:], 3), rng.integers(100, 40_000, 6))
    for node in ends:
        tokens = torch.from_numpy(trie.tokens[trie.path(node)]).long()[None]
        expected = real.trunk(input_ids=tokens).logits[0, -1].log_softmax(-1)
        assert np.abs(trie.logprobs[node] - expected[trie.choices[node]].numpy()).max() <= 1e-4
        assert trie.choices[node, 0] == int(expected.argmax())


@pytest.mark.llm
def test_the_real_model_keeps_to_the_format_of_the_examples(real, task):
    chains = rollouts(real, task, task.problems("train", 12), 1, temperature=0.0)
    steps = [chain[0].steps[0] for chain in chains]
    assert sum(step.endswith("\n") and "=" in step for step in steps) >= 9  # 73 to 100 %, as measured before


@pytest.mark.llm
@pytest.mark.slow
def test_a_search_with_the_real_model_is_judged_and_repeats_bit_for_bit(real, task):
    real.adopt(real.tokenizer, 3)
    problems = task.problems("train", 3)
    found = []
    for kv_bytes in (None, 8 << 20):
        evaluator = ModelEvaluator(real, task, seed=1, kv_bytes=kv_bytes)
        result = mcts.search(
            evaluator.begin(problems), evaluator, mcts.BestFirst(n_candidates=4), mcts.Budget(tokens=90), wave_size=2
        )
        handles = range(int(result.store.edge_handles.max()) + 1)
        found.append([evaluator.steps(handle) for handle in handles])
        for tree in range(3):
            assert result.tokens[tree] >= 90 or result.solved[tree]
        for handle in handles[3:]:
            problem = problems[evaluator.tree(handle)]
            verdict = task.verdict(problem, evaluator.steps(handle))
            assert (verdict.reward, verdict.legal) == (
                evaluator.verdict(handle).reward,
                evaluator.verdict(handle).legal,
            )
    assert found[0] == found[1]

"""A value head for a pretrained model: what stays as it was, what is learned, and what other programs can read."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kit.statistics import auc
from models.files.checkpoint import load_checkpoint
from models.files.pretrained import load_pretrained
from models.net.fast_training import supports
from models.net.policy_value import PolicyValueLM
from models.policy import open_policy
from selfplay.config import ConfigError
from selfplay.value import __main__ as command
from selfplay.value.training import (
    Settings,
    StandardisedHead,
    add_adapters,
    features,
    fit_head,
    merge,
    probabilities,
)
from tasks import Rows, make_task

OPTIONS = {"numbers": 3, "number_max": 6, "target_min": 5, "target_max": 15}
TASK = [f"task.{name}={value}" for name, value in OPTIONS.items()]


def tiny_model(kv_heads: int = 2) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random Llama that reads letter by letter. With as many key-value as query heads the fast path serves it."""
    pieces = ["<end>", "\n", *sorted(set("Question: answer0123456789+-*/=| "))]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=kv_heads,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config).eval(), PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pretrained model as one finds it."""
    path = tmp_path_factory.mktemp("pretrained")
    for part in tiny_model():
        part.save_pretrained(path)
    return path


def quick(folder, out, **changed) -> Settings:
    few = Settings(out=str(out), model=str(folder), few_shot=1, examples=200, dev=10, dev_samples=1, options=OPTIONS)
    return replace(few, rank=2, steps=4, rows=16, **changed)


def random_rows(rng: np.random.Generator, width: int = 20, shared: int = 8) -> Rows:
    """Six rows that begin alike, with three targets each."""
    tokens = rng.integers(1, 30, (6, width)).astype(np.int32)
    tokens[:, :shared] = tokens[0, :shared]
    value = np.full(tokens.shape, np.nan, np.float32)
    value[:, [shared, 14, 19]] = rng.random((6, 3))
    return Rows(tokens, np.zeros(tokens.shape, np.float32), value)


@pytest.fixture(scope="module")
def frozen(folder, tmp_path_factory):
    """(folder of the result, what was measured) of a training with the trunk frozen."""
    out = tmp_path_factory.mktemp("frozen") / "with_head"
    return out, command.train_value_head(quick(folder, out, own_share=0.25))


def test_the_frozen_trunk_is_saved_bit_for_bit(folder, frozen):
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (folder, frozen[0]))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_both_loaders_bring_the_head_back_with_equal_values(frozen, rng):
    tokens = torch.from_numpy(rng.integers(1, 30, (3, 12)))
    one, tokenizer, extra = load_checkpoint(frozen[0])
    other, _ = load_pretrained(frozen[0], dtype="float32", device="cpu")
    (logits, values), (other_logits, other_values) = one(tokens), other(tokens)
    assert torch.equal(values, other_values)
    assert torch.equal(logits, other_logits)
    assert values.std() > 0, "a fresh head would say one value everywhere"
    assert tokenizer.decode(tokenizer("12 = 3\n").input_ids) == "12 = 3\n"
    assert extra["value_head"] == json.loads(json.dumps(frozen[1]))
    assert one.few_shot == 1


def test_what_was_measured_stands_beside_the_weights_for_solve_to_read(frozen):
    out, told = frozen
    known = open_policy(str(out)).calibration
    assert known.greedy_tokens > 0
    if "own" in told and math.isfinite(told["own"]["after"]["auc"] or math.nan):
        assert known.value_auc == told["own"]["after"]["auc"]
        assert known.measured["n"] == told["own"]["n"]
    else:
        assert known.value_auc is None, "states of random play alone are no reason to trust a value"


def test_what_is_measured_has_its_size_its_interval_and_its_controls(frozen):
    play = frozen[1]["play"]
    low, high = play["after"]["auc_ci95"]
    assert play["before"]["auc"] == play["controls"]["constant"] == 0.5, "a fresh head has no opinion"
    assert low <= play["after"]["auc"] <= high
    assert play["n"] >= play["problems"] == 10
    assert set(play["controls"]) == {"constant", "steps", "length", "embeddings"}
    assert 0 <= play["after"]["ece"] <= 1


def test_the_head_learns_what_can_be_told_apart(rng):
    hidden = torch.from_numpy(rng.normal(3.0, 5.0, (3000, 16))).float()
    target = ((hidden[:, 0] - 3) * (hidden[:, 1] - 3) > 0).float()  # no linear function does it
    held = np.arange(3000) % 10 == 0
    head, told = fit_head(hidden[:2000], target[:2000], held[:2000], rate=3e-3)
    assert auc(probabilities(head.folded(), hidden[2000:]), target[2000:].numpy()) > 0.95
    assert told["held_out_bce"] < 0.5 * told["constant_bce"]


def test_folding_keeps_the_function(rng):
    hidden = torch.from_numpy(rng.normal(rng.normal(0, 30, 16), rng.uniform(0.01, 50, 16), (500, 16))).float()
    head = StandardisedHead(hidden)
    torch.nn.init.normal_(head.head.outer.weight)
    with torch.no_grad():
        formula = head.head((hidden - hidden.mean(0)) / hidden.std(0).clamp(min=0.01 * hidden.std(0).median()))
        torch.testing.assert_close(head(hidden), formula)
        torch.testing.assert_close(head.folded()(hidden), formula, rtol=1e-3, atol=2e-4)


def test_features_are_read_where_the_targets_are(rng):
    model, rows = PolicyValueLM.from_trunk(tiny_model()[0]), random_rows(rng)
    found = features(model, rows)
    assert found.row.tolist() == sorted([0, 1, 2, 3, 4, 5] * 3)
    with torch.no_grad():
        hidden = model.hidden(torch.from_numpy(rows.tokens.astype(np.int64)))
    torch.testing.assert_close(found.hidden[4], hidden[1, 14], rtol=1e-4, atol=1e-5)
    assert found.target[4] == rows.value[1, 14]


def test_merged_adapters_compute_what_they_computed_before(rng):
    pytest.importorskip("peft")
    model, rows = PolicyValueLM.from_trunk(tiny_model()[0]), random_rows(rng)
    assert supports(model), "a fast path that knows no adapters would take it"
    model.requires_grad_(False)
    plain = features(model, rows).hidden
    head = StandardisedHead(plain)
    torch.nn.init.normal_(head.head.outer.weight)
    adapters = add_adapters(model, rank=2)
    trainable = {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.3)
    unmerged = features(model, rows).hidden
    value = probabilities(head, unmerged)
    merge(model, head, adapters)
    merged = features(model, rows).hidden
    torch.testing.assert_close(merged, unmerged, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities(model.value_head, merged), value, atol=1e-3)
    assert (merged - plain).abs().max() > 0.01, "the adapters did nothing"
    assert not any("lora" in name for name in model.state_dict())


@pytest.mark.parametrize("policy_coefficient", [0.0, 0.5])
def test_lora_saves_a_plain_model_that_changed_and_says_how_far_its_policy_went(folder, tmp_path, policy_coefficient):
    pytest.importorskip("peft")
    settings = quick(folder, tmp_path / "out", mode="lora", own_share=0.5, learning_rate=0.01)
    told = command.train_value_head(replace(settings, policy_coefficient=policy_coefficient))["lora"]
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (folder, settings.out))
    assert before.keys() == after.keys()
    moved = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert told["policy_kl"] > 0
    assert told["policy_loss"] != told["policy_loss_before"]
    assert load_checkpoint(settings.out)[2]["value_head"]["lora"] == told


def test_transformers_alone_loads_the_folder_as_a_causal_lm(frozen):
    trunk, tokenizer = (kind.from_pretrained(frozen[0]) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert type(trunk) is LlamaForCausalLM
    tokens = torch.tensor([tokenizer("Question: 1 2 3 = 6\n").input_ids])
    with torch.no_grad():
        torch.testing.assert_close(trunk(tokens).logits, load_checkpoint(frozen[0])[0](tokens)[0])


def test_one_seed_gives_one_head(folder, tmp_path):
    heads = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        command.train_value_head(quick(folder, tmp_path / name, dev_samples=0, seed=seed))
        heads.append(load_checkpoint(tmp_path / name)[0].value_head.inner.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_held_out_rows_share_no_problem_with_the_others():
    prompts = [f"{i % 50} = 7" for i in range(400)]
    held = command.held_out(prompts, seed=0)
    problems = [{prompt for prompt, out in zip(prompts, held, strict=True) if out == part} for part in (True, False)]
    assert problems[0].isdisjoint(problems[1])
    assert 1 <= len(problems[0]) <= 15
    with pytest.raises(ConfigError, match="raise examples"):
        command.held_out(["1 = 2"] * 9, seed=0)


def test_targets_of_own_chains_are_their_outcomes(folder):
    task = make_task("countdown", wide_share=0.0, **OPTIONS)
    model, _ = load_pretrained(folder, dtype="float32", device="cpu", few_shot=0)
    made = command.own_examples(model, task, 12, seed=0)
    known = ~np.isnan(made.rows.value)
    assert (known.sum(1) == 1).all()
    assert np.isin(made.rows.value[known], (0, 1)).all()
    assert (made.rows.weight.argmax(1) == known.argmax(1) + 1).all(), "the step begins where the state is valued"
    assert set(made.prompts) <= {task.prompt(problem).strip() for problem in task.problems("train")}


def test_random_play_teaches_no_value_at_a_prompt_where_every_prompt_can_be_solved(folder):
    settings = quick(folder, "out")
    model, _ = load_pretrained(folder, dtype="float32", device="cpu", few_shot=0)
    made = command.training_examples(model, make_task("countdown", **OPTIONS), settings, 200)
    assert (np.isfinite(made.rows.value).sum(1) == 1).all(), "a state after a step, and not the prompt before it"
    assert abs(np.nanmean(made.rows.value) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mode=frozen"], "out=FOLDER"),
        (["out=new", "wings=2"], "'wings=2' is no setting"),
        (["out=new", "mode"], "'mode' is no setting"),
        (["out=new", "examples=many"], "examples is of type int"),
        (["out=new", "examples=0"], "must be positive"),
        (["out=new", "own_share=1.5"], "own_share=1.5 must lie in 0..1"),
        (["out=new", "mode=full"], "use one of frozen, lora"),
        (["out=new", "policy_coefficient=0.1"], "set own_share"),
        (["out=.", "dev=5"], "is no checkpoint: name a new folder"),
        (["out=new", "task=chess"], "unknown task 'chess'"),
        (["out=new", "task.wheels=4"], "no option 'wheels'"),
        (["out=new", "model=nowhere"], "policy=nowhere: no such checkpoint folder"),
        (["out=new", "dtype=int3", "model={folder}"], "dtype 'int3' is unknown"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(folder, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert command.main([word.format(folder=folder) for word in words]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "new").exists()


def test_missing_peft_is_named_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert command.main(["out=new", "mode=lora", "model=nowhere"]) == 2
    assert capsys.readouterr().err == "error: mode=lora needs peft: pip install 'reverse-o1[peft]'\n"


def test_the_command_prints_before_and_after(folder, tmp_path, capsys):
    words = ["few_shot=0", "examples=150", "dev=5", "dev_samples=0", *TASK]
    assert command.main([f"out={tmp_path / 'out'}", f"model={folder}", *words]) == 0
    said = capsys.readouterr().out
    assert "dev play: " in said
    assert "AUC 0.500 -> " in said
    assert "controls, AUC: constant 0.500" in said
    assert command.main(["--help"]) == 0
    assert "own_share" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.llm
def test_a_real_model_gets_a_head_that_loads_back(smollm2, tmp_path):
    out = tmp_path / "smollm2"
    told = command.train_value_head(
        Settings(out=str(out), few_shot=1, examples=60, dev=6, dev_samples=0, options=OPTIONS)
    )
    plain, _ = load_pretrained(smollm2, dtype="float32", device="cpu")
    model, tokenizer, extra = load_checkpoint(out)
    assert all(torch.equal(a, b) for a, b in zip(plain.trunk.parameters(), model.trunk.parameters(), strict=True))
    tokens = tokenizer("Question: 3 4 5 = 12\n", return_tensors="pt").input_ids
    other, _ = load_pretrained(out, dtype="float32", device="cpu")
    with torch.no_grad():
        value = model(tokens)[1]
        assert torch.equal(value, other(tokens)[1])
    assert value.std() > 0
    assert extra["value_head"]["play"]["n"] == told["play"]["n"] > 6

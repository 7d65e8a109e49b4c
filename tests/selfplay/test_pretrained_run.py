"""A pretrained model goes through the whole loop: it searches, learns, is saved, and goes on after a stop."""

from __future__ import annotations

import json
import multiprocessing

import pytest
import torch
from transformers import AutoModelForCausalLM

from kit.command import main as console
from models.abilities import PolicyError
from models.files.checkpoint import load_checkpoint
from models.policy import open_policy
from selfplay.run.ledger import Ledger
from selfplay.run.traces import read_shard
from tasks.streams import EFFORTS
from tests.models.test_pretrained import write_folder
from tests.selfplay.free_text import byte_level, small_llama
from tests.selfplay.test_resume import attempt
from tests.selfplay.test_resume import weights as kept
from tests.selfplay.tiny import run

SHORT = ("selfplay.phases=[{teacher: search, iterations: 2, steps: 2}]", "actor.mine=false", "evaluation.every=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model") / "llama")


def weights(checkpoint) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()


@pytest.mark.parametrize("train", ["all", "value", "last:1", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_folder_of_any_causal_lm_searches_and_learns(folder, tmp_path, train):
    root = tmp_path / "run"
    run("model=hf", f"model.path={folder}", f"model.train={train}", f"run_dir={root}", *SHORT)
    summary = json.loads((root / "summary.json").read_text())
    saved = root / summary["checkpoint"] if not str(summary["checkpoint"]).startswith("/") else summary["checkpoint"]
    model, tokenizer, _ = load_checkpoint(saved)
    assert model.tokenizer is tokenizer
    before, last = weights(folder), weights(max((root / "checkpoints").glob("step-*")))
    same = all(torch.equal(before[name], last[name]) for name in before)
    assert same == (train == "value")
    ledger = Ledger(root / "ledger.sqlite")
    assert ledger.last().iteration == 2
    ledger.close()
    assert json.loads((root / "metrics.jsonl").read_text().splitlines()[-1])["generated_tokens"] > 0


def test_the_final_table_has_the_model_that_came_beside_the_one_that_knows_the_form(folder, tmp_path, capsys):
    root = tmp_path / "run"
    phases = "selfplay.phases=[{teacher: random, iterations: 1, steps: 1}, {teacher: search, iterations: 1, steps: 1}]"
    run(
        "model=hf", f"model.path={folder}", f"run_dir={root}", phases, "actor.mine=false", "evaluation.search_tokens=[]"
    )
    test = json.loads((root / "summary.json").read_text())["test"]
    assert test["greedy_base"] == 0.0  # random weights
    assert test["base_examples"] == 3
    shown = capsys.readouterr().out
    assert shown.index("base") < shown.index("before") < shown.index("95 % CI")
    greedy = next(line for line in shown.splitlines() if "greedy, one chain" in line)
    assert len(greedy.replace("greedy, one chain", "").replace(" to ", "-").split("│")[2:-1]) == 4


def test_a_model_that_is_not_there_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    for settings, said in (
        (["model=hf"], "set model.path=FOLDER"),
        (["device=cuda"], "use device=cpu"),
        (["model.train=last"], "use all, value, lora or last:K"),
        (["model=hf", f"model.path={tmp_path / 'nowhere'}"], "no such checkpoint folder"),
    ):
        monkeypatch.setattr(
            "sys.argv", ["reverse-o1", "selfplay", "experiment=tiny", f"run_dir={tmp_path / 'r'}", *settings]
        )
        with pytest.raises(SystemExit) as stopped:
            console()
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert error.count("\n") == 1
        assert said in error
        assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_adapters_go_on_after_a_kill_bit_for_bit(folder, tmp_path):
    settings = ("model=hf", f"model.path={folder}", "model.train=lora", *SHORT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["selfplay.report", "tests.selfplay.tiny"])
    assert attempt(context, whole, False, None, settings)
    calls = int((tmp_path / "whole.calls.txt").read_text())
    assert not attempt(context, killed, False, int(0.8 * calls), settings)
    assert len((killed / "metrics.jsonl").read_text().splitlines()) in (2, 3)  # the first iteration was committed
    assert attempt(context, killed, True, None, settings)
    assert kept(killed).keys() == kept(whole).keys()
    assert all(torch.equal(kept(killed)[name], tensor) for name, tensor in kept(whole).items())


@pytest.fixture
def speaker(tmp_path):
    """A random model whose tokenizer has a token for each word that a stream says."""
    words = ["yes", "no", "stop", "0", "1", "3 * 2 = 6 | 7 6\n", "answer 7 * 5 = 35\n"]
    tokenizer = byte_level(words * 9, 420)
    small_llama(tokenizer).trunk.save_pretrained(tmp_path / "speaker")
    tokenizer.save_pretrained(tmp_path / "speaker")
    return tmp_path / "speaker"


@pytest.mark.slow
def test_it_is_taught_to_think_in_tokens_of_its_own(speaker, tmp_path):
    root = tmp_path / "run"
    phases = "selfplay.phases=[{teacher: random, iterations: 1, steps: 1}, {teacher: stream, iterations: 2, steps: 2}]"
    run("model=hf", f"model.path={speaker}", f"run_dir={root}", phases, "+task.streams=true", "actor.mine=false")
    assert set(json.loads((root / "summary.json").read_text())["thinking"]) >= set(EFFORTS)
    shards = sorted((root / "traces").glob("*traces.parquet"))
    lines = {line for shard in shards for trace in read_shard(shard) for line in trace.steps}
    assert lines & {"yes\n", "no\n", "no stop\n", "no b0\n"}
    assert open_policy(str(root)).task_options["streams"] is True


def test_a_model_without_a_token_for_what_a_stream_says_is_refused_before_the_run(folder, tmp_path):
    with pytest.raises(PolicyError, match="no token of its own for 'yes'"):
        run("model=hf", f"model.path={folder}", f"run_dir={tmp_path / 'run'}", *SHORT, "+task.streams=true")

"""The loop as a user runs it, at toy size: every mode and experiment, what is left on disk, and refusals."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise, product
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.files.checkpoint import load_checkpoint
from selfplay.cli import CONF, hydra_main
from selfplay.config import ConfigError, Phase, ScheduleConfig, SelfplayConfig, check_config
from tests.selfplay.tiny import run

SUMMARY_KEYS = {
    "seconds", "cpu_seconds", "generated_tokens", "trained_tokens", "test", "illegal_rate", "value_auc", "value_ece",
    "checkpoint", "seed", "commit",
}  # fmt: skip
TEST_KEYS = {
    "n",
    "greedy_before",
    "greedy_after",
    "greedy_ci95",
    "sampled_after",
    "best_first",
    "best_of_n",
    "enumeration",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs") / "run"
    run(f"run_dir={root}")
    return root


def lines_of(root) -> list[dict]:
    return [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]


def test_summary_says_what_it_promises(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["test"].keys() >= TEST_KEYS
    assert summary["test"]["n"] == 4
    assert summary["generated_tokens"] > 0
    assert summary["seed"] == 0


def test_metrics_have_a_line_an_iteration_and_rising_totals(finished):
    lines = lines_of(finished)
    assert [line["iteration"] for line in lines] == list(range(6))
    for before, after in pairwise(lines):
        assert after["trained_tokens"] > before["trained_tokens"]
        assert after["generated_tokens"] >= before["generated_tokens"]
        assert after["progress"] > before["progress"]
    measured = [line["dev"] for line in lines if "dev" in line]
    assert all(0 <= dev["greedy_ci95"][0] <= dev["greedy"] <= dev["greedy_ci95"][1] <= 1 for dev in measured)


def test_the_checkpoint_is_a_plain_causal_lm_for_any_program(finished):
    folder = json.loads((finished / "summary.json").read_text())["checkpoint"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ours, _, _ = load_checkpoint(folder)
    ids = tokenizer("<bos> 3 7 12 = 24\n", return_tensors="pt", add_special_tokens=False).input_ids
    assert (model(ids).logits - ours(ids)[0]).abs().max() < 1e-5


def test_traces_are_parquet_with_message_columns(finished):
    shards = sorted((finished / "traces").glob("*.traces.parquet"))
    rows = [row for shard in shards for row in parquet.read_table(shard).to_pylist()]
    assert rows
    assert all(row["prompt"][0]["role"] == "user" and row["completion"][0]["role"] == "assistant" for row in rows)
    assert all(row["rule"] == "selfplay:n_candidates=3" and row["generated_tokens"] > 0 for row in rows)


def test_there_is_a_picture(finished):
    assert (finished / "learning_curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("mode", ["star", "grpo", "hindsight"])
def test_the_controls_are_modes_of_the_same_loop(tmp_path, mode):
    root = tmp_path / mode
    phases = f"selfplay.phases=[{{teacher:random,iterations:1,steps:2}},{{teacher:{mode},iterations:1,steps:2}}]"
    run(f"run_dir={root}", f"selfplay={mode}", phases)
    generated = lines_of(root)[-1]["generated_tokens"]
    assert (generated > 0) == (mode != "hindsight")


@pytest.mark.parametrize(("last", "moved"), [("value", False), ("all", True)])
def test_a_phase_says_what_learns_in_it(tmp_path, last, moved):
    phases = ", ".join(f"{{teacher: hindsight, iterations: 1, steps: 2, train: {part}}}" for part in ("value", last))
    run(f"run_dir={tmp_path / 'run'}", f"selfplay.phases=[{phases}]", "evaluation.every=1")
    first, end = (load_file(tmp_path / f"run/checkpoints/step-{k:06d}/model.safetensors") for k in (0, 2))
    assert any((first[name] != end[name]).any() for name in first) is moved
    tokens = [line["trained_tokens"] for line in lines_of(tmp_path / "run")]
    assert 0 == tokens[0] < tokens[1] < tokens[2]


def test_a_phase_has_settings_of_the_actor_of_its_own(tmp_path):
    phases = "{teacher: star, iterations: 1, steps: 1, actor: {problems: 6}}, {teacher: star, iterations: 1, steps: 1}"
    run(f"run_dir={tmp_path / 'run'}", f"selfplay.phases=[{phases}]", "evaluation.every=9", "actor.mine=false")
    assert [line["actor"]["problems"] for line in lines_of(tmp_path / "run")[1:]] == [6, 4]


@pytest.mark.parametrize(
    ("actor", "said"),
    [
        ({"tokns": 3}, r"phases\[0\].actor=\{'tokns': 3\}: Key 'tokns'"),
        ({"tokens": "many"}, "'many'"),
        ({"tokens": 0}, r"phases\[0\].actor.tokens=0 must be at least 1"),
        ({"advantage": "none"}, r"phases\[0\].actor.advantage='none' is unknown: use one of group, steps"),
    ],
)
def test_a_phase_refuses_settings_that_the_actor_has_not(actor, said):
    phase = Phase(teacher="search", iterations=1, actor=actor)
    with pytest.raises(ConfigError, match=said) as refusal:
        check_config(SelfplayConfig(task={"name": "countdown"}, selfplay=ScheduleConfig(phases=[phase])))
    assert "\n" not in str(refusal.value)


STRATEGIES = {"puct": "puct", "gumbel": "gumbel", "proportional": "unique_merged"}  # by the rule that each is about


@pytest.mark.parametrize("rule", STRATEGIES)
def test_every_rule_and_target_can_teach(tmp_path, rule):
    phases = "selfplay.phases=[{teacher:hindsight,iterations:1,steps:20},{teacher:search,iterations:1,steps:1}]"
    target = {"puct": "visits", "gumbel": "completed_q", "proportional": "shortest"}[rule]
    run(
        f"run_dir={tmp_path / 'run'}",
        f"actor.strategy={STRATEGIES[rule]}",
        f"actor.policy_target={target}",
        "actor.simulations=8",
        phases,
    )
    assert lines_of(tmp_path / "run")[-1]["teacher"] == "search"


def test_playout_caps_and_mining_spend_less(tmp_path):
    phases = "selfplay.phases=[{teacher:search,iterations:1,steps:1}]"
    run(f"run_dir={tmp_path / 'full'}", phases, "actor.mine=false")
    run(f"run_dir={tmp_path / 'capped'}", phases, "actor.mine=false", "actor.full_share=0.0", "actor.cheap_tokens=10")
    full, capped = (lines_of(tmp_path / name)[-1]["generated_tokens"] for name in ("full", "capped"))
    assert 0 < capped < full


NEED_DATA = {"data", "gym", "gym_steps"}  # questions with answers: no random play
EXPERIMENTS = sorted({path.stem for path in (CONF / "experiment").glob("*.yaml")} - NEED_DATA)
# a step of a real model, loaded, trained, measured and saved whole, and streams with searches of 1,000 tokens
MINUTES = {  # the others run in the quick suite, a planning task and a job of streams among them
    "smollm2", "sums", "countdown4_stream", "blocksworld_stream", "countdown5", "countdown4", "chain", "chain_stream",
    "equal_cpu", "blocksworld",
}  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_into_a_run_that_can_start(experiment):
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose(config_name="selfplay", overrides=[f"experiment={experiment}"]))
    assert isinstance(config, SelfplayConfig)
    check_config(config)


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=pytest.mark.slow if name in MINUTES else ()) for name in EXPERIMENTS]
)
def test_every_experiment_runs_one_step(tmp_path, experiment):
    phases = "selfplay.phases=[{teacher:random,iterations:1,steps:1},{teacher:search,generated_tokens:50,steps:1}]"
    run(f"run_dir={tmp_path / 'run'}", phases, experiment=experiment)
    assert math.isfinite(lines_of(tmp_path / "run")[-1]["dev"]["sampled"])


def sums(path: Path, *, steps: bool) -> Path:
    """A file of questions with answers that the vocabulary of its train split can express."""
    lines = []
    for a, b in product(range(10), range(10)):
        given = {"steps": [f"{a} + {b} = {a + b}"]} if steps else {}
        lines.append(json.dumps({"question": f"{a} + {b}", "answer": a + b} | given))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("teacher", ["search", "star", "grpo"])
def test_own_data_teaches_by_given_steps_and_by_scored_answers(tmp_path, teacher, capsys):
    data = sums(tmp_path / "sums.jsonl", steps=True)
    phases = (
        f"selfplay.phases=[{{teacher:given,iterations:2,steps:60}},{{teacher:{teacher},generated_tokens:50,steps:2}}]"
    )
    settings = (
        f"task.path={data}",
        phases,
        "learner.rows=64",
        "learner.warmup_steps=5",
        "actor.mine=false",
        "evaluation.test=9",
    )
    run(f"run_dir={tmp_path / 'run'}", *settings, experiment="data")
    lines = lines_of(tmp_path / "run")
    assert lines[2]["dev"]["greedy"] > lines[0]["dev"]["greedy"]
    assert lines[-1]["actor"]["solved"] > 0
    assert "100 lines, 100 kept" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test"]["judge"] == "gold, after the last token"
    assert 0 <= summary["test"]["guess"]["1"] < summary["test"]["guess"]["8"] <= 1
    assert "search" not in summary["test"]


@pytest.mark.slow
def test_worked_sums_of_the_gym_teach_and_the_value_learns_how_answers_were_scored(tmp_path, capsys):
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: pip install -e '.[gym]'")
    settings = (
        "task.config={min_terms:2,max_terms:3,min_digits:1,max_digits:1}",
        "task.train=300",
        "task.dev=30",
        "task.test=30",
        "selfplay.phases=[{teacher:given,iterations:2,steps:60},{teacher:search,generated_tokens:50,steps:2}]",
        "learner.rows=64",
        "learner.warmup_steps=5",
        "actor.tokens=60",
        "evaluation.test=9",
    )
    run(f"run_dir={tmp_path / 'run'}", *settings, experiment="gym_steps")
    lines = lines_of(tmp_path / "run")
    assert lines[2]["dev"]["greedy"] > lines[0]["dev"]["greedy"]
    assert lines[-1]["actor"]["solved"] > 0
    assert "reasoning-gym chain_sum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fill", "mend"),
    [("given", "take the phase of teacher given out"), ("hindsight", "no legal moves to play (hindsight)")],
)
def test_own_data_without_steps_or_legal_moves_is_told(tmp_path, monkeypatch, capsys, fill, mend):
    settings = (f"task.path={sums(tmp_path / 'sums.jsonl', steps=False)}", f"learner.fill={fill}")
    code, said = command_line(monkeypatch, capsys, "experiment=data", *settings, f"run_dir={tmp_path / 'run'}")
    assert code == 2
    assert mend in said


def test_two_workers_share_the_run(tmp_path):
    run(f"run_dir={tmp_path / 'two'}", "workers=2")
    names = {path.name for path in (tmp_path / "two" / "traces").iterdir()}
    assert {name.split("-")[2].split(".")[0] for name in names} == {"rank0", "rank1"}
    assert len(lines_of(tmp_path / "two")) == 6


REFUSALS = {
    "an unknown task": (["task.name=chess"], "countdown"),
    "an unknown option": (["+task.colour=red"], "colour"),
    "an impossible range": (
        ["task.numbers=2", "task.target_min=98", "task.target_max=99", "task.number_max=5"],
        "target",
    ),
    "no dev problem": (["task.numbers=2", "task.number_max=3", "task.target_min=1", "task.target_max=5"], "dev split"),
    "no test problem": (["task.number_max=3", "task.target_min=10", "task.target_max=20"], "test split"),
    "an unknown strategy": (["actor.strategy=dfs"], "best_first"),
    "a strategy without a tree": (["actor.strategy=greedy"], "grows no tree"),
    "a checkpoint that is not there": (["checkpoint=/nowhere"], "/nowhere"),
    "a resume of nothing": (["resume=/nowhere"], "/nowhere"),
}


def command_line(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["selfplay", "experiment=tiny", *arguments])
    with pytest.raises(SystemExit) as ended:
        hydra_main()
    return ended.value.code, capsys.readouterr().err.strip()


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_input_is_one_line_that_names_the_mend(what, monkeypatch, capsys, tmp_path):
    arguments, names = REFUSALS[what]
    run_dir = [] if any(a.startswith("resume") for a in arguments) else [f"run_dir={tmp_path / 'run'}"]
    code, said = command_line(monkeypatch, capsys, *run_dir, *arguments)
    assert code == 2
    assert said.startswith("error: ")
    assert "\n" not in said
    assert names in said


def test_a_used_run_dir_and_another_config_are_refused(finished, monkeypatch, capsys):
    before = sorted(path.name for path in finished.rglob("*"))
    code, said = command_line(monkeypatch, capsys, f"run_dir={finished}")
    assert (code, "resume=" in said) == (2, True)
    code, said = command_line(monkeypatch, capsys, f"resume={finished}", "learner.rows=64")
    assert (code, "learner.rows" in said) == (2, True)
    assert sorted(path.name for path in finished.rglob("*")) == before


def test_help_shows_every_setting_with_its_comment(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["selfplay", "--help"])
    hydra_main()
    said = capsys.readouterr().out
    for setting in ("seed:", "resume:", "gate_alpha:", "experiment=sliding", "number_max:", "teacher: search"):
        assert setting in said

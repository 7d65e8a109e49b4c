"""The bench of search budgets: rows, report, resume, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import command
from bench.__main__ import main
from bench.budget import report, run
from bench.budget.run import budget_config, measure, prepared
from models.files.calibration import Calibration, ChainFit, ConfidenceFit, write_calibration
from models.files.checkpoint import load_checkpoint, save_checkpoint
from models.policy import SHIPPED, open_policy
from solve.calibrate.fits import CALIBRATED, Ended, fitted, fitted_chains
from solve.types import NEVER

SMALL = budget_config(
    models=["countdown3"],
    strategies=["best_of_n", "best_first", "beam", "enumeration", "guess"],
    blind_strategies=["self_consistency", "best_first"],
    rungs=[1, 2, 4],
    problems=20,
    split="dev",
    workers=1,
)
LEAST = dataclasses.replace(SMALL, strategies=["greedy"], modes=["task"], rungs=[1], axes=["tokens"])
COLUMNS = [
    "task", "model", "strategy", "mode", "budget_tokens", "n", "solved", "ci_low", "ci_high", "tokens", "simulations",
    "seconds", "flops", "seed",
]  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    root = tmp_path_factory.mktemp("budget")
    assert measure(dataclasses.replace(SMALL, run_dir=str(root))) == 0
    return root


def rows(root):
    return pq.read_table(root / "rows.parquet").to_pylist()


def test_a_row_holds_what_was_spent_and_what_it_bought(measured):
    assert pq.read_table(measured / "rows.parquet").column_names[: len(COLUMNS)] == COLUMNS
    found = rows(measured)
    assert len(found) == 7 * 3
    for row in found:
        assert row["n"] == 20
        assert 0 <= row["ci_low"] <= row["solved"] <= row["ci_high"] <= 1
        if row["strategy"] not in ("guess", "enumeration"):
            assert row["tokens"] > 0 < row["flops"]
            assert row["seconds"] > 0 < row["simulations"]


def test_budgets_are_multiples_of_a_greedy_chain_and_are_kept_to(measured):
    cost = prepared(SMALL, "countdown3").chain_tokens
    for row in rows(measured):
        assert row["budget_tokens"] == cost * row["rung"]
        if row["strategy"] == "best_first":  # a step may end past it
            assert row["tokens"] <= row["budget_tokens"] + 10


def test_every_strategy_pays_the_same_for_a_token_computed(measured):
    searched = [row for row in rows(measured) if row["strategy"] not in ("guess", "enumeration")]
    prices = [row["flops"] / (row["tokens"] + row["prefilled"]) for row in searched]
    assert prices == pytest.approx([prices[0]] * len(prices))


def test_a_control_pays_until_it_is_right():
    at = np.array([5, NEVER])
    costs = run._controls(at, 8, np.array([[4], [8]]), seconds=26.0)
    assert costs["solved"].tolist() == [False, False, True, False]
    assert costs["tokens"].tolist() == [4, 4, 5, 8]
    assert costs["seconds"].tolist() == [8.0, 8.0, 10.0, 16.0]
    blind = run._controls(np.array([2, NEVER]), 2, np.array([[4], [8]]), seconds=0.0)
    assert blind["tokens"].tolist() == [2, 2, 2, 2]  # right or not: nobody has said so


def test_with_a_judge_more_budget_never_solves_less(measured):
    by_strategy: dict[str, list[float]] = {}
    for row in rows(measured):
        if row["mode"] == "task" and row["strategy"] != "beam":
            by_strategy.setdefault(row["strategy"], []).append(row["solved"])
    assert all(rates == sorted(rates) for rates in by_strategy.values())
    assert len(by_strategy) == 4


def test_the_two_modes_share_no_table_and_controls_are_named(measured):
    text = (measured / "table.md").read_text()
    judged, blind = text.split("## ")[1:]
    assert "verifier in the loop" in judged.splitlines()[0]
    assert "no verifier" in blind.splitlines()[0]
    assert "self_consistency" not in judged
    assert "guess (control)" in judged
    assert re.search(r"\| best_first \| [+-]\d", judged)  # the paired difference


def test_the_page_needs_nothing_else_and_pictures_are_drawn(measured):
    assert json.loads((measured / "budget.json").read_text())["rows"] == rows(measured)
    page = (measured / "index.html").read_text()
    assert "<svg" in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert (measured / "budget.png").stat().st_size > 10_000
    assert (measured / "budget.svg").stat().st_size > 10_000


def test_a_cell_that_is_there_is_not_measured_again(measured, monkeypatch):
    before = rows(measured)
    monkeypatch.setattr(run, "_measured", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda *_: _Inline())
    assert measure(dataclasses.replace(SMALL, run_dir=str(measured))) == 0
    assert rows(measured) == before


def cells(root):
    return sorted((root / "cells").iterdir())


def test_other_problems_or_weights_into_the_same_folder_are_measured_anew_and_never_mixed(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda *_: _Inline())
    net = tmp_path / "net"
    shutil.copytree(SHIPPED / "countdown3", net)
    config = dataclasses.replace(LEAST, models=[str(net)], run_dir=str(tmp_path))
    assert measure(config) == 0
    assert measure(dataclasses.replace(config, problems=10)) == 0
    assert len(cells(tmp_path)) == 2
    assert {row["n"] for row in rows(tmp_path)} == {10}
    assert measure(config) == 0
    assert len(cells(tmp_path)) == 2
    assert {row["n"] for row in rows(tmp_path)} == {20}
    before = rows(tmp_path)
    model, tokenizer, extra = load_checkpoint(net)
    for weight in model.parameters():
        weight.data.zero_()
    shutil.rmtree(net)
    save_checkpoint(net, model, tokenizer, extra)
    run._PREPARED.clear()
    assert measure(config) == 0
    assert len(cells(tmp_path)) == 3
    assert max(row["solved"] for row in rows(tmp_path)) < max(row["solved"] for row in before)


def test_a_stream_is_a_point_at_the_tokens_that_it_really_used_and_answers_nothing_where_it_is_cut(tmp_path):
    asked = ["think:effort=minimal", "think:effort=high"]
    config = dataclasses.replace(
        SMALL, models=["countdown4think"], modes=["none"], blind_strategies=asked, rungs=[1, 4]
    )
    assert measure(dataclasses.replace(config, axes=["tokens"], run_dir=str(tmp_path))) == 0
    found = {(row["strategy"], row["rung"]): row for row in rows(tmp_path)}
    minimal, high = (found[strategy, 4] for strategy in asked)
    assert minimal["solved"] < high["solved"]
    assert minimal["tokens"] < high["tokens"] < high["budget_tokens"]
    cut = found["think:effort=high", 1]
    assert cut["tokens"] < cut["budget_tokens"] + 12  # the step that a limit falls into is written to its end
    assert cut["solved"] < high["solved"]


def test_two_folders_of_one_name_are_two_models(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda *_: _Inline())
    nets = [tmp_path / run / "step-000088" for run in ("one", "two")]
    for net in nets:
        shutil.copytree(SHIPPED / "countdown3", net)
    write_calibration(nets[1], Calibration(greedy_tokens=16.0))
    config = dataclasses.replace(LEAST, strategies=["greedy", "greedy"], run_dir=str(tmp_path))
    assert measure(dataclasses.replace(config, models=[str(net) for net in nets])) == 0
    assert [row["model"] for row in rows(tmp_path)] == [str(net) for net in nets]
    text = (tmp_path / "table.md").read_text()
    assert "value on, its AUC on dev" in text
    assert "value off, never measured" in text
    assert measure(dataclasses.replace(config, models=[str(nets[0])])) == 0
    assert "step-000088" in {row["model"] for row in rows(tmp_path)}


def test_nothing_to_measure_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda *_: _Inline())
    with pytest.raises(command.UsageError, match="nothing to measure"):
        measure(dataclasses.replace(SMALL, models=["blocksworld5"], modes=["none"], run_dir=str(tmp_path)))


class _Inline:
    """A pool of this process."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def map(self, function, jobs):
        return map(function, jobs)


def test_seeds_are_pooled_in_tables_and_kept_apart_in_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda *_: _Inline())
    config = dataclasses.replace(LEAST, strategies=["best_of_n"], rungs=[1, 4], run_dir=str(tmp_path))
    for seed in (0, 1):
        assert measure(dataclasses.replace(config, seed=seed)) == 0
    assert {row["seed"] for row in rows(tmp_path)} == {0, 1}
    assert "2 seeds" in (tmp_path / "table.md").read_text()
    (line,) = next(iter(report.panels_of(pa.concat_tables(map(pq.read_table, cells(tmp_path)))).values()))
    mean = np.mean([row["solved"] for row in rows(tmp_path) if row["rung"] == 4])
    assert line.rate[-1] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rungs": [0]}, "rungs"),
        ({"problems": 1}, "problems=1"),
        ({"modes": ["oracle"]}, "oracle"),
        ({"split": "train"}, "split=train"),
        ({"workers": -1}, "workers=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"strategies": ["greedy", "bogus"]}, "bogus"),
        ({"baselines": ["typo"]}, "typo"),
        ({"models": ["nowhere"]}, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, word, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda *_: _Inline())
    with pytest.raises((ValueError, RuntimeError), match=word):
        measure(dataclasses.replace(SMALL, run_dir=str(tmp_path), **changes))


# ---------------------------------------------------------------------------------------------- calibration


def test_a_checkpoint_is_not_told_what_test_problems_say(capsys):
    assert main(["calibration", "policy=countdown3", "split=test", "write=yes"]) == 2
    assert "split=test write=yes" in capsys.readouterr().err


def test_what_is_not_a_number_is_null_in_a_file(tmp_path):
    command.save({"a": [math.nan, 1.5], "b": {1: (math.inf, None)}}, str(tmp_path), "told")
    told = {"figures": {}, "a": [None, 1.5], "b": {"1": [None, None]}}
    assert json.loads((tmp_path / "told.json").read_text()) == told


def test_a_checkpoint_learns_how_far_its_value_can_be_trusted(tmp_path):
    import shutil

    folder = tmp_path / "net"
    shutil.copytree(SHIPPED / "countdown3", folder)
    weights = (folder / "model.safetensors").read_bytes()
    settings = [f"policy={folder}", "problems=40", "chains=4", "write=yes", f"run_dir={tmp_path / 'out'}"]
    assert main(["calibration", *settings]) == 0
    told = json.loads((folder / "calibration.json").read_text())
    figures = json.loads((tmp_path / "out" / "calibration.json").read_text())["models"][0]
    assert told["value"]["auc"] == figures["value"]["auc"] > 0.9
    assert told["value"]["auc_ci95"][0] <= told["value"]["auc"] <= told["value"]["auc_ci95"][1]
    known = open_policy(str(folder)).calibration
    assert told["value"]["auc_within"] == known.value_within > 0.9
    assert told["greedy_tokens"] == known.greedy_tokens == figures["greedy_tokens"]
    assert set(told["confidence"]) == set(CALIBRATED)
    assert told["chain"] == figures["chain"]["fit"]
    assert figures["chain"]["auc"] > figures["chain"]["auc_value"] - 0.02
    assert known.chain == ChainFit(**told["chain"])
    assert (folder / "model.safetensors").read_bytes() == weights
    assert "| steps done |" in (tmp_path / "out" / "calibration.md").read_text()
    assert (tmp_path / "out" / "calibration.png").stat().st_size > 5_000


def test_a_fit_gives_back_the_law_that_made_the_outcomes():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.02, 0.98, 20_000)
    law = ConfidenceFit(0.5, 0.7)
    right = rng.random(20_000) < [law.confidence(value) for value in share]
    found = fitted(share, right)
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.offset == pytest.approx(0.7, abs=0.05)


def test_a_fit_of_chains_gives_back_the_law_that_made_the_outcomes():
    rng, count = np.random.default_rng(0), 30_000
    values, ends, logprobs = *rng.uniform(0.05, 0.95, (2, count)), np.log(rng.uniform(0.1, 0.9, count))
    law = ChainFit(1.5, 0.5, -2.0, 0.8)
    right = rng.random(count) < [law.right(*told) for told in zip(values, logprobs, ends, strict=True)]
    found = fitted_chains(Ended(values, logprobs, ends, right, np.ones(count), np.arange(count)))
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(law), abs=0.1)


def test_what_the_head_says_of_finished_chains_weighs_nothing_where_it_is_noise():
    rng, count = np.random.default_rng(1), 30_000
    values, ends, logprobs = *rng.uniform(0.05, 0.95, (2, count)), np.log(rng.uniform(0.1, 0.9, count))
    right = rng.random(count) < values
    assert abs(fitted_chains(Ended(values, logprobs, ends, right, np.ones(count), np.arange(count))).ended) < 0.05


def test_a_problem_of_many_chains_weighs_no_more_in_a_fit_than_one_of_few():
    values, logprobs = np.array([0.2, 0.8, 0.3, 0.7]), np.log([0.5, 0.9, 0.2, 0.6])
    ends = np.array([0.4, 0.6, 0.5, 0.5])
    right, problems = np.array([False, True, True, False]), np.array([0, 0, 1, 1])
    once = fitted_chains(Ended(values, logprobs, ends, right, np.full(4, 0.5), problems))
    again = np.array([0, 1, 2, 3, 2, 3, 2, 3])
    weights = np.array([1 / 2] * 2 + [1 / 6] * 6)
    many = fitted_chains(Ended(values[again], logprobs[again], ends[again], right[again], weights, problems[again]))
    assert dataclasses.astuple(many) == pytest.approx(dataclasses.astuple(once), abs=1e-6)


def test_a_fit_to_one_class_only_stays_finite():
    found = fitted(np.array([0.2, 0.5, 0.9]), np.ones(3, bool))
    assert 0.5 < found.confidence(0.5) <= 1.0

"""Runs are compared pair by pair on the same problems, with an interval over problems and one over seeds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bench.__main__ import main
from kit.statistics import mean_and_half_width
from tests.selfplay.tiny import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two finished runs of the toy task and one of another."""
    root = tmp_path_factory.mktemp("runs")
    run(f"run_dir={root / 'a'}")
    run(f"run_dir={root / 'b'}", "seed=1")
    run(f"run_dir={root / 'other'}", "task.target_max=20")
    return root


def test_a_run_beside_itself_differs_by_nothing(finished, tmp_path, capsys):
    code = main(["compare", f"runs={finished / 'a'}", f"against={finished / 'a'}", "problems=9", f"run_dir={tmp_path}"])
    assert code == 0
    (pair,) = json.loads((tmp_path / "compare.json").read_text())["pairs"]
    assert pair["n"] == 9
    assert pair["sampled"]["mean"] == pair["sampled"]["half_width"] == pair["greedy"]["mean"] == 0
    said = capsys.readouterr().out
    assert "over 1 seeds" in said
    assert f"guessing without a model {100 * pair['guess']:.1f}" in said


def test_pairs_are_turned_round_with_their_sign(finished, tmp_path):
    a, b = finished / "a", finished / "b"
    assert main(["compare", f"runs={a},{b}", f"against={b},{a}", "problems=20", f"run_dir={tmp_path}"]) == 0
    result = json.loads((tmp_path / "compare.json").read_text())
    one, two = (pair["sampled"] for pair in result["pairs"])
    assert one["mean"] == -two["mean"]
    assert one["run"] == two["against"]
    assert result["mean"]["sampled"][0] == 0


def test_curves_are_drawn_of_what_was_measured(finished, tmp_path, capsys):
    picture = tmp_path / "curves.png"
    settings = [f"runs={finished / 'a'}", f"against={finished / 'b'}", f"picture={picture}", f"run_dir={tmp_path}"]
    assert main(["curves", *settings]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    curves = json.loads((tmp_path / "curves.json").read_text())
    lines = [json.loads(line) for line in (finished / "a" / "metrics.jsonl").read_text().splitlines()]
    measured = [[m["generated_tokens"], m["dev"]["greedy"], *m["dev"]["greedy_ci95"]] for m in lines if "dev" in m]
    assert curves[str(finished / "a")] == measured
    assert main(["curves"]) == 2
    assert "curves needs runs=" in capsys.readouterr().err


def test_the_interval_over_seeds_is_students():
    mean, half_width = mean_and_half_width([0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.2)
    assert half_width == pytest.approx(4.303 * 0.1 / math.sqrt(3))
    assert mean_and_half_width([0.1])[1] == math.inf
    many = np.random.default_rng(0).normal(size=50).tolist()
    assert mean_and_half_width(many)[1] == pytest.approx(2.262 * np.std(many, ddof=1) / math.sqrt(50))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "nothing to compare"),
        (["runs=a", "against=a,b"], "1 runs against 2"),
        (["runs={root}", "against={root}"], "no finished run"),
        (["runs={root}/a", "against={root}/other"], "different tasks"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(finished, arguments, word, capsys):
    assert main(["compare", *(argument.format(root=finished) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1

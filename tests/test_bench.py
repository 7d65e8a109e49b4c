"""The benches run end to end at the smallest settings, and refuse a bad command line with one line."""

from __future__ import annotations

import json

import pytest

from bench.__main__ import BENCHES, SHORT, main
from bench.command import UsageError, settings

SMALLEST = {
    "train": ("seconds=0.01", "rows=2", "length=16"),
    "generate": ("leaves=2", "rounds=1", "warmup=1"),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_bench_prints_its_figures_and_writes_them(name, tmp_path, capsys):
    assert main([name, f"run_dir={tmp_path / 'new'}", *SMALLEST[name]]) == 0
    figures = json.loads((tmp_path / "new" / f"{name}.json").read_text())
    assert figures["ratio"] > 0
    assert f"{figures['ratio']:.2f}" in capsys.readouterr().out


def test_the_store_is_measured_beside_its_peers(tmp_path, capsys):
    shape = {"actions": 3, "trees": 2, "simulations": 8}
    assert main(["store", f"run_dir={tmp_path}", "shapes=3x2x8", "largest=1e3", "rounds=1", "turn=0.001"]) == 0
    figures = json.loads((tmp_path / "results.json").read_text())
    rows = {row["engine"]: row for row in figures["rows"]}
    assert {"ours", "ours_gumbel", "mctx_muzero", "mctx_gumbel", "python"} <= set(rows)
    assert all(shape.items() <= row.items() and row["sims_per_s"] > 0 for row in rows.values())
    assert rows["ours"]["ours_over_this"] == 1.0
    assert figures["bytes_per_node"] <= 20
    assert [point["nodes"] for point in figures["growth"]] == [1000]
    assert "python" in capsys.readouterr().out
    assert (tmp_path / "store.png").stat().st_size > 1000


def test_merging_saves_nodes(tmp_path):
    assert main(["merging", f"run_dir={tmp_path}", "problems=20", "nodes=100", "numbers=4"]) == 0
    rows = json.loads((tmp_path / "merging.json").read_text())["rows"]
    assert {row["rule"] for row in rows} == {"puct", "best-first"}
    solved = {row["rule"]: row for row in rows if row.get("nodes") == 100}
    assert all(row["merged"] >= row["tree"] for row in solved.values())
    assert any(row["merged"] > row["tree"] for row in solved.values())


def test_without_a_name_every_bench_runs_at_short_settings(monkeypatch):
    calls = []
    for name, bench in BENCHES.items():
        settings(bench, SHORT[name])  # they are settings of that bench

        def record(
            run_dir: str = "", seconds=1.0, leaves=1, rounds=1, shapes="", largest=1.0, problems=1, nodes=1, name=name
        ):
            calls.append((name, run_dir, seconds, leaves, rounds, shapes, largest, problems, nodes))
            return {}

        monkeypatch.setitem(BENCHES, name, record)
    assert main([]) == 0
    assert calls == [
        ("train", "", 10.0, 1, 1, "", 1.0, 1, 1),
        ("generate", "", 1.0, 128, 2, "", 1.0, 1, 1),
        ("store", "", 1.0, 1, 2, "4x1x256,4x64x256", 1e6, 1, 1),
        ("merging", "", 1.0, 1, 1, "", 1.0, 60, 100),
    ]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nosuch"], "'nosuch'"),
        (["train", "rounds=3"], "rounds"),
        (["train", "20"], "'20'"),
        (["train", "rows=many"], "rows"),
        (["train", "seconds=0"], "seconds"),
        (["train", "length=3"], "length"),
        (["generate", "leaves=1000000000"], "1000000000"),
        (["store", "shapes=4x64"], "4x64"),
        (["store", "shapes=4xax2"], "4xax2"),
    ],
)
def test_a_bad_command_line_is_refused_with_one_line(arguments, word, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error


def test_settings_take_the_type_of_their_default():
    assert settings(BENCHES["train"], ["seconds=2", "rows=3"]) == {"seconds": 2.0, "rows": 3}
    with pytest.raises(UsageError, match="positive"):
        settings(BENCHES["train"], ["seconds=inf"])

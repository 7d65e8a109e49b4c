"""The benches run end to end at the smallest settings, and refuse a bad command line with one line."""

from __future__ import annotations

import functools
import json

import pytest

from bench.__main__ import BENCHES, SHORT, main
from bench.command import UsageError, settings
from tests.models.test_pretrained import write_folder

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


@pytest.mark.slow
def test_the_store_is_measured_beside_its_peers(tmp_path, capsys):
    shape = {"actions": 3, "trees": 2, "simulations": 8}
    assert main(["store", f"run_dir={tmp_path}", "shapes=3x2x8", "largest=1e3", "rounds=1", "turn=0.001"]) == 0
    figures = json.loads((tmp_path / "store.json").read_text())
    rows = {row["engine"]: row for row in figures["rows"]}
    assert {"ours", "ours_gumbel", "mctx_muzero", "mctx_gumbel", "python"} <= set(rows)
    assert all(shape.items() <= row.items() and row["sims_per_s"] > 0 for row in rows.values())
    assert rows["ours"]["ours_over_this"] == 1.0
    assert figures["bytes_per_node"] <= 20
    assert [point["nodes"] for point in figures["growth"]] == [1000]
    assert figures["figures"]["ours_gumbel_3x2x8_sims_per_s"] == rows["ours_gumbel"]["sims_per_s"]
    assert not any(name.startswith(("mctx", "python")) for name in figures["figures"])
    assert "python" in capsys.readouterr().out
    assert (tmp_path / "store.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_engine_is_measured_beside_its_peers(tmp_path, capsys):
    folder = write_folder(tmp_path / "model")
    line = f"model={folder} dtype=float32 leaves=2 depths=1 steps=4 ends=none rounds=1 run_dir={tmp_path / 'out'}"
    assert main(["engine", *line.split(), "methods=ours,per_node,batched,slab,generate_static"]) == 0
    result = json.loads((tmp_path / "out" / "engine.json").read_text())
    assert [row["method"] for row in result["rows"]] == ["ours", "per_node", "batched", "slab", "generate_static"]
    for row in result["rows"]:
        assert (row["leaves"], row["candidates"], row["depth"], row["step_tokens"]) == (2, 4, 1, 4)
        assert row["tokens_per_s"] > 0 < row["cpu_tokens_per_s"]
    assert result["rows"][0]["kv_bytes_per_token"] == 2 * 2 * 32 * 4  # layers, keys and values, width, float32
    assert result["ceilings"]["linears_tokens_per_s_8"] > 0
    assert (tmp_path / "out" / "engine.png").stat().st_size > 1000
    assert "| 2 x 4 | 1 | 4 |" in (tmp_path / "out" / "table.md").read_text()
    assert "| 2 x 4 | 1 | 4 |" in capsys.readouterr().out


def test_merging_saves_nodes(tmp_path):
    assert main(["merging", f"run_dir={tmp_path}", "problems=20", "nodes=100", "numbers=4"]) == 0
    rows = json.loads((tmp_path / "merging.json").read_text())["rows"]
    assert {row["rule"] for row in rows} == {"puct", "best-first"}
    solved = {row["rule"]: row for row in rows if row.get("nodes") == 100}
    assert all(row["merged"] >= row["tree"] for row in solved.values())
    assert any(row["merged"] > row["tree"] for row in solved.values())


@pytest.mark.slow  # a minute of processes that start and compile
def test_acting_is_measured_in_both_types_of_product(tmp_path, capsys):
    assert main(["acting", f"run_dir={tmp_path}", "turns=2", "rounds=1", "problems=4"]) == 0
    result = json.loads((tmp_path / "acting.json").read_text())
    assert list(result["kinds"]) == ["float32", "auto"]
    assert result["figures"]["auto_tokens_per_s"] == result["kinds"]["auto"]["tokens_per_cpu_s"] > 0
    mean, low, high = result["kinds"]["auto"]["over_float32"]
    assert low <= mean <= high
    assert f"auto over float32 {mean:.2f}" in capsys.readouterr().out


@pytest.mark.slow  # four cold processes, the first of which compiles
def test_the_wait_for_a_first_answer_is_measured(tmp_path, capsys):
    assert main(["first_answer", f"run_dir={tmp_path}", "models=countdown3,blocksworld5", "runs=2"]) == 0
    result = json.loads((tmp_path / "first_answer.json").read_text())
    assert list(result["figures"]) == ["countdown3_s", "blocksworld5_s"]
    assert all(0 < min(result["seconds"][name[:-2]]) <= wait for name, wait in result["figures"].items())
    assert "python -m solve task=countdown" in capsys.readouterr().out


@pytest.mark.slow  # a server that starts, and compiles
def test_a_server_under_load_is_measured_beside_the_solver(tmp_path, capsys):
    assert main(["serving", f"run_dir={tmp_path}", "requests=8", "concurrent=4", "turns=2"]) == 0
    result = json.loads((tmp_path / "serving.json").read_text())
    assert [row["way"] for row in result["rows"]] == ["best_first", "think"]
    for row in result["rows"]:
        mean, low, high = row["gain"]
        assert low <= mean <= high
        assert row["alone_ms"]["p50"] <= row["alone_ms"]["p95"]
    assert "requests/s" in capsys.readouterr().out


def test_without_a_name_every_bench_runs_at_short_settings(monkeypatch):
    called = []
    for name, bench in list(BENCHES.items()):
        settings(bench, SHORT[name])  # they are settings of that bench
        monkeypatch.setitem(BENCHES, name, _recorder(name, bench, called))
    assert main([]) == 0
    assert called == [(name, settings(BENCHES[name], SHORT[name])) for name in BENCHES]


def _recorder(name, bench, called):
    @functools.wraps(bench)
    def record(**chosen):
        called.append((name, chosen))
        return {}

    return record


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
        (["engine", "methods=ours,magic"], "magic"),
        (["engine", "leaves=0"], "leaves=0"),
        (["engine", "ends=never"], "never"),
        (["engine", "llama_type=q2"], "q2"),
        (["engine", "model=nowhere"], "nowhere"),
        (["store", "peers=maybe"], "maybe"),
        (["generate", "peers=maybe"], "maybe"),
        (["acting", "before=nowhere"], "before"),
        (["first_answer", "models=countdown4,huge"], "'huge'"),
    ],
)
def test_a_bad_command_line_is_refused_with_one_line(arguments, word, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error


def test_text_in_a_setting_is_text():
    text = "${oc.env:HOME}/null, [1]"
    assert settings(BENCHES["store"], [f"run_dir={text}", "peers=${x}"]) == {"run_dir": text, "peers": "${x}"}


def test_settings_take_the_type_of_their_default():
    assert settings(BENCHES["train"], ["seconds=2", "rows=3"]) == {"seconds": 2.0, "rows": 3}
    with pytest.raises(UsageError, match="positive"):
        settings(BENCHES["train"], ["seconds=inf"])

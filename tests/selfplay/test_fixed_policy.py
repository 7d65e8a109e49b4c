"""A fixed policy, local or on a server, proposes the steps; the net that learns reads them in tokens of its own."""

from __future__ import annotations

import json

import pytest

from kit.command import main as console
from models.policy import open_policy
from selfplay.run.ledger import Ledger
from tests.models.servers import FakeServer
from tests.selfplay.tiny import composed, run
from tests.solve.served import NAME, CountdownModel

SEARCH = ("selfplay.phases=[{teacher: search, iterations: 1, steps: 2}]", "actor.mine=false", "evaluation.every=1")
TASK = ("task.number_max=9", "task.target_max=50", "actor.problems=4", "actor.tokens=60")


def traces(root):
    import pyarrow.parquet as pq

    return [
        row for file in sorted((root / "traces").glob("*.traces.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def test_a_shipped_net_acts_and_another_one_learns(tmp_path):
    root = tmp_path / "run"
    run(*SEARCH, *TASK, "policy=countdown3", "model.hidden_size=16", f"run_dir={root}")
    told = traces(root)
    assert any(trace["solved"] for trace in told)
    assert {trace["model_hash"] for trace in told} == {open_policy("countdown3").version}
    with Ledger(root / "ledger.sqlite") as ledger:
        assert ledger.metrics()[-1]["new_rows"] > 0
    assert json.loads((root / "metrics.jsonl").read_text().splitlines()[-1])["generated_tokens"] > 0


@pytest.mark.parametrize("teacher_kind", ["search", "star"])
def test_a_model_on_a_server_acts_and_a_small_net_learns(tmp_path, teacher_kind):
    root = tmp_path / "run"
    phases = f"selfplay.phases=[{{teacher: {teacher_kind}, iterations: 1, steps: 2}}]"
    with FakeServer(CountdownModel()) as server:
        spec = f"{server.url}/v1@{NAME}"
        run(*TASK, phases, "actor.mine=false", "evaluation.every=1", f"policy={spec}", f"run_dir={root}")
        assert server.calls
    told = traces(root)
    assert {trace["model_hash"] for trace in told} == {spec}
    assert any(trace["solved"] for trace in told)
    with Ledger(root / "ledger.sqlite") as ledger:
        assert ledger.metrics()[-1]["new_rows"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["policy=nowhere"], "no such checkpoint folder"),
        (["policy=http://127.0.0.1:9/v1"], "write http://HOST:PORT/v1@MODEL"),
        (["policy=blocksworld5"], "its tokens are not those of task countdown"),
        (["actor.strategy=best_of_n"], "grows no tree to learn from"),
        (["actor.strategy=nothing"], "unknown strategy"),
    ],
)
def test_a_policy_that_cannot_act_is_refused_before_anything_is_written(settings, said, tmp_path, capsys, monkeypatch):
    line = ["reverse-o1", "selfplay", "experiment=tiny", f"run_dir={tmp_path / 'r'}", *settings]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as stopped:
        console()
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "r").exists()


def test_the_default_run_lets_its_own_net_act():
    assert composed().policy is None

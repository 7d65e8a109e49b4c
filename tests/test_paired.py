"""Two checkouts are compared by what their own benches write, and by nothing else of theirs.

The checkouts are fakes: a folder whose package `bench` writes the figures that a test plants.
"""

from __future__ import annotations

import json
import math

import pytest

from bench import command, paired
from bench.__main__ import BENCHES, main
from bench.command import UsageError
from bench.speed import first_answer
from tasks import make_task


def write_verb(checkout, verb, script):
    """A package that `python -m VERB` runs in a folder."""
    (checkout / verb).mkdir(parents=True)
    (checkout / verb / "__init__.py").touch()
    (checkout / verb / "__main__.py").write_text(f"import json, sys\nfrom pathlib import Path\n{script}\n")
    return checkout


@pytest.fixture
def fake(tmp_path):
    """Makes a checkout whose every bench writes `figures` and leaves a line in the folder's `log`."""

    def make(name, figures):
        script = (
            "name, settings = sys.argv[1], dict(word.split('=', 1) for word in sys.argv[2:])\n"
            f"with open({str(tmp_path / 'log')!r}, 'a') as log:\n    log.write('{name} ' + name + '\\n')\n"
            f"(Path(settings['run_dir']) / (name + '.json')).write_text(json.dumps({{'figures': {figures!r}}}))"
        )
        return write_verb(tmp_path / name, "bench", script)

    return make


def pair(tmp_path, *settings):
    """Rows by figure of a pairing that works, as written."""
    assert main(["paired", f"run_dir={tmp_path / 'out'}", *settings]) == 0
    rows = json.loads((tmp_path / "out" / "paired.json").read_text())["rows"]
    return {row["figure"]: row for row in rows}


def test_a_ratio_above_one_is_better_whatever_the_unit(fake, tmp_path, capsys):
    before = fake("before", {"a_per_s": 10.0, "b_ms": 10.0, "c_bytes": 10.0, "d_ns": 10.0})
    after = fake("after", {"a_per_s": 20.0, "b_ms": 5.0, "c_bytes": 10.0, "d_ns": 40.0})
    rows = pair(tmp_path, f"before={before}", f"after={after}", "what=store", "turns=2")
    assert {name: row["ratio"] for name, row in rows.items()} == pytest.approx(
        {"a_per_s": 2, "b_ms": 2, "c_bytes": 1, "d_ns": 0.25}
    )
    assert [name for name, row in rows.items() if row["loss"]] == ["d_ns"]
    assert rows["b_ms"]["turns"] == {"before": [10, 10], "after": [5, 5]}
    shown = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("store ")}
    assert "2.00  (2.00 to 2.00)" in shown["b_ms"]
    assert [name for name, line in shown.items() if "LOSS" in line] == ["d_ns"]


def test_turns_alternate_behind_one_that_is_not_counted(fake, tmp_path):
    before, after = fake("before", {"a_s": 1.0}), fake("after", {"a_s": 1.0})
    rows = pair(tmp_path, f"before={before}", f"after={after}", "what=store,acting", "turns=2")
    ran = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [side for side, bench in ran if bench == "acting"] == [
        "after",
        "before",
        "before",
        "after",
        "after",
        "before",
    ]
    assert [bench for _, bench in ran] == ["store", "store", "acting", "acting"] * 3
    assert len(rows["a_s"]["turns"]["before"]) == 2


def test_one_turn_is_shown_without_an_interval_and_is_no_loss(fake, tmp_path, capsys):
    before, after = fake("before", {"a_s": 1.0}), fake("after", {"a_s": 2.0})
    rows = pair(tmp_path, f"before={before}", f"after={after}", "what=store", "turns=1")
    assert (rows["a_s"]["ratio"], rows["a_s"]["high"], rows["a_s"]["loss"]) == (0.5, None, False)
    assert "one turn has no interval" in capsys.readouterr().out


def test_figures_that_one_side_lacks_are_named_and_left_out(fake, tmp_path, capsys):
    before, after = fake("before", {"old_s": 1.0, "a_s": 1.0, "b_s": None}), fake("after", {"new_s": 1.0, "a_s": 1.0})
    assert list(pair(tmp_path, f"before={before}", f"after={after}", "what=store", "turns=1")) == ["a_s"]
    assert "without new_s, old_s:" in capsys.readouterr().out


def test_a_loss_needs_its_whole_interval_below_one():
    one, slower, unsure = ([{"a_s": x} for x in values] for values in ([1, 1, 1], [1.1, 1.11, 1.12], [0.9, 1.5, 1.2]))
    assert paired.compared("x", one, slower)[0]["loss"]
    assert not paired.compared("x", one, unsure)[0]["loss"]
    assert not paired.compared("x", slower, one)[0]["loss"]


def test_a_checkout_runs_by_its_own_packages_and_not_by_the_installed_ones(fake, tmp_path):
    checkout = write_verb(tmp_path / "other", "bench", "import mcts\nprint(mcts.WHOSE)")
    (checkout / "mcts").mkdir()
    (checkout / "mcts" / "__init__.py").write_text("WHOSE = 'its own'")
    assert command.python(["-m", "bench"], checkout).stdout == "its own\n"
    assert command.python(["-c", "import bench; print(bench.__file__)"]).stdout.startswith(str(command.CHECKOUT))


def test_short_settings_are_settings_of_the_benches_here():
    for name, line in paired.SHORT.items():
        assert command.settings(BENCHES[name], line)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("sys.exit('error: out of luck')", "out of luck"),
        ("raise ValueError('first line\\nlast line')", "last line"),
        ("sys.exit(3)", "exit code 3"),
        ("pass", "it wrote no store.json"),
        ("run_dir = Path(sys.argv[-1].split('=')[1]); (run_dir / 'store.json').write_text('{')", "nothing to compare"),
        (
            "run_dir = Path(sys.argv[-1].split('=')[1]); (run_dir / 'store.json').write_text('{}')",
            'no mapping "figures"',
        ),
    ],
)
def test_a_bench_that_gives_nothing_to_compare_is_one_line(script, word, fake, tmp_path, capsys):
    before, after = write_verb(tmp_path / "bad", "bench", script), fake("after", {"a_s": 1.0})
    assert main(["paired", f"before={before}", f"after={after}", "what=store", "turns=1"]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert str(before) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["before={after}", "what=magic"], "'magic'"),
        ([], "before= is no folder"),
        (["before={root}/nowhere"], "nowhere is no folder"),
        (["before={root}"], "no package bench"),
        (["before={after}", "after={root}"], "after={root} has no package bench"),
        (["before={other}", "what=store"], "no figure in common"),
        (["before={after}", "turns=0"], "turns must be positive"),
    ],
)
def test_what_cannot_be_paired_is_refused_in_one_line(settings, word, fake, tmp_path, capsys):
    names = {"root": tmp_path, "after": fake("after", {"a_s": 1.0}), "other": fake("other", {"b_s": 1.0})}
    assert main(["paired", f"after={names['after']}", *(setting.format(**names) for setting in settings)]) == 2
    error = capsys.readouterr().err
    assert word.format(**names) in error
    assert error.count("\n") == 1


def test_a_net_is_asked_for_by_its_task_and_a_problem_of_dev():
    line = first_answer.arguments({"name": "countdown", "numbers": 4, "number_max": 9, "wide_number_max": None})
    assert line[:5] == ["-m", "solve", "task=countdown", "task.numbers=4", "task.number_max=9"]
    task = make_task("countdown", numbers=4, number_max=9)
    problem = task.parse_problem(line[5].removeprefix("problem=").strip("'"))
    assert problem.id in {each.id for each in task.problems("dev")}
    assert line[6:] == ["effort=low", "json=true"]


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("print(json.dumps({'answer': None}))", "no answer"),
        ("sys.exit('error: no net')", "error: no net"),
    ],
)
def test_a_wait_that_ends_without_an_answer_is_not_timed(script, word, tmp_path):
    write_verb(tmp_path, "solve", script)
    with pytest.raises(UsageError, match=word):
        first_answer.seconds(["-m", "solve"], tmp_path)


def test_a_wait_that_ends_with_an_answer_is_timed(tmp_path):
    write_verb(tmp_path, "solve", "print(json.dumps({'answer': sys.argv[1]}))")
    assert 0 < first_answer.seconds(["-m", "solve", "42"], tmp_path) < 60


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, "no mapping"),
        ({"figures": [1]}, "no mapping"),
        ({"figures": {"speed": 1.0}}, "'speed' has no unit"),
        ({"figures": {"a_s": True}}, "'a_s' is no number"),
        ({"figures": {"a_s": "1"}}, "'a_s' is no number"),
    ],
)
def test_figures_that_break_the_contract_are_refused(found, word):
    with pytest.raises(UsageError, match=word):
        command.figures(found)


def test_a_result_is_saved_with_figures_and_only_with_good_ones(tmp_path):
    command.save({"a": math.inf}, str(tmp_path), "none")
    assert json.loads((tmp_path / "none.json").read_text()) == {"figures": {}, "a": None}
    with pytest.raises(UsageError, match="no unit"):
        command.save({"figures": {"speed": 1.0}}, str(tmp_path), "bad")
    assert not (tmp_path / "bad.json").exists()


def test_what_was_not_measured_is_no_figure():
    found = {"a_s": 1, "b_s": None, "c_s": math.nan, "d_s": 0.0, "e_s": -1.0, "f_s": math.inf}
    assert command.figures({"figures": found}) == {"a_s": 1}


def test_more_a_second_is_better_and_less_of_anything_else():
    assert command.better("tokens_per_s") == 1
    assert [command.better(f"x{unit}") for unit in ("_s", "_ms", "_us", "_ns", "_bytes")] == [-1] * 5

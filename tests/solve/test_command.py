"""`python -m solve`: a problem, a batch of them, a tree for viewers; and mistakes, each in one line that names the mend."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from solve import cli
from tests.solve.shipped import FOLDER

EASY = "3 7 12 = 15"
ASK = ("task=countdown", f"problem='{EASY}'")
QUICK = "budget.tokens=40"


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """(exit code, stdout, stderr) of `python -m solve` with these arguments; `given` stands on its standard input."""

    def run_command(*arguments: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["solve", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        capfd.readouterr()
        code = 0
        try:
            cli.hydra_main()
        except SystemExit as ended:
            code = ended.code
        return code, *capfd.readouterr()

    return run_command


@pytest.fixture
def refusal(command, tmp_path) -> Callable[..., str]:
    """The one line that a command is refused with; checks that it wrote nothing."""

    def refuse(*arguments: str) -> str:
        before = content(tmp_path)
        code, out, said = command(*arguments)
        assert (code, out) == (2, "")
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        assert content(tmp_path) == before
        return said

    return refuse


def content(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------------------------------------- one problem


def test_a_problem_is_answered_for_a_person(command):
    code, out, said = command(*ASK)
    assert (code, said) == (0, "")
    assert "answer  5 * 3 = 15" in out
    assert "= 15  (accepted by the verifier)" in out
    assert "generated" in out


def test_a_problem_is_answered_without_naming_its_task(command):
    code, out, _ = command(f"problem='{EASY}'", "json=true")
    assert code == 0
    assert json.loads(out)["solved"] is True


def test_what_cannot_be_solved_is_said_to_have_no_answer(command):
    code, out, said = command("task=countdown", "problem='1 1 1 = 50'", QUICK)
    assert (code, said) == (0, "")
    assert "none found" in out
    assert "no chain was accepted" in out


def test_an_answer_for_a_program_is_one_line_of_json(command):
    code, out, said = command(*ASK, "json=true", "verify=none", QUICK)
    assert (code, said) == (0, "")
    (found,) = records(out)
    assert found["problem"].endswith("= 15")
    assert found["solved"] is None
    assert 0.0 <= found["confidence"] <= 1.0
    assert found["cost"]["generated_tokens"] > 0


def test_help_shows_every_setting(command):
    code, out, said = command("--help")
    assert (code, said) == (0, "")
    assert "strategy: best_first" in out
    assert "## task=countdown" in out


# ---------------------------------------------------------------------------------------------- a tree


@pytest.mark.parametrize("strategy", ["best_first", "unique", "graph"])
def test_a_tree_is_saved_whole(command, tmp_path, strategy):
    file = tmp_path / "tree.json"
    code, _, said = command(*ASK, f"strategy={strategy}", "verify=none", "budget.tokens=200", f"tree={file}")
    assert (code, said) == (0, "")
    assert list(tmp_path.iterdir()) == [file]
    tree = json.loads(file.read_text())
    nodes, edges = tree["nodes"], tree["edges"]
    assert edges
    assert all(0 <= edge[end] < len(nodes) for edge in edges for end in ("from", "to"))
    assert {edge["to"] for edge in edges} | {0} == set(range(len(nodes)))  # every node is reached, and the root given
    assert sum(edge["prior"] for edge in edges if edge["from"] == 0) <= 1.000001
    assert nodes[0]["depth"] == 0
    assert all(nodes[edge["to"]]["depth"] <= nodes[edge["from"]]["depth"] + 1 for edge in edges)
    assert not any(nodes[edge["from"]]["terminal"] for edge in edges)
    assert sum(edge["tokens"] for edge in edges) <= tree["generated_tokens"]


# ---------------------------------------------------------------------------------------------- batches


def test_standard_input_is_a_problem_a_line(command):
    code, out, said = command("task=countdown", "problem=-", "json=true", QUICK, given=f"{EASY}\n\n2 3 5 = 25\n")
    assert (code, said) == (0, "")
    assert [(found["id"], found["asked"]) for found in records(out)] == [("1", EASY), ("3", "2 3 5 = 25")]


def test_a_batch_answers_around_its_bad_lines_and_is_gone_on_with(command, tmp_path):
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    lines = ['{"problem": "3 7 12 = 15", "id": "mine"}', "oops", '{"problem": "x"}', '"2 3 5 = 25"', '"1 2 3 4 = 10"']
    file.write_text("\n".join(lines) + "\n")
    ask = ("task=countdown", f"file={file}", f"out={out}", "batch=2", QUICK)

    code, told, said = command(*ask)
    assert code == 1
    assert told.startswith("2 answered, 0 were before, 3 could not be asked")
    assert said.count("\n") == 3
    assert all(line.startswith("error: ") for line in said.splitlines())
    found = {record["id"]: record for record in records(out.read_text())}
    assert found["mine"]["solved"] is True
    assert {name for name, record in found.items() if "error" in record} == {"2", "3", "5"}

    first = [line for line in out.read_text().splitlines() if "error" not in json.loads(line)]
    code, told, _ = command(*ask)
    assert code == 1
    assert told.startswith("0 answered, 2 were before, 3 could not be asked")
    assert [line for line in out.read_text().splitlines() if "error" not in json.loads(line)] == first

    lines[1] = '"5 6 4 = 26"'
    file.write_text("\n".join([*lines[:2], lines[3]]) + "\n")
    code, told, said = command(*ask)
    assert (code, said) == (0, "")
    assert told.startswith("2 answered, 1 were before, 0 could not be asked")  # line 3 asks another problem now


def test_a_batch_of_bad_lines_alone_is_refused_as_a_whole(refusal, tmp_path):
    (tmp_path / "problems.jsonl").write_text('{"problem": "x"}\n')
    assert "'x' is not a problem" in refusal("task=countdown", f"file={tmp_path / 'problems.jsonl'}")


def test_a_shared_budget_answers_the_whole_batch_at_once(command, tmp_path):
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(f'"{problem}"\n' for problem in (EASY, "2 3 5 = 25", "1 1 1 = 50")))
    ask = ("task=countdown", f"file={file}", "share=uncertain", "batch=1", "json=true", QUICK)
    code, out, said = command(*ask)
    assert (code, said) == (0, "")
    assert [found["solved"] for found in records(out)] == [True, True, False]


# ---------------------------------------------------------------------------------------------- mistakes

TASK = "task=countdown"
MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "no equation": ((TASK, "problem='3 7 12'"), "as in '3 7 12 = 24'"),
    "a number too large": ((TASK, "problem='3 7 1000 = 24'"), "write plain digits, or raise cap"),
    "a size that none reads": ((TASK, "problem='1 2 3 4 5 6 = 30'"), "give checkpoint=FOLDER"),
    "options that none has": ((*ASK, "task.cap=50"), "give checkpoint=FOLDER"),
    "strategy": ((*ASK, "strategy=luck"), "use one of greedy"),
    "setting of a strategy": ((*ASK, "strategy='best_of_n:heat=1'"), "use one of temperature"),
    "value of a setting": ((*ASK, "strategy='best_of_n:temperature=-1'"), "a temperature is 0 or more"),
    "effort": ((*ASK, "effort=heroic"), "use one of low, medium, high"),
    "verify": ((*ASK, "verify=gold"), "use task or none"),
    "choose": ((*ASK, "choose=luck"), "use one of votes"),
    "share": ((*ASK, "share=fair"), "use one of none, uniform, uncertain"),
    "no tokens": ((*ASK, "budget.tokens=0"), "give more than 0"),
    "too few tokens": ((*ASK, "budget.tokens=1"), "or more"),
    "tokens of another type": ((*ASK, "budget.tokens=many"), "python -m solve --help"),
    "a setting without its group": ((*ASK, "tokens=300"), "did you mean budget.tokens?"),
    "no such setting": ((*ASK, "budgte.tokens=9"), "python -m solve --help"),
    "no such task": (("task=chess", "problem='e4'"), "Available options in 'task'"),
    "nothing to answer": ((TASK,), "give problem='...'"),
    "two things to answer": ((*ASK, "file=x.jsonl"), "give problem='...'"),
    "no such file": ((TASK, "file=nowhere.jsonl"), "no such file"),
    "batch of none": ((*ASK, "batch=0"), "at least one problem at once"),
    "tree into a missing folder": ((*ASK, "tree=nowhere/tree.json"), "make it first"),
    "tree that is a folder": ((*ASK, f"tree={FOLDER}"), "name a file"),
    "checkpoint of another task": (("task=sliding", "problem='x'", f"checkpoint={FOLDER}"), "give one of task sliding"),
    "no such checkpoint": ((*ASK, "checkpoint=nowhere"), "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_mend(mistake, refusal):
    arguments, mend = MISTAKES[mistake]
    assert mend in refusal(*arguments)


def test_a_strategy_that_grows_no_tree_saves_none(refusal, tmp_path):
    assert "use one such as best_first" in refusal(*ASK, "strategy=greedy", f"tree={tmp_path / 'tree.json'}")


def test_a_file_of_something_else_is_not_written_over(refusal, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "problems.jsonl").write_text(f'"{EASY}"\n')
    said = refusal(TASK, f"file={tmp_path / 'problems.jsonl'}", f"out={tmp_path / 'thesis.txt'}")
    assert "name another file" in said

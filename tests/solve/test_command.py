"""`python -m solve`: a problem, a batch of them, a tree for viewers; and mistakes, each in one line that names the mend."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from solve import Solver
from solve.cli import main
from tests.solve.shipped import FOLDER, task

EASY = "3 7 12 = 15"
ASK = ("task=countdown", f"problem='{EASY}'")
QUICK = "budget.tokens=40"
LONGEST_STEP = task().max_step_tokens  # of three numbers, too few tokens for a step of five


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """(exit code, stdout, stderr) of `python -m solve` with these arguments; `given` stands on its standard input."""

    def run_command(*arguments: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["solve", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        capfd.readouterr()
        code = 0
        try:
            main.hydra_main()
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


def test_checkpoint_is_an_alias_that_says_so(command):
    code, out, said = command(*ASK, f"checkpoint={FOLDER}")
    assert code == 0
    assert "answer" in out
    assert said == "note: checkpoint= is an alias of policy=\n"
    code, _, said = command(*ASK, f"checkpoint={FOLDER}", "policy=countdown3")
    assert code == 2
    assert said == "error: policy= and checkpoint= name the same thing: give policy= alone\n"


def test_help_shows_every_setting(command):
    code, out, said = command("--help")
    assert (code, said) == (0, "")
    assert "strategy: null " in out
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
    lines = [
        '{"problem": "3 7 12 = 15", "id": "mine"}',
        "oops",
        '{"problem": "x"}',
        '"2 3 5 = 25"',
        '"1 2 3 4 5 6 = 10"',
    ]
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


def test_each_line_is_answered_by_the_shipped_net_that_reads_it_in_the_order_of_the_lines(command):
    asked = [EASY, "2 4 7 9 = 16", "2 3 5 = 25"]
    code, out, said = command("task=countdown", "problem=-", "json=true", given="\n".join(asked))
    assert (code, said) == (0, "")
    assert [(found["asked"], found["solved"]) for found in records(out)] == [(text, True) for text in asked]


def test_what_one_net_cannot_answer_harms_no_line_of_another(command, tmp_path):
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    file.write_text(f'"{EASY}"\n"1 2 3 4 5 = 15"\n')
    code, told, said = command(TASK, f"file={file}", f"out={out}", f"budget.tokens={LONGEST_STEP}")
    assert code == 1
    assert told.startswith("1 answered, 0 were before, 1 could not be asked")
    assert "2: budget.tokens" in said
    assert "error" not in records(out.read_text())[1]


def test_an_interrupted_batch_says_what_is_left(command, tmp_path, monkeypatch):
    class Once:
        """Ctrl-C comes while the second part is searched."""

        def __init__(self):
            self.asked = 0

        def __enter__(self):
            return lambda: self.asked > 1

        def __exit__(self, *_):
            return None

    once, solved = Once(), Solver.solve
    monkeypatch.setattr(main, "interruptible", lambda: once)

    def counted(solver, problems, **named):
        once.asked += bool(problems)  # of no problems the settings alone are checked
        return solved(solver, problems, **named)

    monkeypatch.setattr(Solver, "solve", counted)
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    file.write_text("".join(f'"{problem}"\n' for problem in (EASY, "2 3 5 = 25", "5 6 4 = 26")))
    ask = (TASK, f"file={file}", "batch=1", QUICK)
    code, told, said = command(*ask, f"out={out}")
    assert (code, said) == (0, "")
    assert told.startswith("1 answered, 0 were before, 0 could not be asked")
    assert told.endswith("; 2 are left, the same command goes on\n")
    once.asked = 0
    code, told, said = command(*ask, "json=true")
    assert (code, len(records(told)), said) == (0, 2, "stopped: 1 of 3 problems were not asked\n")


OTHER_WAYS = {
    "strategy": ("strategy=best_of_n",),
    "judge": ("verify=none",),
    "seed": ("seed=1",),
    "limit": ("budget.tokens=41",),
    "net": (f"policy={FOLDER}",),
}


@pytest.mark.parametrize("other", OTHER_WAYS)
def test_answers_to_other_settings_are_not_kept_as_these(other, command, refusal, tmp_path):
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    file.write_text(f'"{EASY}"\n')
    ask = (TASK, f"file={file}", f"out={out}", QUICK)
    assert command(*ask)[::2] == (0, "")
    before = out.read_text()
    assert command(*ask, "strategy=best_first")[1].startswith("0 answered, 1 were before")
    said = refusal(*ask, *OTHER_WAYS[other])
    assert f"out={out} holds answers by " in said
    assert "name another file, or ask as before" in said
    assert out.read_text() == before


def test_answers_that_do_not_say_how_they_were_found_are_kept_with_a_note(command, tmp_path):
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    file.write_text(f'"{EASY}"\n')
    ask = (TASK, f"file={file}", f"out={out}", QUICK)
    command(*ask)
    record = json.loads(out.read_text())
    out.write_text(json.dumps({name: value for name, value in record.items() if name not in ("how", "check")}) + "\n")
    _, told, said = command(*ask)
    assert told.startswith("0 answered, 1 were before")
    assert said == f"note: 1 answers of {out} do not say how they were found\n"


def test_nothing_in_nothing_out(command, tmp_path):
    (tmp_path / "problems.jsonl").write_text("\n\n")
    said = "no problems were given\n"
    assert command(TASK, f"file={tmp_path / 'problems.jsonl'}") == (0, "", said)
    assert command(TASK, "problem=-") == (0, "", said)


def test_bytes_that_are_no_text_and_a_byte_order_mark_harm_no_line(command, tmp_path):
    file = tmp_path / "problems.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + f'"{EASY}"\n'.encode() + b'"3 7 \xff12 = 15"\n')
    code, out, said = command(TASK, f"file={file}", "json=true", QUICK)
    first, second = sorted(records(out), key=lambda found: found["id"])
    assert (code, first["solved"]) == (1, True)
    assert "line 2: not UTF-8" in said
    assert "line 2: not UTF-8" in second["error"]


def test_an_answer_is_told_even_where_its_tree_cannot_be_saved(command, tmp_path, monkeypatch):
    monkeypatch.setattr("solve.cli.tree_file.MOST_NODES", 1)
    tree = f"tree={tmp_path / 'tree.json'}"
    code, out, said = command(*ASK, tree)
    assert code == 2
    assert "answer  5 * 3 = 15" in out
    assert "save one of a smaller budget" in said
    code, out, said = command(TASK, "problem=-", "json=true", tree, given=f"{EASY}\n2 3 5 = 25\n")
    assert (code, len(records(out)), said.count("error: ")) == (1, 2, 1)


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
    "commas between numbers": ((TASK, "problem='3,7,8,8 = 24'"), "write plain digits, blanks between numbers"),
    "a size that none reads": ((TASK, "problem='1 2 3 4 5 6 = 30'"), "give policy=FOLDER"),
    "options that none has": ((*ASK, "task.cap=50"), "give policy=FOLDER"),
    "strategy": ((*ASK, "strategy=luck"), "use one of greedy"),
    "setting of a strategy": ((*ASK, "strategy='best_of_n:heat=1'"), "use one of temperature"),
    "value of a setting": ((*ASK, "strategy='best_of_n:temperature=-1'"), "a temperature is 0 for greedy decoding"),
    "effort": ((*ASK, "effort=heroic"), "use one of none, minimal, low, medium, high"),
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
    "two things to answer": ((*ASK, "file=x.jsonl"), "not both"),
    "a folder for a file": ((TASK, f"file={FOLDER}"), "a folder"),
    "out of one problem": ((*ASK, "out=x.jsonl"), "file=FILE.jsonl or problem=-"),
    "no verify": ((*ASK, "verify=''"), "use task or none"),
    "more tokens than can be counted": ((*ASK, "budget.tokens=99999999999999999999999"), "null for no limit"),
    "more simulations than can be counted": ((*ASK, "budget.simulations=9999999999"), "null for no limit"),
    "too many candidates": ((*ASK, "strategy='puct:n_candidates=100000'"), "1 to 1024"),
    "too wide a beam": ((*ASK, "strategy='beam:width=1000000000'"), "1 to 1024"),
    "a temperature that is no number soon": ((*ASK, "strategy='best_of_n:temperature=1e-40'"), "0.001 or more"),
    "a discount that grows": ((*ASK, "strategy='puct:discount=5'"), "0..1"),
    "a weight below nothing": ((*ASK, "strategy='best_first:lam=-1'"), "at least 0"),
    "a setting that is not quoted": ((*ASK, "strategy=best_of_n:temperature=.5"), "quote"),
    "no such file": ((TASK, "file=nowhere.jsonl"), "no such file"),
    "batch of none": ((*ASK, "batch=0"), "at least one problem at once"),
    "tree into a missing folder": ((*ASK, "tree=nowhere/tree.json"), "make it first"),
    "tree that is a folder": ((*ASK, f"tree={FOLDER}"), "name a file"),
    "checkpoint of another task": (("task=sliding", "problem='x'", f"policy={FOLDER}"), "give one of task sliding"),
    "no such checkpoint": ((*ASK, "policy=nowhere"), "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_mend(mistake, refusal):
    arguments, mend = MISTAKES[mistake]
    assert mend in refusal(*arguments)


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "${x}", "${", "\\${x}", "${problem}"])
def test_what_people_write_is_never_interpolated(text, command, refusal, tmp_path):
    assert f"{text!r} is not a problem" in refusal(TASK, f"problem='{text}'")
    assert f"file={tmp_path}/{text}.jsonl: no such file" in refusal(TASK, f"file='{tmp_path}/{text}.jsonl'")
    assert command(*ASK, f"tree='{tmp_path}/{text}.json'")[::2] == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == [f"{text}.json"]


def test_a_strategy_that_grows_no_tree_saves_none(refusal, tmp_path):
    tree = f"tree={tmp_path / 'tree.json'}"
    assert "use one such as best_first" in refusal(*ASK, "strategy=greedy", tree)
    (tmp_path / "problems.jsonl").write_text(f'"{EASY}"\n')
    assert "use one such as best_first" in refusal(TASK, f"file={tmp_path / 'problems.jsonl'}", "strategy=beam", tree)


def test_a_file_of_something_else_is_not_written_over(refusal, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "problems.jsonl").write_text(f'"{EASY}"\n')
    said = refusal(TASK, f"file={tmp_path / 'problems.jsonl'}", f"out={tmp_path / 'thesis.txt'}")
    assert "name another file" in said

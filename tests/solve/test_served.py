"""`policy=http://HOST/v1@MODEL`: a model on a server answers through the same door; what it cannot do is said in one line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bench import command as bench_command
from bench.budget import calibration
from models.remote.client import Limits
from solve.cli import main
from solve.plan import Solution
from solve.solver import Solver
from solve.types import SolveError
from tests.models.servers import Call, FakeServer, Reply, closed_port
from tests.solve.served import KEY, NAME, CountdownModel, countdown

TASK = "task=countdown"
HARD = "2 12 8 = 22"  # the greedy chain misses it, other chains of this model do not
ASK = (TASK, f"problem='{HARD}'")
STRATEGIES = ("greedy", "best_of_n", "self_consistency", "unique", "puct", "beam", "best_first")
ALIKE = ("greedy", "best_of_n", "self_consistency", "unique", "puct")  # what needs no log-probabilities


def at(server: FakeServer, model: str = NAME) -> str:
    return f"policy={server.url}/v1@{model}"


@pytest.fixture(scope="module")
def model() -> CountdownModel:
    return CountdownModel()


@pytest.fixture(scope="module")
def server(model) -> Iterator[FakeServer]:
    with FakeServer(model) as fake:
        yield fake


@pytest.fixture(scope="module")
def solver(server) -> Solver:
    return Solver(f"{server.url}/v1@{NAME}", task="countdown")


@pytest.fixture(scope="module")
def problems():
    return countdown().problems("dev", 6)


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """(exit code, stdout, stderr) of `python -m solve` with these arguments."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["solve", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        capfd.readouterr()
        code = 0
        try:
            main.hydra_main()
        except SystemExit as ended:
            code = ended.code
        return code, *capfd.readouterr()

    return run_command


@pytest.fixture
def refusal(command) -> Callable[..., str]:
    """The one line that a command is refused with."""

    def refuse(*arguments: str) -> str:
        code, out, said = command(*arguments)
        assert (code, out) == (2, "")
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said

    return refuse


@pytest.fixture
def impatient(monkeypatch) -> None:
    """No waits between attempts."""
    monkeypatch.setattr("models.remote.client.Limits", partial(Limits, backoff_seconds=0.0))


def timeless(solutions: list[Solution]) -> list[Solution]:
    return [replace(found, cost=replace(found.cost, seconds=0.0)) for found in solutions]


# ---- answers


@pytest.mark.parametrize("verify", ["task", "none"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_and_its_bill_is_what_the_server_generated(solver, model, problems, strategy, verify):
    before = model.generated
    found = solver.solve(problems, strategy=strategy, verify=verify)
    assert sum(one.cost.generated_tokens for one in found) == model.generated - before > 0
    for one, problem in zip(found, problems, strict=True):
        assert one.cost.flops is None
        assert one.value_trusted is False
        assert one.solved is (None if verify == "none" else one.answer is not None)
        if one.solved:
            assert countdown().verdict(problem, one.steps).reward == 1
        if verify == "none" and one.answer is not None:
            assert (one.answer, one.calibrated) == (countdown().answer(problem, one.steps), False)
        assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["cost"]["flops"] is None
    assert any(one.answer is not None for one in found)


@pytest.mark.parametrize("strategy", ["best_of_n", "puct", "best_first"])
def test_an_answer_is_found_again_whatever_else_is_asked(solver, problems, strategy):
    together = timeless(solver.solve(problems, strategy=strategy, effort="minimal"))
    assert timeless(solver.solve(problems, strategy=strategy, effort="minimal")) == together
    for one, problem in zip(together, problems, strict=True):
        (alone,) = solver.solve([problem], strategy=strategy, effort="minimal")
        assert (alone.answer, alone.steps) == (one.answer, one.steps)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "greedy"])
@pytest.mark.parametrize("verify", ["task", "none"])
def test_without_effort_every_strategy_is_the_greedy_chain_and_costs_no_more(solver, problems, strategy, verify):
    ask = partial(solver.solve, problems, effort="none", verify=verify)
    for one, greedy in zip(ask(strategy=strategy), ask(strategy="greedy"), strict=True):
        assert (one.answer, one.steps, one.solved) == (greedy.answer, greedy.steps, greedy.solved)
        assert one.cost.generated_tokens == greedy.cost.generated_tokens


@pytest.mark.parametrize("strategy", ["best_of_n", "best_first", "beam"])
def test_an_effort_is_told_in_a_problem_s_own_greedy_chain(solver, problems, strategy):
    units = [one.cost.generated_tokens for one in solver.solve(problems, strategy="greedy")]
    for effort, chains in (("minimal", 2), ("low", 8)):
        for one, unit in zip(solver.solve(problems, strategy=strategy, effort=effort), units, strict=True):
            if one.stopped == "budget":
                assert one.cost.generated_tokens >= chains * unit
            if one.stopped == "solved" and one.cost.generated_tokens == unit:
                assert one.chains == 1  # the greedy chain is the answer where the judge accepts it


def test_the_search_goes_on_where_the_greedy_chain_is_refused(command, server):
    code, out, _ = command(at(server), *ASK, "strategy=greedy", "json=true")
    assert (code, json.loads(out)["solved"]) == (0, False)
    code, out, said = command(at(server), *ASK)
    assert (code, said) == (0, "")
    assert "= 22  (accepted by the verifier)" in out
    assert "search  best_first, verify=task, value off" in out
    assert "FLOP" not in out


def test_an_answer_for_a_program_leaves_open_what_nobody_knows(command, server):
    code, out, said = command(at(server), *ASK, "verify=none", "json=true", "strategy=self_consistency")
    assert (code, said) == (0, "")
    found = json.loads(out)
    assert found["cost"]["flops"] is None
    assert (found["solved"], found["calibrated"], found["value_trusted"]) == (None, False, False)


def test_a_tree_is_saved_whole(command, server, tmp_path):
    file = tmp_path / "tree.json"
    code, _, said = command(at(server), *ASK, "strategy=puct", "verify=none", f"tree={file}")
    assert (code, said) == (0, "")
    tree = json.loads(file.read_text())
    assert tree["prompt"].endswith("= 22")
    assert {edge["to"] for edge in tree["edges"]} | {0} == set(range(len(tree["nodes"])))
    assert 0 < sum(edge["tokens"] for edge in tree["edges"]) <= tree["generated_tokens"]


def test_a_batch_is_answered_around_its_bad_lines_and_gone_on_with(command, server, tmp_path):
    (tmp_path / "problems.jsonl").write_text(f'"{HARD}"\noops\n"3 7 12 = 15"\n')
    ask = (at(server), TASK, f"file={tmp_path / 'problems.jsonl'}", f"out={tmp_path / 'answers.jsonl'}", "batch=1")
    code, out, said = command(*ask)
    assert (code, said.count("\n")) == (1, 1)
    assert out.startswith("2 answered, 0 were before, 1 could not be asked")
    asked = len(server.calls)
    assert command(*ask)[1].startswith("0 answered, 2 were before, 1 could not be asked")
    assert len(server.calls) <= asked + 2  # of the probe: no problem is asked again


def test_a_server_that_goes_away_leaves_what_was_answered_before(command, impatient, tmp_path):
    model = CountdownModel()
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    file.write_text('"3 7 12 = 15"\n"2 9 11 = 20"\n')

    def dying(call: Call) -> dict | Reply:
        return Reply(b"", status=500) if "2 9 11 = 20" in call.body["prompt"] else model(call)

    ask = (TASK, f"file={file}", f"out={out}", "batch=1")
    with FakeServer(dying) as server:
        code, _, said = command(at(server), *ask)
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert [json.loads(line)["asked"] for line in out.read_text().splitlines()] == ["3 7 12 = 15"]
    with FakeServer(model) as server:
        code, told, said = command(at(server), *ask)
    assert (code, said) == (0, "")
    assert told.startswith("1 answered, 1 were before")


@pytest.mark.parametrize("strategy", ["best_of_n", "best_first", "beam"])
@pytest.mark.parametrize("limit", ["effort=minimal", "budget.tokens=60"])
def test_a_refused_prompt_is_a_line_s_error_and_loses_no_other_answer(command, tmp_path, strategy, limit):
    model = CountdownModel()
    file, out = tmp_path / "problems.jsonl", tmp_path / "answers.jsonl"
    file.write_text('"3 7 12 = 15"\n"2 9 11 = 20"\n"2 12 8 = 22"\n')

    def picky(call: Call) -> dict | Reply:
        long = "2 9 11 = 20" in call.body["prompt"]
        return Reply({"error": {"message": "prompt too long"}}, status=400) if long else model(call)

    with FakeServer(picky) as server:
        ask = (at(server), TASK, f"file={file}", f"out={out}", f"strategy={strategy}", limit)
        for answered in (2, 0):
            code, told, said = command(*ask)
            assert (code, said.count("\n")) == (1, 1)
            assert said.startswith("error: ")
            assert "the policy gave no step" in said
            assert "HTTP 400 prompt too long: check the name of the model, or shorten the prompt" in said
            assert told.startswith(f"{answered} answered, {2 - answered} were before, 1 could not be asked")
        code, told, said = command(at(server), TASK, "problem='2 9 11 = 20'", f"strategy={strategy}", limit)
        assert (code, told, said.count("\n")) == (2, "", 1)
        assert "HTTP 400 prompt too long" in said
    filed = {line["asked"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert [name for name, line in filed.items() if "error" in line] == ["2 9 11 = 20"]


def test_requests_that_fail_midway_are_told_in_one_line_beside_the_answer(command):
    model = CountdownModel()

    def picky(call: Call) -> dict | Reply:
        asked = call.body["prompt"].rpartition("22\n")[2]
        return Reply(b"no", status=400) if asked.startswith(("2 + 8", "8 + 2")) else model(call)

    with FakeServer(picky) as server:
        code, out, said = command(at(server), *ASK, "budget.tokens=600", "verify=none", "strategy=best_first")
    assert code == 0
    assert "answer  " in out
    assert said.startswith("note: ")
    assert said.count("\n") == 1


def test_best_first_solves_what_independent_samples_solve_at_the_same_price(solver):
    problems = countdown().problems("dev", 40)
    solved = {}
    for strategy in ("best_of_n", "best_first"):
        found = solver.solve(problems, strategy=strategy, tokens=600)
        assert all(one.stopped in ("solved", "budget") for one in found)  # nothing is given up while there is mass
        solved[strategy] = sum(one.solved is True for one in found)
    assert solved["best_first"] >= solved["best_of_n"] > 0


@pytest.mark.parametrize("strategy", ALIKE)
def test_a_server_without_logprobs_serves_what_needs_none(problems, strategy):
    model = CountdownModel(with_logprobs=False, with_n=False)
    with FakeServer(model) as server:
        found = Solver(f"{server.url}/v1@{NAME}", task="countdown").solve(problems, strategy=strategy, verify="none")
    assert all(one.cost.generated_tokens > 0 for one in found)
    assert any(one.answer is not None for one in found)
    json.dumps([one.to_dict() for one in found], allow_nan=False)


def test_the_key_of_the_environment_opens_a_server_and_is_shown_nowhere(command, monkeypatch):
    with FakeServer(CountdownModel(key=KEY)) as server:
        monkeypatch.setenv("REVERSE_O1_API_KEY", KEY)
        code, out, said = command(at(server), *ASK, "effort=none", "json=true")
        assert (code, said) == (0, "")
        assert KEY not in out
        code, _, said = command(at(server, "other"), *ASK)
        assert code == 2
        assert KEY not in said


# ---- what is refused


@pytest.mark.parametrize("strategy", ["weighted_vote", "phs"])
def test_a_strategy_of_values_is_refused_with_one_that_can_be_served(solver, problems, strategy):
    with pytest.raises(SolveError) as caught:
        solver.solve(problems, strategy=strategy)
    said, _, instead = str(caught.value).partition(": use ")
    assert said == f"strategy {strategy} cannot be served by {NAME}, which gives no values"
    named = [name for name in STRATEGIES if name in instead]
    assert named
    for name in named:
        solver.solve(problems[:1], strategy=name, effort="none")


def test_samples_that_never_re_enter_a_state_are_refused_with_one_that_can_be_served(server):
    solver = Solver(f"{server.url}/v1@{NAME}", task="sliding")
    with pytest.raises(SolveError, match=r"cannot draw without replacement: use best_of_n$"):
        solver.solve(solver.shelved.task.problems("dev", 1), strategy="best_of_n_fresh")


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a strategy of bounds": ((*ASK, "strategy=levin"), "cannot draw without replacement: use best_of_n"),
    "a strategy of values": ((*ASK, "strategy=weighted_vote"), "gives no values: use self_consistency"),
    "no task": (("problem='3 7 12 = 15'",), "give task=NAME"),
    "a value that is to be trusted": ((*ASK, "trust_value=true"), "gives no values; leave it out"),
    "an effort without a limit": ((*ASK, "effort=max"), "give budget.tokens"),
    "a problem of another size": ((TASK, "problem='1 2 3 4 = 10'"), "this task takes 3"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_one_line_that_names_the_mend(mistake, refusal, server):
    arguments, mend = REFUSED[mistake]
    assert mend in refusal(at(server), *arguments)


def test_another_model_is_refused_with_the_server_s_words(refusal, server):
    said = refusal(at(server, "large"), *ASK)
    assert "HTTP 404 The model `large` does not exist" in said
    assert "check the address and the name of the model" in said


def test_a_key_that_is_missing_is_refused_with_the_mend(refusal, monkeypatch):
    monkeypatch.delenv("REVERSE_O1_API_KEY", raising=False)
    with FakeServer(CountdownModel(key=KEY)) as server:
        said = refusal(at(server), *ASK)
    assert "HTTP 401" in said
    assert "set the environment variable REVERSE_O1_API_KEY" in said


def test_a_server_that_is_not_there_is_refused_with_the_mend(refusal, impatient):
    assert "connection failed (ConnectError) (attempt 5): check that the server runs" in refusal(
        f"policy={closed_port()}/v1@{NAME}", *ASK
    )


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"[]", b'{"choices": []}', b'{"choices": [1]}'])
def test_a_server_of_something_else_is_refused_in_one_line(refusal, impatient, body):
    with FakeServer(lambda call: Reply(body)) as server:
        assert "unreadable answer" in refusal(at(server), *ASK)


@pytest.mark.parametrize("strategy", ["best_first", "beam"])
def test_a_server_without_logprobs_leads_no_search_by_them(refusal, strategy):
    with FakeServer(CountdownModel(with_logprobs=False)) as server:
        said = refusal(at(server), *ASK, f"strategy={strategy}")
    assert "reports no log-probabilities: use greedy, best_of_n, self_consistency, unique or puct" in said


def test_a_password_in_an_address_is_not_repeated(refusal):
    said = refusal("policy=http://me:secret@127.0.0.1:1/v1@small", *ASK)
    assert "without user or password" in said
    assert "secret" not in said


def test_a_served_policy_keeps_no_calibration(capsys, tmp_path: Path):
    with FakeServer(CountdownModel()) as server:
        asked = [f"policy={server.url}/v1@{NAME}", TASK, "write=yes", f"run_dir={tmp_path}"]
        assert bench_command.run(calibration.main, asked) == 2
        said = capsys.readouterr().err
        assert server.calls == []
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "keeps no calibration: use write=no" in said
    assert list(tmp_path.iterdir()) == []

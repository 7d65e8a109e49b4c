"""The page asks nobody for anything, shows what a search does while it does it, and no more than may be seen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.api.app import create_app
from serve.api.served import Served
from serve.engine.engine import Engine
from serve.page import HERE, live_page, tree_page
from serve.view import main as view
from solve.cli.tree_file import tree_json
from solve.solver import Solver
from tests.serve.canary import canary_engine, leaks

PUZZLE = "1 1 2 2 = 47"
HOSTILE = "</script><img src=x onerror=alert(1)> \u2028 <!--"
STATE = {"visits": 1, "value": 0.5, "raw_value": 0.5, "terminal": False, "solved": False, "dead": False}
TREE = {
    "problem": HOSTILE, "generated_tokens": 9, "simulations": 2, "nodes": [{"depth": depth, **STATE} for depth in (0, 1)],
    "edges": [{"from": 0, "to": 1, "step": HOSTILE, "prior": 0.5, "visits": 1, "tokens": 3}],
}  # fmt: skip


class Parts(HTMLParser):
    """Scripts of a page, and every address in it."""

    def __init__(self, page: str):
        super().__init__()
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data


def updates(text: str) -> tuple[list[dict], dict]:
    """The updates of an answer in events, and the answer."""
    found = [event.split("\n", 1) for event in text.split("\n\n") if event.startswith("event: ")]
    told = [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in found]
    return [data for kind, data in told if kind == "update"], next(data for kind, data in told if kind == "answer")


def joined(parts: list[dict]) -> dict:
    """What is known of a tree when all its updates have come: as the page's own code does it."""
    depth, value, marks, edges, visits = [], {}, {}, [], {}
    for part in parts:
        depth += [node[0] for node in part["nodes"]]
        edges += part["edges"]
        value |= dict(part["values"])
        marks |= {k: tuple(rest) for k, *rest in part["marks"]}
        visits |= dict(part["visits"])
    return {"depth": depth, "value": value, "marks": marks, "edges": edges, "visits": visits}


@pytest.fixture(scope="module")
def solver() -> Solver:
    return Solver("countdown4")


@pytest.fixture(scope="module")
def client(solver):
    engine = Engine(solver, slots=4, queue=8)
    yield TestClient(create_app(Served(engine, "net")))
    engine.close()


def watched(client: TestClient, text: str, **fields) -> str:
    body = {"model": "net", "messages": [{"role": "user", "content": text}], "reasoning_visibility": "show", **fields}
    answer = client.post("/v1/watch", json=body)
    assert answer.status_code == 200
    return answer.text


@pytest.mark.parametrize("strategy", ["best_first", "puct", "unique_merged"])
def test_the_updates_of_a_search_join_to_its_tree(client, solver, strategy):
    parts, answer = updates(watched(client, PUZZLE, search={"strategy": strategy}, reasoning_effort="medium"))
    kept = []
    solver.solve(
        [PUZZLE], strategy=strategy, effort="medium", on_search=lambda search, bench: kept.append(tree_json(search))
    )
    (tree,) = kept
    known = joined(parts)
    assert sorted(known["depth"]) == sorted(node["depth"] for node in tree["nodes"])
    assert sorted((step, known["visits"][k]) for k, (*_, step) in enumerate(known["edges"])) == sorted(
        (edge["step"].strip(), edge["visits"]) for edge in tree["edges"]
    )
    for mark, name in enumerate(("terminal", "solved", "dead")):
        assert sum(marks[mark] for marks in known["marks"].values()) == sum(node[name] for node in tree["nodes"])
    values = sorted(known["value"].get(k, 0.0) for k in range(len(known["depth"])))
    assert np.allclose(values, sorted(node["value"] for node in tree["nodes"]), atol=1e-3)
    assert parts[-1]["tokens"] == answer["usage"]["completion_tokens"] == tree["generated_tokens"]


@pytest.mark.parametrize(
    ("most", "sees_tree", "sees_text"), [("show", True, True), ("summary", True, False), ("hide", False, False)]
)
def test_a_server_shows_on_the_page_what_its_owner_lets_be_seen(solver, most, sees_tree, sees_text):
    engine = Engine(solver, slots=4, queue=8)
    client = TestClient(create_app(Served(engine, "net", most_visible=most)))
    parts, answer = updates(watched(client, PUZZLE, search={"strategy": "puct"}))
    assert bool(parts) == sees_tree
    assert any(step for part in parts for *_, step in part["edges"]) == sees_text
    assert ("reasoning" in answer["choices"][0]["message"]) == (most != "hide")
    engine.close()


@pytest.mark.parametrize("most", ["hide", "summary"])
def test_no_canary_sings_on_the_page(most):
    engine, policy = canary_engine()
    client = TestClient(create_app(Served(engine, "net", default_strategy="best_of_n", most_visible=most)))
    sent = watched(client, "What is six times seven?").encode() + client.get("/").content
    assert len(policy.written) >= 4
    assert leaks(sent, policy.written) == []
    engine.close()


def test_what_is_refused_is_told_as_an_event(client):
    assert "not a number" in watched(client, "1 x = 3")


@pytest.mark.parametrize(
    "page", [live_page("net", efforts=["low"], effort="low"), tree_page(TREE)], ids=["live", "saved"]
)
def test_the_page_is_whole_in_itself(page):
    parts = Parts(page)
    assert parts.addresses == []
    assert len(parts.scripts) == 3
    assert "connect-src 'self'" in page
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page.replace(parts.scripts[0], "")
    )
    assert "Permission to use, copy, modify" in parts.scripts[0]  # the licence of what is not ours


def test_no_text_of_a_tree_ends_its_island():
    assert json.loads(Parts(tree_page(TREE)).scripts[1]) == {"tree": TREE}


def test_a_saved_tree_becomes_one_file(tmp_path, capsys):
    (tmp_path / "tree.json").write_text(json.dumps(TREE))
    assert view([str(tmp_path / "tree.json")]) == 0
    assert (tmp_path / "tree.html").read_text() == tree_page(TREE)
    assert capsys.readouterr().out.strip() == str(tmp_path / "tree.html")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"nodes": [], "edges": [{"from": 0, "to": 9, "step": "x"}]}', '{"nodes": 3, "edges": []}'],
)
def test_what_is_no_tree_is_refused_in_one_line(tmp_path, capsys, text):
    (tmp_path / "tree.json").write_text(text)
    assert view([str(tmp_path / "tree.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "tree.html").exists()
    assert view([str(tmp_path / "missing.json")]) == view([]) == 2


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the page's own code with")
def test_the_page_reads_events_however_they_are_cut():
    program = """
    const { events, Film, streamed, saved } = require(process.argv[1]);
    const whole = ': thinking\\n\\nevent: update\\ndata: {"a":"x\\\\ny"}\\n\\nevent: answer\\ndata: {"b":2}\\n\\n';
    for (let cut = 0; cut <= whole.length; cut++) {
      const [first, rest] = events(whole.slice(0, cut)), [second, left] = events(rest + whole.slice(cut));
      if (JSON.stringify([...first, ...second]) !== '[["update",{"a":"x\\\\ny"}],["answer",{"b":2}]]' || left) process.exit(1);
    }
    const film = new Film();
    const tried = {kind: "propose", text: "a", depth: 0}, undo = {kind: "undo", text: "no b0", depth: 1, back: 0};
    film.add(streamed([tried, undo, {kind: "answer", text: "b", depth: 0}], true));
    console.log(film.now.size, film.now.best().join(), film.now.shown(9).size, film.at(0).size, JSON.stringify(film.now.marks));
    """
    node = subprocess.run(["node", "-e", program, str(HERE / "model.js")], capture_output=True, text=True, check=False)
    assert node.returncode == 0, node.stderr
    assert node.stdout.split(" ", 4)[:4] == ["3", "0,2", "3", "3"]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the page's own code with")
def test_a_search_whose_first_steps_all_lead_nowhere_is_not_drawn_as_one_circle():
    program = """
    const { Film } = require(process.argv[1]), film = new Film(), many = Array.from({ length: 40 }, (_, k) => k + 1);
    film.add({ nodes: [[0], ...many.map(() => [1])], edges: many.map((k) => [0, k, k / 40, "s" + k]), visits: [], values: [],
      marks: many.map((k) => [k, true, false, true]) });
    console.log([...film.now.shown(500)].join());
    """
    node = subprocess.run(["node", "-e", program, str(HERE / "model.js")], capture_output=True, text=True, check=False)
    assert node.stdout.strip() == ",".join(map(str, [0, *range(40, 28, -1)]))  # the most probable ones


def test_the_module_runs_as_the_guide_says(tmp_path):
    (tmp_path / "tree.json").write_text(json.dumps(TREE))
    ran = subprocess.run(
        [sys.executable, "-m", "serve.view", "tree.json"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.stdout.strip() == "tree.html"

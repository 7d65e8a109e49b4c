"""The page in a real Chromium, headless: a search that grows live, keys, time, and ten thousand states that stay smooth."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from serve.api.app import create_app
from serve.api.served import Served
from serve.engine.engine import Engine
from serve.page import tree_page
from solve.solver import Solver

sync_api = pytest.importorskip("playwright.sync_api", reason="make test-browser installs Playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")
pytestmark = [pytest.mark.browser, pytest.mark.slow, MISSING]
WAIT = 60_000  # ms
STATES, FRAMES = 10_000, 30.0  # drawn, a second


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    engine = Engine(Solver("countdown4think"), slots=4, queue=8)
    server = uvicorn.Server(uvicorn.Config(create_app(Served(engine, "net")), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(browser) -> Iterator[sync_api.Page]:
    made = browser.new_page(viewport={"width": 1280, "height": 820})
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on(
        "request",
        lambda request: (
            wrong.append(request.url) if "127.0.0.1" not in request.url and request.url[:4] == "http" else None
        ),
    )
    yield made
    made.close()
    assert wrong == []


def ask(page, address: str, problem: str, strategy: str, effort: str = "high") -> None:
    page.goto(address)
    page.fill("#problem", problem)
    page.select_option("#effort", effort)
    page.select_option("#strategy", strategy)
    page.click("#go")


def until(page, condition: str) -> None:
    """Ask the page again and again: its policy forbids what Playwright would wait with."""
    end = time.monotonic() + WAIT / 1000
    while not page.evaluate(f"() => Boolean({condition})"):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def test_a_search_grows_on_the_page_and_ends_with_its_answer(page, address, tmp_path):
    ask(page, address, "1 1 2 2 = 47", "unique_merged")
    until(page, "film.updates.length > 3 && document.getElementById('go').textContent === 'Stop'")
    early = page.evaluate("tree.size")
    page.wait_for_selector("#answer:not([hidden])", timeout=WAIT)
    assert page.evaluate("tree.size") > early > 1
    assert "none found" in page.inner_text("#content")
    assert "hidden of" in page.inner_text("#cost")
    assert page.inner_text("#said") == "No answer was found."
    page.screenshot(path=tmp_path / "search.png")


def test_time_runs_back(page, address):
    ask(page, address, "1 1 2 2 = 47", "unique_merged", "medium")
    page.wait_for_selector("#answer:not([hidden])", timeout=WAIT)
    sizes = []
    for k in (0, page.evaluate("film.updates.length - 1")):
        page.evaluate(f"() => {{ $('time').value = {k}; $('time').dispatchEvent(new Event('input')); }}")
        sizes.append(page.evaluate("tree.size"))
    assert sizes[0] < sizes[1] == page.evaluate("film.now.size")


def test_a_stream_is_drawn_with_its_ways_back(page, address):
    ask(page, address, "3 7 8 8 = 24", "think")
    page.wait_for_selector("#answer:not([hidden])", timeout=WAIT)
    assert page.inner_text("#content").endswith("= 24")
    until(page, "tree.best().length === 4")
    assert page.evaluate("tree.marks.some((marks) => marks[2])")
    assert page.inner_text("#said").startswith("Answer: ")


def test_the_tree_is_walked_with_keys_and_told_to_who_cannot_see_it(page, address):
    ask(page, address, "3 7 8 8 = 24", "best_first", "low")
    page.wait_for_selector("#answer:not([hidden])", timeout=WAIT)
    walk = page.get_by_role("tree", name="Search tree")
    walk.focus()
    page.keyboard.press("ArrowRight")
    chosen = page.locator('#walk [aria-selected="true"]')
    assert "value" in chosen.inner_text()
    assert chosen.get_attribute("aria-level") == "2"
    assert walk.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.locator('#walk [aria-selected="true"]').inner_text().startswith("the problem")
    assert page.locator("[aria-live=polite]").count() == 1
    fields = "[...document.querySelectorAll('input, select, textarea, button, progress')]"
    unnamed = f"{fields}.filter((field) => !field.labels?.length && !field.ariaLabel && !field.textContent)"
    assert page.evaluate(f"{unnamed}.length") == 0


def test_what_is_refused_is_said_and_a_search_can_be_stopped(page, address):
    ask(page, address, "1 x = 3", "best_first")
    until(page, "document.getElementById('said').textContent.includes('not a number')")
    ask(page, address, "1 1 2 2 = 47", "unique_merged", "xhigh")
    until(page, "film.updates.length > 2")
    page.click("#go")
    until(page, "document.getElementById('said').textContent === 'Stopped.'")


def test_ten_thousand_states_stay_smooth(page, tmp_path):
    """Frames by the browser's own clock while the drawing is dragged and zoomed, every frame drawn anew."""
    rng, parents = np.random.default_rng(0), [0]
    nodes, edges = [{"depth": 0}], []
    for k in range(1, STATES):
        parent = int(rng.integers(max(0, len(parents) - 3000), len(parents)))
        nodes.append({"depth": nodes[parent]["depth"] + 1})
        edges.append(
            {
                "from": parent,
                "to": k,
                "step": f"step {k}",
                "prior": float(rng.random()),
                "visits": int(rng.integers(1, 99)),
                "tokens": 3,
            }
        )
        parents.append(k)
    nodes = [
        {**node, "visits": 9, "value": float(rng.random()), "terminal": False, "solved": False, "dead": False}
        for node in nodes
    ]
    path = Path(tmp_path / "tree.html")
    path.write_text(tree_page({"nodes": nodes, "edges": edges, "generated_tokens": 1, "simulations": 1}))
    page.goto(path.as_uri())
    page.select_option("#most", "10000")
    assert page.evaluate("places.length") == STATES
    frames = page.evaluate(
        """() => new Promise((done) => {
          let count = 0; const began = performance.now();
          const next = (now) => {
            count += 1; view.x += Math.sin(count) * 5; view.ky *= 1 + Math.sin(count / 9) / 50; dirty = true;
            if (now - began < 3000) requestAnimationFrame(next); else done(count / ((now - began) / 1000));
          };
          requestAnimationFrame(next);
        })"""
    )
    assert frames >= FRAMES

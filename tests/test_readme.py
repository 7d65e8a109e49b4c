"""The README and the guides say what is so: commands compose, make targets exist, links lead somewhere, examples run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.budget.run import BudgetBenchConfig
from bench.budget.run import check as check_budget
from models.policy import shipped
from selfplay.cli import CONF, default_run_dir
from selfplay.config import SelfplayConfig, check_config
from serve.api.fields import ChatRequest
from serve.config import ServeConfig
from serve.main import check as check_serve
from solve.cli.main import hydra_main
from tasks import make_task

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[a-z]*.md"))]  # pages that show commands
README = "\n".join(page.read_text() for page in GUIDES)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")  # of [text](link) and ![text](link)


def code_lines(page: str) -> list[str]:
    """Lines of the page's code blocks."""
    return [line for block in page.split("```")[1::2] for line in block.splitlines()]


def overrides_of(line: str) -> list[str]:
    """Settings behind ARGS= of a make command; none without it."""
    arguments = [word.removeprefix("ARGS=") for word in shlex.split(line, comments=True) if word.startswith("ARGS=")]
    return shlex.split(arguments[0]) if arguments else []


def composed(overrides: list[str]) -> SelfplayConfig:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose(config_name="selfplay", overrides=overrides))
    assert isinstance(config, SelfplayConfig)
    return config


def made(line: str, verb: str = "selfplay") -> list[str]:
    """Settings of the program that a make command starts, also below a `make test` that has settings of its own."""
    outside = {name: text for name, text in os.environ.items() if not name.startswith("MAKE") and name != "ARGS"}
    ran = subprocess.run(
        ["make", "--dry-run", "--always-make", *shlex.split(line, comments=True)[1:]],
        capture_output=True, text=True, check=True, cwd=ROOT, env=outside,
    )  # fmt: skip
    return shlex.split(ran.stdout.splitlines()[-1].partition(f"-m {verb}")[2])


COMMANDS = [line for line in code_lines(README) if line.startswith("make selfplay")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_selfplay_command_composes_into_a_run_that_can_start(line):
    config = composed(made(line))
    check_config(config)
    assert make_task(**config.task).problems("train", 1)


def test_the_main_job_thinks_and_another_one_runs_as_it_is_asked():
    assert made("make selfplay") == ["experiment=think"]
    assert made('make selfplay ARGS="seed=1 task.number_max=20"') == [
        "experiment=think",
        "seed=1",
        "task.number_max=20",
    ]
    for other in ("experiment=sliding seed=1", "selfplay=star", "resume=runs/mine", "model=hf model.path=FOLDER"):
        assert made(f'make selfplay ARGS="{other}"') == other.split()
    assert made("make selfplay-llm") == ["experiment=sums"]


def test_the_example_of_the_tree_runs_as_it_stands():
    block = next(block for block in README.split("```")[1::2] if "Forest(" in block).removeprefix("python\n")
    ran = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True, cwd=ROOT)
    visits, _, best = ran.stdout.partition("] [")
    assert sum(map(int, visits.strip("[ ").split())) == 255
    assert len(best.split()) == 8


@pytest.mark.llm
@pytest.mark.slow
def test_the_example_of_a_language_model_runs_as_it_stands(smollm2):
    block = next(block for block in README.split("```")[1::2] if "open_policy" in block).removeprefix("python\n")
    ran = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True, cwd=ROOT)
    solved, tokens = (line.strip("[]").split() for line in ran.stdout.strip().replace("] [", "]\n[").splitlines())
    assert len(solved) == len(tokens) == 4
    assert all(int(t) >= 200 or s == "True" for s, t in zip(solved, tokens, strict=True))


def test_the_readme_has_commands_with_and_without_settings():
    assert {bool(overrides_of(line)) for line in COMMANDS} == {True, False}


def test_the_run_that_is_resumed_is_the_one_that_the_first_command_makes():
    resumed = [config.resume for config in map(composed, map(overrides_of, COMMANDS)) if config.resume]
    assert resumed == [str(default_run_dir(composed(made("make selfplay"))))]


def test_every_make_target_named_on_a_page_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        commands = [*code_lines(text), *re.findall(r"`([^`\n]+)`", text)]
        named = {found[1] for command in commands if (found := re.match(r"make ([a-z-]+)", command))}
        assert named <= targets, page
    assert {"selfplay", "test"} <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_picture_exists(page):
    links = [urlparse(link) for link in LINK.findall(page.read_text())]
    missing = [link.path for link in links if link.path and not link.scheme and not (page.parent / link.path).exists()]
    assert missing == []


def test_every_top_level_package_named_is_a_folder_here():
    listed = re.search(r"top-level packages are named (.+?)\.\s", README, re.DOTALL)
    assert listed is not None
    assert all((ROOT / name).is_dir() for name in re.findall(r"`([a-z]+)`", listed[1]))


SOLVE_COMMANDS = [line.partition("  #")[0].strip() for line in code_lines(README) if line.startswith("python -m solve")]
BENCH_COMMANDS = [
    line.partition("  #")[0].strip() for line in code_lines(README) if line.startswith("python -m bench budget")
]


SERVE_COMMANDS = [
    line.partition("  #")[0].strip() for line in code_lines(README) if re.match(r"(python -m|make) serve( |$)", line)
]


@pytest.mark.parametrize("line", SERVE_COMMANDS)
def test_every_serve_command_composes(line):
    overrides = shlex.split(line)[3:] if line.startswith("python") else made(line, "serve")
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose(config_name="serve", overrides=overrides))
    assert isinstance(config, ServeConfig)
    check_serve(config, config.api_key)


REQUESTS = re.findall(r"curl \S+/chat/completions .*?-d '(\{.*?\})'", README, re.DOTALL)


@pytest.mark.parametrize("body", REQUESTS)
def test_every_request_shown_is_one_that_a_server_takes(body):
    request = ChatRequest.model_validate_json(body)
    assert request.model in shipped()
    assert make_task(**shipped()[request.model]).parse_problem(request.messages[-1].text)


def test_requests_are_shown_in_the_readme_and_in_the_guide():
    assert len(REQUESTS) >= 2


TAUGHT = "runs/sums-think-seed0"  # where `make selfplay-llm` leaves its model


def test_the_language_model_that_thinks_is_the_one_that_the_command_makes():
    assert any(f"policy={TAUGHT} " in line for line in SOLVE_COMMANDS)
    assert str(default_run_dir(composed(made("make selfplay-llm")))) == TAUGHT


def with_marks(line: str):
    """A language model is not there in every installation, and takes its seconds; as it comes it stands for a taught one."""
    line = line.replace(f"policy={TAUGHT}", "policy=smollm2 task=sums")
    return pytest.param(line, marks=pytest.mark.slow if "smollm2" in line else ())


@pytest.mark.parametrize("line", map(with_marks, SOLVE_COMMANDS))
def test_every_solve_command_answers(line, tmp_path, monkeypatch, capsys):
    (tmp_path / "problems.jsonl").write_text('{"problem": "3 7 8 8 = 24"}\n{"problem": "1 1 1 8 = 11", "id": "mine"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(line)[2:])
    hydra_main()
    said = capsys.readouterr().out
    assert "answer " in said or "2 answered" in said
    assert "out=" not in line or len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
    assert "tree=" not in line or json.loads((tmp_path / "tree.json").read_text())["nodes"]


@pytest.mark.parametrize("line", BENCH_COMMANDS)
def test_every_budget_command_composes(line):
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose(config_name="budget", overrides=shlex.split(line)[4:]))
    assert isinstance(config, BudgetBenchConfig)
    check_budget(config)
    assert set(config.policy) <= set(shipped())


def test_the_example_of_the_library_runs_as_it_stands():
    block = next(block for block in README.split("```")[1::2] if "from solve import" in block).removeprefix("python\n")
    ran = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "= 24 True 1.0" in ran.stdout
    assert "solved" in ran.stdout
    assert ran.stdout.splitlines()[-1].split()[-3] == "None"  # nobody judged

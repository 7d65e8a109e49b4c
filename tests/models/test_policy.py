"""A policy is opened from its name alone, in one place, and what cannot be opened is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.abilities import Abilities, PolicyError
from models.files.manifest import CALIBRATION, EXTRA, MANIFEST, CheckpointError, weights_digest
from models.local_policy import LocalPolicy
from models.net.policy_value import PolicyValueLM
from models.policy import SHIPPED, SMOLLM2, located, open_policy, promoted, shipped
from models.steps.evaluator import ModelEvaluator
from models.steps.rollout import rollouts
from tasks import make_task
from tasks.numbers.countdown import Countdown
from tests.models.fakes import SumTask, sum_forward
from tests.models.test_pretrained import write_folder

ROOT = Path(__file__).parents[2]
NET, OTHER = "countdown3", "countdown4"
EVERYTHING = Abilities(values=True, token_ids=True, logprobs=True, without_replacement=True, streams=True, alone="bits")


def refused(spec: str, **settings) -> str:
    """The one line that a policy is refused with."""
    with pytest.raises((PolicyError, CheckpointError)) as caught:
        open_policy(spec, **settings)
    said = str(caught.value)
    assert said
    assert "\n" not in said
    return said


@pytest.fixture
def net(tmp_path) -> Path:
    """A copy of a shipped net, to be spoilt."""
    return Path(shutil.copytree(SHIPPED / NET, tmp_path / "net"))


@pytest.fixture(scope="module")
def small() -> LocalPolicy:
    return open_policy(NET).policy


@pytest.fixture(scope="module")
def language(tmp_path_factory) -> LocalPolicy:
    """A language model of 96 tokens, which knows nothing."""
    return open_policy(str(write_folder(tmp_path_factory.mktemp("lm") / "tiny")), dtype="float32", few_shot=1).policy


@pytest.fixture(scope="module")
def task() -> Countdown:
    return make_task(**shipped()[NET])


# ---- what a name opens


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_net_opens_with_its_task_and_its_calibration(name):
    opened = open_policy(name)
    assert opened.policy.name == name
    assert opened.policy.can == EVERYTHING
    assert opened.policy.in_words
    assert opened.policy.codec(make_task(**opened.task_options)) is not None
    assert opened.folder == SHIPPED / name
    assert opened.version == opened.policy.version == weights_digest(SHIPPED / name)
    assert opened.calibration is not None
    opened.policy.check(make_task(**opened.task_options))


def test_a_name_is_the_shipped_net_and_a_path_the_folder_that_is_there(tmp_path, monkeypatch):
    shutil.copytree(SHIPPED / OTHER, tmp_path / NET)  # a folder called as a shipped net, and it is another one
    monkeypatch.chdir(tmp_path)
    assert open_policy(NET).version == weights_digest(SHIPPED / NET)
    for spec in (f"./{NET}", str(tmp_path / NET), f"{NET}/"):
        assert open_policy(spec).version == weights_digest(SHIPPED / OTHER)


def test_a_checkpoint_keeps_what_was_told_of_it_and_only_that(net):
    (net / CALIBRATION).unlink()
    facts = json.loads((net / EXTRA).read_text())
    opened = open_policy(str(net))
    assert opened.task_options == facts["task"]
    assert opened.calibration is None


def test_a_net_to_be_trained_is_the_same_policy_with_the_modules_of_a_learner(task, small):
    opened = open_policy(NET, trainable=True)
    assert isinstance(opened.policy.model, PolicyValueLM)
    assert all(parameter.requires_grad for parameter in opened.policy.model.parameters())
    assert opened.policy.tokenizer.get_vocab() == task.token_ids
    problems = task.problems("dev", 2)
    assert opened.policy.chains(task, problems, 2, seed=3) == small.chains(task, problems, 2, seed=3)


def test_any_causal_lm_is_a_policy_of_any_task(tmp_path, task):
    folder = write_folder(tmp_path / "tiny")
    opened = open_policy(str(folder), dtype="float32", few_shot=2)
    assert (opened.task_options, opened.calibration, opened.folder) == (None, None, None)
    assert opened.policy.name == "tiny"
    rounds = "no" if torch.cpu._is_avx512_bf16_supported() else "usually"
    assert opened.policy.can == replace(EVERYTHING, alone=rounds)
    assert not opened.policy.in_words
    assert opened.policy.model.few_shot == 2
    opened.policy.check(task)
    (chain,) = opened.policy.chains(task, task.problems("dev", 1))[0]
    assert chain.tokens > 0
    before = open_policy(str(folder), dtype="float32").version
    assert before == opened.version
    shutil.rmtree(folder)
    assert (
        open_policy(str(write_folder(folder)), dtype="float32").version != before
    )  # written anew: not known to be the same


@pytest.mark.slow
def test_a_net_of_ours_opens_without_transformers():
    program = (
        f"import sys; from models.policy import open_policy; open_policy('{NET}'); print('transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.llm
def test_smollm2_is_a_name(smollm2, task):
    opened = open_policy(SMOLLM2, few_shot=2)
    assert opened.policy.name == SMOLLM2
    assert located(SMOLLM2) == smollm2
    (chain,) = opened.policy.chains(task, task.problems("train", 1), temperature=0.0)[0]
    assert chain.steps
    assert [step.text for step in chain.history] == list(chain.steps)


# ---- a run folder


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with two checkpoints, and nothing that says which one it keeps."""
    for name, net in (("step-000001", NET), ("step-000002", OTHER)):
        shutil.copytree(SHIPPED / net, tmp_path / "run" / "checkpoints" / name)
    (tmp_path / "run" / "config.json").write_text("{}")
    return tmp_path / "run"


def keeps(run: Path, page: str, checkpoint: object) -> None:
    (run / page).write_text(json.dumps({"checkpoint": checkpoint}))


def test_a_run_is_the_checkpoint_that_it_has_promoted(run):
    keeps(run, "promoted.json", "step-000001")
    keeps(run, "summary.json", "/where/it/was/trained/checkpoints/step-000002")
    assert open_policy(str(run)).folder == promoted(run) == run / "checkpoints" / "step-000001"
    assert open_policy(str(run)).policy.name == "step-000001"


@pytest.mark.parametrize("promise", [None, "step-000009", "", "..", 3])
def test_a_run_without_a_promise_is_the_checkpoint_of_its_summary(run, promise):
    if promise is not None:
        keeps(run, "promoted.json", promise)
    keeps(run, "summary.json", "/where/it/was/trained/checkpoints/step-000002")
    assert open_policy(str(run)).folder == run / "checkpoints" / "step-000002"


@pytest.mark.parametrize("page", [None, "", "{", "[]", '{"checkpoint": null}', '{"checkpoint": ".."}'])
def test_a_run_that_keeps_nothing_yet_is_refused_in_one_line(run, page):
    if page is not None:
        (run / "promoted.json").write_text(page)
    assert "let it commit an iteration, or name a folder of" in refused(str(run))


def test_a_promoted_checkpoint_that_is_not_whole_is_refused_by_name(run):
    keeps(run, "promoted.json", "step-000001")
    (run / "checkpoints" / "step-000001" / MANIFEST).unlink()
    assert f"step-000001/{MANIFEST}: missing or damaged; use the checkpoint before" in refused(str(run))


# ---- what cannot be opened


@pytest.mark.parametrize(
    ("spec", "mend"),
    [
        ("", "name one"),
        ("  ", "name one"),
        (None, "name one"),
        ("nowhere", f"no such checkpoint folder; check the path, or use one of {', '.join(shipped())}"),
        (f"./{NET}", "no such checkpoint folder"),
        (str(ROOT / "README.md"), "a file, not a folder"),
        (str(ROOT / "tests"), "no transformers model"),
        ("x" * 5000, "cannot be looked at (File name too long)"),
        ("nowhere.gguf", "no such file"),
        ("ftp://host/v1@m", "http://HOST/v1@MODEL"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(spec, mend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mend in refused(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "http://",
        "http://host",
        "http://host:8000/v1",
        "http://host:8000/v1@",
        "http://host:8000@m",
        "http://host:8000/v1@two words",
        "http://two words/v1@m",
        "http://me:secret@host:8000/v1@m",
        "https://me@host/v1@m",
        "http://secret:8000@host/v1",
        "https://@m",
        "http://host?key=x/v1@m",
        "http://[::1/v1@m",
    ],
)
def test_an_address_that_is_none_is_refused_in_one_line_before_anything_is_asked(spec):
    said = refused(spec)
    assert "write http://HOST:PORT/v1@MODEL, without user or password" in said or "http(s)://host:port/path" in said
    assert "secret" not in said


@pytest.mark.parametrize("spec", ["http://host:8000/v1@m", "http://me:secret@host:8000/v1@m"])
def test_what_is_on_a_server_cannot_be_trained_here(spec):
    said = refused(spec, trainable=True)
    assert "name a folder" in said
    assert "secret" not in said


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def turned(folder: Path) -> None:
    """One bit of the weights, size as before."""
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: missing"),
        (cut, "model.safetensors: "),
        (turned, "content changed (sha256)"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "missing or damaged"),
        (lambda folder: (folder / "evil.py").write_text(""), "evil.py: not in the manifest; remove it"),
        (lambda folder: (folder / CALIBRATION).write_text("{}"), "calibration.json: not what a calibration writes"),
    ],
    ids=["no weights", "cut", "one bit", "no manifest", "a stranger's file", "calibration"],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(net, spoil, said, trainable):
    spoil(net)
    assert said in refused(str(net), trainable=trainable)


def test_a_task_of_other_words_is_refused_in_one_line(small, task):
    small.check(task)
    with pytest.raises(CheckpointError, match=r"are not those of task countdown with these options") as caught:
        small.check(Countdown(cap=50))
    assert "\n" not in str(caught.value)


# ---- a policy in this process


@pytest.fixture(params=["small", "language"])
def policy(request) -> LocalPolicy:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.0}, {"temperature": 0.7, "first": [3, 1]}, {"no_reentry": True}]
)
def test_chains_are_those_of_rollouts_bit_for_bit(policy, task, settings):
    problems, prefilled = task.problems("dev", 2), []
    found = policy.chains(task, problems, 3, seed=5, on_prefill=prefilled.append, **settings)
    assert found == rollouts(policy.model, task, problems, 3, seed=5, on_prefill=prefilled.append, **settings)
    assert prefilled[0] == prefilled[1] > 0


@pytest.mark.parametrize("draw", ["sample", "best"])
def test_an_evaluator_is_the_model_s_bit_for_bit(policy, task, draw):
    problems, waves = task.problems("dev", 2), []
    for evaluator in (
        policy.evaluator(task, temperature=0.8, seed=4),
        ModelEvaluator(policy.model, task, temperature=0.8, seed=4),
    ):
        roots = evaluator.begin(problems)
        wave = evaluator.expand(roots.handles, 3, draw)
        waves.append((roots, wave, evaluator.expand(wave.handles[~wave.terminal], 2, draw)))
        assert evaluator.generated_tokens > 0
    for one, other in zip(*waves, strict=True):
        for name in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@torch.no_grad()
def test_a_policy_holds_no_copy_of_the_weights(task):
    policy, problems = open_policy(NET, trainable=True).policy, task.problems("dev", 4)
    before = policy.chains(task, problems, 2)
    weights = policy.model.trunk.get_output_embeddings().weight
    weights += 0.5 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    after = policy.chains(task, problems, 2)
    assert after != before
    assert after == rollouts(policy.model, task, problems, 2)


def test_a_step_s_tokens_are_its_text_and_a_history_is_all_steps(policy, task):
    evaluator, codec, problems = policy.evaluator(task, seed=2), policy.codec(task), task.problems("dev", 3)
    roots = evaluator.begin(problems)
    depths, leaves = set(), roots.handles
    for root in roots.handles.tolist():
        assert (evaluator.step(root).text, evaluator.step(root).tokens, evaluator.history(root)) == ("", None, [])
    for _ in range(2):
        wave = evaluator.expand(leaves, 3)
        for handle in wave.handles.tolist():
            step, history, parent = evaluator.step(handle), evaluator.history(handle), evaluator.parent(handle)
            finished = bool(codec.ends[step.tokens[-1]])
            assert codec.step(step.tokens, finished) == step.text
            assert not codec.ends[list(step.tokens[:-1])].any()
            assert history == [*evaluator.history(parent), step]
            assert [one.text for one in history] == evaluator.steps(handle)
            depths.add(len(history))
        leaves = wave.handles[~wave.terminal]
        if not len(leaves):  # nothing that the language model writes is a step
            break
    assert depths == ({1, 2} if policy.in_words else {1})


def test_a_chain_s_tokens_are_its_steps_and_what_was_paid(policy, task):
    codec = policy.codec(task)
    for chains in policy.chains(task, task.problems("dev", 3), 4, seed=1):
        for chain in chains:
            assert [step.text for step in chain.history] == list(chain.steps)
            assert sum(len(step.tokens) for step in chain.history) == chain.tokens
            for step in chain.history:
                assert codec.step(step.tokens, bool(codec.ends[step.tokens[-1]])) == step.text


def test_another_way_to_compute_the_trie_needs_no_model():
    sums = SumTask()
    policy = LocalPolicy(None, forward=sum_forward(), version="table")
    problems = sums.problems("train", 3)
    assert policy.chains(sums, problems, 2) == rollouts(None, sums, problems, 2, forward=sum_forward())
    assert policy.version == "table"
    policy.check(sums)


def test_a_forward_costs_two_operations_a_weight_that_multiplies(small, language):
    parameters = dict(small.model.named_parameters())
    table = parameters.pop(
        "trunk.model.embed_tokens.weight"
    )  # a row of it is looked up; the output's is a matrix of its own
    assert small.flops_per_token == 2 * sum(parameter.numel() for parameter in parameters.values())
    assert table.numel() > 0
    assert language.flops_per_token == 2 * sum(parameter.numel() for parameter in language.model.parameters())  # tied

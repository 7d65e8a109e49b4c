"""Any question to a language model that knows none of our tasks: every strategy, several lines, a batch, what is too long."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from solve.cli import main
from solve.cli.page import page
from solve.lanes import Lane
from solve.plan import planned
from solve.solver import Solver
from solve.types import SolveError
from tasks.base import END_OF_TEXT

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION = "Tom has 3 bags.\n\nHow many bags has Tom?"
POSITIONS = 320


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Qwen2 with a tokenizer and a chat template, as a download lies there."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bare.train_from_iterator([QUESTION] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=POSITIONS, eos_token_id=2, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("qwen")
    Qwen2ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def solver(folder) -> Solver:
    return Solver(str(folder))


STRATEGIES = [  # of those that play chains to their ends; gumbel and levin need a model that closes its answers
    "greedy", "best_of_n", "self_consistency", "weighted_vote", "unique", "beam", "dvts", "puct_rollout",
    "best_first", "best_first:wave=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def short(folder) -> Solver:
    return Solver(str(folder), task="text", step="tokens:4", max_tokens=12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_a_plain_question(strategy, short):
    (found,) = short.solve([QUESTION], strategy=strategy, tokens=150)
    assert found.problem == QUESTION
    assert found.chains > 0
    assert found.answer
    assert found.steps
    assert END_OF_TEXT not in "".join(found.steps)
    assert (found.solved, found.value_trusted, found.verify) == (None, False, "none")
    assert found.cost.generated_tokens > 0


def test_a_language_model_without_a_task_reads_any_question(solver):
    assert solver.shelved.task.name == "text"
    assert not solver.trust_value


def test_a_chain_is_what_was_sampled_and_comes_back_as_text(short):
    policy, task = short.shelved.policy, short.shelved.task
    codec, problem = policy.codec(task), short.read(QUESTION)
    (chains,) = policy.chains(task, [problem], 8, seed=3)
    for chain in chains:
        sampled = [token for step in chain.step_tokens for token in step]
        assert chain.verdict.terminal
        assert not chain.verdict.scored
        assert len(sampled) == chain.tokens <= 12
        assert not set(sampled) & set(codec.masked)
        assert all(len(step) <= 4 for step in chain.step_tokens)
        closed = codec.ends[np.array([step[-1] for step in chain.step_tokens])]
        assert closed.tolist() == [step.endswith(END_OF_TEXT) for step in chain.steps]


def test_a_chain_ends_where_the_context_is_full(folder):
    solver = Solver(str(folder), task="text", step="line", max_step_tokens=30, max_tokens=10_000, max_steps=999)
    problem = solver.read("How?")
    (chains,) = solver.shelved.policy.chains(solver.shelved.task, [problem], 6, seed=1)
    codec = solver.shelved.policy.codec(solver.shelved.task)
    opening = len(codec.context(solver.shelved.task.prompt(problem)))
    assert all(opening + chain.tokens <= POSITIONS for chain in chains)
    assert {chain.verdict.reason for chain in chains} >= {"no room for another step"}
    (found,) = solver.solve([problem], strategy="best_first", tokens=2000)
    assert found.answer


def test_a_question_that_does_not_fit_is_refused_alone(solver):
    with pytest.raises(SolveError, match=f"more than the model's {POSITIONS} positions: ask it shorter"):
        solver.read("How many? " * 150)


def test_a_person_reads_steps_answer_confidence_and_cost(short):
    (found,) = short.solve([QUESTION], strategy="self_consistency", tokens=60)
    lines = page(found).splitlines()
    assert any(line.startswith("answer  ") and "confidence" in line for line in lines)
    assert any(line.startswith("cost    ") for line in lines)


def test_a_batch_reads_questions_of_several_lines(folder, tmp_path, monkeypatch, capsys):
    asked = tmp_path / "asked.jsonl"
    lines = ({"problem": QUESTION}, {"question": "How?", "id": "b"}, {"problem": "How many? " * 150})
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = (f"policy={folder}", f"file={asked}", "json=true", "budget.tokens=150", "share=uniform")
    monkeypatch.setattr(sys, "argv", ["solve", *settings])
    with pytest.raises(SystemExit) as ended:
        main.hydra_main()
    assert ended.value.code == 1  # one line does not fit, the others are answered
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["id"]: line.get("error", "")[:2] for line in told} == {"1": "", "b": "", "3": "3:"}
    assert next(line for line in told if line["id"] == "1")["asked"] == QUESTION


@pytest.mark.parametrize("strategy", ["greedy", "self_consistency", "best_first"])
def test_a_request_may_cut_chains_earlier_than_the_task_does(strategy, folder):
    solver = Solver(str(folder), task="text", step="tokens:4", max_tokens=200)
    for most, at_most in ((20, 20), (1, 4), (10_000, 200)):  # one step in any case; the task's own limit stays
        plan, budget = planned(solver.shelved, trust_value=False, strategy=strategy, effort="none", most_tokens=most)
        lane = Lane(plan)
        place = lane.join(solver.read(QUESTION), budget, 1)
        while lane.going(place):
            lane.turn()
        found = lane.solution(place)
        assert 0 < found.cost.generated_tokens <= at_most
        assert found.closed == any(step.endswith(END_OF_TEXT) for step in lane.chains(place)[0].steps)

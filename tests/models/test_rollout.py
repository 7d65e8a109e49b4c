"""Rollouts are what an independent sampler would play, and cost what it would pay."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from models.abilities import Rollout
from models.steps import rollout
from models.steps.rollout import rollouts
from models.trie.trie import TokenTrie
from tasks.base import BOS_ID
from tests.models.fakes import SumTask, chain_logprob, every_step, sum_forward

VARIANTS = [SumTask(), SumTask(markov=True), SumTask(modulus=9, keyed=False)]


def play(task: SumTask, problems, n: int = 1, **settings) -> list[list[Rollout]]:
    return rollouts(None, task, problems, n, forward=sum_forward(), **settings)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"no_reentry": True}, {"temperature": 2.0}])
@pytest.mark.parametrize("task", VARIANTS)
def test_a_rollout_agrees_with_replaying_its_steps(task, settings):
    problems, truth = task.problems("train", 4), TokenTrie(sum_forward())
    for problem, chains in zip(problems, play(task, problems, 10, **settings), strict=True):
        assert len(chains) == 10
        for chain in chains:
            verdict = task.verdict(problem, chain.steps)
            assert (chain.verdict.reward, chain.verdict.legal) == (verdict.reward, verdict.legal)
            assert verdict.terminal
            assert len(chain.states) == len(chain.values) == len(chain.steps)  # the last step ends in no state
            logprob = 0.0
            for i, step in enumerate(chain.steps):
                context = task.encode(task.context(problem, chain.steps[:i]))
                last = chain_logprob(truth, context, task.encode(step))
                logprob += last
                assert chain.values[i] == truth.values[truth.prefill([[BOS_ID, *context]])[0]]
            assert chain.logprob == pytest.approx(logprob, abs=1e-4)
            assert chain.last_logprob == pytest.approx(last, abs=1e-4)
            assert chain.end_value == verdict.reward
            length = sum(len(task.encode(step)) for step in chain.steps)
            assert chain.tokens >= length if settings.get("no_reentry") else chain.tokens == length


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_first_steps_come_as_often_as_the_policy_says(temperature):
    task, n = SumTask(), 6000
    (problem,) = task.problems("train", 1)
    counts = Counter(chain.steps[0] for chain in play(task, [problem], n, temperature=temperature)[0])
    trie = TokenTrie(sum_forward())
    start = trie.prefill([[BOS_ID, *task.encode(task.prompt(problem))]])[0]
    every_step(trie, int(start), 2)
    trie.logprobs[: trie.n_nodes] /= temperature  # the sampler's own distribution, token by token
    trie.logprobs[: trie.n_nodes] -= np.logaddexp.reduce(trie.logprobs[: trie.n_nodes], axis=1, keepdims=True)
    exact = {step: math.exp(logprob) for step, logprob in every_step(trie, int(start), 2).items()}
    for digit in range(4, 13):
        probability = exact[(digit, 3)]
        frequency = counts[task.decode([digit, 3])] / n
        assert abs(frequency - probability) < 4.5 * math.sqrt(probability * (1 - probability) / n)


def test_greedy_takes_the_most_probable_token_each_time():
    task, truth = SumTask(), TokenTrie(sum_forward())
    problems = task.problems("train", 4)
    for problem, (chain, twin) in zip(problems, play(task, problems, 2, temperature=0.0), strict=True):
        assert chain == twin
        node = truth.prefill([[BOS_ID, *task.encode(task.prompt(problem))]])[0]
        for token in task.encode("".join(chain.steps)):
            assert token == truth.logprobs[node].argmax()
            node = truth.extend(np.array([node]), np.array([token]))[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_without_reentry_no_state_comes_twice_and_rejected_steps_are_paid(temperature):
    task = SumTask(modulus=5, max_steps=6)
    problems = task.problems("train", 40)
    chains = [chain for lot in play(task, problems, 3, temperature=temperature, no_reentry=True) for chain in lot]
    assert all(len(set(chain.states)) == len(chain.states) for chain in chains)
    paid_more = [chain.tokens > sum(len(task.encode(step)) for step in chain.steps) for chain in chains]
    assert any(paid_more)
    free = [chain for lot in play(task, problems, 3, temperature=temperature) for chain in lot]
    assert any(len(set(chain.states)) < len(chain.states) for chain in free)


def test_greedy_without_reentry_is_plain_greedy_until_a_state_returns():
    task = SumTask(modulus=9, max_steps=6)
    problems = task.problems("train", 12)
    plain, careful = (play(task, problems, temperature=0.0, no_reentry=flag) for flag in (False, True))
    for (a,), (b,) in zip(plain, careful, strict=True):
        if len(set(a.states)) == len(a.states):
            assert a.steps == b.steps
            assert a.tokens == b.tokens


@pytest.mark.parametrize("no_reentry", [False, True])
def test_neither_batch_mates_nor_chunks_change_a_chain(no_reentry, monkeypatch):
    task = SumTask(markov=True)
    problems = task.problems("train", 4)
    together = play(task, problems, 6, no_reentry=no_reentry)
    assert [play(task, [problem], 6, no_reentry=no_reentry)[0] for problem in problems] == together
    monkeypatch.setattr(rollout, "CHAINS_PER_CHUNK", 5)
    assert play(task, problems, 6, no_reentry=no_reentry) == together


def test_another_seed_plays_other_chains():
    task = SumTask()
    problems = task.problems("train", 4)
    assert play(task, problems, 6, seed=1) == play(task, problems, 6, seed=1) != play(task, problems, 6, seed=2)


@pytest.mark.parametrize(("n", "temperature"), [(0, 1.0), (1, -0.5)])
def test_settings_that_cannot_be_met_are_refused(n, temperature):
    with pytest.raises(ValueError, match="temperature must be 0 or more and n at least 1"):
        play(SumTask(), SumTask().problems("train", 1), n, temperature=temperature)

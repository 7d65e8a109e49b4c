"""Threads that share one model get what one thread gets, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from models.cpu import packed_linear
from models.forward.causal import CausalForward
from models.forward.prefix import PrefixForward
from models.net.policy_value import PolicyValueLM
from models.trie.batch import TrieForward
from models.trie.trie import TokenTrie
from tests.models.test_forward_families import SERVED, V, grown, longrope, random_model

THREADS, ROUNDS = 4, 8
MODELS = {
    "gpt2": lambda: random_model("gpt2", SERVED["gpt2"]),
    "gemma2": lambda: random_model("gemma2", SERVED["gemma2"]),
    "llama": lambda: random_model("llama", SERVED["llama"]),
    "longrope": lambda: longrope("phi3"),
}
FORWARDS: dict[str, Callable[[PolicyValueLM], TrieForward]] = {
    "node by node": lambda model: CausalForward(model, masked=(0, 1, 2)),
    "whole prefixes": lambda model: PrefixForward(model, V),
}


def grown_by(forward: TrieForward, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and values of a tree that begins as searches do: with `clear`."""
    trie = TokenTrie(forward)
    trie.clear()
    nodes = grown(trie, seed, longest=6 + 5 * (seed % 4))
    return trie.logprobs[nodes], trie.values[nodes]


def check(forward_of: Callable[[], TrieForward]) -> None:
    """`forward_of()`: what a thread uses, the same one each time or another one."""
    forward = forward_of()
    alone = [grown_by(forward, seed) for seed in range(ROUNDS)]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda seed: grown_by(forward_of(), seed), range(ROUNDS)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("gpt2", "node by node"), ("gemma2", "node by node"), ("llama", "node by node"),
        pytest.param("gpt2", "whole prefixes", marks=pytest.mark.slow), ("longrope", "whole prefixes"),
    ],
)  # fmt: skip
def test_threads_that_share_a_forward(name, way):
    forward = FORWARDS[way](MODELS[name]())
    check(lambda: forward)


@pytest.mark.parametrize(
    ("name", "shared"), [("gpt2", True), ("gemma2", True), pytest.param("gpt2", False, marks=pytest.mark.slow)]
)
def test_threads_over_weights_that_are_read_in_place(name, shared, monkeypatch):
    """As on a GPU."""
    monkeypatch.setattr(packed_linear, "can_pack", lambda: False)
    model = MODELS[name]()
    forwards = [CausalForward(model, masked=(0, 1, 2), compiled=False)]
    check(lambda: forwards[0] if shared else CausalForward(model, masked=(0, 1, 2), compiled=False))


def test_a_model_computes_as_ever_while_a_forward_of_it_is_at_work(monkeypatch):
    monkeypatch.setattr(packed_linear, "can_pack", lambda: False)
    model = MODELS["gpt2"]().train()
    forward, tokens = CausalForward(model, masked=(0, 1, 2), compiled=False), torch.arange(3, 40)[None]
    assert model.trunk.training
    model.eval()
    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        expected = model.trunk(input_ids=tokens).logits
        work = pool.submit(lambda: [grown_by(forward, seed) for seed in range(6)])
        while not work.done():
            assert torch.equal(model.trunk(input_ids=tokens).logits, expected)
        work.result()


def test_weights_read_in_place_are_those_of_training(monkeypatch):
    monkeypatch.setattr(packed_linear, "can_pack", lambda: False)
    model = MODELS["gpt2"]()
    forward = CausalForward(model, masked=(0, 1, 2), compiled=False)
    before, _ = grown_by(forward, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    after, _ = grown_by(forward, 0)
    again, _ = grown_by(CausalForward(model, masked=(0, 1, 2), compiled=False), 0)
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 0.01
    np.testing.assert_array_equal(after, again)

"""The trial of a forward finds a fault in one row, at a branch, in a late wave or far away, and lets rounding pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from models.forward.causal import CausalForward
from models.forward.trial import FAR, NODES, UnservedError, on_trial, short_of, turning_point
from models.trie.trie import NotFiniteError, TokenTrie
from tests.models.test_forward_families import EXPERTS, SERVED, SIZES, each, random_model

V, POSITIONS = 50, 8192
TABLE = np.random.default_rng(5).normal(size=(64, V))
FAULTS = {  # which nodes are wrong
    "one row": lambda slot, depth, position: slot == 4,
    "the end of a branch": lambda slot, depth, position: slot == NODES - 1,
    "the second wave": lambda slot, depth, position: depth == 5,
    "the third wave": lambda slot, depth, position: depth == 9 and slot > 16,
    "the last wave": lambda slot, depth, position: depth == 14,
    "far positions": lambda slot, depth, position: position > FAR - 4,
}


class Toy:
    """A model whose logits are a running sum over its path of a table's rows, turned by the position; `wrong`: as in FAULTS."""

    def __init__(self, wrong=lambda *node: False, noise: float = 0.0, own_noise: float = 0.0):
        self.wrong, self.noise, self.own_noise = wrong, noise, own_noise
        self.tokens = np.zeros(NODES, np.int32)
        self.rng = np.random.default_rng(0)

    @staticmethod
    def row(tokens, position) -> np.ndarray:
        return TABLE[np.asarray(tokens) % 64].mean(0) + 0.3 * math.sin(position) * TABLE[0]

    def run(self, tokens, positions, slots, paths, lengths) -> torch.Tensor:
        self.tokens[slots] = tokens
        rows = []
        for position, slot, path, length in zip(positions, slots, paths, lengths, strict=True):
            row = self.row(self.tokens[path[:length]], position)
            row = row + self.noise * self.rng.normal(size=V) * row.std()
            rows.append(row + 0.5 * TABLE[1] * self.wrong(slot, length - 1, position))
        return torch.from_numpy(np.array(rows))

    def whole(self, tokens, positions, shaken: bool) -> torch.Tensor:
        rows = [
            [self.row(path[: t + 1], place[t]) for t in range(len(path))]
            for path, place in zip(tokens.numpy(), positions.numpy(), strict=True)
        ]
        expected = np.array(rows)
        noise = self.own_noise * shaken * self.rng.normal(size=expected.shape) * expected.std(-1, keepdims=True)
        return torch.from_numpy(expected + noise)

    def verdict(self, positions: int = POSITIONS) -> str | None:
        return on_trial(self.run, self.whole, V, positions)


@pytest.mark.parametrize("positions", [4, 9, 24, 100, POSITIONS])
def test_a_right_forward_passes_whatever_its_positions(positions):
    assert Toy().verdict(positions) is None


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("own_noise", [0.0, 0.02])
def test_a_fault_in_a_few_rows_is_found(name, own_noise):
    said = Toy(FAULTS[name], own_noise / 2, own_noise).verdict()
    assert said is not None
    assert "of their spread" in said


def test_rounding_passes_where_the_model_rounds_as_much_itself():
    assert Toy(noise=0.05, own_noise=0.05).verdict() is None
    assert Toy(noise=0.05, own_noise=0.01).verdict() is not None
    assert Toy(noise=0.05).verdict() is not None


def test_numbers_that_are_none_pass_only_where_they_are_the_models_own():
    assert Toy(noise=math.nan).verdict() is not None
    assert Toy(noise=math.inf).verdict() is not None
    toy = Toy()
    toy.row = lambda tokens, position: np.full(V, np.nan)
    assert toy.verdict() is None
    model = random_model("gpt2", SERVED["gpt2"])
    with torch.no_grad():
        model.trunk.transformer.wpe.weight[20:] = math.nan
    trie = TokenTrie(CausalForward(model, masked=(0, 1, 2)))
    trie.prefill([[5] * 20])
    with pytest.raises(NotFiniteError):
        trie.prefill([[5] * 21])


def test_each_node_is_computed_once_and_after_its_ancestors():
    seen: list[int] = []

    def run(tokens, positions, slots, paths, lengths):
        for slot, path, length in zip(slots, paths, lengths, strict=True):
            assert path[length - 1] == slot
            assert set(path[: length - 1]) <= {*seen, *slots.tolist()}
        seen.extend(slots.tolist())
        return torch.zeros(len(tokens), V)

    assert on_trial(run, lambda tokens, positions, shaken: torch.zeros(*tokens.shape, V), V, 4096) is None
    assert len(seen) == 2 * len(set(seen)) == 2 * (16 + 13 + 9 + 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", each(SERVED))
def test_sixteen_bits_pass_where_only_rounding_differs(kind, dtype):
    CausalForward(random_model(kind, SERVED[kind], dtype))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_mixtures_of_experts_pass_though_rounding_chooses_others(seed):
    model = random_model("qwen3_moe", EXPERTS | {"head_dim": 8}, torch.bfloat16, seed=seed)
    CausalForward(model)


def test_a_window_that_attention_is_not_told_of_is_noticed():
    layers = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
    config = LlamaConfig(**SIZES | layers)
    assert short_of(config, {0: 4096, 1: 0}) is None
    assert "window" in short_of(config, {0: 0, 1: 0})
    assert "1 of 2 layers" in short_of(config, {1: 0})


def test_a_mask_of_a_models_own_is_refused():
    with pytest.raises(UnservedError, match="adds a mask of its own"):
        CausalForward(random_model("doge", SIZES, torch.bfloat16))


def test_only_longrope_turns_at_a_length():
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 24}
    assert turning_point(MistralConfig(**SIZES, rope_parameters=rope)) == 96
    assert turning_point(MistralConfig(**SIZES)) == 96

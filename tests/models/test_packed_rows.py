"""Packed rows: the same hidden states and gradients as of whole rows, every distinct token computed once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.forward.packed_rows import Nodes, PackedRows, WholeRows, rows_reader
from models.net.adapters import layers_of
from models.net.losses import accumulate_gradients
from models.net.output_rule import TrainError
from models.net.policy_value import PolicyValueLM
from tests.models.test_forward_families import RECURRENT, SERVED, SIZES, SLOW, V, each, random_model


def rows(seed: int = 0, n: int = 9, length: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of three problems behind one example: they part at 4, then at 7 or later. Weights of both signs."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, V, (n, length))
    weight, value = np.zeros((n, length), np.float32), np.full((n, length), np.nan, np.float32)
    for row in range(n):
        shared = 7 + row // 3
        tokens[row, :shared] = tokens[row % 3, :shared]
        tokens[row, :4] = tokens[0, :4]
        end = int(rng.integers(shared + 1, length + 1))
        weight[row, 7:end], value[row, end - 1] = rng.uniform(-1, 1, end - 7), rng.random()
        tokens[row, end:] = 0
    return torch.from_numpy(tokens), torch.from_numpy(weight), torch.from_numpy(value)


def gradients(model: PolicyValueLM, reader, chunk: int = 2048) -> dict[str, torch.Tensor]:
    model.zero_grad()
    accumulate_gradients(reader, *rows(), value_coefficient=0.5, chunk_tokens=chunk)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("kind", each(SERVED, SLOW, RECURRENT))
def test_every_family_learns_the_same_through_its_reader(kind):
    model = random_model(kind, (SERVED | SLOW | RECURRENT)[kind])
    reader = rows_reader(model, model.trunk)
    assert isinstance(reader, PackedRows) == (kind in SERVED and kind != "biogpt")  # its base takes no positions
    if kind == "modernbert-decoder":  # two layers after its base
        with pytest.raises(TrainError, match="it can be searched, not trained"):
            gradients(model, reader)
        return
    expected = gradients(model, model)
    for chunk in (2048, 30):
        assert_equal(gradients(model, reader, chunk), expected)


@pytest.mark.parametrize("kind", ["gemma2", "bloom"])
def test_layers_computed_again_have_the_same_gradients_in_less_memory(kind):
    model = random_model(kind, (SERVED | SLOW)[kind])
    reader, again = (rows_reader(model, model.trunk, None, name) for name in (None, layers_of(model.trunk)))
    kept = []
    for which in (reader, again):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            which.hidden(rows()[0], torch.full((9,), 14))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]
    assert_equal(gradients(model, again), gradients(model, reader))


def test_what_rows_begin_with_is_a_node_once():
    tokens = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 9], [5, 6, 7, 1], [4, 6, 7, 8], [5, 6, 7, 8]])
    nodes = Nodes.of(tokens, torch.tensor([4, 3, 4, 2, 4]))
    assert nodes.tokens.shape == (1, 4 + 1 + 1 + 2)
    assert nodes.path[0].tolist() == nodes.path[4].tolist()
    for row, length in enumerate((4, 3, 4, 2, 4)):
        path = nodes.path[row, :length]
        assert nodes.tokens[0, path].tolist() == tokens[row, :length].tolist()
        assert nodes.positions[0, path].tolist() == list(range(length))
    assert nodes.path.flatten()[nodes.first].tolist() == list(range(8))


def test_chunks_hold_every_row_that_teaches_once_and_few_enough_nodes():
    model = random_model("llama", SIZES)
    reader = rows_reader(model, model.trunk)
    tokens, length = rows(n=9)[0], torch.tensor([9, 14, 0, 12, 10, 9, 11, 13, 0])
    chunks = reader.chunks(tokens, length, 30)
    assert sorted(torch.cat(chunks).tolist()) == [0, 1, 3, 4, 5, 6, 7]
    assert len(chunks) > 1
    assert all(Nodes.of(tokens[index], length[index]).tokens.numel() <= 30 for index in chunks)


def test_a_window_longer_than_the_trial_is_kept():
    model = random_model("mistral", SIZES | {"sliding_window": 24, "max_position_embeddings": 96})
    reader = rows_reader(model, model.trunk)
    assert isinstance(reader, PackedRows)
    tokens = torch.randint(3, V, (2, 60), generator=torch.Generator().manual_seed(0))
    tokens[1, :50] = tokens[0, :50]
    with torch.no_grad():
        torch.testing.assert_close(
            reader.hidden(tokens, torch.full((2,), 60)), model.hidden(tokens), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_in_bfloat16_are_near_those_in_float32(dtype):
    exact = random_model("llama", SIZES)
    model = random_model("llama", SIZES, dtype)
    reader = rows_reader(model, model.trunk, torch.bfloat16 if dtype == torch.float32 else None)
    assert isinstance(reader, PackedRows)
    expected, found = gradients(exact, exact), gradients(model, reader)
    difference = sum(float((found[name].float() - expected[name]).norm() ** 2) for name in expected) ** 0.5
    assert difference < 0.1 * sum(float(g.norm() ** 2) for g in expected.values()) ** 0.5


def test_whole_rows_are_read_through_the_models_own_forward():
    model = random_model("llama", SIZES)
    tokens = rows()[0]
    with torch.no_grad():
        hidden = WholeRows(model, model.trunk, None, None).hidden(tokens, torch.full((9,), 14))
        torch.testing.assert_close(hidden, model.hidden(tokens))

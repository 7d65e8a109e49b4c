"""Packed products equal torch's, and a row's result does not depend on its batch mates."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from models.cpu import products
from models.cpu.packed_linear import PackedLinear, packed_copy

SHAPES = [(48, 64), (576, 192), (1536, 70), (4096, 32)]
ROWS = 192


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture(params=[True, False], ids=["blocks", "onednn"])
def own(request, dtype) -> bool:
    if request.param and not products.fast(dtype == torch.bfloat16):
        pytest.skip("the CPU lacks the vectors")
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_torchs_own_up_to_rounding(shape, dtype, own):
    torch.manual_seed(0)
    layer = nn.Linear(*shape).to(dtype)
    x = torch.randn(3, 5, shape[0]).to(dtype)
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    found = PackedLinear(layer.weight, layer.bias, own=own)(x).double()
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=2 * step, atol=2e-6 * shape[0] ** 0.5 + step)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 63, 64, 128])
def test_a_row_is_the_same_bits_in_any_batch(shape, rows, dtype, own):
    if dtype == torch.bfloat16 and not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("a CPU without 16-bit products: oneDNN chooses how to stand in for them by their size")
    torch.manual_seed(1)
    layer = PackedLinear((torch.randn(shape[1], shape[0]) * 0.1).to(dtype), None, own=own)
    x = (torch.randn(ROWS, shape[0]) * 2).to(dtype)
    whole = layer(x)
    assert torch.equal(torch.cat([layer(part) for part in x.split(rows)]), whole)
    assert torch.equal(torch.cat([layer(part[None])[0] for part in x.split(rows)]), whole)


def test_a_copy_is_packed_and_leaves_the_model_alone():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), Conv1D(6, 8), nn.Linear(6, 10, bias=False))
    model[3].weight = nn.Parameter(torch.randn(10, 6))
    ids = torch.arange(10)
    expected = model(ids)
    twin = packed_copy(model)
    assert [type(layer) for layer in model] == [nn.Embedding, nn.Linear, Conv1D, nn.Linear]
    assert [type(layer) for layer in twin] == [nn.Embedding, *[PackedLinear] * 3]
    torch.testing.assert_close(twin(ids), expected)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(twin(ids), expected)
    assert not any(parameter.requires_grad for parameter in twin.parameters())


def test_a_tied_embedding_is_copied_too():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 10, bias=False))
    model[1].weight = model[0].weight
    twin = packed_copy(model)
    before = twin(torch.arange(10))
    with torch.no_grad():
        model[0].weight.zero_()
    torch.testing.assert_close(twin(torch.arange(10)), before)


def test_products_can_be_computed_in_another_type():
    torch.manual_seed(4)
    model = nn.Linear(64, 32)
    out = packed_copy(nn.Sequential(model), torch.bfloat16)(torch.randn(2, 64))
    assert out.dtype == torch.bfloat16

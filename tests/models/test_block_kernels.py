"""Blocks of a product equal numpy's, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest

from models.cpu import long_attention_bf16
from models.cpu.products import COLUMNS, bits, packed, product

KINDS = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not long_attention_bf16.AVAILABLE, reason="no pairs of bfloat16")),
]


def rounded(x: np.ndarray) -> np.ndarray:
    """To bfloat16 and back."""
    return (bits(x).astype(np.uint32) << 16).view(np.float32)


def test_bits_round_to_nearest_even():
    x = np.array([1.0, 1.00390625, 1.01171875, -3.0, 65537.0, 0.0], np.float32)  # the second and third are half-way
    np.testing.assert_array_equal(rounded(x), np.array([1.0, 1.0, 1.015625, -3.0, 65536.0, 0.0], np.float32))


@pytest.mark.parametrize("pairs", KINDS, ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("columns", "terms"), [(64, 64), (192, 32), (111, 64), (23, 96), (1, 2)])
@pytest.mark.parametrize("rows", [1, 6, 7, 48])
def test_a_product_equals_numpy(columns, terms, rows, pairs, rng):
    weight = rng.normal(size=(columns, terms)).astype(np.float32)
    x = rng.normal(size=(48, terms)).astype(np.float32)
    out = np.full((48, -(-columns // COLUMNS) * COLUMNS), np.nan, np.float32)
    bias = rng.normal(size=out.shape[1]).astype(np.float32)
    flat = np.concatenate((np.zeros(5, np.uint16 if pairs else np.float32), packed(weight, pairs)))
    product(bits(x) if pairs else x, rows, flat, 5, bias, out)
    expected = (rounded(x) if pairs else x).astype(np.float64) @ (rounded(weight) if pairs else weight).T + bias[
        :columns
    ]
    np.testing.assert_allclose(out[:rows, :columns], expected[:rows], atol=1e-4)
    np.testing.assert_array_equal(out[:rows, columns:], np.broadcast_to(bias[columns:], (rows, out.shape[1] - columns)))
    assert np.isnan(out[rows:]).all(), "other rows are left alone"
    alone = np.empty((1, out.shape[1]), np.float32)
    product((bits(x) if pairs else x)[rows - 1 : rows], 1, flat, 5, bias, alone)
    np.testing.assert_array_equal(alone[0], out[rows - 1])
    if pairs:
        halves = np.empty(out.shape, np.uint16)
        product(bits(x), rows, flat, 5, bias, halves)
        np.testing.assert_array_equal(halves[:rows], bits(out[:rows]))

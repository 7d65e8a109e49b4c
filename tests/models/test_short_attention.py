"""Attention over short paths equals the formula, whatever the shape of the heads, and stores what it attends to."""

from __future__ import annotations

import numpy as np
import pytest

from models.cpu.short_attention import attend, head_block

POSITIONS, SLOTS = 40, 300


def bits(x: np.ndarray) -> np.ndarray:
    """bfloat16 bits of float32, rounded to nearest even."""
    word = x.astype(np.float32).view(np.uint32)
    return ((word + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16)


def floats(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x


def turned(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotary embedding of x [heads, E] by the angles of one position [E / 2]."""
    first, second = np.split(x, 2, axis=1)
    return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=1)


def reference(qkv, slots, positions, paths, cos, sin, kv, n_heads, n_kv_heads, size):
    """Row by row in float64; changes kv [S, 2, G E] in place."""
    out = np.empty((len(qkv), n_heads * size))
    for b, row in enumerate(floats(qkv).astype(np.float64)):
        q, k, v = np.split(row.reshape(-1, size), [n_heads, n_heads + n_kv_heads])
        angle = cos[positions[b]], sin[positions[b]]
        kv[slots[b], 0], kv[slots[b], 1] = turned(k, *angle).ravel(), v.ravel()
        seen = kv[paths[b, : positions[b] + 1]].reshape(-1, 2, n_kv_heads, size).astype(np.float64)
        for h, query in enumerate(turned(q, *angle)):
            g = h // (n_heads // n_kv_heads)
            weight = np.exp(seen[:, 0, g] @ query - (seen[:, 0, g] @ query).max())
            out[b, h * size : (h + 1) * size] = weight / weight.sum() @ seen[:, 1, g]
    return out


def batch(rng, rows: int, n_heads: int, n_kv_heads: int, size: int):
    """Random rows at random depths; the later ones may sit below the earlier ones."""
    positions = np.sort(rng.integers(0, POSITIONS, rows)).astype(np.int32)
    slots = (np.arange(rows) + SLOTS - rows).astype(np.int32)
    paths = rng.integers(0, SLOTS - rows, (rows, POSITIONS)).astype(np.int32)
    for b in range(1, rows):
        if positions[b] > positions[b - 1]:  # a heir of the row before it in the same batch
            paths[b, : positions[b - 1] + 1] = paths[b - 1, : positions[b - 1] + 1]
            paths[b, positions[b - 1]] = slots[b - 1]
    paths[np.arange(rows), positions] = slots
    qkv = rng.normal(size=(rows, (n_heads + 2 * n_kv_heads) * size)).astype(np.float32)
    angles = np.outer(np.arange(POSITIONS), 100.0 ** -np.linspace(0, 1, size // 2))
    kv = rng.normal(size=(2, SLOTS, 2, n_kv_heads * size)).astype(np.float32)
    return qkv, slots, positions, paths, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), kv


@pytest.mark.parametrize("size", [8, 16, 24])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1), (8, 1)], ids=str)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_attention_equals_the_formula(heads, size, half, rng):
    qkv, slots, positions, paths, cos, sin, kv = batch(rng, 30, *heads, size)
    if half:
        qkv = bits(qkv)
    out = np.empty((len(qkv), heads[0] * size), np.uint16 if half else np.float32)
    expected_kv = kv.copy()
    expected = reference(qkv, slots, positions, paths, cos, sin, expected_kv[1], *heads, size)
    attend(
        qkv, slots, positions, paths, cos, sin, kv, 1, *heads, (0,) * head_block(heads[0]), (0,) * size, out
    )  # fmt: skip
    np.testing.assert_allclose(kv, expected_kv, atol=1e-6)
    np.testing.assert_allclose(floats(out), expected, atol=2e-2 if half else 2e-5)


def test_a_row_does_not_depend_on_its_batch(rng):
    qkv, slots, positions, paths, cos, sin, kv = batch(rng, 30, 4, 4, 16)
    whole, alone = np.empty((30, 64), np.float32), np.empty((30, 64), np.float32)
    shape = (4, 4, (0,) * 4, (0,) * 16)
    attend(qkv, slots, positions, paths, cos, sin, kv, 0, *shape, whole)
    for b in range(30):
        part = slice(b, b + 1)
        at = positions[part] + 1
        arguments = (qkv[part], slots[part], positions[part], np.ascontiguousarray(paths[part, : at[0]]), cos, sin)
        attend(*arguments, kv, 0, *shape, alone[part])
    np.testing.assert_array_equal(alone, whole)

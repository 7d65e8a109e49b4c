"""Attention over paths equals the formula, and a row's bits do not depend on the rows beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.cpu import long_attention as kernels
from models.cpu import long_attention_bf16

SHAPES = {  # leaves, candidates, shared positions, own positions, query heads, key heads, head size, window, soft cap
    "grouped heads": (5, 4, 37, 20, 6, 2, 64, 0, 0.0),
    "one row": (1, 1, 5, 1, 3, 3, 32, 0, 0.0),
    "odd sizes": (4, 3, 17, 9, 4, 2, 24, 0, 0.0),
    "window inside the tail": (3, 3, 40, 20, 4, 2, 64, 9, 0.0),
    "window and soft cap": (3, 3, 50, 20, 2, 1, 96, 33, 5.0),
    "more rows than a group holds": (2, 21, 30, 12, 4, 1, 32, 0, 0.0),
    "nothing shared": (6, 1, 1, 30, 2, 2, 128, 0, 0.0),
}
BACKENDS = [("general", torch.float32), ("general", torch.bfloat16)]
if long_attention_bf16.AVAILABLE:
    BACKENDS.append(("pairs", torch.bfloat16))


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


class Case:
    """Rows with random paths through a scattered arena."""

    def __init__(self, shape: tuple, dtype: torch.dtype):
        leaves, candidates, shared, own, self.h, self.g, self.e, self.window, self.softcap = shape
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        rows = leaves * candidates
        slots = iter(rng.permutation(leaves * shared + rows * own).astype(np.int32))
        self.paths = np.zeros((rows, shared + own), np.int32)
        for leaf in range(leaves):
            opening = [next(slots) for _ in range(shared)]
            for row in range(leaf * candidates, (leaf + 1) * candidates):
                self.paths[row] = opening + [next(slots) for _ in range(own)]
        self.lengths = (shared + own - rng.integers(0, own, rows)).astype(np.int32)
        self.kv = torch.randn(leaves * shared + rows * own, 2, self.g * self.e).to(dtype)
        self.q = (torch.randn(rows, self.h * self.e) * 1.5).to(dtype)

    def run(self, backend: str, rows: slice) -> torch.Tensor:
        paths, lengths = self.paths[rows], self.lengths[rows]
        first, count, shared = (np.zeros(len(lengths), np.int32) for _ in range(3))
        n = kernels.group_rows(paths, lengths, first, count, shared)
        groups = np.stack((first[:n], count[:n], shared[:n]), axis=1)
        out = torch.empty_like(self.q[rows])
        arguments = (
            as_numpy(self.q[rows]), as_numpy(self.kv), np.ascontiguousarray(paths), lengths, groups, (self.h, self.g, self.e),
            np.float32(self.e**-0.5), np.float32(self.softcap), self.window,
        )  # fmt: skip
        if backend == "pairs":
            together = long_attention_bf16.queries_at_once(self.h // self.g)
            long_attention_bf16.attend(*arguments, (0,) * (self.e // 32), (0,) * together, as_numpy(out))
        else:
            kernels.attend(*arguments, (0,) * -(-self.e // kernels.BLOCK), as_numpy(out))
        return out

    def expected(self, row: int) -> torch.Tensor:
        length = int(self.lengths[row])
        seen = self.paths[row, max(0, length - self.window) if self.window else 0 : length]
        k, v = (
            self.kv[seen, i].double().view(-1, self.g, self.e).repeat_interleave(self.h // self.g, 1) for i in (0, 1)
        )
        scores = torch.einsum("he,lhe->hl", self.q[row].double().view(self.h, self.e) * self.e**-0.5, k)
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        return torch.einsum("hl,lhe->he", scores.softmax(-1), v).reshape(-1)


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("name", SHAPES)
def test_attention_equals_the_formula(name, backend, dtype):
    case = Case(SHAPES[name], dtype)
    if backend == "pairs" and case.e % long_attention_bf16.PAIRS:
        pytest.skip("this size takes the general kernel")
    found = case.run(backend, slice(None)).double()
    expected = torch.stack([case.expected(row) for row in range(len(found))])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_row_is_the_same_bits_whatever_its_batch(name, backend, dtype):
    case = Case(SHAPES[name], dtype)
    if backend == "pairs" and case.e % long_attention_bf16.PAIRS:
        pytest.skip("this size takes the general kernel")
    whole = case.run(backend, slice(None))
    for size in (1, 2, 5):
        parts = [case.run(backend, slice(i, i + size)) for i in range(0, len(whole), size)]
        assert torch.equal(torch.cat(parts), whole)


def test_rows_are_grouped_by_what_they_share():
    paths = np.array([[0, 1, 2, 3, 0], [0, 1, 2, 4, 0], [0, 1, 5, 0, 0], [9, 8, 0, 0, 0]], np.int32)
    lengths = np.array([4, 4, 3, 2], np.int32)
    first, count, shared = (np.zeros(4, np.int32) for _ in range(3))
    n = kernels.group_rows(paths, lengths, first, count, shared)
    assert list(zip(first[:n], count[:n], shared[:n], strict=True)) == [(0, 4, 0)]  # all tails are short
    far = np.arange(400, dtype=np.int32).reshape(4, 100)
    far[1, :80] = far[0, :80]
    n = kernels.group_rows(far, np.full(4, 100, np.int32), first, count, shared)
    assert list(zip(first[:n], count[:n], shared[:n], strict=True)) == [(0, 2, 80), (2, 1, 100), (3, 1, 100)]

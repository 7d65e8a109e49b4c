"""What is computed beside a problem changes nothing of it: nets of this project, whole searches, bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from models.cpu import products, small_llama
from models.net.value_head import ValueHead
from models.policy import SHIPPED
from solve.plan import Solution
from solve.solver import Solver
from solve.strategies import THINK, ways
from tasks import make_task


@pytest.mark.parametrize("width", [32, 64, 96])
def test_a_value_is_the_heads_and_the_same_beside_any_rows(width):
    torch.manual_seed(width)
    head, rng = ValueHead(width).requires_grad_(False), np.random.default_rng(width)
    final, gain = rng.normal(size=(101, width)).astype(np.float32), rng.normal(size=width).astype(np.float32)
    bias = np.zeros(products.whole(width), np.float32)
    bias[:width] = head.inner.bias.numpy()
    packed = products.packed(head.inner.weight.numpy(), False)
    parts = gain, packed, bias, head.outer.weight[0].numpy().copy(), np.float32(head.outer.bias.item())

    def values(rows: np.ndarray) -> np.ndarray:
        out = np.empty(len(rows), np.float32)
        small_llama.value_of(rows, *parts, out)
        return out

    together = values(final)
    np.testing.assert_allclose(together, torch.sigmoid(head(torch.from_numpy(final * gain))).numpy(), rtol=1e-5)
    for size in (1, 2, 7, 48, 60):
        alone = np.concatenate([values(final[k : k + size]) for k in range(0, len(final), size)])
        assert (alone == together).all(), size


STRATEGIES = sorted({*ways(make_task("countdown", numbers=4))} - {THINK})


@cache
def opened(net: str) -> Solver:
    return Solver(str(SHIPPED / net))


def outcome(solution: Solution) -> tuple:
    return solution.answer, solution.steps, solution.cost.generated_tokens, solution.confidence, solution.stopped


def differing(net: str, problems: int, beside: int, **settings) -> int:
    """Of so many problems, those whose search comes out otherwise beside others."""
    solver = opened(net)
    asked = solver.shelved.task.problems("test", problems, seed=5)
    settings |= {"verify": "none"}
    batches = [solver.solve(asked[k : k + beside], **settings) for k in range(0, problems, beside)]
    together = [outcome(solution) for batch in batches for solution in batch]
    return sum(
        outcome(solver.solve([problem], **settings)[0]) != seen for problem, seen in zip(asked, together, strict=True)
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batch_mates_do_not_change_a_search(strategy):
    assert differing("countdown4", 12, beside=12, strategy=strategy, effort="low") == 0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batch_mates_change_none_of_two_hundred_searches(strategy):
    assert differing("countdown4", 200, beside=32, strategy=strategy, effort="low") == 0


@pytest.mark.slow
def test_batch_mates_change_none_of_two_hundred_longer_searches():
    assert differing("countdown5wide", 200, beside=32, strategy="puct", tokens=400) == 0

"""A trie that is used again knows nothing of what it held, and nobody gets one that is in use."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from models.local_policy import LocalPolicy
from models.trie.pool import MOST_IDLE, TriePool
from models.trie.trie import TokenTrie
from tests.models.fakes import SumTask, sum_forward

TASK = SumTask()
PROBLEMS = TASK.problems("train", 4)


def test_a_trie_comes_back_empty_and_counts_from_nothing():
    pool = TriePool(sum_forward())
    with pool.lent() as first:
        first.extend(first.prefill([[3, 4]]), np.array([5], np.int32))
    with pool.lent() as again:
        assert again is first
        assert (again.n_nodes, again.generated_tokens, again.prefilled_tokens, again.recomputed_tokens) == (0, 0, 0, 0)


def test_no_two_hold_one_trie_and_only_few_wait():
    pool = TriePool(sum_forward())
    held = [pool.take() for _ in range(MOST_IDLE + 2)]
    assert len(set(map(id, held))) == len(held)
    for trie in held:
        pool.put_back(trie)
    assert sum(pool.take() in held for _ in held) == MOST_IDLE


def test_a_trie_that_has_grown_or_was_left_in_an_error_is_not_kept():
    pool = TriePool(sum_forward())
    grown = TokenTrie(pool.forward, capacity=2)
    grown.prefill([[3, 4, 5]])
    pool.put_back(grown)
    with pytest.raises(KeyboardInterrupt), pool.lent() as broken:
        raise KeyboardInterrupt
    assert pool.take() not in (grown, broken)


def test_an_evaluators_trie_comes_back_when_it_is_gone_and_not_before():
    policy = LocalPolicy(None, forward=sum_forward())
    first = policy.evaluator(TASK)
    second = policy.evaluator(TASK)
    assert first.trie is not second.trie
    kept = first.trie
    del first
    gc.collect()
    assert policy.evaluator(TASK).trie is kept


def test_chains_are_the_same_in_a_trie_that_was_used_before():
    policy = LocalPolicy(None, forward=sum_forward())
    fresh = policy.chains(TASK, PROBLEMS, 3, seed=5)
    policy.chains(TASK, PROBLEMS[::-1], 2, seed=6)
    assert policy.chains(TASK, PROBLEMS, 3, seed=5) == fresh

"""Rewards that come when a search has ended."""

from __future__ import annotations

import numpy as np
import pytest

import mcts
from models.steps.evaluator import ModelEvaluator
from tests.models.fakes import SumTask, TableForward


@pytest.fixture
def store() -> mcts.Store:
    task = SumTask()
    evaluator = ModelEvaluator(None, task, forward=TableForward(len(task.vocabulary), newline_bonus=2.0))
    roots = evaluator.begin(task.problems("train", 2))
    return mcts.search(roots, evaluator, mcts.BestFirst(), mcts.Budget(simulations=60)).store


def test_settled_rewards_are_what_graph_backup_sees(store):
    terminal = np.flatnonzero((store.nodes["flags"] & mcts.Flag.TERMINAL) != 0)
    store.settle(terminal, np.zeros(len(terminal), np.float32))
    assert (mcts.distances(store) == mcts.UNREACHED).all()
    store.settle(terminal[-1:], np.ones(1, np.float32))
    distance = mcts.distances(store)
    assert distance[terminal[-1]] == 0
    path = mcts.path_edges(store, int(terminal[-1]))
    assert 0 < distance[store.edges["parent"][path[0]]] <= len(path)
    assert store.nodes["value"][terminal].tolist() == [0.0] * (len(terminal) - 1) + [1.0]


def test_only_terminals_have_a_reward(store):
    with pytest.raises(ValueError, match="only terminal nodes"):
        store.settle(np.array([0]), np.ones(1, np.float32))

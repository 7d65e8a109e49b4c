"""A node of a served policy, where steps are distinct by rejection, is given up neither while mass is left nor too late."""

from __future__ import annotations

import math

import numpy as np

from models.remote.answers import Capabilities
from models.remote.client import RemoteClient
from models.remote.evaluator import MOST_AT_ONCE, MOST_MISSES, RemoteEvaluator
from tests.models.fakes import SumTask
from tests.models.servers import FakeServer, vllm_answer, vllm_choice


def test_a_node_goes_on_while_mass_is_left_though_most_draws_repeat():
    def skewed(call):
        """One step has nine tenths of all mass; the rest is what a search is for."""
        rng = np.random.default_rng(call.body["seed"])
        drawn = rng.choice(3, call.body.get("n", 1), p=[0.9, 0.06, 0.04]) if call.body["temperature"] else [0]
        return vllm_answer(
            [vllm_choice("345"[k], [math.log((0.9, 0.06, 0.04)[k]), 0.0], i) for i, k in enumerate(drawn)],
            2 * len(drawn),
        )

    with FakeServer(skewed) as server, RemoteClient(server.url, "small", capabilities=Capabilities()) as client:
        found = 0
        for seed in range(20):
            evaluator = RemoteEvaluator(client, SumTask(), seed=seed)
            handles = evaluator.begin(SumTask().problems("train", 1)).handles
            found += sum(len(evaluator.expand(handles, 1, "best").handles) for _ in range(2))
    assert (
        found >= 38
    )  # 0.9 ** MOST_MISSES = 0.03 of the nodes miss their second step; six draws would miss in half of them


def test_a_server_that_says_one_thing_only_is_left_after_few_draws():
    same = vllm_answer([vllm_choice("3", [-2.0, 0.0])], 2)
    with (
        FakeServer(lambda call: same) as server,
        RemoteClient(server.url, "small", capabilities=Capabilities()) as client,
    ):
        evaluator = RemoteEvaluator(client, SumTask())
        handles = evaluator.begin(SumTask().problems("train", 1)).handles
        assert len(evaluator.expand(handles, 1).handles) == 1
        x = evaluator.expand(handles, 1)
        assert (len(x.handles), x.unseen_logmass[0]) == (0, -np.inf)
        assert x.leaf_tokens[0] <= 2 * (MOST_MISSES + MOST_AT_ONCE)

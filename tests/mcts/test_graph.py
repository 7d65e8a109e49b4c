"""Graph backup against plain searches of the same graph; policies against their formulas."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcts import (
    EDGE,
    NODE,
    PUCT,
    TREE,
    UNREACHED,
    BestFirst,
    Budget,
    Flag,
    Proportional,
    completed_q,
    distances,
    graph_values,
    improved_policy,
    proven_lost,
    search,
    visit_policy,
)
from mcts.store import records
from tests.mcts.fakes import TableEvaluator

WORLDS = [(seed, merged) for seed in range(5) for merged in (False, True)]


def explored(seed, merged, rule, simulations=120):
    world = TableEvaluator(seed, merged=merged, n_states=60, min_steps=0, max_steps=4, p_terminal=0.25)
    return search(world.begin(range(6)), world, rule, Budget(simulations=simulations))


def plain_bfs(result, sources):
    """Least number of edges from each node to a source, forwards from every node in turn."""
    successors = [[] for _ in range(result.store.n_nodes)]
    for edge in result.store.edges:
        successors[edge["parent"]].append(int(edge["child"]))
    out = []
    for start in range(result.store.n_nodes):
        steps, queue = {start: 0}, deque([start])
        found = 0 if start in sources else UNREACHED
        while queue and found == UNREACHED:
            n = queue.popleft()
            for m in successors[n]:
                if m not in steps:
                    steps[m] = steps[n] + 1
                    queue.append(m)
                    if m in sources:
                        found = steps[m]
                        queue.clear()
                        break
        out.append(found)
    return np.array(out)


@pytest.mark.parametrize(("seed", "merged"), WORLDS)
@pytest.mark.parametrize("rule", [PUCT(n_candidates=3), BestFirst(), Proportional()], ids=lambda r: type(r).__name__)
def test_distances_and_losses_equal_plain_bfs(seed, merged, rule):
    result = explored(seed, merged, rule)
    flags = result.store.nodes["flags"]
    solved = set(np.flatnonzero(flags & Flag.SOLVED).tolist())
    fresh = set(np.flatnonzero((flags & (Flag.TERMINAL | Flag.EXHAUSTED)) == 0).tolist())
    np.testing.assert_array_equal(distances(result.store), plain_bfs(result, solved))
    np.testing.assert_array_equal(proven_lost(result.store), plain_bfs(result, solved | fresh) == UNREACHED)


def test_some_worlds_hold_solutions_and_some_losses():
    results = [explored(seed, merged, PUCT(n_candidates=3)) for seed, merged in WORLDS]
    assert sum((distances(r.store) < UNREACHED).sum() for r in results) > 100
    assert sum(proven_lost(r.store).sum() for r in results) > 100


@pytest.mark.parametrize(("seed", "merged"), WORLDS)
def test_what_the_search_calls_lost_is_proven_lost(seed, merged):
    result = explored(seed, merged, PUCT(n_candidates=3))
    lost = (result.store.nodes["flags"] & Flag.LOST) != 0
    assert proven_lost(result.store)[lost].all()
    np.testing.assert_array_equal(result.store.nodes["value"][lost], 0.0)


def test_graph_values_are_exact_where_proven_and_the_search_elsewhere():
    result = explored(1, True, PUCT(n_candidates=3))
    values, steps = graph_values(result.store, 0.9), distances(result.store)
    lost = proven_lost(result.store)
    reached = steps != UNREACHED
    np.testing.assert_allclose(values[reached], 0.9 ** steps[reached], rtol=1e-6)
    np.testing.assert_array_equal(values[lost], 0.0)
    rest = ~reached & ~lost
    np.testing.assert_array_equal(values[rest], result.store.nodes["value"][rest])


def test_candidates_group_edges_by_parent_in_order():
    result = explored(2, True, PUCT(n_candidates=3, widen_c=1.0))
    offsets, ids = result.store.candidates()
    for node in range(result.store.n_nodes):
        np.testing.assert_array_equal(ids[offsets[node] : offsets[node + 1]], result.store.edges_of(node))


@given(st.lists(st.tuples(st.floats(-20, 0), st.integers(0, 50), st.floats(0, 1)), max_size=8), st.floats(0, 1))
def test_policies_are_distributions(rows, raw_value):
    logprobs, visits, q = (np.array([row[i] for row in rows], float) for i in range(3))
    policy = improved_policy(logprobs, completed_q(logprobs, visits, q, raw_value))
    assert len(policy) == len(rows)
    assert not len(rows) or policy.sum() == pytest.approx(1.0)
    for temperature in (0.0, 0.5, 1.0):
        counts = visit_policy(visits, temperature)
        assert counts.sum() == pytest.approx(1.0 if visits.any() else 0.0)


def test_visit_policy_sharpens_with_lower_temperature():
    np.testing.assert_allclose(visit_policy([1, 3], 1.0), [0.25, 0.75])
    np.testing.assert_allclose(visit_policy([1, 3], 0.5), [0.1, 0.9])
    np.testing.assert_array_equal(visit_policy([3, 3, 1], 0.0), [1.0, 0.0, 0.0])


def test_a_proven_candidate_without_visits_keeps_its_exact_value():
    logprobs = np.log([0.9, 0.1])
    sigma = completed_q(logprobs, [0, 0], [0.0, 1.0], 0.5, known=np.array([True, True]))
    assert improved_policy(logprobs, sigma)[1] > 0.9


def test_record_words_are_defined_once_and_equal_the_layout():
    names = {"tree": "TREE_ID", "unseen_logmass": "UNSEEN", "best_unseen_logprob": "BEST_UNSEEN",
             "n_nodes": "N_TREE_NODES", "simulation_limit": "SIM_LIMIT"}  # fmt: skip
    words: dict[str, int] = {flag.name: flag.value for flag in Flag}
    for prefix, record, size in (("", NODE, 4), ("E_", EDGE, 4), ("", TREE, 8)):
        for i, name in enumerate(record.names):
            assert record.fields[name][1] == size * i
            words[names.get(name, prefix + name.upper())] = i
    for name, value in words.items():
        assert (type(getattr(records, name)), getattr(records, name)) == (int, value), name
    for file in Path(records.__file__).parent.glob("*.py"):
        if file.name != "records.py":
            assert not set(re.findall(r"^\(?([A-Z_]+)(?:,| =)", file.read_text(), re.MULTILINE)) & set(words), file

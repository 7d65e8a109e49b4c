"""Rollouts of PUCT go on to the end, count as simulations, and survive a cancelled wave; parked states wait for their turn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mcts import PUCT, BestFirst, Budget, Flag, Status, Store, resume, search
from tests.mcts.fakes import TableEvaluator, shape_of

WIDE = {"min_steps": 2, "max_steps": 4, "p_terminal": 0.3, "p_illegal": 0.0}
PLAYED_OUT = PUCT(n_candidates=1, widen_c=1.0, rollout=True)


def waves_of(rule, world, simulations=80, wave_size=1):
    """Leaf and first new child of every wave of one tree, in order."""
    seen = []

    def note(store, leaves, expansion):
        new = store.n_edges - len(expansion.handles)
        seen.append((int(leaves.nodes[0]), int(store.edges["child"][new]) if len(expansion.handles) else None))

    result = search(world.begin([0]), world, rule, Budget(simulations=simulations), wave_size=wave_size, on_wave=note)
    return result, seen


def test_a_rollout_of_puct_goes_on_until_its_chain_ends():
    result, seen = waves_of(PLAYED_OUT, TableEvaluator(4, **WIDE))
    flags = result.store.nodes["flags"]
    went_on = 0
    for (_, child), (leaf, _) in itertools.pairwise(seen):
        if child is not None and not flags[child] & Flag.TERMINAL:
            assert leaf == child
            went_on += 1
    assert went_on > 20


def test_without_rollouts_the_next_leaf_is_where_the_descent_ends():
    _, seen = waves_of(PUCT(n_candidates=1, widen_c=1.0), TableEvaluator(4, **WIDE))
    assert any(child is not None and leaf != child for (_, child), (leaf, _) in itertools.pairwise(seen))


@pytest.mark.parametrize("wave_size", [1, 4])
def test_steps_of_a_rollout_count_as_simulations_and_as_visits(wave_size):
    world = TableEvaluator(5, **WIDE)
    result = search(world.begin(range(3)), world, PLAYED_OUT, Budget(simulations=50), wave_size=wave_size)
    store = result.store
    assert (result.simulations <= 50).all()
    assert not store.edges["in_flight"].any()
    for node in np.flatnonzero(store.nodes["flags"] & Flag.EXPANDED):
        edges = store.edges[store.edges_of(int(node))]
        record = store.nodes[node]
        assert record["visits"] == 1 + record["failures"] + edges["visits"].sum()


def test_a_rollout_goes_on_after_a_cancelled_wave():
    class Failing(TableEvaluator):
        fails_at = 7

        def expand(self, handles, n_candidates, draw="sample"):
            self.fails_at -= 1
            if self.fails_at == 0:
                raise OSError("gone")
            return super().expand(handles, n_candidates, draw)

    smooth = TableEvaluator(6, **WIDE)
    whole = search(smooth.begin([0]), smooth, PLAYED_OUT, Budget(simulations=40))
    world = Failing(6, **WIDE)
    store = Store.plant(world.begin([0]))
    with pytest.raises(OSError, match="gone"):
        resume(store, world, PLAYED_OUT, Budget(simulations=40))
    assert shape_of(resume(store, world, PLAYED_OUT, Budget(simulations=40)), world, 0) == shape_of(whole, smooth, 0)


def parked(park: float) -> BestFirst:
    return BestFirst(rollout=True, value_weight=0.0, lam=1.0, cost="none", park=park)


def goings_on(result, seen):
    """Of every state below which the search could go on: its value over that of the state before, and whether it did."""
    values, flags = result.store.nodes["raw_value"], result.store.nodes["flags"]
    for (before, child), (leaf, _) in itertools.pairwise(seen):
        if child is not None and not flags[child] & Flag.TERMINAL:
            yield values[child] / values[before], leaf == child


def test_a_parked_state_is_not_gone_on_with_at_once():
    result, seen = waves_of(parked(0.8), TableEvaluator(7, **WIDE))
    later = list(goings_on(result, seen))[WIDE["max_steps"] :]
    assert all(went_on for ratio, went_on in later if ratio > 0.8)
    assert sum(went_on for ratio, went_on in later if ratio > 0.8) > 5
    assert sum(not went_on for ratio, went_on in later if ratio < 0.8) > 5
    _, unparked = waves_of(parked(0.0), TableEvaluator(7, **WIDE))
    assert unparked != seen


def test_the_first_chain_is_parked_on_twice_the_evidence():
    kinds = {"kept": 0, "spared": 0, "parked": 0}
    for seed in range(80):
        result, seen = waves_of(parked(0.6), TableEvaluator(seed, **WIDE), simulations=8)
        flags = result.store.nodes["flags"]
        ended = [child is None or bool(flags[child] & Flag.TERMINAL) for _, child in seen]
        ends = ended.index(True) if any(ended) else len(seen)
        for ratio, went_on in goings_on(result, seen[: ends + 1]):
            if ratio < 0.36:
                kinds["parked"] += not went_on
                break
            assert went_on, f"seed {seed}: {ratio:.3f}"
            kinds["kept" if ratio > 0.6 else "spared"] += 1
    assert min(kinds.values()) > 3, kinds


def test_parking_loses_no_state():
    found = []
    for park in (0.0, 0.95):
        world = TableEvaluator(8, merged=True, n_states=60, min_steps=1, max_steps=3)
        result = search(world.begin([0]), world, BestFirst(rollout=True, park=park), Budget(simulations=5000))
        assert result.status[0] == Status.CLOSED
        found.append({world.arrivals[handle][1] for handle in result.store.node_handles.tolist()})
    assert found[0] == found[1]


def test_a_negative_park_is_refused():
    with pytest.raises(ValueError, match="park=-1"):
        BestFirst(park=-1.0)

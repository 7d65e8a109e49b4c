"""Slots: how many leaves a model call holds, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mcts import NONE, PHS, PUCT, BestFirst, Budget, Flag, Gumbel, Proportional, Status, Store, resume, search
from tests.mcts.fakes import TableEvaluator, shape_of

RULES = {
    "puct": PUCT(n_candidates=3),
    "gumbel": Gumbel(n_candidates=3, root_candidates=5),
    "best-first": BestFirst(n_candidates=2),
    "phs": PHS(n_candidates=2),
    "proportional": Proportional(),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
WORLD = {"merged": True, "n_states": 2000, "min_steps": 2, "max_steps": 5, "p_terminal": 0.1}


def waves_of(rule, slots, *, wave_size=3, trees=10, simulations=60):
    world, sizes, served = TableEvaluator(1, **WORLD), [], []

    def note(store, leaves, expansion):
        sizes.append(len(leaves))
        served.append(set(store.nodes["tree"][leaves.nodes].tolist()))

    budget = Budget(simulations=simulations)
    result = search(world.begin(range(trees)), world, rule, budget, wave_size=wave_size, slots=slots, on_wave=note)
    return [shape_of(result, world, tree) for tree in range(trees)], sizes, served


@each_rule
@pytest.mark.parametrize("slots", [3, 7, 12])
def test_slots_change_who_is_served_when_and_no_tree(rule, slots):
    free, _, _ = waves_of(rule, None)
    bound, sizes, _ = waves_of(rule, slots)
    assert bound == free
    assert max(sizes) <= slots


@each_rule
def test_no_tree_waits_longer_than_a_turn_of_all(rule):
    _, _, served = waves_of(rule, 6, wave_size=3)  # two trees a round at least
    last = {}
    for round_, trees in enumerate(served):
        for tree in trees:
            assert round_ - last.get(tree, round_) <= 5
            last[tree] = round_


def test_slots_that_a_tree_cannot_fill_go_to_the_next():
    _, sizes, served = waves_of(PUCT(n_candidates=3), 8, wave_size=4, trees=12)
    roots = [size for size, trees in zip(sizes, served, strict=True) if len(trees) == size][:1]
    assert roots == [8]  # a root alone is all that a new tree has to give: eight trees, not two


def test_fewer_slots_than_a_wave_are_refused():
    world = TableEvaluator(0)
    with pytest.raises(ValueError, match=r"slots=2: at least wave_size=3"):
        search(world.begin([0]), world, PUCT(), Budget(simulations=3), wave_size=3, slots=2)


@each_rule
@pytest.mark.parametrize("ends", [0.0, 0.1])
def test_an_evaluator_that_raises_leaves_a_store_that_goes_on(rule, ends):
    """As if nothing had happened, but for terminals that the lost wave met: those simulations stay."""
    world_of = {**WORLD, "p_terminal": ends, "p_illegal": ends}

    class Failing(TableEvaluator):
        calls = 0

        def expand(self, handles, n_candidates, draw="sample"):
            self.calls += 1
            if self.calls in (1, 4, 9):
                raise RuntimeError("out of memory")
            return super().expand(handles, n_candidates, draw)

    def store_of(world):
        return Store.plant(world.begin(range(6)), 3)

    world = Failing(2, **world_of)
    store, failures = store_of(world), 0
    while True:
        try:
            result = resume(store, world, rule, Budget(simulations=50), wave_size=4)
            break
        except RuntimeError:
            failures += 1
            assert not (store.nodes["flags"] & Flag.PENDING).any()
            assert not store.edges["in_flight"].any()
    assert failures == 3
    steady = TableEvaluator(2, **world_of)
    calm = resume(store_of(steady), steady, rule, Budget(simulations=50), wave_size=4)
    np.testing.assert_array_equal(result.simulations, calm.simulations)
    if not ends and not isinstance(rule, Proportional):  # whose further steps at an expanded state are drawn anew
        assert [shape_of(result, world, t) for t in range(6)] == [shape_of(calm, steady, t) for t in range(6)]


def test_a_state_whose_wave_failed_waits_once_for_its_rollout_to_go_on():
    """A draw may take a state that waits already; entered twice, it would make its stack a loop."""
    rng = np.random.default_rng(158)

    class Failing(TableEvaluator):
        def expand(self, handles, n_candidates, draw="sample"):
            if rng.random() < 0.3:
                raise RuntimeError("out of memory")
            return super().expand(handles, n_candidates, draw)

    world = Failing(158, merged=True, n_states=int(rng.choice([12, 30, 300])), min_steps=1, max_steps=4, p_terminal=0.1)
    store, rule, failures = Store.plant(world.begin([0]), 158), Proportional(n_candidates=int(rng.integers(1, 4))), 0
    while True:
        try:
            result = resume(store, world, rule, Budget(simulations=60), wave_size=int(rng.choice([2, 4, 8])))
            break
        except RuntimeError:
            failures += 1
            waiting, seen = int(store.trees["queue"][0]), []
            while waiting != NONE:
                assert waiting not in seen
                seen.append(waiting)
                waiting = int(store.heap[waiting, 1])
    assert failures > 3
    assert result.simulations[0] == 60 or result.status[0] == Status.CLOSED


BROKEN = {
    "nan prior": ("logprobs", np.nan, "logprobs"),
    "prior above one": ("logprobs", 0.7, "logprobs"),
    "value above one": ("raw_values", 1.5, "raw_values"),
    "nan value": ("raw_values", np.nan, "raw_values"),
    "negative reward": ("rewards", -1.0, "rewards"),
}


@pytest.mark.parametrize(("name", "value", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_expansion_is_refused_in_one_line_and_the_store_is_unharmed(name, value, said):
    class Broken(TableEvaluator):
        ill = True

        def expand(self, handles, n_candidates, draw="sample"):
            if self.ill and len(self.arrivals) > 20:
                self.ill = False
                found = TableEvaluator(9, **WORLD)
                found.begin([0])
                answer = found.expand(np.zeros(1, np.int64), 3)
                getattr(answer, name)[0] = value
                return answer
            return super().expand(handles, n_candidates, draw)

    world = Broken(2, **{**WORLD, "p_terminal": 0.0, "p_illegal": 0.0})
    store = Store.plant(world.begin([0]), 3)
    with pytest.raises(ValueError, match=rf"^{said}\[0\] = .*: must lie in [^\n]*$"):
        resume(store, world, PUCT(n_candidates=3), Budget(simulations=80))
    result = resume(store, world, PUCT(n_candidates=3), Budget(simulations=80))
    assert result.simulations[0] == 80


def test_an_expansion_that_does_not_fit_its_wave_is_refused():
    class Short(TableEvaluator):
        def expand(self, handles, n_candidates, draw="sample"):
            found = super().expand(handles, n_candidates, draw)
            return replace(found, logprobs=found.logprobs[1:])

    world = Short(1, min_steps=2)
    with pytest.raises(ValueError, match="logprobs has 1 rows for 2 candidates"):
        search(world.begin([0]), world, PUCT(n_candidates=2), Budget(simulations=3))

"""Early stops end a tree that has decided, and no other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcts import PUCT, Budget, KLDGain, SmartPruning, Status, search
from tests.mcts.fakes import TableEvaluator

WORLD = {"min_steps": 3, "max_steps": 4, "p_terminal": 0.02, "p_illegal": 0.0}
RULE = PUCT(n_candidates=4)


def root_visits(result, tree: int) -> list[int]:
    return sorted(result.children(int(result.roots[tree]))["visits"].tolist(), reverse=True)


def played(budget, stops=(), trees=12, rule=RULE, on_wave=None, **world):
    evaluator = TableEvaluator(3, **{**WORLD, **world})
    return search(evaluator.begin(range(trees)), evaluator, rule, budget, stops=stops, on_wave=on_wave)


def test_smart_pruning_at_factor_one_never_changes_the_action():
    short = played(Budget(simulations=200), [SmartPruning(factor=1.0)])
    whole = played(Budget(simulations=200))
    assert [short.action(t) for t in range(12)] == [whole.action(t) for t in range(12)]
    decided = short.status == Status.DECIDED
    assert decided.any()
    assert (short.simulations[decided] < 200).all()
    assert (short.simulations[~decided] == 200).all()


@pytest.mark.parametrize("factor", [1.0, 1.33, 3.0])
def test_smart_pruning_stops_at_the_first_wave_where_the_lead_is_out_of_reach(factor):
    leads: list[list[tuple[int, int]]] = [[] for _ in range(12)]

    def note(store, leaves, expansion):
        for tree in set(store.nodes["tree"][leaves.nodes].tolist()):
            visits = sorted(store.edges["visits"][store.edges_of(tree)].tolist(), reverse=True)
            leads[tree].append((int(store.trees["simulations"][tree]), visits[0] - visits[1]))

    result = played(Budget(simulations=120), [SmartPruning(factor)], on_wave=note)
    for tree in range(12):
        out_of_reach = [(120 - done) / factor < lead for done, lead in leads[tree]]
        assert not any(out_of_reach[:-1])
        assert out_of_reach[-1] == (result.status[tree] == Status.DECIDED) or result.simulations[tree] == 120


def test_smart_pruning_reads_a_budget_of_tokens():
    result = played(Budget(tokens=600), [SmartPruning()])
    decided = result.status == Status.DECIDED
    assert decided.any()
    assert (result.tokens[decided] < 600).all()


def test_smart_pruning_without_a_budget_it_can_read_stops_nothing():
    result = played(Budget(seconds=0.2), [SmartPruning()], min_steps=4)
    assert (result.status != Status.DECIDED).all()


def test_a_root_with_one_candidate_is_decided_at_once():
    result = played(Budget(simulations=100), [SmartPruning()], min_steps=1, max_steps=1)
    assert (result.status == Status.DECIDED).all()
    assert (result.simulations == 1).all()


def test_kld_gain_stops_where_the_formula_says():
    history: dict[int, np.ndarray] = {}

    def note(store, leaves, expansion):
        history[int(store.trees["simulations"][0])] = store.edges["visits"][store.edges_of(0)].astype(float)

    least, interval = 2e-4, 20
    result = played(Budget(simulations=2000), [KLDGain(least, interval)], trees=1, on_wave=note)
    before, stopped_at = None, None
    for done, visits in history.items():
        if visits.sum() - (0 if before is None else before.sum()) < interval:
            continue
        if before is not None:
            gain = sum(
                o / before.sum() * math.log((o / before.sum()) / (n / visits.sum()))
                for o, n in zip(before, visits, strict=True)
                if o
            )
            if gain / (visits.sum() - before.sum()) < least:
                stopped_at = done
                break
        before = visits
    assert result.status[0] == Status.DECIDED
    assert result.simulations[0] == stopped_at


@pytest.mark.parametrize(
    "wrong", [lambda: SmartPruning(factor=0.0), lambda: KLDGain(least=0.0), lambda: KLDGain(interval=0)]
)
def test_settings_that_never_or_always_stop_are_refused(wrong):
    with pytest.raises(ValueError, match="above 0"):
        wrong()

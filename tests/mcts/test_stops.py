"""Early stops end a tree that has decided, and no other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcts import PUCT, Budget, Forest, KLDGain, SmartPruning, Status, playout_caps, search
from mcts.rules.puct import unforced_visits
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


def test_playout_caps_give_each_search_its_own_budget(rng):
    caps, is_full = playout_caps(400, full=60, cheap=10, share=0.25, rng=rng)
    assert 70 <= is_full.sum() <= 130
    assert (caps == np.where(is_full, 60, 10)).all()
    assert caps.dtype == np.int64
    evaluator = TableEvaluator(2, min_steps=2, p_terminal=0.0)
    result = search(evaluator.begin(range(9)), evaluator, PUCT(), Budget(simulations=caps[:9]))
    assert result.simulations.tolist() == caps[:9].tolist()
    forest = Forest(9, 3, simulations=caps[:9])
    forest.search(lambda forest: (np.ones((forest.leaves, 3)), np.full(forest.leaves, 0.5)))
    assert forest.simulations.tolist() == caps[:9].tolist()


def test_playout_caps_draw_once_a_tree_from_the_callers_generator():
    ours, theirs = np.random.default_rng(4), np.random.default_rng(4)
    _, is_full = playout_caps(50, full=9, cheap=3, share=0.4, rng=ours)
    np.testing.assert_array_equal(is_full, theirs.random(50) < 0.4)
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_playout_caps_that_all_are_one_may_be_any_two_numbers(share, rng):
    caps, is_full = playout_caps(20, full=60, cheap=100, share=share, rng=rng)
    assert (is_full == bool(share)).all()
    assert (caps == (60 if share else 100)).all()


@pytest.mark.parametrize(
    ("full", "cheap", "share"), [(10, 20, 0.5), (10, 0, 1.0), (0, 10, 0.0), (10, 5, 1.5), (10, 5, -0.1)]
)
def test_playout_caps_without_a_meaning_are_refused_in_one_line(full, cheap, share, rng):
    with pytest.raises(ValueError, match=r"^(full|cheap)=[^\n]*(use|lower)[^\n]*$"):
        playout_caps(3, full=full, cheap=cheap, share=share, rng=rng)


def test_policy_target_leaves_out_what_forced_playouts_added():
    """Wu 2019, section 3.2: playouts go as long as PUCT stays below that of the most visited child; a single one goes too."""
    prior, visits = np.array([0.5, 0.3, 0.1, 0.1]), np.array([60, 30, 8, 2])
    q, explore = np.array([0.6, 0.5, 0.2, 0.1]), 4.0
    bar = q[0] + explore * prior[0] / (1 + visits[0])
    expected = [60]
    for k in (1, 2, 3):
        most = int(np.sqrt(2.0 * prior[k] * visits.sum()))
        rest = [n for n in range(max(visits[k] - most, 0), visits[k] + 1) if q[k] + explore * prior[k] / (1 + n) < bar]
        n = min(rest, default=visits[k])
        expected.append(0 if n <= 1 else n)
    kept = unforced_visits(prior, visits, q, explore, 2.0)
    assert kept.tolist() == expected
    assert kept[1] < 30
    assert kept[3] == 0
    np.testing.assert_array_equal(
        unforced_visits(prior, visits, q + np.array([0, 1, 1, 1]), explore, 2.0)[:3], visits[:3]
    )
    evaluator = TableEvaluator(5, min_steps=3, p_terminal=0.0, p_illegal=0.0)
    result = search(evaluator.begin(range(6)), evaluator, PUCT(forced=2.0), Budget(simulations=80))
    for tree in range(6):
        target = PUCT(forced=2.0).policy(result.store, tree)
        assert target.sum() == pytest.approx(1.0)
        taken = result.children(int(result.roots[tree]))["visits"]
        assert np.argmax(target) == np.argmax(taken)
        assert (target[taken == 0] == 0).all()

"""Re-rooting keeps exactly what lies below the new root, and the search goes on as if it had begun there."""

from __future__ import annotations

import numpy as np
import pytest

from mcts import NONE, PHS, PUCT, BestFirst, Budget, Flag, Gumbel, Proportional, distances, reroot, resume, search
from tests.mcts.fakes import TableEvaluator
from tests.mcts.reference import play, reference_search

RULES = {
    "puct": PUCT(n_candidates=3, stdev_scale=0.85),
    "gumbel": Gumbel(n_candidates=3),
    "best-first": BestFirst(n_candidates=2),
    "phs": PHS(n_candidates=2),
    "proportional": Proportional(),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
GRAPH = {"merged": True, "n_states": 120, "min_steps": 1, "max_steps": 4, "p_terminal": 0.1}
N_TREES = 8


def searched(rule, simulations=120, world=4, **settings):
    evaluator = TableEvaluator(world, **{**GRAPH, **settings})
    return evaluator, search(evaluator.begin(range(N_TREES)), evaluator, rule, Budget(simulations=simulations), seed=2)


def steps_taken(result, rng) -> np.ndarray:
    """Of each tree, a child of the root, or the root where it has no child that goes on."""
    chosen = []
    for root in result.roots.tolist():
        children = [
            int(c) for c in result.children(root)["child"] if not result.store.nodes["flags"][c] & Flag.TERMINAL
        ]
        chosen.append(rng.choice(children) if children else root)
    return np.array(chosen)


def reachable(store, root: int) -> set[int]:
    seen, stack = {root}, [root]
    while stack:
        for child in store.edges["child"][store.edges_of(stack.pop())].tolist():
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return seen


@each_rule
def test_what_is_kept_is_what_the_new_root_reaches_with_all_that_was_learnt(rule):
    _, result = searched(rule)
    old, chosen = result.store, steps_taken(result, np.random.default_rng(0))
    before = {name: array.copy() for name, array in old.state().items()}
    moved = reroot(old, rule, chosen)
    assert all((old.state()[name] == array).all() for name, array in before.items()), "the old store has changed"
    kept = set().union(*(reachable(old, int(root)) for root in chosen))
    assert kept == set(np.flatnonzero(moved.nodes != NONE).tolist())
    new = moved.store
    assert new.n_nodes == len(kept)
    for n in kept:
        m = moved.nodes[n]
        for name in ("visits", "value", "raw_value", "failures", "unseen_logmass", "n_edges", "tree"):
            assert new.nodes[name][m] == old.nodes[name][n], name
        assert new.node_handles[m] == old.node_handles[n]
        marks = Flag.EXPANDED | Flag.TERMINAL | Flag.EXHAUSTED | Flag.SOLVED
        assert new.nodes["flags"][m] & marks == old.nodes["flags"][n] & marks
        for e, f in zip(old.edges_of(n).tolist(), new.edges_of(m).tolist(), strict=True):
            assert moved.edges[e] == f
            assert moved.nodes[old.edges["child"][e]] == new.edges["child"][f]
            for name in ("visits", "logprob", "tokens"):
                assert new.edges[name][f] == old.edges[name][e]
    there = np.array(sorted(kept))
    np.testing.assert_array_equal(distances(new)[moved.nodes[there]], distances(old)[there])
    assert not (new.nodes["flags"] & (Flag.RAISED | Flag.PENDING | Flag.ON_PATH | Flag.ON_STACK)).any()


@each_rule
def test_depths_and_path_probabilities_are_those_from_the_new_root(rule):
    _, result = searched(rule)
    moved = reroot(result.store, rule, steps_taken(result, np.random.default_rng(1)))
    store = moved.store
    best = np.full(store.n_nodes, -np.inf)
    best[store.trees["root"]] = 0.0
    for _ in range(store.n_nodes):  # Bellman and Ford
        over = best[store.edges["parent"]] + np.minimum(store.edges["logprob"], 0.0)
        after = best.copy()
        np.maximum.at(after, store.edges["child"], over)
        if (after == best).all():
            break
        best = after
    np.testing.assert_allclose(store.nodes["path_logprob"], best, rtol=1e-5, atol=1e-5)
    assert (store.nodes["depth"][store.trees["root"]] == 0).all()
    first = store.nodes["path_edge"] != NONE
    assert (store.nodes["depth"][~first] == 0).all()


@each_rule
def test_the_search_goes_on_to_the_end_below_the_new_root(rule):
    """In a small world: everything below is found, each state once, and no step is asked for again."""
    small = {"n_states": 14, "min_steps": 2, "p_terminal": 0.0, "p_illegal": 0.0}
    evaluator, result = searched(rule, 12, **small)
    chosen = steps_taken(result, np.random.default_rng(2))
    moved = reroot(result.store, rule, chosen)
    end = resume(moved.store, evaluator, rule, Budget(simulations=20_000))
    for tree in range(N_TREES):
        states = [evaluator.arrivals[h][1] for h in end.store.node_handles[end.store.nodes["tree"] == tree]]
        assert len(states) == len(set(states))
        for n in np.flatnonzero(end.store.nodes["tree"] == tree).tolist():
            problem, state, _ = evaluator.arrivals[end.store.node_handles[n]]
            children = end.store.edges["child"][end.store.edges_of(n)]
            found = sorted(evaluator.arrivals[end.store.node_handles[c]][1] for c in children)
            assert found == sorted(step[1] for step in evaluator.steps(problem, state))


@pytest.mark.parametrize("settings", [{}, {"forced": 2.0, "stdev_scale": 0.85}, {"max_share": 0.5}])
def test_a_tree_that_goes_on_after_a_step_equals_the_reference(settings):
    rule = PUCT(n_candidates=3, **settings)
    world = {"merged": False, "min_steps": 2, "max_steps": 4, "p_terminal": 0.1}
    ours, theirs = TableEvaluator(5, **world), TableEvaluator(5, **world)
    result = search(ours.begin(range(N_TREES)), ours, rule, Budget(simulations=80))
    trees = reference_search(theirs.begin(range(N_TREES)), theirs, rule, 80, 1)
    chosen = steps_taken(result, np.random.default_rng(3))
    for tree, node in zip(trees, chosen.tolist(), strict=True):
        ids = np.flatnonzero(result.store.nodes["tree"] == result.store.nodes["tree"][node]).tolist()
        step(tree, tree.nodes[ids.index(node)])
    moved = reroot(result.store, rule, chosen)
    ended = resume(moved.store, ours, rule, Budget(simulations=160))
    play(trees, theirs, rule, 160, 1)
    for t, tree in enumerate(trees):
        record = ended.store.nodes[ended.roots[t]]
        assert (int(record["visits"]), float(record["value"])) == (tree.root.visits, tree.root.value)
        visits = ended.children(int(ended.roots[t]))["visits"].tolist()
        assert visits == [e.visits for e in tree.root.edges]
        assert int((ended.store.nodes["tree"] == t).sum()) == len(below(tree.root))


def below(root) -> list:
    found = [root]
    for node in found:
        found += [e.child for e in node.edges]
    return found


def step(tree, node) -> None:
    """The reference takes a step, in a tree without merges."""
    for child in below(node):
        child.depth -= node.depth if child is not node else 0
    node.depth, node.parents = 0, []
    tree.root, tree.simulations, tree.free = node, node.visits, 0


def test_at_the_old_root_nothing_changes():
    rule = RULES["puct"]
    _, result = searched(rule, merged=False, min_steps=2)
    moved = reroot(result.store, rule, result.roots)
    assert moved.store.n_nodes == result.store.n_nodes
    for name in ("visits", "value", "flags", "depth", "path_logprob"):
        np.testing.assert_array_equal(moved.store.nodes[name][moved.nodes], result.store.nodes[name])


def test_a_node_of_another_tree_or_a_terminal_is_refused():
    rule = RULES["puct"]
    _, result = searched(rule)
    with pytest.raises(ValueError, match="is in tree 1, not 0"):
        reroot(result.store, rule, np.roll(result.roots, -1))
    with pytest.raises(ValueError, match="one node of each of the 8 trees"):
        reroot(result.store, rule, result.roots[:3])
    ended = int(np.flatnonzero(result.store.nodes["flags"] & Flag.TERMINAL)[0])
    chosen = result.roots.copy()
    chosen[result.store.nodes["tree"][ended]] = ended
    with pytest.raises(ValueError, match="is terminal"):
        reroot(result.store, rule, chosen)

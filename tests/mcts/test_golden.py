"""Whole trees as they were when each rule was checked by hand: a change that was not meant is seen at once.

After a change that was meant: `python -m tests.mcts.test_golden` writes them anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mcts import PHS, PUCT, BestFirst, Budget, Forest, Gumbel, Proportional, TreeGumbel, TreePUCT, search
from tests.mcts.fakes import TableEvaluator, shape_of
from tests.mcts.test_forest import Evaluator, play, tree_of

GOLDEN = Path(__file__).with_name("golden_trees.json")
RULES = {
    "puct": PUCT(n_candidates=4),
    "puct with KataGo's additions": PUCT(n_candidates=4, c_log=0.45, forced=2.0, stdev_scale=0.85, solve=True),
    "puct with a noisy root, widening and mixed backup": PUCT(
        n_candidates=1, noise_fraction=0.25, widen_c=1.0, max_share=0.5
    ),
    "gumbel": Gumbel(n_candidates=4),
    "best-first": BestFirst(),
    "phs": PHS(),
    "proportional": Proportional(),
}
FOREST_RULES = {
    "forest puct": TreePUCT(),
    "forest puct, given first plays, virtual loss": TreePUCT(first_play="given"),
    "forest gumbel": TreeGumbel(),
}


def grown(name: str) -> list:
    """One tree of 30 simulations, numbers rounded to 5 digits."""
    if name in RULES:
        evaluator = TableEvaluator(11, merged="best" not in name, n_states=25, min_steps=1, max_steps=4, p_terminal=0.1)
        result = search(evaluator.begin([5]), evaluator, RULES[name], Budget(simulations=30), wave_size=2, seed=3)
        return rounded(shape_of(result, evaluator, 0))
    forest = Forest(1, 5, simulations=30, rule=FOREST_RULES[name], wave=2, seed=3)
    return rounded(tree_of(play(forest, Evaluator(5, terminals=0.1, uneven=True, seed=11)), 0))


def rounded(tree):
    if isinstance(tree, list | tuple):
        return [rounded(part) for part in tree]
    return float(f"{tree:.5g}") if isinstance(tree, float) else tree


@pytest.mark.parametrize("name", [*RULES, *FOREST_RULES])
def test_tree_is_the_golden_one(name):
    assert grown(name) == json.loads(GOLDEN.read_text())[name]


def test_golden_trees_are_small_and_differ():
    trees = json.loads(GOLDEN.read_text())
    assert set(trees) == {*RULES, *FOREST_RULES}
    assert len({json.dumps(tree) for tree in trees.values()}) == len(trees)
    assert GOLDEN.stat().st_size < 50_000


if __name__ == "__main__":
    np.seterr(all="raise")
    text = json.dumps({name: grown(name) for name in (*RULES, *FOREST_RULES)}, separators=(",", ":"))
    GOLDEN.write_text(text.replace('],"', '],\n"') + "\n")

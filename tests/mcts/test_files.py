"""A tree that was saved and loaded goes on as if it had not been; a file that is not whole is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from mcts import PUCT, BestFirst, Budget, Forest, Gumbel, Store, TreeFileError, TreeGumbel, TreePUCT, load, resume, save
from tests.mcts.fakes import TableEvaluator
from tests.mcts.test_forest import Evaluator, play, tree_of


@pytest.mark.parametrize("rule", [PUCT(solve=True), BestFirst(), Gumbel()], ids=lambda rule: type(rule).__name__)
def test_a_loaded_store_goes_on_identically(rule, tmp_path):
    evaluator = TableEvaluator(3, merged=True, n_states=60, min_steps=1)
    store = Store.plant(evaluator.begin(range(5)), seed=7)
    limit = Budget(simulations=90)
    if not isinstance(rule, Gumbel):  # halving needs the limit from the beginning
        resume(store, evaluator, rule, Budget(simulations=30), wave_size=3)
    save(store, tmp_path / "tree.safetensors")
    loaded = load(tmp_path / "tree.safetensors")
    assert isinstance(loaded, Store)
    arrivals, orders = list(evaluator.arrivals), {handle: list(steps) for handle, steps in evaluator.orders.items()}
    ends = []
    for each in (store, loaded):
        evaluator.arrivals, evaluator.orders = list(arrivals), {handle: list(steps) for handle, steps in orders.items()}
        ends.append(resume(each, evaluator, rule, limit, wave_size=3).store.state())
    assert {name: array.tobytes() for name, array in ends[0].items()} == {n: a.tobytes() for n, a in ends[1].items()}


@pytest.mark.parametrize("rule", [TreePUCT(first_play=0.3), TreePUCT(first_play="given"), TreeGumbel()], ids=str)
@pytest.mark.parametrize("under_way", [False, True])
def test_a_loaded_forest_goes_on_identically(rule, under_way, tmp_path):
    evaluator = Evaluator(5, terminals=0.1, uneven=True)
    forest = play(Forest(3, 5, simulations=80, rule=rule, wave=2, seed=4), evaluator, 17)
    if under_way:
        forest.step()
        evaluator.feed(forest)
    save(forest, tmp_path / "forest.safetensors")
    loaded = load(tmp_path / "forest.safetensors")
    assert isinstance(loaded, Forest)
    keys = dict(evaluator.keys)
    play(forest, evaluator)
    evaluator.keys = keys
    play(loaded, evaluator)
    assert [tree_of(loaded, 4 * tree) for tree in range(3)] == [tree_of(forest, 4 * tree) for tree in range(3)]
    assert loaded.best_actions().tolist() == forest.best_actions().tolist()


def test_a_file_that_is_not_whole_is_refused(tmp_path):
    path = tmp_path / "tree.safetensors"
    save(play(Forest(1, 3, simulations=20), Evaluator(3)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TreeFileError, match="damaged"):
        load(path)
    path.write_bytes(whole[:100])
    with pytest.raises(TreeFileError, match="holds no tree"):
        load(path)
    save_file({"lines": np.zeros(3)}, path)
    with pytest.raises(TreeFileError, match=r"is no reverse-o1\.tree/1 file"):
        load(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

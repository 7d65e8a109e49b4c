"""Ask, tell, cancel: answers late, twice, wrong, too late or never. Random orders: `test_driver_schedules.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mcts import (
    PHS,
    PUCT,
    BestFirst,
    Budget,
    Driver,
    Expansion,
    Flag,
    Gumbel,
    NotInFlight,
    Proportional,
    SmartPruning,
    Status,
    Store,
    search,
)
from tests.mcts.fakes import TableEvaluator

RULES = {
    "puct": PUCT(n_candidates=3, widen_c=1.0, noise_fraction=0.25),
    "puct-solve": PUCT(n_candidates=2, solve=True, stdev_scale=0.85, max_share=0.5),
    "puct-rollout": PUCT(n_candidates=1, widen_c=1.0, rollout=True),
    "gumbel": Gumbel(n_candidates=3, root_candidates=5),
    "best-first": BestFirst(n_candidates=2),
    "best-first-rollout": BestFirst(n_candidates=1, rollout=True, park=0.9),
    "phs": PHS(n_candidates=2),
    "proportional": Proportional(),
    "proportional-wide": Proportional(n_candidates=3, rollout=False),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
WORLD = {"merged": True, "n_states": 600, "min_steps": 2, "max_steps": 5, "p_terminal": 0.1}
ENDLESS = {"min_steps": 3, "max_steps": 5, "p_terminal": 0.0, "p_illegal": 0.0}


def planted(world: TableEvaluator, trees: int = 1, seed: int = 3) -> Store:
    return Store.plant(world.begin(range(trees)), seed, capacity=1)


def answer(driver: Driver, world: TableEvaluator, leaves) -> Expansion:
    return world.expand(leaves.handles, driver.wanted(leaves), driver.rule.draw)


def planes(store: Store) -> list[bytes]:
    """Everything that a store holds."""
    n = store.n_nodes
    arrays = [store.nodes, store.edges, store.tree_planes, store.counters, store.heap[:n], store.keys[:n]]
    return [array.tobytes() for array in (*arrays, store.node_handles, store.edge_handles)]


def opened(driver: Driver, world: TableEvaluator) -> None:
    """Expand the roots."""
    leaves = driver.ask()
    driver.tell(leaves, answer(driver, world, leaves))


@each_rule
@pytest.mark.parametrize(("wave_size", "slots"), [(1, None), (8, 9)])
def test_a_loop_that_looks_at_done_is_search(rule, wave_size, slots):
    setting: dict[str, Any] = {"wave_size": wave_size, "slots": slots, "stops": (SmartPruning(),)}
    world = TableEvaluator(1, **WORLD)
    expected = search(world.begin(range(4)), world, rule, Budget(simulations=50), seed=3, **setting)
    world = TableEvaluator(1, **WORLD)
    driver = Driver(planted(world, 4), rule, Budget(simulations=50), **setting)
    while not driver.done:
        leaves = driver.ask()
        driver.tell(leaves, answer(driver, world, leaves))
    np.testing.assert_array_equal(driver.result().status, expected.status)
    assert planes(driver.store) == planes(expected.store)


@pytest.mark.parametrize("name", ["puct", "puct-solve", "gumbel", "best-first", "phs"])
def test_waves_in_flight_ask_what_one_large_wave_asks(name):
    rule, asked = replace(RULES[name], n_candidates=4), []
    for wave_size, waves in ((2, 4), (8, 1)):
        world = TableEvaluator(2, **ENDLESS)
        driver = Driver(planted(world, 1), rule, Budget(simulations=500), wave_size=wave_size)
        opened(driver, world)
        for _ in range(2):  # the second time from a tree that has grown
            in_flight = [driver.ask() for _ in range(waves)]
            asked.append(np.concatenate([leaves.nodes for leaves in in_flight]).tolist())
            for leaves in in_flight:
                driver.tell(leaves, answer(driver, world, leaves))
    assert asked[:2] == asked[2:]
    assert len(asked[1]) > 4


@each_rule
@pytest.mark.parametrize("slots", [None, 5])
def test_asking_again_before_an_answer_comes_changes_nothing(rule, slots):
    states = []
    for again in (0, 3):
        world = TableEvaluator(3, **WORLD)
        driver = Driver(planted(world, 3), rule, Budget(simulations=400), wave_size=4, slots=slots)
        for _ in range(4):
            desk = []
            while len(leaves := driver.ask()):
                desk.append(leaves)
            for _ in range(again):
                assert not len(driver.ask())
                assert not driver.done
            assert (driver.store.trees["status"] == Status.RUNNING).all()
            states.append(planes(driver.store))
            for leaves in desk:
                driver.tell(leaves, answer(driver, world, leaves))
    assert states[:4] == states[4:]


@each_rule
def test_a_cancelled_leaf_is_asked_again_and_is_another_question(rule):
    world = TableEvaluator(4, **ENDLESS)
    driver = Driver(planted(world, 2), rule, Budget(simulations=100), wave_size=3)
    for _ in range(3):  # the first wave is of roots
        first = driver.ask()
        late = answer(driver, world, first)
        driver.cancel(first)
        again = driver.ask()
        fresh = (driver.store.nodes["flags"][first.nodes] & Flag.EXPANDED) == 0
        assert set(first.nodes[fresh].tolist()) <= set(again.nodes.tolist())
        assert fresh.any()
        before = planes(driver.store)
        with pytest.raises(NotInFlight, match=r"^these leaves are not in flight[^\n]*: drop[^\n]*$"):
            driver.tell(first, late)
        assert planes(driver.store) == before
        driver.tell(again, late if again.nodes.tolist() == first.nodes.tolist() else answer(driver, world, again))


@each_rule
def test_an_answer_counts_once_and_in_its_own_driver(rule):
    worlds = [TableEvaluator(5, **ENDLESS), TableEvaluator(5, **ENDLESS)]
    one, other = (Driver(planted(world), rule, Budget(simulations=50), wave_size=3) for world in worlds)
    for driver, world in zip((one, other), worlds, strict=True):
        opened(driver, world)
    leaves, theirs = one.ask(), other.ask()
    assert leaves.nodes.tolist() == theirs.nodes.tolist()
    expansion = answer(one, worlds[0], leaves)
    first = replace(expansion, offsets=expansion.offsets[:2], **{
        name: getattr(expansion, name)[: expansion.offsets[1]]
        for name in ("handles", "keys", "logprobs", "raw_values", "rewards", "terminal", "legal", "tokens")
    }, **{name: getattr(expansion, name)[:1] for name in ("leaf_tokens", "unseen_logmass", "best_unseen_logprob")})  # fmt: skip
    one.tell(leaves.part([0]), first)
    before = planes(one.store), planes(other.store)
    for driver, wrong in ((one, leaves), (one, leaves.part([0])), (other, leaves), (one, theirs)):
        with pytest.raises(NotInFlight):
            driver.tell(wrong, expansion if len(wrong) == len(leaves) else first)
        with pytest.raises(NotInFlight):
            driver.cancel(wrong)
    assert (planes(one.store), planes(other.store)) == before
    assert (one.in_flight, other.in_flight) == (len(leaves) - 1, len(leaves))


@each_rule
def test_a_wrong_expansion_leaves_its_wave_in_flight(rule):
    world = TableEvaluator(6, **ENDLESS)
    driver = Driver(planted(world, 2), rule, Budget(simulations=30), wave_size=2)
    leaves = driver.ask()
    expansion = answer(driver, world, leaves)
    before = planes(driver.store)
    for logprobs in (expansion.logprobs[1:], expansion.logprobs + 9):
        with pytest.raises(ValueError, match="logprobs") as refused:
            driver.tell(leaves, replace(expansion, logprobs=logprobs))
        assert not isinstance(refused.value, NotInFlight)
    assert planes(driver.store) == before
    assert driver.in_flight == 2
    driver.tell(leaves, expansion)
    assert driver.in_flight == 0


class Planted:
    """A tree of three steps a state in which one path of six solves; the policy likes its steps a little, the value a lot."""

    path: tuple[int, ...] = (2, 0, 1, 2, 1, 0)

    def __init__(self):
        self.states: list[tuple[int, ...]] = [()]

    def expand(self, handles, n_candidates, draw="sample") -> Expansion:
        steps = [(*self.states[handle], step) for handle in handles.tolist() for step in range(3)]
        start, n = len(self.states), len(steps)
        self.states += steps
        right = np.array([step == self.path[: len(step)] for step in steps], bool)
        ends = np.array([len(step) == len(self.path) for step in steps], bool)
        last = np.array([step[-1] == self.path[len(step) - 1] for step in steps], bool)
        return Expansion(
            3 * np.arange(len(handles) + 1), start + np.arange(n), np.zeros(n, np.uint64),
            np.log(np.where(last, 0.4, 0.3)), np.where(right, 0.9, 0.2), (right & ends).astype(float), ends, np.ones(n, bool),
            np.ones(n, np.int32), np.full(len(handles), 3), *np.full((2, len(handles)), -np.inf),
        )  # fmt: skip


@each_rule
def test_answers_one_wave_late_find_the_planted_solution(rule):
    rule, world = replace(rule, n_candidates=3), Planted()
    if isinstance(rule, Gumbel):
        rule = replace(rule, root_candidates=3)
    store = planted(TableEvaluator(0))
    driver = Driver(store, rule, Budget(simulations=1500), wave_size=2, stop_on_solution=True)
    late = driver.ask()
    while not driver.done:
        leaves = driver.ask()
        driver.tell(late, world.expand(late.handles, 3))
        late = leaves
    result = driver.result()
    assert tuple(world.states[handle][-1] for handle in store.edge_handles[result.solution_path(0)]) == Planted.path
    assert result.status[0] == Status.SOLVED


def test_a_stopped_tree_takes_the_answers_that_it_paid_for():
    world = TableEvaluator(1, merged=True, n_states=400, min_steps=2, max_steps=4, p_terminal=0.3, p_illegal=0.0)
    driver = Driver(planted(world), PUCT(n_candidates=3), Budget(simulations=400), wave_size=3, stop_on_solution=True)
    opened(driver, world)
    under_way = driver.ask()
    while not driver.result().solved[0]:
        leaves, under_way = under_way, driver.ask()
        driver.tell(leaves, answer(driver, world, leaves))
    before = driver.result()
    assert before.status[0] == Status.SOLVED
    assert not driver.done
    assert not len(driver.ask())
    driver.tell(under_way, answer(driver, world, under_way))
    after = driver.result()
    assert driver.done
    assert after.simulations[0] == before.simulations[0] + len(under_way) > before.simulations[0]
    assert after.tokens[0] > before.tokens[0]
    assert after.tokens_at_first_solution[0] == before.tokens_at_first_solution[0]


def test_a_tree_is_not_saturated_while_an_answer_may_bring_news():
    class TwoDoors(TableEvaluator):
        """One step ends with a reward; the other leads on."""

        def steps(self, problem, state):
            end = (float(np.log(0.5)), -1, 1.0, 0.9, True, True, 1)
            return [end, (float(np.log(0.5)), state + 1, 0.8, 0.0, False, True, 1)]

    for take_back in (False, True):
        world = TwoDoors()
        driver = Driver(planted(world), PUCT(n_candidates=2), Budget())
        opened(driver, world)
        leaves = driver.ask()
        assert not len(driver.ask())
        met = driver.store.trees["simulations"][0]
        assert met > 1000
        assert driver.store.trees["status"][0] == Status.RUNNING
        if take_back:
            driver.cancel(leaves)
        else:
            driver.tell(leaves, answer(driver, world, leaves))
        assert len(driver.ask()) == 1


def test_time_that_is_over_asks_nothing_and_takes_what_comes():
    now = [0.0]
    world = TableEvaluator(8, **ENDLESS)
    driver = Driver(planted(world), BestFirst(), Budget(seconds=5.0), wave_size=2, clock=lambda: now[0])
    opened(driver, world)
    leaves = driver.ask()
    now[0] = 5.0
    assert not len(driver.ask())
    assert not driver.done
    driver.tell(leaves, answer(driver, world, leaves))
    assert driver.done
    result = driver.result()
    assert (result.simulations[0], result.status[0], result.seconds) == (1 + len(leaves), Status.RUNNING, 5.0)


@pytest.mark.parametrize("slots", [None, 4])
def test_roots_never_expanded_come_apart_with_their_own_number_of_candidates(slots):
    rule, world = RULES["gumbel"], TableEvaluator(9, min_steps=6, max_steps=7, p_terminal=0.0)
    driver = Driver(planted(world, 4), rule, Budget(simulations=40), slots=slots)
    leaves = driver.ask()
    driver.tell(leaves.part([0, 3]), answer(driver, world, leaves.part([0, 3])))
    driver.cancel(leaves.part([1, 2]))
    roots, others = driver.ask(), driver.ask()
    assert roots.nodes.tolist() == leaves.nodes[[1, 2]].tolist()
    assert driver.store.nodes["tree"][others.nodes].tolist() == [0, 3]
    assert (driver.wanted(roots), driver.wanted(others)) == (rule.root_candidates, rule.n_candidates)


def test_near_its_node_limit_a_tree_waits_for_what_is_in_flight():
    world = TableEvaluator(10, **ENDLESS)
    driver = Driver(planted(world), BestFirst(n_candidates=3), Budget(), node_limit=13)
    opened(driver, world)  # four nodes
    desk = [driver.ask() for _ in range(5)]
    assert [len(leaves) for leaves in desk] == [1, 1, 1, 0, 0]
    driver.cancel(desk[0])
    desk[0] = driver.ask()
    assert len(desk[0]) == 1
    for leaves in desk[:3]:
        assert driver.store.trees["status"][0] == Status.RUNNING
        driver.tell(leaves, answer(driver, world, leaves))
    assert driver.done
    assert driver.result().status[0] == Status.FULL


def test_a_part_has_the_paths_and_the_name_of_its_leaves():
    world = TableEvaluator(11, **ENDLESS)
    driver = Driver(planted(world), BestFirst(value_weight=0.0, lam=0.0), Budget(simulations=60), wave_size=4)
    for _ in range(5):
        leaves = driver.ask()
        driver.tell(leaves, answer(driver, world, leaves))
    leaves = driver.ask()
    part = leaves.part([3, 0, 1]).part(np.array([True, False, True]))
    assert part.nodes.tolist() == leaves.nodes[[3, 1]].tolist()
    assert part.handles.tolist() == leaves.handles[[3, 1]].tolist()
    assert part.question == leaves.question
    np.testing.assert_array_equal(part.rows, [3, 1])
    paths = [leaves.path[leaves.offsets[i] : leaves.offsets[i + 1]].tolist() for i in (3, 1)]
    assert [part.path[part.offsets[i] : part.offsets[i + 1]].tolist() for i in (0, 1)] == paths
    assert min(map(len, paths)) > 0
    with pytest.raises(ValueError, match=r"part\(\[1, 1\]\): name each leaf once"):
        leaves.part([1, -3])
    with pytest.raises(IndexError):
        leaves.part([4])


def test_what_is_in_flight_must_come_down_before_a_store_is_saved_or_changes_hands():
    world = TableEvaluator(12, **ENDLESS)
    driver = Driver(planted(world), PUCT(), Budget(simulations=9))
    leaves = driver.ask()
    with pytest.raises(ValueError, match="1 leaves are in flight: tell or cancel"):
        driver.store.state()
    with pytest.raises(ValueError, match="1 leaves of the store are in flight: tell or cancel"):
        Driver(driver.store, PUCT(), Budget(simulations=9))
    driver.cancel(leaves)
    again = Driver(Store.from_state(driver.store.state()), PUCT(), Budget(simulations=9))
    assert again.ask().nodes.tolist() == leaves.nodes.tolist()


@each_rule
def test_an_async_server_keeps_four_waves_in_flight(rule):
    world, at_once = TableEvaluator(13, **WORLD), []

    async def expand(handles, n_candidates, draw):
        for _ in range(int(handles[0]) % 5):  # others overtake it
            await asyncio.sleep(0)
        return world.expand(handles, n_candidates, draw)

    async def drive(driver):
        under_way = {}
        while not driver.done:
            while len(under_way) < 4 and len(leaves := driver.ask()):
                call = expand(leaves.handles, driver.wanted(leaves), rule.draw)
                under_way[asyncio.ensure_future(call)] = leaves
            at_once.append(len(under_way))
            if under_way:
                answered, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for call in answered:
                    driver.tell(under_way.pop(call), call.result())
        return driver.result()

    result = asyncio.run(drive(Driver(planted(world, 3), rule, Budget(simulations=40), wave_size=2)))
    assert max(at_once) == 4
    assert ((result.simulations == 40) | (result.status == Status.CLOSED)).all()

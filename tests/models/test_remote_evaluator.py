"""The remote evaluator hands out distinct, rightly judged steps, pays what was generated, and loses no search to a fault."""

from __future__ import annotations

import math
import time
import zlib

import numpy as np
import pytest

from mcts import PUCT, BestFirst, Budget, search
from mcts.loop import resume
from mcts.store.store import Store
from mcts.types import NO_KEY, check_expansion
from models.abilities import PolicyWarning
from models.remote.answers import Capabilities
from models.remote.client import Limits, RemoteClient, RemoteError
from models.remote.evaluator import LEAST_UNSEEN, MOST_AT_ONCE, MOST_MISSES, RemoteEvaluator
from tests.models.fakes import SumTask
from tests.models.servers import DIGITS, FakeServer, Reply, TableModel, vllm_answer, vllm_choice

LIMITS = Limits(connect_seconds=1.0, read_seconds=5.0, call_seconds=30.0, retries=2)
GONE, REFUSED = Reply(b"", status=500), Reply(b"", status=400)
failing_is_said = pytest.mark.filterwarnings("ignore::models.abilities.PolicyWarning")


async def no_wait(seconds: float) -> None:
    """Backoff for tests."""


@pytest.fixture
def opened():
    """Opens evaluators over policies that are closed when the test ends."""
    policies = []

    def open_evaluator(server: FakeServer, task=None, *, capabilities=None, **settings) -> RemoteEvaluator:
        declared = capabilities or Capabilities()
        policies.append(RemoteClient(server.url, "small", capabilities=declared, limits=LIMITS, sleep=no_wait))
        return RemoteEvaluator(policies[-1], task or SumTask(max_steps=9), **settings)

    yield open_evaluator
    for policy in policies:
        policy.close()


@pytest.fixture
def server():
    with FakeServer(TableModel()) as fake:
        yield fake


def two_waves(evaluator, problems, k=5, draw="sample"):
    handles = evaluator.begin(problems).handles
    for _ in range(2):
        expansion = evaluator.expand(handles, k, draw)
        check_expansion(expansion, len(handles))
        yield handles, expansion
        handles = expansion.handles[~expansion.terminal]


def shape_of(result) -> list[tuple]:
    """All edges of a search: (parent, child, visits, logprob, tokens)."""
    edges = result.store.edges
    return [tuple(edge[name] for name in ("parent", "child", "visits", "logprob", "tokens")) for edge in edges]


# ---- candidates


@pytest.mark.parametrize("task", [SumTask(max_steps=9), SumTask(markov=True), SumTask(keyed=False)])
def test_candidates_are_scored_by_the_server_and_judged_by_the_task(server, opened, task):
    evaluator = opened(server, task)
    problems = task.problems("train", 3)
    kinds = set()
    for leaves, x in two_waves(evaluator, problems):
        for leaf, first, last in zip(leaves, x.offsets[:-1], x.offsets[1:], strict=True):
            table = TableModel.probabilities(task.context(problems[evaluator.tree(leaf)], evaluator.steps(leaf)))
            assert len({evaluator.step(h).text for h in x.handles[first:last]}) == last - first
            seen = 0.0
            for row in range(first, last):
                handle = int(x.handles[row])
                assert evaluator.parent(handle) == leaf
                assert evaluator.steps(handle) == [*evaluator.steps(leaf), evaluator.step(handle).text]
                probability = table[DIGITS.index(evaluator.step(handle).text.removesuffix("\n"))]
                assert x.logprobs[row] == pytest.approx(math.log(probability), abs=1e-4)
                seen += probability
                verdict = task.verdict(problems[evaluator.tree(handle)], evaluator.steps(handle))
                assert evaluator.verdict(handle) == verdict
                assert (verdict.reward, verdict.terminal, verdict.legal) == (
                    x.rewards[row],
                    x.terminal[row],
                    x.legal[row],
                )
                assert (evaluator.state(handle) is None) == x.terminal[row]
                assert x.raw_values[row] == (x.rewards[row] if x.terminal[row] else 0.5)
                assert (x.keys[row] == NO_KEY) == (bool(x.terminal[row]) or not task.keyed)
                kinds.add((bool(x.terminal[row]), bool(x.legal[row])))
            row = list(leaves).index(leaf)
            assert x.unseen_logmass[row] == pytest.approx(math.log(max(1.0 - seen, LEAST_UNSEEN)), abs=1e-3)
            handed = (
                x.logprobs[first_row:last_row]
                if (first_row := x.offsets[row]) < (last_row := x.offsets[row + 1])
                else [0]
            )
            unseen = float(x.unseen_logmass[row])  # the next step is worth its probability times that of being new
            assert x.best_unseen_logprob[row] == pytest.approx(unseen + min(unseen, min(handed)), abs=1e-5)
    assert kinds == {(True, False), (True, True), (False, True)}


def test_a_node_never_hands_out_a_step_twice_and_ends_exhausted(server, opened):
    evaluator = opened(server, redraws=1)
    handles = evaluator.begin(SumTask().problems("train", 1)).handles
    texts, mass = [], 0.0
    while True:
        asked = len(server.calls)
        x = evaluator.expand(handles, 3)
        assert sum(call.body.get("n", 1) for call in server.calls[asked:]) <= MOST_MISSES + 2 * MOST_AT_ONCE
        texts += [evaluator.step(handle).text for handle in x.handles]
        mass += np.exp(x.logprobs).sum()
        if x.unseen_logmass[0] == -np.inf:
            break
        assert len(x.handles) > 0  # a search closes a node that got nothing
    assert len(texts) == len(set(texts)) > 4
    assert mass > 0.95
    before = len(server.calls)
    assert len(evaluator.expand(handles, 3).handles) == 0
    assert len(server.calls) == before


def test_keys_are_equal_for_equal_states_of_one_tree_only(server, opened):
    evaluator = opened(server, SumTask(max_steps=9))
    states_of_key: dict[int, set] = {}
    rows = 0
    for _, x in two_waves(evaluator, [*SumTask().problems("train", 2)] * 2, k=8):
        for handle, key in zip(x.handles.tolist(), x.keys.tolist(), strict=True):
            if key != NO_KEY:
                rows += 1
                states_of_key.setdefault(key, set()).add((evaluator.tree(handle), evaluator.state(handle)))
    assert all(len(states) == 1 for states in states_of_key.values())
    assert len({next(iter(states)) for states in states_of_key.values()}) == len(states_of_key) < rows


def test_every_generated_token_is_paid_once(opened):
    model = TableModel()
    with FakeServer(model) as server:
        evaluator = opened(server)
        paid = 0
        waves = [wave for _ in range(2) for wave in two_waves(evaluator, SumTask().problems("train", 3))]
        waves += [(waves[-1][0], evaluator.expand(waves[-1][0], 5)) for _ in range(2)]
        for _, x in waves:
            paid += int(x.leaf_tokens.sum())
            for i, spent in enumerate(x.leaf_tokens):
                assert x.tokens[x.offsets[i] : x.offsets[i + 1]].sum() <= spent
    assert paid == model.generated == evaluator.generated_tokens


def test_without_logprobs_a_step_counts_as_often_as_it_was_drawn(opened):
    texts = ["3", "4", "3", "3", "5"]
    with FakeServer(lambda call: vllm_answer([vllm_choice(texts[call.number], None)], 2)) as server:
        evaluator = opened(server, capabilities=Capabilities(logprobs=False), redraws=4)
        x = evaluator.expand(evaluator.begin(SumTask().problems("train", 1)).handles, 3)
    assert "logprobs" not in server.calls[0].body
    assert [evaluator.step(handle).text for handle in x.handles] == ["3\n", "4\n", "5\n"]
    np.testing.assert_allclose(np.exp(x.logprobs), [3 / 6, 1 / 6, 1 / 6], rtol=1e-6)
    assert np.exp(x.unseen_logmass[0]) == pytest.approx(1 / 6)


def test_best_first_asks_for_the_greedy_step_and_orders_by_logprob(server, opened):
    evaluator = opened(server)
    problem = SumTask().problems("train", 1)
    handles = evaluator.begin(problem).handles
    x = evaluator.expand(handles, 4, "best")
    table = TableModel.probabilities("5\n")
    assert evaluator.step(int(x.handles[0])).text == DIGITS[table.argmax()] + "\n"
    assert (np.diff(x.logprobs) <= 0).all()
    evaluator.expand(handles, 2, "best")
    assert [call.body["temperature"] for call in server.calls].count(0.0) == 1


def test_the_few_shot_preamble_stands_before_every_context(server, opened):
    evaluator = opened(server, few_shot="1 + 1\n\n")
    problems = SumTask().problems("train", 2)
    for leaves, _ in two_waves(evaluator, problems):
        asked = {SumTask().context(problems[evaluator.tree(h)], evaluator.steps(h)) for h in leaves}
    assert {call.body["prompt"] for call in server.calls} >= {"1 + 1\n\n" + context for context in asked}
    assert all(call.body["prompt"].startswith("1 + 1\n\n") for call in server.calls)


def test_unfinished_steps_are_illegal_and_those_that_the_server_cut_are_none(opened):
    choices = [vllm_choice("3", [-1.0], finish="length"), vllm_choice("3", [-1.0], 1, finish="content_filter")]
    with FakeServer(lambda call: vllm_answer(choices, 2)) as server:
        evaluator = opened(server, redraws=0)
        x = evaluator.expand(evaluator.begin(SumTask().problems("train", 1)).handles, 2)
    assert [evaluator.step(handle).text for handle in x.handles] == ["3"]
    assert evaluator.verdict(int(x.handles[0])).reason.startswith("unfinished")
    assert (x.legal[0], x.terminal[0], x.rewards[0]) == (False, True, 0.0)
    assert x.leaf_tokens[0] == 2


def test_terminal_handles_repeated_ones_and_senseless_settings_are_refused(server, opened):
    evaluator = opened(server)
    roots = evaluator.begin(SumTask().problems("train", 2))
    x = evaluator.expand(roots.handles, 8)
    for handles in ([0, 0], x.handles[x.terminal][:1]):
        with pytest.raises(ValueError, match="distinct and not terminal"):
            evaluator.expand(np.array(handles), 2)
    for wrong in ({"patience": 0}, {"redraws": -1}, {"capabilities": Capabilities(values=True)}):
        with pytest.raises(ValueError):
            opened(server, **wrong)


# ---- determinism


def test_batch_mates_and_the_order_of_arrival_do_not_change_a_tree(opened):
    task, table = SumTask(max_steps=9), TableModel()
    problems = task.problems("train", 4)

    def late(call):
        time.sleep(zlib.crc32(f"{call.number}".encode()) % 8 / 1000)
        return table(call)

    def tree_of(evaluator, chosen: list[int], wanted: int) -> list[tuple]:
        tree = []
        for leaves, x in two_waves(evaluator, [problems[i] for i in chosen]):
            for i, leaf in enumerate(leaves):
                if chosen[evaluator.tree(leaf)] == wanted:
                    rows = slice(x.offsets[i], x.offsets[i + 1])
                    texts = [evaluator.steps(handle) for handle in x.handles[rows]]
                    tree.append((texts, x.leaf_tokens[i], x.logprobs[rows].tolist(), x.tokens[rows].tolist()))
        return tree

    with FakeServer(late) as server:
        alone = [tree_of(opened(server, seed=5), [i], i) for i in range(4)]
        assert [tree_of(opened(server, seed=5), [3, 1, 0, 2], i) for i in range(4)] == alone
        assert [tree_of(opened(server, seed=6), [i], i) for i in range(4)] != alone


@pytest.mark.parametrize("rule", [PUCT(n_candidates=3), BestFirst(n_candidates=2)])
def test_faults_that_pass_leave_no_trace_in_a_search(opened, rule):
    task, table = SumTask(max_steps=9), TableModel()
    faults = [Reply(b"", status=500), Reply(b"{", status=200), Reply(b"busy", status=429), Reply(b"xx", fault="cut")]

    def flaky(call):
        """Every body that comes for the first time fails, in one way or another."""
        key = str(call.body)
        if key in seen:
            return table(call)
        seen.add(key)
        return faults[zlib.crc32(key.encode()) % len(faults)]

    shapes = []
    for answer in (table, flaky):
        seen: set[str] = set()
        with FakeServer(answer) as server:
            evaluator = opened(server, task, seed=2)
            roots = evaluator.begin(task.problems("train", 3))
            shapes.append(shape_of(search(roots, evaluator, rule, Budget(simulations=15), wave_size=2)))
        assert evaluator.failed_requests == 0
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 20


# ---- failures that no retry mends


def failing(broken: dict):
    """A table model whose server refuses prompts for which `broken` says so."""
    table = TableModel()
    return lambda call: GONE if broken.get(call.body["prompt"], broken.get("*")) else table(call)


@failing_is_said
def test_a_leaf_that_fails_gets_nothing_and_its_wave_mates_lose_nothing(opened):
    broken = {"6\n": True}
    with FakeServer(failing(broken)) as server:
        evaluator = opened(server, patience=3)
        handles = evaluator.begin(SumTask().problems("train", 3)).handles
        x = evaluator.expand(handles, 4)
        check_expansion(x, 3)
        sizes = np.diff(x.offsets)
        assert sizes[1] == 0 < min(sizes[0], sizes[2])
        assert x.unseen_logmass[1] == 0.0
        assert evaluator.failed_requests == 1 + evaluator.redraws
        broken.clear()
        assert len(evaluator.expand(handles[1:2], 4).handles) > 0


@failing_is_said
def test_a_leaf_that_keeps_failing_is_declared_exhausted(opened):
    with FakeServer(failing({"6\n": True})) as server:
        evaluator = opened(server, patience=2)
        handles = evaluator.begin(SumTask().problems("train", 2)).handles
        unseen = [evaluator.expand(handles, 2).unseen_logmass[1] for _ in range(2)]
    assert unseen == [0.0, -np.inf]


def test_refused_prompts_close_their_leaves_alone_however_many_and_are_told_once(opened):
    table = TableModel()
    with FakeServer(lambda call: table(call) if call.body["prompt"] == "9\n" else REFUSED) as server:
        evaluator = opened(server, max_failures=1)
        handles = evaluator.begin(SumTask().problems("train", 5)).handles
        with pytest.warns(PolicyWarning) as told:
            x = evaluator.expand(handles, 2)
        assert len(told) == 1
        assert str(told[0].message).startswith("4 requests failed, the first one: ")
        assert np.diff(x.offsets).tolist()[:4] == [0] * 4
        assert (x.unseen_logmass[:4] == -np.inf).all()
        assert len(x.handles) > 0
        asked = len(server.calls)
        assert len(evaluator.expand(handles[:4], 2).handles) == 0
        assert len(server.calls) == asked


def test_a_step_is_read_as_a_task_writes_it_whatever_blanks_the_server_puts_around(opened):
    with FakeServer(lambda call: vllm_answer([vllm_choice(" 3\r", [-1.0] * 4)], 4)) as server:
        evaluator = opened(server)
        x = evaluator.expand(evaluator.begin(SumTask().problems("train", 1)).handles, 1)
    assert [evaluator.step(handle).text for handle in x.handles] == ["3\n"]
    assert x.legal.all()


@failing_is_said
def test_a_search_goes_on_without_a_leaf_that_fails(opened):
    table = TableModel()
    with FakeServer(lambda call: REFUSED if call.body["prompt"].count("\n") == 2 else table(call)) as server:
        evaluator = opened(server, max_failures=100)
        roots = evaluator.begin(SumTask().problems("train", 3))
        result = search(roots, evaluator, PUCT(n_candidates=3), Budget(simulations=40))
    assert evaluator.failed_requests > 0
    assert all(len(result.edges(tree)) > 0 for tree in range(3))
    assert (result.store.nodes["depth"] <= 1).all()


def test_many_failed_leaves_in_a_row_raise_and_what_was_drawn_is_handed_out_later(opened):
    broken: dict = {}
    with FakeServer(failing(broken)) as server:
        evaluator = opened(server, max_failures=3)
        problems = SumTask().problems("train", 5)
        handles = evaluator.begin(problems).handles
        broken |= {f"{target}\n": True for target in (6, 7, 8)}
        with pytest.raises(RemoteError, match="no answer for 3 leaves in a row") as gone:
            evaluator.expand(handles, 2)
        assert "\n" not in str(gone.value)
        broken |= {"*": True}  # nothing new can be had now
        before, paid = len(server.calls), evaluator.generated_tokens
        first, second = (evaluator.expand(handles[[0, 4]], 1) for _ in range(2))
        assert len(server.calls) == before
        for x in (first, second):
            assert np.diff(x.offsets).tolist() == [1, 1]
        assert [evaluator.step(h).text for h in first.handles] != [evaluator.step(h).text for h in second.handles]
        assert second.leaf_tokens.sum() == 0
        assert first.leaf_tokens.sum() == paid == evaluator.generated_tokens > 0


@failing_is_said
def test_answers_in_between_mean_that_the_server_is_there(opened):
    with FakeServer(failing({"5\n": True, "7\n": True})) as server:
        evaluator = opened(server, max_failures=2, patience=9)
        handles = evaluator.begin(SumTask().problems("train", 4)).handles
        for _ in range(3):
            evaluator.expand(handles, 1)
    assert evaluator.failed_requests == 6 * (1 + evaluator.redraws)


@pytest.mark.parametrize(("status", "late"), [(401, True), (403, True), (404, True), (500, False), (503, False)])
def test_a_server_that_refuses_all_or_never_answered_is_reported_at_once(opened, status, late):
    table = TableModel()
    with FakeServer(lambda call: table(call) if late and not call.number else Reply(b"", status=status)) as server:
        evaluator = opened(server, max_failures=50)
        handles = evaluator.begin(SumTask().problems("train", 1)).handles
        if late:
            evaluator.expand(handles, 1)
        with pytest.raises(RemoteError) as gone:
            evaluator.expand(handles, 20)
    assert gone.value.status == status


def test_a_search_whose_server_went_away_can_be_resumed(opened):
    broken: dict = {}
    with FakeServer(failing(broken)) as server:
        evaluator = opened(server, max_failures=1)
        rule, budget = PUCT(n_candidates=2), Budget(simulations=12)
        store = Store.plant(evaluator.begin(SumTask(max_steps=9).problems("train", 2)), 0, None)
        resume(store, evaluator, rule, Budget(simulations=1))
        broken["*"] = True
        with pytest.raises(RemoteError):
            resume(store, evaluator, rule, budget)
        broken.clear()
        result = resume(store, evaluator, rule, budget)
    assert (result.simulations > 1).all()

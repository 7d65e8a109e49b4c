"""The evaluator hands out distinct, rightly judged steps with the policy's log-probabilities and the head's values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mcts
import models
from mcts.types import NO_KEY
from models.files.checkpoint import load_checkpoint
from models.forward.choose import forward_for
from models.net.policy_value import tiny_llama
from models.steps.books import StateBook, TokenBook
from models.steps.evaluator import ModelEvaluator
from models.trie.trie import TokenTrie
from tasks.base import BOS_ID
from tasks.numbers.countdown import Countdown
from tests.models.fakes import SumTask, chain_logprob, sum_forward

VARIANTS = [
    SumTask(max_steps=9),
    SumTask(markov=True, max_steps=9),
    SumTask(keyed=False),
    SumTask(markov=True, modulus=7, keyed=False, max_steps=3),
]


def open_evaluator(task: SumTask, **settings) -> ModelEvaluator:
    return ModelEvaluator(None, task, forward=sum_forward(), **settings)


def searched(evaluator: ModelEvaluator, problems, draw="sample", waves=4, k=5):
    """Roots and expansions of a few waves; every state that goes on is expanded in the wave after its own, and again."""
    roots = evaluator.begin(problems)
    handles, expansions = roots.handles, []
    for _ in range(waves):
        expansion = evaluator.expand(handles, k, draw)
        expansions.append((handles, expansion))
        handles = np.concatenate((handles[:2], expansion.handles[~expansion.terminal]))
    return roots, expansions


@pytest.mark.parametrize("draw", ["sample", "best"])
@pytest.mark.parametrize("task", VARIANTS)
def test_candidates_are_judged_scored_and_valued_as_by_replaying_the_chain(task, draw):
    evaluator, truth = open_evaluator(task), TokenTrie(sum_forward())
    problems = task.problems("train", 3)
    _, expansions = searched(evaluator, problems, draw)
    n_legal = n_terminal = 0
    for leaves, x in expansions:
        assert x.offsets[0] == 0
        assert len(x.handles) == x.offsets[-1] == len(x.keys) == len(x.logprobs)
        for leaf, first, last in zip(leaves, x.offsets[:-1], x.offsets[1:], strict=True):
            context = task.context(problems[evaluator.tree(leaf)], evaluator.steps(leaf))
            for row in range(first, last):
                handle = int(x.handles[row])
                problem, steps = problems[evaluator.tree(handle)], evaluator.steps(handle)
                verdict = task.verdict(problem, steps)
                assert evaluator.parent(handle) == leaf
                assert steps == [*evaluator.steps(leaf), evaluator.step(handle).text]
                assert (verdict.reward, verdict.terminal, verdict.legal) == (
                    x.rewards[row],
                    x.terminal[row],
                    x.legal[row],
                )
                assert (evaluator.state(handle) is None) == x.terminal[row]
                exact = chain_logprob(truth, task.encode(context), evaluator.step(handle).tokens)
                assert x.logprobs[row] == pytest.approx(exact, abs=1e-4)
                if x.terminal[row]:
                    assert x.raw_values[row] == x.rewards[row]
                else:
                    end = truth.prefill([[BOS_ID, *task.encode(task.context(problem, steps))]])[0]
                    assert x.raw_values[row] == truth.values[end]
                n_legal, n_terminal = n_legal + x.legal[row], n_terminal + x.terminal[row]
    assert n_legal > 10
    assert n_terminal > 10


def test_roots_carry_the_value_of_the_prompt():
    task, truth = SumTask(), TokenTrie(sum_forward())
    problems = task.problems("train", 3)
    roots = open_evaluator(task).begin(problems)
    ends = truth.prefill([[BOS_ID, *task.encode(task.prompt(problem))] for problem in problems])
    np.testing.assert_array_equal(roots.raw_values, truth.values[ends])
    assert len(set(roots.keys.tolist())) == 3


@pytest.mark.parametrize("draw", ["sample", "best"])
def test_a_node_never_hands_out_a_step_twice_and_dries_up(draw):
    evaluator = open_evaluator(SumTask())
    handles = evaluator.begin(SumTask().problems("train", 1)).handles
    seen = []
    while True:
        x = evaluator.expand(handles, 40, draw)
        seen += [evaluator.step(handle).text for handle in x.handles.tolist()]
        if x.unseen_logmass[0] == -np.inf:
            break
    assert (
        len(set(seen)) == len(seen) == 1 + 9 + 81 + 9 * 9 * 9
    )  # newline at once, after one or two digits, or too late
    assert x.best_unseen_logprob[0] == -np.inf
    assert len(evaluator.expand(handles, 4, draw).handles) == 0


@pytest.mark.parametrize("task", VARIANTS[:2])
@pytest.mark.parametrize("draw", ["sample", "best"])
def test_batch_mates_do_not_change_a_tree(task, draw):
    problems = task.problems("train", 4)

    def tree_of(chosen: list[int], wanted: int) -> list[tuple]:
        evaluator = open_evaluator(task, seed=5)
        tree = []
        handles = evaluator.begin([problems[i] for i in chosen]).handles
        for _ in range(3):
            x = evaluator.expand(handles, 4, draw)
            for i, leaf in enumerate(handles):
                if chosen[evaluator.tree(leaf)] == wanted:
                    rows = slice(x.offsets[i], x.offsets[i + 1])
                    texts = [evaluator.steps(handle) for handle in x.handles[rows]]
                    tree.append(
                        (texts, x.leaf_tokens[i], *(a[rows].tolist() for a in (x.logprobs, x.raw_values, x.tokens)))
                    )
            handles = x.handles[~x.terminal]
        return tree

    alone = [tree_of([i], i) for i in range(4)]
    assert [tree_of([0, 1, 2, 3], i) for i in range(4)] == alone
    assert tree_of([3, 0, 1], 1) == alone[1]


def test_keys_are_equal_for_equal_states_of_one_tree_only():
    task = SumTask()
    evaluator = open_evaluator(task)
    _, expansions = searched(evaluator, [*task.problems("train", 2), *task.problems("train", 2)], waves=3, k=30)
    states_of_key: dict[int, set] = {}
    rows = 0
    for _, x in expansions:
        for handle, key, terminal in zip(x.handles.tolist(), x.keys.tolist(), x.terminal.tolist(), strict=True):
            assert (key == NO_KEY) == terminal
            if not terminal:
                rows += 1
                states_of_key.setdefault(key, set()).add((evaluator.tree(handle), evaluator.state(handle)))
    assert all(len(states) == 1 for states in states_of_key.values())
    assert len({next(iter(states)) for states in states_of_key.values()}) == len(states_of_key) < rows


def test_a_task_without_keys_never_merges():
    evaluator = open_evaluator(SumTask(keyed=False))
    roots, expansions = searched(evaluator, SumTask().problems("train", 2))
    assert (roots.keys == NO_KEY).all()
    assert all((x.keys == NO_KEY).all() for _, x in expansions)


def test_equal_states_of_a_markov_task_are_prefilled_once():
    task = SumTask(markov=True)
    evaluator = open_evaluator(task)
    searched(evaluator, task.problems("train", 1))
    contexts = {f"5 {total}\n" for total in range(1, 10)}
    prefixes = {tuple(task.encode(text)[:n]) for text in contexts for n in range(4)}
    assert evaluator.prefilled_tokens <= len(prefixes)


def test_a_chain_of_the_most_steps_is_over_unless_a_shorter_one_leads_to_its_state():
    task = SumTask(modulus=9, max_steps=2)
    evaluator = open_evaluator(task)
    _, ((_, first), (_, second)) = searched(evaluator, task.problems("train", 1), waves=2, k=60)
    assert not first.terminal.all()
    legal = [h for h in second.handles.tolist() if len(evaluator.steps(h)) == 2 and evaluator.verdict(h).reason == ""]
    over = [h for h in second.handles.tolist() if evaluator.verdict(h).reason == "no answer in 2 steps"]
    assert over
    assert all(evaluator.state(h) is None and evaluator.verdict(h).legal for h in over)
    assert any(evaluator.state(h) is not None for h in legal)
    for handle in legal:  # the root's own state again, or the answer
        assert evaluator.state(evaluator.parent(handle)) == (1,) or evaluator.verdict(handle).reward == 1.0


def test_tokens_of_candidates_add_up_to_what_the_leaves_paid():
    evaluator = open_evaluator(SumTask())
    _, expansions = searched(evaluator, SumTask().problems("train", 3))
    paid = 0
    for _, x in expansions:
        for i, spent in enumerate(x.leaf_tokens):
            assert x.tokens[x.offsets[i] : x.offsets[i + 1]].sum() <= spent
        paid += int(x.leaf_tokens.sum())
    assert evaluator.generated_tokens == paid


def test_terminal_handles_and_repeated_ones_are_refused():
    evaluator = open_evaluator(SumTask())
    roots = evaluator.begin(SumTask().problems("train", 2))
    x = evaluator.expand(roots.handles, 20)
    for handles in ([0, 0], x.handles[x.terminal][:1]):
        with pytest.raises(ValueError, match="distinct and not terminal"):
            evaluator.expand(np.array(handles), 2)


def test_begin_forgets_and_repeats_bit_for_bit():
    evaluator = open_evaluator(SumTask())
    problems = SumTask().problems("train", 3)
    runs = [searched(evaluator, problems)[1] for _ in range(2)]
    for (_, a), (_, b) in zip(*runs, strict=True):
        for name in ("handles", "keys", "logprobs", "raw_values", "leaf_tokens", "unseen_logmass"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_the_real_model_on_a_real_task_agrees_with_teacher_forcing():
    task = Countdown(numbers=3, number_max=5, target_min=10, target_max=20)
    torch.manual_seed(0)
    model = tiny_llama(len(task.vocabulary), hidden_size=32, layers=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    evaluator = ModelEvaluator(model, task)
    problems = task.problems("train", 5)
    x = evaluator.expand(evaluator.begin(problems).handles, 6)
    trie = TokenTrie(forward_for(model, len(task.vocabulary)))
    assert len(x.handles) == 30
    for row, handle in enumerate(x.handles.tolist()):
        context = task.encode(task.prompt(problems[evaluator.tree(handle)]))
        assert x.logprobs[row] == pytest.approx(chain_logprob(trie, context, evaluator.step(handle).tokens), abs=1e-3)


class ReadAloud(Countdown):
    """Countdown without its compiled judge."""

    def token_judge(self):
        return None


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize(
    "rule", [mcts.BestFirst(n_candidates=4, rollout=True), mcts.PUCT(n_candidates=3)], ids=["best_first", "puct"]
)
def test_a_compiled_judge_gives_the_same_trees(rule, temperature):
    """Trees, texts, states and verdicts, over steps judged well and badly, merged states, unfinished steps and solutions."""
    model, _, _ = load_checkpoint(Path(models.__file__).parent / "shipped" / "countdown3")
    found = []
    for task, book in ((Countdown(), TokenBook), (ReadAloud(), StateBook)):
        evaluator = ModelEvaluator(model, task, seed=3, temperature=temperature)
        assert isinstance(evaluator._book, book)
        roots = evaluator.begin(task.problems("dev", 8, seed=4))
        result = mcts.search(roots, evaluator, rule, mcts.Budget(tokens=500), wave_size=2, seed=1)
        store, handles = result.store, range(int(result.store.edge_handles.max()) + 1)
        texts = [(evaluator.steps(h), evaluator.step(h).text, evaluator.step(h).tokens) for h in handles]
        judged = [(evaluator.verdict(h), evaluator.state(h), evaluator.tree(h), evaluator.parent(h)) for h in handles]
        edges = [store.edges[name].tolist() for name in ("parent", "child", "logprob", "visits")]
        found.append((texts, judged, edges, store.nodes["raw_value"].tolist(), result.tokens.tolist()))
    assert found[0] == found[1]
    verdicts = [judged[0] for judged in found[0][1]]
    assert {(v.legal, v.terminal, v.reward) for v in verdicts} >= {
        (True, False, 0),
        (False, True, 0),
        (True, True, 0),
        (True, True, 1),
    }
    live = sum(judged[1] is not None for judged in found[0][1])
    assert live - 8 > len(set(found[0][2][1])) - sum(v.terminal for v in verdicts), "no state was merged"
    assert any("unfinished" in v.reason for v in verdicts)

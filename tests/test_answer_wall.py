"""The leak wall around your own data: a scorer alone holds the key, and sees a chain when its search has ended.

Gold answers are canaries again. Everything that the policy reads, the tree holds, a trace or row is made of before scoring, is
looked through; and the scorer writes down when it was asked.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

import mcts
from models.local_policy import LocalPolicy
from models.steps.evaluator import ModelEvaluator
from selfplay.config import ActorConfig
from selfplay.teach.actor import act
from selfplay.teach.settle import settled
from selfplay.team import Team
from solve.search.tree import TreeSearch
from solve.search.wall import wall
from solve.strategies import THINK, way, ways
from solve.types import Workbench
from tasks import make_scorer, make_task
from tasks.base import NEWLINE_ID
from tests.models.fakes import TableForward
from tests.test_leak_wall import reached_from

RULES = [mcts.BestFirst(), mcts.BestFirst(rollout=True), mcts.PUCT(), mcts.Gumbel(), mcts.Proportional()]
WORDS = ("answer:", "red", "blue", "green")


def canary(i: int) -> str:
    return f"canary{i} sings"


@pytest.fixture
def data(tmp_path):
    """Riddles; a third of them is answered by a word that the policy writes, the others by canaries."""
    lines = [{"question": f"riddle {i}", "answer": canary(i) if i % 3 else "red"} for i in range(120)]
    path = tmp_path / "riddles.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, {"question": "blue or green", "answer": "blue green"}])))
    return {"path": str(path), "max_steps": 3, "max_step_words": 6, "shown": 0}


def writer(task) -> TableForward:
    """A policy that writes answer lines of the few words it has."""
    forward = TableForward(len(task.vocabulary), newline_bonus=2.0, logits=dict.fromkeys([NEWLINE_ID], 0.0))
    forward._logits |= {
        task.vocabulary.index(word): 2.0 if word == WORDS[0] else 0.5 for word in WORDS if word in task.vocabulary
    }
    return forward


def sings(thing: object) -> bool:
    return isinstance(thing, str) and "sings" in thing


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}{getattr(rule, 'rollout', '')}")
def test_no_held_out_answer_is_in_reach_of_a_search(data, rule):
    task = make_task("jsonl", **data)
    problems = task.problems("test", 8)
    evaluator = ModelEvaluator(None, task, forward=writer(task))
    seen: list[object] = []

    def walk(store, leaves, expansion) -> None:
        if not seen:
            seen.extend(reached_from(evaluator, task, problems, store, expansion))

    result = mcts.search(evaluator.begin(problems), evaluator, rule, mcts.Budget(simulations=24), on_wave=walk)
    assert len(seen) > 100
    held_out = {canary(i) for i in range(120)} - set(task.vocabulary)
    assert not [
        thing for thing in [*seen, *reached_from(evaluator, result)] if isinstance(thing, str) and thing in held_out
    ]
    assert not result.solved.any()  # no search has seen a reward


@pytest.mark.parametrize("name", [name for name in ways(make_task("countdown")) if name != THINK])
def test_no_held_out_answer_is_in_reach_of_a_strategy_or_of_what_it_answers(data, name):
    task = wall(make_task("jsonl", **data), "none")
    problems = task.problems("test", 8)
    bench = Workbench(LocalPolicy(None, forward=writer(task)), task, "none", False)
    search = way(name, task).search.start(bench, problems, 40)
    search.advance(np.full(len(problems), 40))
    chains = [search.chains(i) for i in range(len(problems))]
    assert any(chains)
    seen = reached_from(bench, search, problems, chains)
    assert len(seen) > 100
    held_out = {canary(i) for i in range(120)} - set(task.vocabulary)
    assert not [thing for thing in seen if isinstance(thing, str) and thing in held_out]
    assert all(chain.reward is None for found in chains for chain in found if chain.answer is not None)


def test_answers_keep_the_value_head_s_word_until_they_are_scored(data):
    task, scorer = make_task("jsonl", **data), make_scorer("jsonl", **data)
    problems = task.problems("train", 30)
    evaluator = ModelEvaluator(None, task, forward=writer(task))
    result = mcts.search(evaluator.begin(problems), evaluator, mcts.BestFirst(), mcts.Budget(tokens=200))
    nodes, handles = result.store.nodes, result.store.node_handles
    answers = [n for n in range(len(nodes)) if not evaluator.verdict(int(handles[n])).scored]
    assert len(answers) > 30
    assert not (nodes["flags"][answers] & mcts.Flag.SOLVED).any()
    before = nodes["value"][answers].copy()
    assert (before > 0).all()
    assert (before < 1).all()
    assert len(np.unique(before)) > 5
    after = settled(scorer, problems, result, evaluator)
    right = [
        scorer.score([problems[evaluator.tree(int(handles[n]))]], [evaluator.steps(int(handles[n]))])[0].reward
        for n in answers
    ]
    assert nodes["value"][answers].tolist() == right
    assert ((nodes["flags"][answers] & mcts.Flag.SOLVED) != 0).tolist() == [reward == 1.0 for reward in right]
    assert after.solved.tolist() == [
        any(reward == 1.0 for n, reward in zip(answers, right, strict=True) if nodes["tree"][n] == tree)
        for tree in range(30)
    ]
    assert after.solved.any()
    assert not after.solved.all()


class Notes:
    """A scorer that notes what had happened when it was asked."""

    def __init__(self, scorer, searching: list[bool]):
        self.scorer, self.searching, self.asked = scorer, searching, 0

    def score(self, problems, chains):
        assert not any(self.searching), "a scorer was asked while a search ran"
        self.asked += len(chains)
        return self.scorer.score(problems, chains)


@pytest.mark.parametrize("teacher", ["search", "star"])
def test_self_play_scores_after_the_search_and_tells_no_answer(data, teacher, monkeypatch):
    task, searching = make_task("jsonl", **data), []
    scorer = Notes(make_scorer("jsonl", **data), searching)
    advance = TreeSearch.advance

    def watched(*arguments, **settings):
        searching.append(True)
        try:
            return advance(*arguments, **settings)
        finally:
            searching.clear()

    monkeypatch.setattr(TreeSearch, "advance", watched)
    policy = LocalPolicy(None, version="none", forward=writer(task))
    config = ActorConfig(problems=48, tokens=200, mine=False)
    experience = act(policy, task, teacher, config, Team(), seed=0, iteration=1, scorer=scorer)
    assert scorer.asked > 48
    assert 0 < experience.solved < 48
    told = [value for trace in experience.traces for value in asdict(trace).values()]
    assert not any(sings(thing) for thing in reached_from(told))
    canaries = [k for k, word in enumerate(task.vocabulary) if word.startswith("canary")]
    assert canaries  # the vocabulary has train's words; no row is made of them
    prompts = {problem.data[0] for problem in task.problems("train")}
    assert all(trace.prompt.strip() in prompts for trace in experience.traces)
    assert not np.isin(experience.rows.tokens, canaries).any()
    assert all(trace.steps[-1].endswith(": red\n") for trace in experience.traces if trace.solved)
    asked, scorer, taught = {problem.data[0]: problem for problem in task.problems("train")}, scorer.scorer, set()
    for tokens, value in zip(experience.rows.tokens, experience.rows.value, strict=True):
        last = int(np.flatnonzero(tokens)[-1])
        prompt, *steps = task.decode(tokens[1 : last + 1].tolist()).splitlines(keepends=True)
        if steps and steps[-1].startswith("answer:"):  # the value learns of finished chains what the scorer said
            assert value[last] == scorer.score([asked[prompt.strip()]], [steps])[0].reward
            taught.add(float(value[last]))
    assert taught == {0.0, 1.0}

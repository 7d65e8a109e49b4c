"""The bench of streams counts as it says: tries up to the first `yes`, never fewer tokens than what they stand beside."""

from __future__ import annotations

import numpy as np
import pytest

from bench.reflect.controls import paid_anew, rederived, tree, votes, within
from bench.reflect.inside import checks, labels
from models.abilities import Rollout
from models.local_policy import LocalPolicy
from models.steps.stream_types import Rules, Stream, Thought
from selfplay.measure.thinking import at_least, judged_samples, restarts, solved
from solve.calibrate.thresholds import THRESHOLDS, threshold_fit
from solve.types import NEVER
from tasks import make_task
from tasks.base import NEWLINE_ID
from tasks.judging.scorers import Replay
from tasks.numbers.countdown import Countdown
from tasks.registry import streamed
from tests.models.stream_fakes import IDS, LETTERS, Written
from tests.test_stream_wall import StreamPlayer

PROBLEMS = LETTERS.problems("train", 20)
POLICY = LocalPolicy(None, forward=Written())


def test_restarts_go_on_until_the_first_yes_and_pay_for_every_try():
    rules = Rules(threshold=0.15, undos=0)
    right, paid = restarts(POLICY, LETTERS, PROBLEMS, rules, 5, 1.0, seed=1)
    for p, problem in enumerate(PROBLEMS):
        tokens, over, good = 0, False, False
        for k in range(5):
            if not over:
                one = Rules(threshold=0.15, undos=0, temperature=1.0 if k else 0.0)
                (stream,) = POLICY.streams(LETTERS, [problem], 4, one, seed=1, first=[k])
                tokens, over = tokens + stream.tokens, stream.accepted
                good = bool(solved(LETTERS, [problem], [stream])[0])
            assert (paid[k, p], right[k, p]) == (tokens, good)


def test_distinct_chains_pay_again_for_the_steps_that_stood():
    lines = [("propose", 2, None), ("propose", 3, None), ("answer", 4, None), ("undo", 2, 2), ("answer", 5, None),
             ("undo", 2, 2), ("undo", 2, 1), ("propose", 7, None), ("undo", 2, 1), ("undo", 2, 0)]  # fmt: skip
    thoughts = tuple(Thought(kind, "", (1,) * tokens, 0, back) for kind, tokens, back in lines)  # ty: ignore[invalid-argument-type]
    assert rederived(Stream(thoughts, (), "no")) == 5 + 5 + 2 + 2


@pytest.mark.parametrize("back", ["last", "net"])
def test_tries_that_pay_anew_get_no_fewer_tokens_than_the_stream_beside_them(back):
    paid, right = [], []
    for undos in range(3):
        made = POLICY.streams(LETTERS, PROBLEMS, 3, Rules(threshold=0.15, back=back, undos=undos), seed=1)
        paid.append(float(np.mean([stream.tokens + rederived(stream) for stream in made])))
        right.append(solved(LETTERS, PROBLEMS, made).tolist())
    assert paid[0] < paid[1] < paid[2]
    for wanted, undos in ((0.0, 0), (paid[0], 0), (paid[0] + 0.01, 1), (paid[1] + 0.01, 2)):
        found = paid_anew(POLICY, LETTERS, PROBLEMS, 3, Rules(threshold=0.15, back=back), 1, wanted)
        assert (found[0].tolist(), found[1]) == (right[undos], paid[undos])


def test_a_tree_search_gets_the_least_limit_that_costs_as_much_as_what_it_stands_beside():
    at = np.array([3, 10, NEVER, 40])
    for tokens, limit in ((1.0, 1), (3.0, 3), (3.1, 4), (8.0, 10), (99.0, 60)):
        right, paid = within(at, 60, tokens)
        assert right.tolist() == (at <= limit).tolist()
        assert paid == np.minimum(at, limit).mean() >= min(tokens, np.minimum(at, 60).mean())
    task = streamed(Countdown(number_max=6, target_max=30))
    problems = task.problems("train", 8)
    assert (tree(LocalPolicy(None, forward=StreamPlayer(task)), task, problems, 4000, False, 1) <= 4000).any()


def test_samples_end_at_the_first_that_the_judge_accepts():
    forward = Written(lambda path: {IDS["b"]: 1.0, IDS["z"]: 1.0, NEWLINE_ID: 1.0})
    right, paid = judged_samples(LocalPolicy(None, forward=forward), LETTERS, PROBLEMS, 6, 1.0, seed=1)
    assert (np.diff(right.astype(int), axis=0) >= 0).all()
    assert 0 < right[0].mean() < right[-1].mean()
    assert (np.diff(paid, axis=0)[right[:-1]] == 0).all()
    assert (np.diff(paid, axis=0)[~right[:-1]] > 0).all()


def test_a_control_never_gets_fewer_tokens_while_it_has_tries():
    right, paid = np.array([[0, 0], [0, 1], [1, 1]], bool), np.array([[2, 2], [4, 6], [6, 6]])
    assert [at_least((right, paid), tokens)[1] for tokens in (1, 2, 2.5, 5, 6, 9)] == [2, 2, 5, 5, 6, 6]


def test_labels_of_a_player_of_legal_steps_are_those_of_the_solver(capsys):
    task = streamed(Countdown(number_max=6, target_max=30))
    policy = LocalPolicy(None, version="none", forward=StreamPlayer(task))
    found = labels(policy, task, task.problems("train", 20), 2000, seed=1)["rows"]
    assert {row["depth"] for row in found} == {0, 1}
    for row in found:
        assert row["labelled_alive"] <= row["alive"]
        assert row["precision"] in (None, 1.0)
    assert "| depth | share |" in capsys.readouterr().out


def test_the_threshold_that_solves_most_is_taken():
    fit = threshold_fit(POLICY, LETTERS, Replay(LETTERS), PROBLEMS)
    assert [row["threshold"] for row in fit["rows"]] == list(THRESHOLDS)
    best = next(row for row in fit["rows"] if row["threshold"] == fit["best"])
    assert best["solved"] == max(row["solved"] for row in fit["rows"])


def test_a_vote_takes_the_commonest_answer_and_of_equals_the_first():
    task = make_task("chain")
    (problem,) = [task.parse_problem("47 + 38 * 3")]
    results = ["2 5 4", "2 5 5", "2 5 5", "2 5 4", "2 5 4"]

    class Sampler:
        def chains(self, task, problems, n, **more):
            steps = [("a + 3 8 = 0 8 5\n", f"b * 0 3 = {result}\n") for result in results[:n]]
            return [[Rollout(s, task.verdict(problem, s), 18, 0.0, 0.0, (), (), 0.0, (None, None)) for s in steps]]

    right, paid = votes(Sampler(), task, [problem], 5, 0.7, seed=0)  # ty: ignore[invalid-argument-type]
    assert right[:, 0].tolist() == [False, False, True, False, False]
    assert paid[:, 0].tolist() == [18, 36, 54, 72, 90]


def test_checks_are_counted_where_a_step_began_rightly(capsys):
    task = make_task("chain", streams=True)
    problem = task.parse_problem("47 + 38 * 3 - 12")
    lines = [
        ("propose", "a + 3 8 = 0 8 6\n"), ("check", "check 5 8 0\n"), ("undo", "no b0\n"),
        ("propose", "a + 3 8 = 0 8 5\n"), ("check", "check 5 8 0 yes\n"),
        ("propose", "b * 0 3 = 2 5 6\n"), ("check", "check 6 5 2 yes\n"),
        ("propose", "c - 1 2 = 2 4 4\n"), ("check", "check 4 4 2 yes\n"), ("check", "yes\n"),
    ]  # fmt: skip
    thoughts = tuple(Thought(k, line, (), 0, 0 if k == "undo" else None) for k, line in lines)  # ty: ignore[invalid-argument-type]

    class Thinker:
        def streams(self, task, problems, effort, rules):
            return [Stream(thoughts if effort == 4 else thoughts[:1], (), "yes")]

    found = checks(Thinker(), task, [problem], Rules())["rows"]  # ty: ignore[invalid-argument-type]
    assert found[0] == {"effort": "minimal", "wrong": 1, "wrong, checked": 0, "wrong, refused": 0}
    assert found[3] == {
        "effort": "high", "wrong": 2, "wrong, checked": 2, "wrong, refused": 1,
        "right": 1, "right, checked": 1, "right, refused": 0,
    }  # fmt: skip
    assert "| minimal | 1 " in capsys.readouterr().out

"""The bench of streams counts as it says: tries up to the first `yes`, never fewer tokens than what they stand beside."""

from __future__ import annotations

import numpy as np

from bench.reflect import at_least, judged_samples, labels, restarts, solved
from models.local_policy import LocalPolicy
from models.steps.stream_types import Rules
from solve.calibrate.thresholds import THRESHOLDS, threshold_fit
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

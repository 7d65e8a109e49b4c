"""The guessing control: what no model at all would solve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import TASKS, make_guesser, make_scorer, make_task
from tasks.guessing import RandomPlay, guessed
from tasks.judging.scorers import Replay
from tasks.questions.jsonl import read_jsonl


def test_the_guesser_knows_the_commonest_answers_of_train_alone(tmp_path):
    path = str(tmp_path / "data.jsonl")
    lines = [{"question": f"q{i}", "answer": ["red", "red", "blue"][i % 3]} for i in range(300)]
    Path(path).write_text("\n".join(map(json.dumps, lines)))
    task, guesser = make_task("jsonl", path=path), make_guesser("jsonl", path=path)
    test = task.problems("test")
    assert guesser.guesses(test[0], 5) == [["answer: red\n"], ["answer: blue\n"]]
    found = guessed(guesser, make_scorer("jsonl", path=path), test, 2)
    gold = {item.question.id: item.answer for item in read_jsonl(path).items}
    assert found[:, 0].tolist() == [gold[problem.id] == "red" for problem in test]
    assert found[:, 1].all()


def test_random_play_is_the_guesser_of_a_task_that_judges_itself():
    task = make_task("countdown", numbers=2)
    problems = task.problems("train", 40)
    guesser = make_guesser("countdown", numbers=2)
    assert isinstance(guesser, RandomPlay)
    found = guessed(guesser, Replay(task), problems, 8)
    by_hand = [[task.verdict(p, chain).reward >= 1 for chain in guesser.guesses(p, 8)] for p in problems]
    assert found[:, 0].tolist() == [row[0] for row in by_hand]
    assert found[:, -1].tolist() == [any(row) for row in by_hand]
    assert 0 < found[:, -1].mean() < 1
    assert guesser.guesses(problems[0], 3) == guesser.guesses(problems[0], 8)[:3]


def test_a_chain_of_which_only_the_end_is_judged_is_guessed_by_its_commonest_ends():
    task, guesser = make_task("chain", cap=99, operand_max=9), make_guesser("chain", cap=99, operand_max=9)
    problems = task.problems("test", 400)
    found = guessed(guesser, make_scorer("chain", cap=99, operand_max=9), problems, 20)
    verdicts = [task.verdict(problems[0], chain) for chain in guesser.guesses(problems[0], 20)]
    assert all(verdict.terminal and verdict.legal for verdict in verdicts)
    assert len({guesser.guesses(problem, 1)[0][-1].split("=")[1] for problem in problems}) == 1
    assert 0 < found[:, 0].mean() < found[:, -1].mean() < 0.5


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("jsonl", "gym", "text")])
def test_every_task_has_a_guesser_whose_chains_are_legal(name):
    task, guesser = make_task(name), make_guesser(name)
    for problem in task.problems("dev", 5):
        for chain in guesser.guesses(problem, 3):
            assert chain
            assert task.verdict(problem, chain).legal

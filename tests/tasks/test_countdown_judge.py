"""The compiled Countdown judge says what the verifier says, of any tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tasks import NEWLINE_ID
from tasks.base import GOES_ON, ILLEGAL, SOLVED, WRONG
from tasks.numbers.countdown import Countdown


def played(task: Countdown, problem, rng) -> tuple[tuple[int, ...], list[int]]:
    """A state that random legal play reaches, and the tokens of a legal step from it."""
    state = task.initial_state(problem)
    while True:
        steps = task.legal_steps(problem, state)
        step = steps[rng.integers(len(steps))]
        _, after = task.advance(problem, state, step)
        if after is None or rng.random() < 0.5:
            return state, task.encode(step)[:-1]
        state = after


def mutated(words: list[int], vocabulary_size: int, rng) -> list[int]:
    """Up to two words changed, dropped, doubled or swapped; special tokens are never sampled."""
    words = list(words)
    for _ in range(rng.integers(0, 3)):
        if not words:
            break
        i, j = rng.integers(len(words), size=2)
        kind = rng.integers(4)
        if kind == 0:
            words[i] = int(rng.integers(NEWLINE_ID + 1, vocabulary_size))
        elif kind == 1:
            del words[i]
        elif kind == 2:
            words.insert(i, words[j])
        else:
            words[i], words[j] = words[j], words[i]
    return words


@pytest.mark.parametrize("numbers", [2, 3, 4, 6])
def test_the_judge_equals_the_verifier(numbers, rng):
    task = Countdown(numbers=numbers, number_min=0, number_max=9, target_min=0, target_max=40, cap=40)
    judge, problems = task.token_judge(), task.problems("train", 60)
    cases = []
    for _ in range(3000):
        problem = problems[rng.integers(len(problems))]
        state, words = played(task, problem, rng)
        cases.append((problem, state, [*mutated(words, len(task.vocabulary), rng), NEWLINE_ID]))
    states = np.zeros((len(cases), judge.state_width), np.int32)
    tokens, lengths = np.zeros((len(cases), 20), np.int32), np.array([len(words) for _, _, words in cases], np.int32)
    for row, line, (problem, state, words) in zip(states, tokens, cases, strict=True):
        row[:2], row[2 : 2 + len(state)] = (len(state), problem.data[1]), state
        line[: len(words)] = words
    codes, after = judge.judge(states, tokens, lengths)
    for code, row, (problem, state, words) in zip(codes, after, cases, strict=True):
        text = task.decode(words[:-1]) + "\n"
        verdict, following = task.advance(problem, state, text)
        expected = (
            GOES_ON if not verdict.terminal else SOLVED if verdict.reward else WRONG if verdict.legal else ILLEGAL
        )
        assert code == expected, (state, problem.data[1], text, verdict.reason)
        if code == GOES_ON:
            assert judge.state(row) == following
            assert row[1] == problem.data[1]
    seen = Counter(codes.tolist())
    assert min(seen[ILLEGAL], seen[WRONG]) > 50
    assert seen[GOES_ON] > 50 or numbers == 2


def test_keys_are_equal_for_equal_states_only(rng):
    task = Countdown(numbers=4, number_min=0, number_max=30, target_min=0, target_max=40, cap=40)
    judge = task.token_judge()
    states = np.zeros((4000, judge.state_width), np.int32)
    for row in states:
        count = rng.integers(2, 5)
        row[0], row[1], row[2 : 2 + count] = count, 7, rng.integers(0, 7, count)
        row[2 + count :] = rng.integers(0, 7)  # what lies beyond the count means nothing
    problem = task.problems("train", 1)[0]
    key_of = {}
    for row, key in zip(states, judge.keys(states).tolist(), strict=True):
        assert key_of.setdefault(task.state_key(problem, judge.state(row)), key) == key
    assert len(set(key_of.values())) == len(key_of) > 100


def test_roots_are_initial_states():
    task = Countdown(numbers=3)
    problems = task.problems("train", 20)
    judge = task.token_judge()
    for problem, row in zip(problems, judge.roots(problems), strict=True):
        assert judge.state(row) == task.initial_state(problem)

"""The Countdown verifier for many steps at once, written in the task's own tokens, in numba.

The same rules as `Countdown.advance`, without the text and without a reason; a test holds the two equal. A state is a row of
int32: how many numbers are left, the target, the numbers in the order the model wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.arithmetic import splitmix64
from kit.jit import jit
from tasks.base import GOES_ON, ILLEGAL, SOLVED, WRONG, Problem
from tasks.numbers.countdown_play import ANSWER_ID, BAR_ID, DIVIDE_ID, EQUALS_ID, MINUS_ID, NUMBER_ID, PLUS_ID, TIMES_ID

COUNT, TARGET, FIRST = 0, 1, 2  # places in a state's row; numbers from FIRST on


class CountdownJudge:
    """Implements `tasks.base.TokenJudge`."""

    def __init__(self, numbers: int):
        self.state_width = FIRST + numbers

    def roots(self, problems: Sequence[Problem]) -> np.ndarray:
        states = np.zeros((len(problems), self.state_width), np.int32)
        for row, problem in zip(states, problems, strict=True):
            numbers, target = problem.data
            row[COUNT], row[TARGET], row[FIRST : FIRST + len(numbers)] = len(numbers), target, numbers
        return states

    def judge(self, states: np.ndarray, tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes, after = np.empty(len(states), np.int8), np.zeros_like(states)
        _judge(states, tokens, lengths, codes, after)
        return codes, after

    def keys(self, states: np.ndarray) -> np.ndarray:
        keys = np.empty(len(states), np.uint64)
        _keys(states, keys)
        return keys

    def state(self, row: np.ndarray) -> tuple[int, ...]:
        return tuple(row[FIRST : FIRST + row[COUNT]].tolist())


@jit
def _equation(state, words, left):
    """Result of the words a op b = r, -1 if they are wrong; the untouched numbers go into `left`."""
    a, b, result = words[0] - NUMBER_ID, words[2] - NUMBER_ID, words[4] - NUMBER_ID
    if a < 0 or b < 0 or result < 0 or words[3] != EQUALS_ID:
        return -1
    used_a, used_b, kept = False, False, 0
    for i in range(FIRST, FIRST + state[COUNT]):
        if not used_a and state[i] == a:
            used_a = True
        elif not used_b and state[i] == b:
            used_b = True
        else:
            left[kept] = state[i]
            kept += 1
    if not (used_a and used_b):
        return -1
    op = words[1]
    right = (
        (op == PLUS_ID and a + b == result)
        or (op == MINUS_ID and a - b == result)
        or (op == TIMES_ID and a * b == result)
        or (op == DIVIDE_ID and b != 0 and b * result == a)
    )
    return result if right else -1


@jit
def _judge(states, tokens, lengths, codes, after):
    left = np.empty(states.shape[1], np.int32)
    for c in range(states.shape[0]):
        state, words, n_words = states[c], tokens[c], lengths[c] - 1  # the last token is the newline
        count = state[COUNT]
        codes[c] = ILLEGAL
        if n_words > 0 and words[0] == ANSWER_ID:
            if count == 2 and n_words == 6:
                result = _equation(state, words[1:], left)
                if result >= 0:
                    codes[c] = SOLVED if result == state[TARGET] else WRONG
            continue
        if count < 3 or n_words != count + 5 or words[5] != BAR_ID:
            continue
        result = _equation(state, words, left)
        if result < 0:
            continue
        left[count - 2] = result
        matched = 0
        for i in range(count - 1):  # each number written takes one of those left away
            number = words[6 + i] - NUMBER_ID
            after[c, FIRST + i] = number
            for j in range(matched, count - 1):
                if left[j] == number:
                    left[j] = left[matched]
                    matched += 1
                    break
        if matched == count - 1:
            codes[c] = GOES_ON
            after[c, COUNT], after[c, TARGET] = count - 1, state[TARGET]


@jit
def _keys(states, keys):
    """A hash of the sorted numbers of each state."""
    for c in range(states.shape[0]):
        key = splitmix64(np.uint64(states[c, COUNT]))
        for number in np.sort(states[c, FIRST : FIRST + states[c, COUNT]]):
            key = splitmix64(key ^ np.uint64(number))
        keys[c] = key

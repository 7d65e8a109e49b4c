"""Random legal Countdown play as training rows, in numba. All of the task's jitted play lives in this one file.

A play is uniform over the distinct legal actions (i, j, op) of a state and writes the larger operand first, so that one
action has one text (the verifier takes either order). Nothing here solves: hindsight learns from what random play happens
to reach.

Legend: M multisets, n numbers, T targets in range, S problems of one split, B rows, L tokens of a row.
"""

from __future__ import annotations

import numpy as np

from kit.jit import jit
from tasks.base import BOS_ID, NEWLINE_ID, SPECIAL_TOKENS

OPS = ("+", "-", "*", "/")
EQUALS, BAR, ANSWER = "=", "|", "answer"
PLUS_ID = len(SPECIAL_TOKENS)
MINUS_ID, TIMES_ID, DIVIDE_ID, EQUALS_ID, BAR_ID, ANSWER_ID, NUMBER_ID = range(
    PLUS_ID + 1, PLUS_ID + 8
)  # NUMBER_ID: "0"
MAX_ACTIONS = 80  # 15 pairs of 6 numbers, at most 5 actions a pair
NEAR = 8  # see `ended_rows`
SCRATCH_TOKENS = 64  # room for any chain: 59 tokens with 6 numbers


def vocabulary(cap: int) -> tuple[str, ...]:
    """Words in the order of their ids; number v is NUMBER_ID + v."""
    return (*SPECIAL_TOKENS, *OPS, EQUALS, BAR, ANSWER, *map(str, range(cap + 1)))


def step_text(a: int, op: str, b: int, result: int, left: list[int]) -> str:
    """The text of a step with whose result the numbers `left` are left."""
    if len(left) == 1:
        return f"{ANSWER} {a} {op} {b} = {result}\n"
    return f"{a} {op} {b} = {result} | {' '.join(map(str, left))}\n"


def meets(prompt: str, step: str) -> bool:
    """Whether a step has the form of an answer and says that it comes to the target of a prompt; nothing is worked out."""
    return step.split(maxsplit=1)[:1] == [ANSWER] and step.split()[-2:] == [EQUALS, prompt.split()[-1]]


def prompt_tokens(numbers: int) -> int:
    """Length of BOS and a prompt."""
    return numbers + 4


def step_tokens(left: int) -> int:
    """Length of the step taken with `left` numbers on the table: a proposal, or with two left the answer."""
    return left + 6 if left > 2 else 7


def context_tokens(numbers: int) -> int:
    """Length of BOS, prompt and all proposals."""
    return prompt_tokens(numbers) + sum(map(step_tokens, range(3, numbers + 1)))


def row_tokens(numbers: int) -> int:
    """Length of BOS and a complete chain, answer included."""
    return context_tokens(numbers) + step_tokens(2)


def state_ends(numbers: int) -> list[int]:
    """Positions in a row of the newlines that end the prompt and each proposal: where a value is read."""
    ends = [prompt_tokens(numbers) - 1]
    for left in range(numbers, 2, -1):
        ends.append(ends[-1] + step_tokens(left))
    return ends


def choice_columns(numbers: int) -> list[int]:
    """Positions in a row of the operands and operations, the tokens that a player chooses freely."""
    starts = [end + 1 for end in state_ends(numbers)]
    starts[-1] += 1  # the word "answer" is no choice
    return [start + i for start in starts for i in range(3)]


@jit
def random_rows(rng, multisets, members, cap, tokens):
    """Fill int32 tokens [B, L]: a uniform member's prompt, then random legal play to the answer, target unheeded."""
    n = multisets.shape[1]
    numbers = np.empty(n, np.int64)
    actions = np.empty((MAX_ACTIONS, 4), np.int64)
    for k in range(tokens.shape[0]):
        member = int(rng.random() * len(members))
        _shuffled(rng, multisets, members[member, 0], numbers)
        start = _write_prompt(tokens[k], numbers, members[member, 1])
        _play(rng, numbers, n, 1, cap, actions, tokens[k], start)


@jit
def hindsight_rows(rng, multisets, members, accept, target_min, cap, tokens):
    """Fill int32 tokens [B, L] with random play relabelled by the number it reached; returns the number of plays.

    `accept` float32 [M, T], 0 outside of the split: see `countdown_hindsight`.
    """
    n = multisets.shape[1]
    numbers = np.empty(n, np.int64)
    actions = np.empty((MAX_ACTIONS, 4), np.int64)
    plays = k = 0
    while k < tokens.shape[0]:
        plays += 1
        multiset = members[int(rng.random() * len(members)), 0]
        _shuffled(rng, multisets, multiset, numbers)
        start = _write_prompt(tokens[k], numbers, 0)
        _play(rng, numbers, n, 1, cap, actions, tokens[k], start)
        column = numbers[0] - target_min
        if 0 <= column < accept.shape[1] and rng.random() < accept[multiset, column]:
            tokens[k, n + 2] = NUMBER_ID + numbers[0]
            k += 1
    return plays


@jit
def count_reached(rng, multisets, plays, target_min, target_max, cap):
    """int32 [M, T]: how often `plays` random plays from each multiset end on each target in range."""
    n = multisets.shape[1]
    counts = np.zeros((len(multisets), target_max - target_min + 1), np.int32)
    numbers = np.empty(n, np.int64)
    actions = np.empty((MAX_ACTIONS, 4), np.int64)
    scratch = np.empty(SCRATCH_TOKENS, np.int32)
    for multiset in range(len(multisets)):
        for _ in range(plays):
            for i in range(n):
                numbers[i] = multisets[multiset, i]
            _play(rng, numbers, n, 1, cap, actions, scratch, 0)
            if target_min <= numbers[0] <= target_max:
                counts[multiset, numbers[0] - target_min] += 1
    return counts


@jit
def value_rows(rng, multisets, members, cap, ends, plays, tries, tokens, value):
    """Fill int32 tokens [B, L] (zeroed) and float32 value [B, L] (NaN): random proposals towards a true target.

    The label of a state is 1 if any of `plays` random plays from it, or from a later state of its row, hits the target.
    Every other row takes the start of the first of `tries * plays` random plays that hits, so that its labels are 1. If
    none does, and in all other rows, up to `tries` random walks are drawn until one ends in a state labelled 0.
    `ends` int64 [n-1]: positions of the newlines that end the prompt and each proposal.
    """
    n = multisets.shape[1]
    numbers = np.empty(n, np.int64)
    states = np.empty((n, n), np.int64)  # the state after each proposal
    actions = np.empty((MAX_ACTIONS, 4), np.int64)
    scratch = np.empty(SCRATCH_TOKENS, np.int32)
    for k in range(tokens.shape[0]):
        member = int(rng.random() * len(members))
        target = members[member, 1]
        _shuffled(rng, multisets, members[member, 0], states[0])
        start = _write_prompt(tokens[k], states[0], target)
        steps = 1 + int(rng.random() * (n - 2)) if n > 2 else 0
        hit = False
        if k % 2 == 1:
            for _ in range(tries * plays):
                numbers[:] = states[0]
                _play(rng, numbers, n, 1, cap, actions, scratch, start)
                if numbers[0] == target:
                    hit = True
                    break
        if hit:
            for at in range(start, ends[steps] + 1):
                tokens[k, at] = scratch[at]
            for step in range(steps + 1):
                value[k, ends[step]] = 1.0
            continue
        for _ in range(tries):
            numbers[:] = states[0]
            for step in range(steps):
                _play(rng, numbers, n - step, n - step - 1, cap, actions, tokens[k], ends[step] + 1)
                states[step + 1] = numbers
            hit = _hits(rng, states[steps], n - steps, target, plays, cap, actions, numbers, scratch)
            if not hit:
                break
        value[k, ends[steps]] = 1.0 if hit else 0.0
        for step in range(steps - 1, -1, -1):
            hit = hit or _hits(rng, states[step], n - step, target, plays, cap, actions, numbers, scratch)
            value[k, ends[step]] = 1.0 if hit else 0.0


@jit
def ended_rows(rng, multisets, members, accept, target_min, cap, tokens, value):
    """Fill int32 tokens [B, L] and float32 value [B, L] (NaN): finished chains, value 1 or 0 after the last token.

    Every other row is right, drawn as `hindsight_rows` draws. The others are misses: of up to NEAR plays towards a member's
    target the nearest that does not hit, and in half of them the target stands in place of its result.
    `accept` float32 [M, T], 0 outside of the split: see `countdown_hindsight`.
    """
    n, last = multisets.shape[1], tokens.shape[1] - 1
    numbers = np.empty(n, np.int64)
    start = np.empty(n, np.int64)
    actions = np.empty((MAX_ACTIONS, 4), np.int64)
    scratch = np.empty(SCRATCH_TOKENS, np.int32)
    for k in range(tokens.shape[0]):
        value[k, last] = 1.0 - k % 2
        if k % 2 == 0:
            hindsight_rows(rng, multisets, members, accept, target_min, cap, tokens[k : k + 1])
            continue
        member = int(rng.random() * len(members))
        target = members[member, 1]
        _shuffled(rng, multisets, members[member, 0], start)
        at = _write_prompt(tokens[k], start, target)
        nearest = -1
        for _ in range(1 + int(rng.random() * NEAR)):
            numbers[:] = start
            _play(rng, numbers, n, 1, cap, actions, scratch, at)
            off = abs(numbers[0] - target)
            if nearest < 1 or 0 < off < nearest:
                nearest = off
                tokens[k, at:] = scratch[at : last + 1]
        if nearest == 0:  # every play hit: any other result is a miss
            tokens[k, last - 1] += 1 if target < cap else -1
        elif rng.random() < 0.5:
            tokens[k, last - 1] = NUMBER_ID + target


@jit
def _hits(rng, state, left, target, plays, cap, actions, numbers, scratch):
    """Whether any of `plays` random plays from a state of `left` numbers ends on the target. Overwrites `numbers`."""
    for _ in range(plays):
        for i in range(left):
            numbers[i] = state[i]
        _play(rng, numbers, left, 1, cap, actions, scratch, 0)
        if numbers[0] == target:
            return True
    return False


@jit
def _shuffled(rng, multisets, multiset, numbers):
    """A multiset's numbers in random order into `numbers` (Fisher-Yates)."""
    for i in range(len(numbers)):
        j = int(rng.random() * (i + 1))
        numbers[i] = numbers[j]
        numbers[j] = multisets[multiset, i]


@jit
def _write_prompt(row, numbers, target):
    """BOS and the prompt; returns where the first step starts."""
    n = len(numbers)
    row[0] = BOS_ID
    for i in range(n):
        row[1 + i] = NUMBER_ID + numbers[i]
    row[n + 1] = EQUALS_ID
    row[n + 2] = NUMBER_ID + target
    row[n + 3] = NEWLINE_ID
    return n + 4


@jit
def _play(rng, numbers, left, stop, cap, actions, row, at):
    """Random legal play in place from `left` numbers down to `stop`, written from row[at] on; returns where it ends."""
    while left > stop:
        action = actions[int(rng.random() * _legal_actions(numbers, left, cap, actions))]
        i, j, op, result = action[0], action[1], action[2], action[3]
        a, b = numbers[i], numbers[j]
        if a < b and op in (PLUS_ID, TIMES_ID):  # the larger first: one way to write a step instead of two
            a, b = b, a
        if left == 2:
            row[at] = ANSWER_ID
            at += 1
        row[at] = NUMBER_ID + a
        row[at + 1] = op
        row[at + 2] = NUMBER_ID + b
        row[at + 3] = EQUALS_ID
        row[at + 4] = NUMBER_ID + result
        at += 5
        kept = 0
        for x in range(left):
            if x != i and x != j:
                numbers[kept] = numbers[x]
                kept += 1
        numbers[kept] = result
        left -= 1
        if left > 1:
            row[at] = BAR_ID
            for x in range(left):
                row[at + 1 + x] = NUMBER_ID + numbers[x]
            at += 1 + left
        row[at] = NEWLINE_ID
        at += 1
    return at


@jit
def _legal_actions(numbers, left, cap, actions):
    """Distinct legal (i, j, op, result) into `actions`, operands that commute once; returns how many. Never none."""
    count = 0
    for i in range(left):
        for j in range(i + 1, left):
            a, b = numbers[i], numbers[j]
            if a + b <= cap:
                actions[count] = (i, j, PLUS_ID, a + b)
                count += 1
            if a * b <= cap:
                actions[count] = (i, j, TIMES_ID, a * b)
                count += 1
            if a >= b:
                actions[count] = (i, j, MINUS_ID, a - b)
            else:
                actions[count] = (j, i, MINUS_ID, b - a)
            count += 1
            if b > 0 and a % b == 0:
                actions[count] = (i, j, DIVIDE_ID, a // b)
                count += 1
            if a > 0 and a != b and b % a == 0:
                actions[count] = (j, i, DIVIDE_ID, b // a)
                count += 1
    return count

"""Chain arithmetic in numba: random chains, and rows to learn from. All of the task's jitted code.

A chain is a row of int32: how many operations, the start, then (operation's token, operand) in turn. Each step of a random
chain draws +, - or * and then an operand, both with equal odds, until the result is in 0..cap and 0 is not multiplied. So an
operation that seldom fits is rare, and results do not pile up at the ends of the range.

Legend: N chains, K operations at most, B rows, L tokens of a row, D digits of a value, E digits of an operand.
Tokens of a row: BOS, K times (label, operation, E digits), bar, start, newline; K times (label, operation, E digits, =, D
digits, newline).
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np

from kit.jit import jit
from tasks.base import BOS_ID, NEWLINE_ID, SPECIAL_TOKENS

OPS = ("+", "-", "*")
EQUALS, BAR, LABELS = "=", "|", ascii_lowercase
PLUS_ID = len(SPECIAL_TOKENS)
MINUS_ID, TIMES_ID, EQUALS_ID, BAR_ID, DIGIT_ID = range(PLUS_ID + 1, PLUS_ID + 6)  # DIGIT_ID: "0"
LABEL_ID = DIGIT_ID + 10  # "a"
VOCABULARY = (*SPECIAL_TOKENS, *OPS, EQUALS, BAR, *"0123456789", *LABELS)
COUNT, START, FIRST = 0, 1, 2  # places in a chain; operations from FIRST on, two places each
NO_SLIP, ANY_SLIP, NEAR_SLIP = range(3)  # what a wrong result is: none, any other number, one that is misread


def prompt_tokens(operations: int, digits: int, operand_digits: int) -> int:
    """Length of BOS and a prompt."""
    return 1 + operations * (2 + operand_digits) + 1 + digits + 1


def step_tokens(digits: int, operand_digits: int) -> int:
    return 2 + operand_digits + 1 + digits + 1


def row_tokens(operations: int, digits: int, operand_digits: int) -> int:
    """Length of BOS, a prompt and all steps."""
    return prompt_tokens(operations, digits, operand_digits) + operations * step_tokens(digits, operand_digits)


def number(digits: Sequence[int]) -> int:
    """The number that tokens of digits show, the most significant first."""
    return int("".join(str(digit - DIGIT_ID) for digit in digits))


@jit
def draw_chains(rng, count, fewest, most, operand_max, factor_max, cap):
    """int32 [N, 2 + 2 K]: random chains of `fewest` to `most` operations, from a start in 1..operand_max; 0 after the end."""
    chains = np.zeros((count, FIRST + 2 * most), np.int32)
    results = np.empty(most + 1, np.int64)
    for chain in chains:
        _draw(rng, chain, results, fewest, most, operand_max, factor_max, cap, -1, NO_SLIP)
    return chains


@jit
def rows(rng, fewest, most, operand_max, factor_max, cap, digits, operand_digits, slips, tokens, weight, value):
    """Fill int32 tokens, float32 weight and value [B, L] (0, 0, NaN) with whole chains of `fewest` to `most` operations.

    With `slips`, one result, not the last, is wrong: any other number in every row, or a misread one in every other row. The
    operations drawn after it fit what is written. Weight 1 on steps, 0 on a wrong result. Value on each newline but the last: 1
    while all results are right, 0 after.
    """
    chain = np.empty(FIRST + 2 * most, np.int32)
    results = np.empty(most + 1, np.int64)
    for k in range(tokens.shape[0]):
        n = fewest + int(rng.random() * (most - fewest + 1))
        slip = int(rng.random() * (n - 1)) if slips == ANY_SLIP or (slips == NEAR_SLIP and k % 2) else -1
        _draw(rng, chain, results, n, n, operand_max, factor_max, cap, slip, slips)
        at = _write_prompt(tokens[k], chain, digits, operand_digits)
        value[k, at - 1] = 1.0
        for step in range(n):
            end = _write_step(tokens[k], at, chain, step, results[step + 1], digits, operand_digits)
            weight[k, at:end] = 1.0
            if step == slip:
                weight[k, end - 1 - digits : end - 1] = 0.0
            if step < n - 1:
                value[k, end - 1] = 1.0 if slip < 0 or step < slip else 0.0
            at = end


@jit
def _draw(rng, chain, results, fewest, most, operand_max, factor_max, cap, slip, slips):
    """A random chain, its start and its results as written, that of step `slip` wrong."""
    n = fewest + int(rng.random() * (most - fewest + 1))
    results[0] = 1 + int(rng.random() * operand_max)
    chain[COUNT], chain[START] = n, results[0]
    for step in range(n):
        op = operand = 0
        after = -1
        while not 0 <= after <= cap:
            op = PLUS_ID + int(rng.random() * 3)
            if op == TIMES_ID:
                operand = 2 + int(rng.random() * (factor_max - 1))
                after = results[step] * operand if results[step] else -1
            else:
                operand = 1 + int(rng.random() * operand_max)
                after = results[step] + (operand if op == PLUS_ID else -operand)
        chain[FIRST + 2 * step], chain[FIRST + 2 * step + 1] = op, operand
        results[step + 1] = _slipped(rng, after, cap, slips) if step == slip else after


@jit
def _slipped(rng, right, cap, slips):
    """Another number in 0..cap. Misread: one place of it is off by one, with its carry, or shows any other digit."""
    if slips == ANY_SLIP:
        return (right + 1 + int(rng.random() * cap)) % (cap + 1)
    wrong = -1
    while not 0 <= wrong <= cap:
        unit = 1
        while rng.random() < 0.6 and unit * 10 <= cap:
            unit *= 10
        if rng.random() < 0.5:
            wrong = right + (unit if rng.random() < 0.5 else -unit)
        else:
            digit = right // unit % 10
            wrong = right + unit * ((digit + 1 + int(rng.random() * 9)) % 10 - digit)
    return wrong


@jit
def _write_prompt(row, chain, digits, operand_digits):
    """BOS and the prompt; returns where the first step starts."""
    row[0] = BOS_ID
    at = 1
    for step in range(chain[COUNT]):
        at = _write_operation(row, at, chain, step, operand_digits)
    row[at] = BAR_ID
    at = _write_number(row, at + 1, chain[START], digits)
    row[at] = NEWLINE_ID
    return at + 1


@jit
def _write_step(row, at, chain, step, result, digits, operand_digits):
    at = _write_operation(row, at, chain, step, operand_digits)
    row[at] = EQUALS_ID
    at = _write_number(row, at + 1, result, digits)
    row[at] = NEWLINE_ID
    return at + 1


@jit
def _write_operation(row, at, chain, step, operand_digits):
    row[at] = LABEL_ID + step
    row[at + 1] = chain[FIRST + 2 * step]
    return _write_number(row, at + 2, chain[FIRST + 2 * step + 1], operand_digits)


@jit
def _write_number(row, at, number, digits):
    """`digits` digits, the most significant first; returns where they end."""
    for place in range(at + digits - 1, at - 1, -1):
        row[place] = DIGIT_ID + number % 10
        number //= 10
    return at + digits

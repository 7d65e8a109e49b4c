"""Oracles of reasoning-gym that are missing, differ from run to run, or are known to be wrong, for `gym_scorers.py`."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tasks.gym.puzzles import shortest_ladder

Item = dict[str, Any]  # question, answer, metadata

OPERATORS: dict[type, Callable[..., Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
SIGNS: dict[type, Callable[..., Fraction]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
DURATION = re.compile(r"(?:[0-9]+ days(?:, )?)?(?:[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?")


def given(item: Item) -> str | None:
    """The library's own oracle."""
    return item["answer"]


def coloring(item: Item) -> str:
    """The library keeps one, but not as the answer."""
    return json.dumps(item["metadata"]["possible_answer"])


def ladder(item: Item) -> str:
    """The library's own depends on the order of a set."""
    return ",".join(shortest_ladder(item["metadata"]["start_word"], item["metadata"]["end_word"]))


def nothing_wrong(item: Item) -> str:
    return ""


def floor_division(item: Item) -> str:
    """Some quotients in the middle of an expression are rounded down, which the question does not say."""
    value = exact_value(item["metadata"]["expression"])
    return "" if value is not None and value == Fraction(item["answer"]) else "the oracle is not the exact value"


def lost_time(item: Item) -> str:
    """Milliseconds are cut off one short, and a time of day after "(Monday)" is not read."""
    facts = item["metadata"]
    if facts["task_type"] == "time_ms":
        return "the oracle may be a millisecond short"
    if "(%A) %H" in facts["format"]:
        return "the oracle leaves out the time of day"
    return "" if DURATION.fullmatch(item["answer"]) else "the duration is negative"


def exact_value(expression: str) -> Fraction | None:
    """Of numbers, + - * / and brackets; None for anything else and for a division by zero."""
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, KeyError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.AST) -> Fraction:
    match node:
        case ast.BinOp():
            return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
        case ast.UnaryOp():
            return SIGNS[type(node.op)](_value(node.operand))
        case ast.Constant(value=int() as value):
            return Fraction(value)
    raise ValueError

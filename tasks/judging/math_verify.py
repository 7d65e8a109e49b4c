"""math-verify as a scorer of a judge pool. Imported by judge workers only; never in the process of a caller.

Both sides are LaTeX without wrappers. The caller has looked at their size and kind (`equal.py`): words and plain numbers
do not come here, since this library calls anagrams equal and rounds. Two of its judgements are not taken: equations, which it
calls equal when it finds no solution of either, are compared by their differences; and numbers that it takes for equal are
looked at again, to fifty digits and in relation to their size.
"""

from __future__ import annotations

import logging

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

logging.disable(logging.CRITICAL)  # it warns at every call that a timeout of 0 is none: the pool has one

AS_WRITTEN = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
AS_LATEX = (LatexExtractionConfig(boxed_match_priority=-1, normalization_config=AS_WRITTEN),)  # no unit is dropped
DIGITS = 50
CLOSE = sympy.Float("1e-30")


def equal(gold: str, answer: str) -> bool:
    """Is `answer` equal to `gold`? The order of the two matters to the library."""
    if "=" in gold and not any(sign in gold for sign in ("<", ">", "\\le", "\\ge", "\\ne")):
        return _same_equation(gold, answer)
    sides = [_parsed(side) for side in (gold, answer)]
    if not all(sides) or not verify(*sides, timeout_seconds=0, float_rounding=12):
        return False
    first, second = (side[0] for side in sides)
    if any(isinstance(side, sympy.Basic) and side.has(sympy.zoo, sympy.nan) for side in (first, second)):
        return False
    if (
        not (isinstance(first, sympy.Expr) and isinstance(second, sympy.Expr))
        or first.free_symbols | second.free_symbols
    ):
        return True
    size = abs(sympy.N(first, DIGITS))
    return bool(abs(sympy.N(first - second, DIGITS)) <= CLOSE * size)


def _same_equation(gold: str, answer: str) -> bool:
    """One difference of sides is a multiple of the other, by a number that is not 0."""
    differences = []
    for text in (gold, answer):
        sides = [_parsed(side) for side in text.split("=")]
        if len(sides) != 2 or not all(sides) or not all(isinstance(side[0], sympy.Expr) for side in sides):
            return False
        differences.append(sides[0][0] - sides[1][0])
    if any(sympy.simplify(difference) == 0 for difference in differences):
        return False
    ratio = sympy.simplify(differences[0] / differences[1])
    return bool(ratio.is_number and ratio.is_finite and ratio != 0)


def _parsed(text: str) -> list:
    return parse(f"${text.strip()}$", extraction_config=AS_LATEX, parsing_timeout=0)


equal(r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2")  # the first calls import half of sympy: before the worker is ready
equal("y=2x+1", "2y=4x+2")

"""math-verify as a scorer of a judge pool. Imported by judge workers only; never in the process of a caller.

Both sides are LaTeX without wrappers. The caller has looked at their size and kind (`answers.py`): words and plain numbers
do not come here, since this library calls anagrams equal and rounds decimals.
"""

from __future__ import annotations

import logging

from math_verify import LatexExtractionConfig, parse, verify

logging.disable(logging.CRITICAL)  # it warns at every call that a timeout of 0 is none: the pool has one

AS_LATEX = (LatexExtractionConfig(boxed_match_priority=-1),)


def equal(gold: str, answer: str) -> bool:
    """Is `answer` equal to `gold`? The order of the two matters to the library."""
    sides = [parse(f"${side}$", extraction_config=AS_LATEX, parsing_timeout=0) for side in (gold, answer)]
    return bool(sides[0]) and bool(sides[1]) and verify(*sides, timeout_seconds=0, float_rounding=12)


equal(r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2")  # the first call imports half of sympy: before the worker is ready

"""Another way to a line of a sum: the other order of its terms, or, where a difference has none, the sum that takes it back.

    13 + 7 = 20      7 + 13 =        20, as a sum of its own
    -5 + 7 = 2       7 - 5 =         2
    4 - 9 = -5       9 - 4 =         5, with the other sign
    -4 - 9 = -13     9 + 4 =         13, with the other sign
    20 - 7 = 13      13 + 7 =        20: it confirms the line, and says not what stands there instead

What these come to is the model's to say; here only numbers change their places and signs.
"""

from __future__ import annotations

import re

from tasks.streams import Derivation

ASKED = "Work out"
LINE = re.compile(r"(-?[0-9]{1,9}) ([+-]) ([0-9]{1,9}) = (-?[0-9]{1,9})\n?")
NEVER = "?"  # what no line comes to


def another_way(step: str) -> Derivation | None:
    """See above. None: the step is no such line."""
    read = LINE.fullmatch(step)
    if read is None:
        return None
    first, sign, second, result = read.groups()
    positive, choice = first.lstrip("-"), f"{first} {sign} {second} ="
    if sign == "+":
        return _way(f"{second} {'-' if first.startswith('-') else '+'} {positive}", result, f"{choice} {{}}")
    turned = result[1:] if result.startswith("-") else NEVER
    if first.startswith("-"):
        return _way(f"{second} + {positive}", turned, f"{choice} -{{}}")
    if int(first) < int(second):
        return _way(f"{second} - {first}", turned, f"{choice} -{{}}")
    if result.startswith("-"):
        return _way(f"{second} - {result[1:]}", first)
    return _way(f"{result} + {second}", first)


def _way(terms: str, result: str, mended: str = "") -> Derivation:
    return Derivation(f"{ASKED} {terms}\n", f"{terms} =", result, mended)

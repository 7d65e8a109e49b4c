"""Another way to a line of a sum: the other order of its terms, or, where a difference has none, the sum that takes it back.

    9 + 7 = 16       7 + 9 =         16, as a sum of its own
    13 + 7 = 20      20 - 7 =        13: it confirms the line, and says not what stands there instead
    20 - 7 = 13      13 + 7 =        20, alike
    -5 + 7 = 2       7 - 5 =         2
    -7 + 5 = -2      7 - 5 =         2, with the other sign
    4 - 9 = -5       9 - 4 =         5, with the other sign
    -4 - 9 = -13     9 + 4 =         13, with the other sign
    -13 - 4 = -17    13 + 4 =        17, with the other sign

What is asked has the form of the lines that a chain is made of: the longer number first, and none of them 0. Asked as 7 + 13,
or 6 - 0, the same line is one that nobody practised. What these come to is the model's to say; here only numbers change their
places and signs.
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
    if int(first) == 0 or int(second) == 0:
        return None
    longer, below = len(positive) > len(second), result.removeprefix("-") if result.startswith("-") else NEVER
    if sign == "+" and not first.startswith("-"):
        if longer and not result.startswith("-"):
            return _way(f"{result} - {second}", first)
        return _way(f"{second} + {first}", result, f"{choice} {{}}")
    if sign == "+" and int(positive) > int(second):
        return _way(f"{positive} - {second}", below, f"{choice} -{{}}")
    if sign == "+":
        return _way(f"{second} - {positive}", result, f"{choice} {{}}")
    if first.startswith("-"):
        return _way(f"{positive} + {second}" if longer else f"{second} + {positive}", below, f"{choice} -{{}}")
    if int(first) < int(second):
        return _way(f"{second} - {first}", below, f"{choice} -{{}}")
    if result.startswith("-"):
        return _way(f"{second} - {result[1:]}", first)
    return _way(f"{result} + {second}", first)


def _way(terms: str, result: str, mended: str = "") -> Derivation:
    return Derivation(f"{ASKED} {terms}\n", f"{terms} =", result, mended)

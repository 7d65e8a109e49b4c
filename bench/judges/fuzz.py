"""Fuzzed texts: pieces of a grammar in random order, then bytes changed, doubled, cut or swapped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PIECES = (
    *"0123456789", "42", "-", "+", "1/2", "3.14", "1,234", "1e9", "9**9**9", "5=5", "x=", "\\frac{", "}{", "}", "{", "^",
    "\\boxed{", "\\sqrt{", "^{", "_", "\\pi", "\\text{", "cm", "%", "\\%", "$", "\\$", "(", ")", "[", "]", ",", ";", ".", " ",
    "  ", "\n", "</think>", "<think>", "answer:", "Answer: ", "The answer is ", "yes", "no", "nan", "inf", "None", "\\", "!",
    "__import__('os')", "\\left(", "\\right)", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "'", '"', "²", "４", "٣",
    "\u200b", "é", "🦉", "\\cdot", "\\times 10^{", "\\infty", "\\in", "<", ">", "=", "~", "#", "a" * 50, "(" * 30, "9" * 60,
    "\\dfrac12", "**",
)  # fmt: skip
MOST_PIECES, MOST_CHANGES = 12, 4


def answers(rng: np.random.Generator, n: int, gold: str) -> Iterator[str]:
    """`n` texts; some hold the gold answer itself."""
    pieces = (*PIECES, gold, f"\\boxed{{{gold}}}")
    for _ in range(n):
        chosen = rng.integers(len(pieces), size=1 + rng.integers(MOST_PIECES))
        yield mutated(rng, "".join(pieces[k] for k in chosen)) if rng.random() < 0.7 else pieces[chosen[0]]


def mutated(rng: np.random.Generator, text: str) -> str:
    """`text` with a few bytes changed; what is no UTF-8 any more is kept as replacement characters."""
    data = bytearray(text.encode())
    for _ in range(rng.integers(MOST_CHANGES + 1)):
        at = int(rng.integers(len(data) + 1))
        match rng.integers(4):
            case 0:
                data[at : at + 1] = rng.bytes(1)
            case 1:
                data[at:at] = data[max(0, at - 8) : at]
            case 2:
                del data[at : at + 1 + int(rng.integers(4))]
            case _:
                data[at:at] = PIECES[rng.integers(len(PIECES))].encode()
    return data.decode(errors="replace")

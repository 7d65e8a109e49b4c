"""What a served model thinks before it answers, taken apart from the answer.

A server that knows its model sends thoughts in a field of their own; one that does not leaves them in the text, between marks.
The marks that are known here are those of models that think in public: Qwen 3 and DeepSeek R1 (`<think>`) and what Open WebUI
folds away beside it, Kimi (`◁think▷`), Magistral (`[THINK]`), gpt-oss (harmony's channel `analysis`).

A text may hold a closing mark alone, where the template wrote the opening one; it may end within a mark or a thought. Then all
that could be a thought is taken for one: an answer is lost sooner than a thought is let out.
"""

from __future__ import annotations

import re

NAMES = ("think", "thinking", "thought", "thoughts", "reason", "reasoning", "seed:think")
ALLOWED = 2048  # tokens that a model which thinks is given beside those of a step
MOST = 48  # characters that an opening mark has with its blanks
SURE = 3  # characters of an opening mark that are taken for one wherever they stand
FIELDS = ("reasoning", "reasoning_content", "reasoning_details", "thinking")  # of a message, where servers put thoughts
PAIRS = (
    *((f"<{name}>", f"</{name}>") for name in NAMES),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)


def _pattern(mark: str) -> str:
    """A mark with blanks anywhere behind its first sign and before its last one, as models write it when they are unsure."""
    return r"\s*".join(re.escape(part) for part in re.split(r"(?<=^[<\[])|(?<=/)|(?=[>\]]$)", mark))


_MARKS = re.compile(
    "|".join(f"(?P<o{i}>{_pattern(a)})|(?P<c{i}>{_pattern(b)})" for i, (a, b) in enumerate(PAIRS)), re.IGNORECASE
)
_OPENERS = tuple(opener.lower() for opener, _ in PAIRS)


def apart(text: str, *, cut: bool) -> tuple[str, bool]:
    """(what is no thought, whether anything was). `cut`: the text did not come to its end, so it may end within a mark."""
    kept: list[str] = []
    begins, depth, thought = 0, 0, False
    for mark in _MARKS.finditer(text):
        opens = str(mark.lastgroup).startswith("o")
        if depth == 0 and opens:
            kept.append(text[begins : mark.start()])
        elif depth == 0:  # the opening mark was in the prompt
            kept.clear()
        depth, thought, begins = max(0, depth + (1 if opens else -1)), True, mark.end()
    if depth == 0:
        kept.append(text[begins:])
    shown = "".join(kept)
    if cut and depth == 0:
        begun = _begun(shown)
        shown, thought = shown[: len(shown) - begun], thought or begun > 0
    return (shown.lstrip() if thought else shown), thought


def _begun(text: str) -> int:
    """Characters at the end that begin an opening mark: some of it, or one where nothing stands before it."""
    last = text.lower()[-MOST:]
    begun = [n for n in range(1, len(last) + 1) if not last[-n].isspace() and _begins("".join(last[-n:].split()))]
    longest = max(begun, default=0)
    return longest if longest >= SURE or longest == len(text.lstrip()) else 0


def _begins(sign: str) -> bool:
    return any(opener.startswith(sign) for opener in _OPENERS)

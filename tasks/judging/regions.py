"""Lists, tuples, sets, intervals and unions: where a text is parted, and inequalities as the intervals that they are."""

from __future__ import annotations

import re

from tasks.judging.quantities import quantity

BRACKETS = {"(": ")", "[": "]", "{": "}"}
CUP = re.compile(r"\\cup(?![a-zA-Z])|(?<=[)\]}])\s*U\s*(?=[(\[{\\])")
BETWEEN = re.compile(r"(?<=[\d)}\]])\s*,?\s+(?:and(?: then)?|then|or)\s+(?=[\d\\$(\[{+-]|[A-Za-z]\s*=)")
RELATIONS = {r"\le": "≤", r"\ge": "≥", "<": "<", ">": ">"}
RELATION = re.compile(r"[<>]|\\[lg]e(?![a-zA-Z])")
OR = re.compile(r"\s*(?:\\text\s?\{\s*or\s*\}|\bor\b|\\lor(?![a-z]))\s*")
CHAIN = re.compile(r"([^<>≤≥]+)([<>≤≥])([^<>≤≥]+)(?:([<>≤≥])([^<>≤≥]+))?")
VARIABLE = re.compile(r"[A-Za-z]|\\[a-z]+")


def entries(text: str) -> tuple[str, list[str]] | None:
    """(brackets, entries) of a tuple, an interval, a set or a list; None for anything else."""
    text = text.replace(r"\{", "{").replace(r"\}", "}").strip()
    alone = not (text[:1] in BRACKETS and text[-1:] in ")]}" and _closes_last(text))
    parts = _split(BETWEEN.sub(", ", text) if alone else text[1:-1])
    if len(parts) < 2 and (alone or text[0] != "{"):
        return None
    return ("" if alone else text[0] + text[-1]), parts


def numbers(text: str) -> bool:
    """Whether a text is made of several numbers and nothing else."""
    found = entries(text)
    return found is not None and all(quantity(entry) for entry in found[1])


def both_signs(text: str) -> tuple[str, str] | None:
    r"""(5, -5) of `\pm 5`, and of the list of the two in any order."""
    if text.startswith(r"\pm"):
        half = text.removeprefix(r"\pm").strip()
        return (half, f"-{half}") if re.fullmatch(r"[^+\-\s,]+", half) else None
    found = entries(text)
    if found is None or found[0] or len(found[1]) != 2:
        return None
    one, other = sorted(found[1], key=lambda entry: entry.startswith("-"))
    return one.removeprefix("+"), other


def union(text: str) -> list[str]:
    """Parts of a union in one order, or the text alone."""
    parts = [part.strip() for part in CUP.split(text)]
    if len(parts) < 2 or not all(part[:1] in (*BRACKETS, "\\") and part[-1:] in ")]}" for part in parts):
        return [text]
    return sorted(parts, key=_place)


def interval(text: str) -> tuple[str, str] | None:
    r"""(variable, interval) of an inequality: `(0, 1]` of `0 < x \le 1`, a union where several are joined by `or`."""
    if not RELATION.search(text):
        return None
    for sign, mark in RELATIONS.items():
        text = re.sub(re.escape(sign) + "(?![a-zA-Z])" * sign.startswith("\\"), mark, text)
    found = [_ends(part.strip()) for part in OR.split(text)]
    names = {part[0] for part in found if part}
    if None in found or len(names) != 1:
        return None
    return names.pop(), r" \cup ".join(part[1] for part in found if part)


def is_interval(text: str) -> bool:
    """Whether a text can be read as an interval, or as a union of them."""
    return all(
        (found := entries(part)) is not None and len(found[1]) == 2 and found[0][:1] in ("(", "[")
        for part in union(text)
    )


def _ends(text: str) -> tuple[str, str] | None:
    found = CHAIN.fullmatch(text)
    if found is None or set("=,") & set(text):
        return None
    low, sign, name, more, high = (part.strip() if part else "" for part in found.groups())
    if not more:
        if VARIABLE.fullmatch(low):  # x > 4: the name comes first
            low, name, sign = name, low, {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}[sign]
        high, more = (r"\infty", "<") if sign in "<≤" else (r"-\infty", ">")
    if sign in ">≥":
        low, sign, more, high = (
            high,
            {">": "<", "≥": "≤"}[more] if more in ">≥" else "",
            {">": "<", "≥": "≤"}[sign],
            low,
        )
    if not VARIABLE.fullmatch(name) or more not in "<≤" or not sign or (VARIABLE.fullmatch(low) and low[0] != "\\"):
        return None
    return name, f"{'(['[sign == '≤']}{low}, {high}{')]'[more == '≤']}"


def _place(part: str) -> tuple[float, str]:
    found = entries(part)
    low = quantity(found[1][0]) if found and found[1] else None
    return (float(low.value) if low else float("-inf") if r"-\infty" in part else float("inf")), "".join(part.split())


def _closes_last(text: str) -> bool:
    """Is the bracket that opens `text` closed by its last character?"""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0:
            return i == len(text) - 1
    return False


def _split(text: str) -> list[str]:
    """Parts between commas outside brackets; a comma in `1{,}000` is inside one."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]

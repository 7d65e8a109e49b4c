"""Judges of puzzles that several answers solve, for `gym_scorers.py`: each checks the rules, not likeness to the oracle.

Pure and total like those of `gym_values.py`. `gold` holds the oracle as "answer" and the fields of the item's metadata that the
docstring names.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from functools import cache
from itertools import pairwise
from string import ascii_uppercase

from tasks.gym.values import grid, numbers

MOST_WORDS = 200  # of a ladder
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def anagram_groups(answer: str, gold: dict) -> bool:
    """The groups, and the words of each, in any order."""
    found, oracle = _lists_of_words(answer), _lists_of_words(gold["answer"])
    return found is not None and oracle is not None and sorted(map(sorted, found)) == sorted(map(sorted, oracle))


def partitions(answer: str, gold: dict) -> bool:
    """All partitions into palindromes, in any order."""
    found, oracle = _lists_of_words(answer), _lists_of_words(gold["answer"])
    return found is not None and oracle is not None and sorted(found) == sorted(oracle)


def palindrome(answer: str, gold: dict) -> bool:
    """Of all `letters`."""
    text = answer.lower()
    return text == text[::-1] and sorted(text) == sorted(gold["letters"])


def cryptarithm(answer: str, gold: dict) -> bool:
    """A different digit for each letter, so that `words_letters` add up to `result_letters`; no leading zero unless
    `allow_leading_zero`.
    """
    digits: dict[str, str] = {}
    for part in answer.split(","):
        letter, _, digit = (side.strip() for side in part.partition("="))
        if letter in digits or digit not in tuple("0123456789"):
            return False
        digits[letter] = digit
    words = [*gold["words_letters"], gold["result_letters"]]
    if set(digits) != set("".join(words)) or len(set(digits.values())) < len(digits):
        return False
    *terms, total = ("".join(digits[letter] for letter in word) for word in words)
    if not gold["allow_leading_zero"] and any(text[0] == "0" for text in (*terms, total)):
        return False
    return sum(map(int, terms)) == int(total)


def kakurasu(answer: str, gold: dict) -> bool:
    """Zeros and ones whose positions add up to `row_sums` and `col_sums`."""
    rows, row_sums, column_sums = grid(answer), gold["row_sums"], gold["col_sums"]
    if not _has_shape(rows, len(row_sums), len(column_sums), {"0", "1"}):
        return False
    return all(
        sum(k for k, cell in enumerate(line, start=1) if cell == "1") == total
        for lines, sums in ((rows, row_sums), (zip(*rows, strict=True), column_sums))
        for line, total in zip(lines, sums, strict=True)
    )


def queens(answer: str, gold: dict) -> bool:
    """A board of `puzzle`'s size that keeps its queens, one in each row and column, and at most one on a diagonal."""
    rows, puzzle = grid(answer), gold["puzzle"]
    size = len(puzzle)
    if not _has_shape(rows, size, size, {"_", "Q"}):
        return False
    if any(rows[i][j] != "Q" for i in range(size) for j in range(size) if puzzle[i][j] == "Q"):
        return False
    placed = [(i, j) for i in range(size) for j in range(size) if rows[i][j] == "Q"]
    lines = ({i for i, _ in placed}, {j for _, j in placed}, {i + j for i, j in placed}, {i - j for i, j in placed})
    return len(placed) == size and all(len(line) == size for line in lines)


def survo(answer: str, gold: dict) -> bool:
    """`puzzle` with `candidate_numbers` in place of its zeros; the last of each row and column is the sum of the others."""
    found, puzzle = [numbers(row) for row in grid(answer)], gold["puzzle"]
    rows, size = [row for row in found if row is not None], len(puzzle)
    if [len(row) for row in rows] != [size] * size or None in found:
        return False
    cells = [(rows[i][j], puzzle[i][j]) for i in range(size) for j in range(size)]
    if any(given and value != given for value, given in cells):
        return False
    if sorted(value for value, given in cells if not given) != sorted(gold["candidate_numbers"]):
        return False
    return all(sum(line[:-1]) == line[-1] for line in (*rows, *zip(*rows, strict=True)))


def shortest_path(answer: str, gold: dict) -> bool:
    """As many moves as the oracle has, from * to # of `matrix` over open cells; "infeasible" where the oracle says so."""
    moves, oracle, cells = answer.split(), gold["answer"].split(), gold["matrix"]
    if oracle == ["infeasible"] or len(moves) != len(oracle):
        return moves == oracle
    i, j = next((i, row.index("*")) for i, row in enumerate(cells) if "*" in row)
    for move in moves:
        down, right = DIRECTIONS.get(move, (0, 0))
        i, j = i + down, j + right
        if move not in DIRECTIONS or not (0 <= i < len(cells) and 0 <= j < len(cells[0])) or cells[i][j] == "X":
            return False
    return cells[i][j] == "#"


def word_ladder(answer: str, gold: dict) -> bool:
    """Any ladder from `start_word` to `end_word` over words of the library's list, short or long."""
    ladder = [word.strip().upper() for word in answer.split(",")]
    known = words_of_length(len(gold["start_word"]))
    return (
        2 <= len(ladder) <= MOST_WORDS
        and (ladder[0], ladder[-1]) == (gold["start_word"], gold["end_word"])
        and known.issuperset(ladder)
        and all(sum(a != b for a, b in zip(*pair, strict=True)) == 1 for pair in pairwise(ladder))
    )


def knights(answer: str, gold: dict) -> bool:
    """What each person is, in any order and with any punctuation between."""
    found = _people(answer)
    return found is not None and found == _people(gold["answer"])


def coloring(answer: str, gold: dict) -> bool:
    """One of the colors for each vertex of `puzzle`, and never the same at both ends of an edge."""
    colors, puzzle = _loaded(answer), gold["puzzle"]
    if not isinstance(colors, dict) or set(colors) != {str(vertex) for vertex in puzzle["vertices"]}:
        return False
    if any(type(color) is not int or color not in puzzle["color_options"] for color in colors.values()):
        return False
    return all(colors[str(a)] != colors[str(b)] for a, b in puzzle["edges"])


# ---- word ladders


@cache
def words_of_length(length: int) -> frozenset[str]:
    """The library's list of words of 3, 4 or 5 letters, in capitals."""
    from reasoning_gym.data import get_data_file_path

    with get_data_file_path("words.csv").open(encoding="utf-8") as file:
        return frozenset(word.upper() for row in csv.DictReader(file) if (word := row.get(f"{length}_letter")))


@cache
def words_beside(word: str) -> tuple[str, ...]:
    """Those that differ in one letter."""
    changed = (word[:k] + letter + word[k + 1 :] for k in range(len(word)) for letter in ascii_uppercase)
    return tuple(other for other in changed if other != word and other in words_of_length(len(word)))


def shortest_ladder(start: str, end: str) -> list[str]:
    """The first of the shortest ladders, by place and letter of the changes; empty if there is none."""
    before, queue = {start: ""}, deque([start])
    while queue and end not in before:
        word = queue.popleft()
        for other in words_beside(word):
            if other not in before:
                before[other] = word
                queue.append(other)
    ladder = [end] if end in before else []
    while ladder and (word := before[ladder[-1]]):
        ladder.append(word)
    return ladder[::-1]


# ---- helpers


def _loaded(text: str) -> object:
    """What a text of JSON holds; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _lists_of_words(text: str) -> list[list[str]] | None:
    lists = _loaded(text)
    if not isinstance(lists, list) or not all(isinstance(words, list) for words in lists):
        return None
    return lists if all(isinstance(word, str) for words in lists for word in words) else None


def _has_shape(rows: list[list[str]], height: int, width: int, cells: set[str]) -> bool:
    return len(rows) == height and all(len(row) == width and cells.issuperset(row) for row in rows)


def _people(text: str) -> dict[str, str] | None:
    """Person -> role in "A is a sage, and B is a fool."; None if it reads in another way."""
    words = [word for word in text.lower().rstrip(". ").replace(",", " ").split() if word != "and"]
    if not words or len(words) % 4:
        return None
    roles: dict[str, str] = {}
    for person, verb, article, role in zip(*(words[k::4] for k in range(4)), strict=True):
        if verb != "is" or article not in ("a", "an") or person in roles:
            return None
        roles[person] = role
    return roles

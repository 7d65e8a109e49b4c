"""Which datasets of reasoning-gym may be learned from, and who judges their answers: pure functions of ours, 0 or 1.

The library's own scorers pay for parts of an answer and for junk, and some run it as code (docs/results/reasoning_gym.md has
the measurements). A dataset is here when our judge takes its oracles and nothing that is not right, when its oracles are
right as far as could be recomputed, and when its splits can be kept apart; the others are refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tasks.gym import oracles, puzzles, values
from tasks.gym.oracles import Item
from tasks.gym.values import Judge
from tasks.questions.task import MOST_LINE


@dataclass(frozen=True, slots=True)
class Form:
    """How the answers of a dataset read, and how they are judged."""

    name: str
    judge: Judge
    needs: tuple[str, ...] = ()  # fields of the metadata that the judge reads
    oracle: Callable[[Item], str | None] = oracles.given
    flaw: Callable[[Item], str] = oracles.nothing_wrong  # why an item's oracle cannot be trusted; "" if it can
    config: Mapping[str, object] = field(default_factory=dict)  # options that differ from the library's


NUMBER = Form("number", values.same_number)
WORD = Form("word", values.same_word)
TEXT = Form("text", values.same_text)
WORDS = Form("words, parted by commas", values.same_words)
GRID = Form("grid of numbers", values.same_grid)
LIST = Form("list of numbers in brackets", values.number_list)
SUMS = ("row_sums", "col_sums")
LETTERS = ("words_letters", "result_letters", "allow_leading_zero")
FRACTION = ("simplified_numerator", "simplified_denominator")

ALLOWED: dict[str, Form] = {
    "ab": TEXT,
    "acre": WORD,
    "advanced_geometry": Form("length, angle or point", values.same_point),
    "aiw": NUMBER,
    "arc_1d": GRID,
    "base_conversion": WORD,
    "basic_arithmetic": Form("number", values.same_number, flaw=oracles.floor_division),
    "bf": WORD,
    "binary_alternation": NUMBER,
    "binary_matrix": GRID,
    "bitwise_arithmetic": Form("hexadecimal number", values.same_hex),
    "caesar_cipher": TEXT,
    "calendar_arithmetic": Form("number, weekday or Yes/No", values.same_word),
    "chain_sum": NUMBER,
    "circuit_logic": NUMBER,
    "color_cube_rotation": WORD,
    "complex_arithmetic": Form("complex number", values.same_complex),
    "count_bits": NUMBER,
    "count_primes": NUMBER,
    "course_schedule": Form("True or False", values.same_word),
    "cryptarithm": Form("digits for letters", puzzles.cryptarithm, LETTERS),
    "decimal_arithmetic": Form("decimal", values.within(relative=Fraction(1, 10**9))),
    "decimal_chain_sum": NUMBER,
    "dice": Form("reduced fraction", values.same_odds),
    "family_relationships": WORD,
    "figlet_font": WORD,
    "fraction_simplification": Form("reduced fraction, LaTeX too", values.same_fraction, FRACTION),
    "gcd": NUMBER,
    "graph_color": Form("JSON object", puzzles.coloring, ("puzzle",), oracle=oracles.coloring),
    "group_anagrams": Form("JSON lists of words", puzzles.anagram_groups),
    "gsm_symbolic": NUMBER,
    "kakurasu": Form("grid of 0 and 1", puzzles.kakurasu, SUMS),
    "knights_knaves": Form("who is what", puzzles.knights),
    "largest_island": NUMBER,
    "lcm": NUMBER,
    "leg_counting": NUMBER,
    "letter_counting": NUMBER,
    "list_functions": LIST,
    "manipulate_matrix": GRID,
    "maze": NUMBER,
    "mini_sudoku": GRID,
    "n_queens": Form("grid of Q and _", puzzles.queens, ("puzzle",)),
    "needle_haystack": WORD,
    "number_filtering": LIST,
    "number_format": Form("decimal", values.within(absolute=Fraction(1, 100))),
    "number_sequence": NUMBER,
    "number_sorting": LIST,
    "palindrome_generation": Form("palindrome", puzzles.palindrome, ("letters",)),
    "palindrome_partitioning": Form("JSON lists of words", puzzles.partitions),
    "path_star": TEXT,
    "pool_matrix": Form("grid of decimals", values.rounded_grid),
    "power_function": Form("three significant digits", values.three_digits),
    "prime_factorization": Form("factors", values.same_factors),
    "products": NUMBER,
    "rectangle_count": NUMBER,
    "rotate_matrix": GRID,
    "rotten_oranges": NUMBER,
    "self_reference": NUMBER,
    "shortest_path": Form("moves", puzzles.shortest_path, ("matrix",)),
    "simple_equations": NUMBER,
    "simple_geometry": NUMBER,
    "spell_backward": WORD,
    "spiral_matrix": Form("numbers in a row", values.number_row),
    "string_insertion": WORD,
    "string_manipulation": WORD,
    "survo": Form("grid of numbers", puzzles.survo, ("puzzle", "candidate_numbers")),
    "time_intervals": Form(
        "duration",
        values.same_text,
        flaw=oracles.lost_time,
        config={"task_types": ["time", "time_seconds", "date", "datetime", "datetime_tz"]},
    ),
    "word_ladder": Form(
        "words, parted by commas", puzzles.word_ladder, ("start_word", "end_word"), oracle=oracles.ladder
    ),
    "word_sequence_reversal": WORDS,
    "word_sorting": WORDS,
}

NEVER_MADE = frozenset({"codeio", "composite"})  # not even for the audit

REFUSED = {
    "arc_agi": "a finite set of public puzzles, which the splits would share",
    "boxnet": "it has no oracle, and several plans are right",
    "codeio": "making an item runs third-party code, which writes files and opens sockets",
    "coin_flip": "few questions: 58% come twice in 500",
    "composite": "no dataset of its own but a mixture of others",
    "countdown": "slow to make (40 ms at the 95th percentile); task=countdown is ours",
    "emoji_mystery": "about 310 sentences, which the splits would share",
    "futoshiki": "slow to make (48 ms, up to 4 s)",
    "game_of_life": "slow to make (6 ms)",
    "game_of_life_halting": "few questions, nearly all with the same answer",
    "intermediate_integration": "slow to make (19 ms), and an answer needs a computer algebra system to be judged",
    "isomorphic_strings": "its questions differ from process to process (PYTHONHASHSEED)",
    "jugs": "slow to make (6 ms), and 45% of questions come in two splits; task=jugs is ours",
    "knight_swap": "slow to make (120 ms), and several answers are right",
    "letter_jumble": "in 35% of items another word is as right as the oracle",
    "mahjong_puzzle": "the oracle is wrong in 16% of items",
    "modulo_grid": "copying the question with a cross for the hole is right in 90% of items",
    "polynomial_equations": "slow to make (7 ms), and roots are compared by distance",
    "polynomial_multiplication": "its questions differ from process to process, and an answer needs computer algebra",
    "propositional_logic": "it has no oracle, and a copied premise is right in 86% of items",
    "puzzle24": "slow to make (32 ms), and the official scorer ignores the given numbers",
    "quantum_lock": "slow to make (120 ms at the 95th percentile), and 66% of items have several shortest answers",
    "ransom_note": "its questions differ from process to process (PYTHONHASHSEED)",
    "rearc": "slow to make (38 ms at the 95th percentile), and the splits share its 400 families",
    "rubiks_cube": "it has no oracle, and is slow to make (10 ms)",
    "rush_hour": "it has no oracle",
    "sentence_reordering": "the oracle is wrong in 29% of items (every sentence with a word twice)",
    "simple_integration": "an answer needs a computer algebra system to be judged",
    "sokoban": "slow to make (up to 6 s), and random moves solve some",
    "string_splitting": "216 different questions",
    "string_synthesis": "216 different questions",
    "sudoku": "slow to make (21 ms, 91 ms at the 95th percentile); mini_sudoku is allowed",
    "syllogism": "the oracle is wrong in 12% of items",
    "tower_of_hanoi": "about 90 different questions",
    "tsumego": "in 10% of items several moves capture, and one of them is right",
    "zebra_puzzles": "slow to make (137 ms)",
}


def right(dataset: str, answer: str, gold: Mapping) -> bool:
    """Is this the answer, or as good as it? Total: any text of an allowed dataset gets True or False."""
    answer = answer.strip()
    return 0 < len(answer) <= MOST_LINE and ALLOWED[dataset].judge(answer, dict(gold))

"""Answers that our judges of reasoning-gym must take, and answers that they must not: the cases of test_gym.py."""

from __future__ import annotations

GRAPH = {"vertices": [0, 1], "edges": [[0, 1]], "color_options": [1, 2]}
LETTERS = {"words_letters": ["A", "B"], "result_letters": "C", "allow_leading_zero": False}
BOARD = {"matrix": [["*", "O"], ["O", "#"]], "answer": "down right"}
SURVO = {"puzzle": [[0, 0, 3], [0, 4, 7], [4, 6, 10]], "candidate_numbers": [1, 2, 3]}
SUMS = {"row_sums": [1, 2], "col_sums": [1, 2]}
TRUTH = {"answer": "Ann is a knight, and Bob is a knave."}
ANAGRAMS = {"answer": '[["eat", "tea"], ["on", "no"]]'}

CASES: list[tuple[str, dict, list[str], list[str]]] = [  # dataset, gold, right, wrong
    ("gcd", {"answer": "1234"}, ["1,234", "+1234", "1234.0", " 1234 "], ["12,34", "1234 5", "01234", "１２３４", "1234/1"]),
    ("gcd", {"answer": "0"}, ["-0", "0.0"], ["00", "", "0x0", "False"]),
    ("decimal_chain_sum", {"answer": "-43.2114"}, ["−43.2114", "-43.21140", "-432114e-4"], ["43.2114", "-43.211"]),
    ("decimal_arithmetic", {"answer": "119.409672930"}, ["119.40967293"], ["119.41", "119.4096"]),
    ("power_function", {"answer": "7.639419543547913e-08"}, ["7.64e-8", "0.0000000764"], ["7.65e-08", "7.6e-08", "nan"]),
    ("number_format", {"answer": "222422326.599"}, ["2.22422326599e8", "222,422,326.6"], ["222422326.7", "2.22e8"]),
    ("fraction_simplification", {"answer": "", "simplified_numerator": 57, "simplified_denominator": 61},
     ["57/61", "57 / 61", "$\\frac{57}{61}$", "\\dfrac{57}{61}"], ["114/122", "57", "\\frac{57}{61}{1}", "0.93442"]),
    ("fraction_simplification", {"simplified_numerator": 5, "simplified_denominator": 1}, ["5", "5/1"], ["10/2", "5/"]),
    ("dice", {"answer": "1/6"}, ["1 / 6"], ["2/12", "1/60", "1/ 6 0", "1"]),
    ("complex_arithmetic", {"answer": "8.0 - 1.0i"}, ["8-i", "(8 - 1i)", "8.0-1.0j"], ["8+i", "-i+8", "nan", "8", "8-ii"]),
    ("complex_arithmetic", {"answer": "-2.00i"}, ["-2i"], ["2i", "-2"]),
    ("bitwise_arithmetic", {"answer": "-0xff"}, ["-0xFF", "-0x0ff"], ["0xff", "-255", "ff"]),
    ("advanced_geometry", {"answer": "(-0.463, 1.049)"}, ["-0.463, 1.049", "(-0.4634, 1.0488)"],
     ["(1.049, -0.463)", "-0.463", "(-0.463, 1.049", "(-0.463, 1.049, 0)"]),
    ("advanced_geometry", {"answer": "20.32°"}, ["20.32", "20.320°"], ["20.5°", "20.32 20.32"]),
    ("prime_factorization", {"answer": "2 × 2 × 3"}, ["3 * 2 * 2", "2·3·2", "2x2x3"], ["4 × 3", "12", "2 × 2 × 3 × 1"]),
    ("number_sorting", {"answer": "['-1.5', '2.0']"}, ["[-1.5, 2]", '["-1.5", "2.0"]'], ["-1.5, 2.0", "['-2', '2']"]),
    ("list_functions", {"answer": "[]"}, ["[ ]"], ["", "[0]", "[[]]"]),
    ("spiral_matrix", {"answer": "1 2 3"}, ["[1, 2, 3]", "1,2,3"], ["1 2", "1 3 2", "123"]),
    ("rotate_matrix", {"answer": "1 2 / 3 4"}, ["1 2/3 4"], ["1 2 3 4", "1 3 / 2 4", "1 2 / 3"]),
    ("pool_matrix", {"answer": "3.5 5.56"}, ["3.50 5.555"], ["3.5 5.5", "3.5 / 5.56"]),
    ("word_sorting", {"answer": "Ann, bob"}, ["Ann,bob"], ["ann, bob", "bob, Ann", "Ann bob"]),
    ("spell_backward", {"answer": "htimS"}, ["htims"], ["Smith"]),
    ("group_anagrams", ANAGRAMS, ['[["no", "on"], ["tea", "eat"]]'], ['[["eat", "tea", "on", "no"]]', "[]", "[[1]]"]),
    ("palindrome_partitioning", {"answer": '[["a", "a"], ["aa"]]'}, ['[["aa"], ["a", "a"]]'], ['[["aa"]]', "[[[]]]"]),
    ("palindrome_generation", {"letters": [*"fjyyjf"], "answer": ""}, ["fjyyjf", "jfyyfj", "YJFFJY"], ["fjyy", "ffjjyy"]),
    ("cryptarithm", LETTERS, ["A=1,B=2,C=3", "C=9, A=2, B=7"],
     ["A=1,B=1,C=2", "A=0,B=1,C=1", "A=1,B=2", "A=1,A=1,B=2,C=3"]),
    ("shortest_path", BOARD, ["down right", "right down"], ["down down", "down right up down", "right", "infeasible"]),
    ("n_queens", {"puzzle": [["_"] * 4] * 4}, ["_ Q _ _ / _ _ _ Q / Q _ _ _ / _ _ Q _", "_ _ Q _/Q _ _ _/_ _ _ Q/_ Q _ _"],
     ["Q _ _ _ / _ Q _ _ / _ _ Q _ / _ _ _ Q", "_ _ _ _ / _ _ _ _ / _ _ _ _ / _ _ _ _"]),
    ("kakurasu", SUMS, ["1 0 / 0 1"], ["0 1 / 1 0", "1 0", "1 0 / 0 x"]),
    ("survo", SURVO, ["1 2 3 / 3 4 7 / 4 6 10"], ["2 1 3 / 3 4 7 / 4 6 10", "0 3 3 / 4 4 7 / 4 6 10"]),
    ("graph_color", {"puzzle": GRAPH}, ['{"0": 1, "1": 2}', '{"1": 1, "0": 2}'],
     ['{"0": 1, "1": 1}', '{"0": 1}', '{"0": true, "1": 2}', '{"0": 1, "1": 3}', "[1, 2]"]),
    ("knights_knaves", TRUTH, ["Bob is a knave, Ann is a knight", "ann is a knight and bob is a knave"],
     ["Ann is a knight", "Ann is a knave, and Bob is a knight.", f"{TRUTH['answer']} Ann is a knave", "is a is a"]),
]  # fmt: skip

"""Generated questions: our judges take what is right and nothing else, and an item is the same item in every process."""

from __future__ import annotations

import decimal
import gc
import json
import os
import random
import re
import subprocess
import sys
import time
from functools import cache
from hashlib import blake2b
from itertools import permutations
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest

from bench.judges.fuzz import answers
from tasks import SPLITS, TaskError, given_chains, make_guesser, make_scorer, make_task, task_report
from tasks.base import AnswerKey, Problem
from tasks.guessing import guessed
from tasks.gym.audit import LIMITS, OFFICIAL, audit, hostile, markdown
from tasks.gym.corpus import GymCorpus, gold_of, one_line, read_gym, why_not
from tasks.gym.items import Items, registry
from tasks.gym.oracles import exact_value, lost_time
from tasks.gym.puzzles import shortest_ladder, words_of_length
from tasks.gym.scorers import ALLOWED, NEVER_MADE, REFUSED, right
from tasks.gym.steps import WORKED
from tasks.judging.answer_line import answer_line
from tasks.questions.task import MOST_LINE
from tasks.sandbox.pool import Job, JudgePool, Limits
from tests.tasks.gym_cases import CASES

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: pip install -e '.[gym]'")

ROOT = Path(__file__).parents[2]
ORACLES = 10  # of each dataset
SEVERAL = {"graph_color", "n_queens", "palindrome_generation"}  # another item's answer may be right, too
LONG = [
    "[",
    "(",
    "9",
    "a is a ",
    ",",
    "/",
    "{",
    "1 ",
    "A=1,",
    "Q ",
    "up ",
    "×",
    "0.",
    "\\frac{",
    '["a"],',
    "fill A",
    "e",
    "−",
]


@cache
def corpus(dataset: str) -> GymCorpus:
    return read_gym(dataset, train=14, dev=8, test=8, shown=2)


@cache
def golds(dataset: str) -> list[dict]:
    return [json.loads(text) for text in corpus(dataset).key.answers.values()]


@pytest.fixture(scope="module")
def pool():
    limits = Limits(deadline_s=1.0, memory_mb=LIMITS.memory_mb)
    with JudgePool(OFFICIAL, workers=1, limits=limits) as made:
        yield made


# ---- our judges


def test_every_dataset_of_the_library_is_allowed_or_refused_for_a_reason():
    assert set(ALLOWED).isdisjoint(REFUSED)
    assert set(registry()) <= {*ALLOWED, *REFUSED}
    assert len(ALLOWED) >= 60
    assert set(REFUSED) >= NEVER_MADE


@pytest.mark.parametrize("dataset", ALLOWED)
def test_oracles_are_right_and_nothing_near_them_is(dataset):
    task, scorer = corpus(dataset).task(), corpus(dataset).scorer()
    items = [item for item in corpus(dataset).items if item.split != "train"][:ORACLES]
    assert len(items) == ORACLES
    for item in items:
        oracle, gold = item.answer, json.loads(corpus(dataset).key.answers[item.question.id])
        near = [*hostile(item.question.text, oracle).values(), f"{oracle} {oracle}", f"x{oracle}", f"{oracle} ?"]
        near += [other.answer for other in items if dataset not in SEVERAL]
        assert [text for text in near if right(dataset, text, gold) and same(text) != same(oracle)] == [], oracle
        problem = Problem(item.question.id, "gym", (item.question.text, ()))
        paid = scorer.score(
            [problem] * 3, [["so\n", answer_line(oracle)], [answer_line(f"{oracle}x")], [f"{oracle}\n"]]
        )
        assert [(verdict.reward, verdict.terminal) for verdict in paid] == [(1.0, True), (0.0, True), (0.0, False)]
    assert task.prompt(problem) == f"{item.question.text}\n"


def same(text: str) -> str:
    """The text without what our judges do not look at: case, blanks and the dollars of LaTeX."""
    return "".join(text.lower().split()).strip("$")


@pytest.mark.parametrize("dataset", ALLOWED)
def test_any_text_gets_a_verdict_at_once(dataset, rng):
    gold = golds(dataset)[0]
    texts = [
        *answers(rng, 60, gold["answer"]),
        *(f"{piece * MOST_LINE}"[:MOST_LINE] for piece in (*LONG, gold["answer"])),
    ]
    began = time.process_time()
    for text in texts:
        assert right(dataset, text, gold) in (True, False)
        assert right(dataset, text, golds(dataset)[1]) in (True, False)
    assert time.process_time() - began < 1.0
    assert not right(dataset, gold["answer"] + " " * MOST_LINE + "x", gold)


@pytest.mark.parametrize(("dataset", "gold", "good", "bad"), CASES)
def test_other_ways_to_be_right_and_to_be_wrong(dataset, gold, good, bad):
    assert [text for text in good if not right(dataset, text, gold)] == []
    assert [text for text in bad if right(dataset, text, gold)] == []


def test_every_solution_of_a_board_is_right_and_no_other_board():
    boards = [gold for gold in golds("n_queens") if sum(row.count("Q") for row in gold["puzzle"]) <= 4]
    solved = 0
    for gold in boards[:3]:
        for columns in permutations(range(8)):
            if len({i + j for i, j in enumerate(columns)}) == 8 == len({i - j for i, j in enumerate(columns)}):
                board = " / ".join(" ".join("_Q"[k == column] for k in range(8)) for column in columns)
                keeps = all(columns[i] == row.index("Q") for i, row in enumerate(gold["puzzle"]) if "Q" in row)
                assert right("n_queens", board, gold) == keeps
                solved += keeps
    assert solved > 3


def test_a_ladder_may_take_any_way_over_known_words():
    gold = golds("word_ladder")[0]
    start, end = gold["start_word"], gold["end_word"]
    ladder = shortest_ladder(start, end)
    assert right("word_ladder", ", ".join(ladder).lower(), gold)
    assert right("word_ladder", ",".join([*ladder[:2], *ladder]), gold) == (len(ladder) > 1)
    for wrong in ([start, end], ladder[:-1], [*ladder[:1], "ZZZZ", *ladder[1:]], ladder[::-1]):
        assert not right("word_ladder", ",".join(wrong), gold)
    assert set(ladder) <= words_of_length(4)


# ---- items


@pytest.mark.slow
def test_an_item_is_the_same_in_every_process():
    script = (
        "import json, sys\nfrom tests.tasks.test_gym import fingerprint\nfrom tasks.gym.scorers import ALLOWED\n"
        "json.dump({name: fingerprint(name) for name in reversed(ALLOWED)}, sys.stdout)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "4321", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    there = json.loads(done.stdout)
    assert [name for name in ALLOWED if fingerprint(name) != there[name]] == []


def fingerprint(dataset: str) -> str:
    """Of 30 items."""
    made = corpus(dataset)
    texts = [
        text for item in made.items for text in (item.question.text, item.answer, made.key.answers[item.question.id])
    ]
    return blake2b("\0".join(texts).encode()).hexdigest()


@pytest.mark.parametrize("dataset", ["decimal_arithmetic", "pool_matrix", "list_functions"])
def test_making_items_leaves_no_trace_in_the_process(dataset):
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    expected = random.Random(7).random(), np.random.RandomState(7).rand()
    precision = decimal.getcontext().prec
    items = Items(dataset, {}, 5, 20)
    made = [items[k] for k in range(20)]
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert decimal.getcontext().prec == precision
    assert [items[k]["answer"] for k in reversed(range(20))] == [item["answer"] for item in made][::-1]


def test_splits_share_no_question_and_the_report_tells_what_was_dropped():
    found = read_gym("prime_factorization", train=300, dev=200, test=200)
    texts = {split: {item.question.text for item in found.items if item.split == split} for split in SPLITS}
    assert [len(texts[split]) for split in SPLITS] == [found.report.kept[split] for split in SPLITS]
    assert len(set.union(*texts.values())) == len(found.items) == 700 - len(found.report.dropped)
    assert len(found.report.dropped) > 100
    told = str(found.report)
    for reason in ("test: the question came before, in train", "dev: the question came before, in dev"):
        assert reason in told
    assert "700 items" in told
    assert [item.question.id for item in found.items if item.split == "train"] == [
        item.question.id for item in read_gym("prime_factorization", train=300).items if item.split == "train"
    ]


def test_oracles_that_are_wrong_or_missing_are_dropped():
    facts = {"task_type": "datetime", "format": "%Y-%m-%d %H:%M"}
    assert lost_time({"answer": "98 days, 00:00", "metadata": facts}) == ""
    assert "negative" in lost_time({"answer": "-1 days, 23:00", "metadata": facts})
    assert "leaves out" in lost_time(
        {"answer": "98 days, 00:00", "metadata": facts | {"format": "%Y-%m-%d (%A) %H:%M"}}
    )
    assert "millisecond" in lost_time({"answer": "00:00:01.999", "metadata": facts | {"task_type": "time_ms"}})
    assert exact_value("-(7 / 2) * 4") == -14
    assert exact_value("7 // 2") is exact_value("1 / 0") is exact_value("__import__('os')") is None
    item = {"question": "Calculate 7 / 2.", "metadata": {"expression": "7 / 2"}}
    assert why_not("basic_arithmetic", item | {"answer": "3"}) == "the oracle is not the exact value"
    assert why_not("gcd", {"question": "?", "answer": None, "metadata": {}}) == "no oracle"
    assert why_not("gcd", {"question": "?", "answer": "four", "metadata": {}}) == "our judge refuses the oracle"
    assert why_not("ab", {"question": "?", "answer": "A " * 2000, "metadata": {}}) == "the oracle is longer than a line"
    assert why_not("ab", {"question": "\x00", "answer": "A", "metadata": {}}).startswith("control characters")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo", "one / two"),
        ("\n1 2  \n\n 3 4\n", "1 2 /  3 4"),
        ("what is 1 / 2?", "what is 1 / 2?"),
        ("a / b\nc", "a / b ⏎ c"),
        ("a /\n/ b", "a / ⏎ / b"),
        ("", ""),
    ],
)
def test_a_text_on_one_line_can_be_read_back(text, line):
    assert one_line(text) == line
    lines = [part.rstrip() for part in text.strip("\n").split("\n") if part.strip()]
    assert lines in (line.split(" ⏎ "), line.split(" / "), [*filter(None, [line])])


# ---- the task


def test_a_dataset_is_a_task_of_the_registry():
    options = {"dataset": "gcd", "train": 30, "dev": 10, "test": 12, "config": {"max_value": 60}}
    task, scorer, guesser = make_task("gym", **options), make_scorer("gym", **options), make_guesser("gym", **options)
    assert {split: task.count(split) for split in SPLITS} == {"train": 27, "dev": 10, "test": 12}
    problems = task.problems("test")
    assert all(
        max(map(int, problem.data[0].split("numbers: ")[1].split(".")[0].split(","))) <= 60 for problem in problems
    )
    found = guessed(guesser, scorer, problems, 3)
    assert found.shape == (12, 3)
    assert 0 < found[:, 2].mean() < 1
    assert given_chains("gym", **options) == []  # no reasoning comes with the items: teacher=given is refused
    assert task_report("gym", **options).startswith("reasoning-gym gcd: 52 items, 52 kept")
    assert len(task.examples(3)) == 3
    assert task.max_steps == 8


EQUATION = re.compile(r"(-?[0-9]+(?: [-+*×] [0-9]+)*) = (-?[0-9]+(?: [-+*×] [0-9]+)*)\n")


@pytest.mark.parametrize("dataset", WORKED)
def test_worked_steps_are_true_equations_that_lead_from_the_question_to_the_answer(dataset):
    options = {"dataset": dataset, "train": 120, "dev": 10, "test": 10, "worked": True}
    chains = given_chains("gym", **options)
    verdicts = make_scorer("gym", **options).score([problem for problem, _ in chains], [chain for _, chain in chains])
    assert len(chains) > 80
    assert all(verdict.reward == 1 for verdict in verdicts)
    for problem, (*steps, answer) in chains:
        known = {int(number) for number in re.findall(r"[0-9]+", problem.data[0])}
        for step in steps:
            left, right = EQUATION.fullmatch(step).groups()
            numbers = [abs(int(number)) for number in re.findall(r"-?[0-9]+", left)]
            assert exact_value(left.replace("×", "*")) == exact_value(right.replace("×", "*"))
            assert numbers[0] in known  # nothing comes from nowhere
            known |= {abs(int(number)) for number in re.findall(r"[0-9]+", right)}
        assert {abs(int(number)) for number in re.findall(r"[0-9]+", answer)} <= known


def test_only_train_items_come_with_worked_steps():
    made = read_gym("chain_sum", train=20, dev=10, test=10, worked=True)
    assert {item.split for item in made.items if item.steps} == {"train"}
    assert not any(item.steps for item in read_gym("chain_sum", train=20, dev=10, test=10).items)


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({}, "task gym needs dataset: set task.dataset=..."),
        ({"dataset": "gdc"}, "unknown dataset 'gdc'; use one of ab, acre"),
        ({"dataset": "codeio"}, "codeio is refused: making an item runs third-party code"),
        ({"dataset": "puzzle24"}, "python -m tasks.gym.audit shows why"),
        ({"dataset": "gcd", "train": 3}, "train is 3: it must be an integer in 4.."),
        ({"dataset": "gcd", "test": 0}, "test is 0"),
        ({"dataset": "gcd", "config": {"seed": 4}}, "set train, dev and test instead of size"),
        ({"dataset": "gcd", "config": {"nonsense": 4}}, "gcd refuses its config: TypeError"),
        ({"dataset": "gcd", "config": {"min_numbers": 1}}, "gcd refuses its config: AssertionError"),
        ({"dataset": "gcd", "config": [1]}, "config takes the dataset's own options"),
        ({"dataset": "gcd", "config": {"max_value": decimal}}, "mend task.config"),
        ({"dataset": "gcd", "config": {"min_value": 6, "max_value": 7}}, "too few items of gcd are left"),
        ({"dataset": "lcm", "worked": True}, "lcm has no worked steps, chain_sum, gcd, prime_factorization have"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(options, mend):
    with pytest.raises(TaskError) as error:
        make_task("gym", **options)
    assert mend in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", REFUSED)
def test_a_refused_dataset_says_why(dataset):
    with pytest.raises(TaskError) as error:
        read_gym(dataset)
    assert REFUSED[dataset] in str(error.value)


def test_a_missing_library_is_told_with_its_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(TaskError, match=r"pip install reverse-o1\[gym\]"):
        read_gym("gcd", train=11)


# ---- the leak wall


def reached_from(*roots: object) -> list[object]:
    found: dict[int, object] = {}
    queue = list(roots)
    while queue:
        thing = queue.pop()
        if id(thing) not in found and not isinstance(thing, ModuleType | type | FunctionType):
            found[id(thing)] = thing
            queue += gc.get_referents(thing)
    return list(found.values())


@pytest.mark.parametrize("dataset", ["figlet_font", "caesar_cipher", "n_queens"])
def test_no_gold_answer_is_in_reach_of_the_task(dataset):
    made, task = corpus(dataset), corpus(dataset).task()
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    reached = reached_from(task, problems)
    texts = [thing for thing in reached if isinstance(thing, str)]
    shown = {example.question.id for example in task.shown}
    hidden = {item.answer for item in made.items if item.question.id not in shown and len(item.answer) > 3}
    train = {item.answer for item in made.items if item.split == "train"}
    questions = {problem.data[0] for problem in problems}
    assert questions <= set(texts)
    assert not [text for text in texts for answer in hidden - train if answer in text]
    assert not {text for text in texts if text in hidden} - set(task.vocabulary)
    assert not [thing for thing in reached if isinstance(thing, AnswerKey | GymCorpus)]


# ---- the official scorers


def official(dataset: str, answer: str) -> Job:
    item = {"dataset": dataset, "config": {}, "seed": 5, "size": 4, "index": 2}
    return Job("score", {**item, "answer": answer})


def test_a_scorer_that_runs_its_answer_cannot_hold_us_up(pool):
    oracle = Items("n_queens", {}, 5, 4)[2]["answer"]
    began = time.monotonic()
    bomb, paid = pool.judge([official("n_queens", "9**9**9"), official("n_queens", oracle)])
    assert bomb.status in ("timeout", "error", "crash")
    assert (paid.status, paid.value) == ("ok", 1.0)
    assert time.monotonic() - began < 60


def test_the_official_scorer_pays_for_junk_where_ours_does_not(pool):
    (paid,) = pool.judge([official("complex_arithmetic", "nan")])
    assert paid.value == 1.0
    assert not right(
        "complex_arithmetic", "nan", gold_of("complex_arithmetic", Items("complex_arithmetic", {}, 5, 4)[2])
    )


def test_the_audit_measures_allowed_and_refused_datasets(pool):
    allowed, refused, never = (audit(name, pool, 2) for name in ("gcd", "game_of_life_halting", "codeio"))
    assert (allowed.usable, allowed.official_right, allowed.hostile_own) == (1.0, 1.0, 0)
    assert allowed.hostile_paid["oracle+x"] > 0
    assert refused.hostile_official == "1.00"
    assert never.items == 0
    page = markdown([allowed, refused, never], 2)
    assert page.count("| gcd |") == page.count("| codeio |") == 1

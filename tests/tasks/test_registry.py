"""Building tasks by name, the messages of impossible options, and the leak wall at this level."""

from __future__ import annotations

import gc
import re
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import numpy as np
import pytest

from tasks import SPECIAL_TOKENS, TASKS, TaskError, make_task
from tasks.numbers.countdown_space import reachable
from tasks.planning.sliding_space import distance_table, starts_within
from tasks.planning.space import distances, problem_pairs
from tasks.splits import SHUFFLE_LIMIT, draw_distinct

PLAYED = [
    name for name in TASKS if name not in ("jsonl", "gym", "text")
]  # the others ask questions: test_jsonl.py, test_gym.py, test_text.py
STEP_OF_COUNTDOWN = re.compile(r"\d+ [-+*/] \d+ = \d+")


def reached_from(root: object) -> list[object]:
    """Every object that attributes, items and closures of `root` lead to; code and classes excepted."""
    code = (ModuleType, type, FunctionType, BuiltinFunctionType, MethodType)
    found: dict[int, object] = {}
    queue = [root]
    while queue:
        thing = queue.pop()
        if id(thing) not in found and not isinstance(thing, code):
            found[id(thing)] = thing
            queue.extend(gc.get_referents(thing))
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "options", "mend"),
    [
        ("sudoku", {}, "use one of blocksworld, chain, countdown, "),
        ("countdown", {"number": 3}, "use one of numbers, number_min"),
        ("countdown", {"numbers": 7}, "integer in 2..6"),
        ("countdown", {"numbers": "3"}, "integer in 2..6"),
        ("countdown", {"numbers": True}, "integer in 2..6"),
        ("countdown", {"number_max": 120}, "raise cap"),
        ("countdown", {"target_min": 51}, "target_min is 51: it must be an integer in 0..50"),
        ("countdown", {"train_fraction": 1.2}, "number in 0..1"),
        ("countdown", {"train_fraction": 0.8, "dev_fraction": 0.3}, "number in 0..0.2"),
        ("countdown", {"numbers": 6, "number_max": 60}, "lower number_max"),
        (
            "countdown",
            {"numbers": 2, "number_max": 9, "target_min": 500, "target_max": 600, "cap": 999},
            "target range 500..600 cannot be reached with 2 numbers up to 9: lower target_min to 81 or less",
        ),
        (
            "countdown",
            {"numbers": 2, "number_min": 3, "number_max": 3, "target_min": 2, "target_max": 5},
            "widen it, e.g. to hold 6",
        ),
        ("sliding", {"rows": 4, "cols": 4}, "lower rows or cols"),
        ("sliding", {"rows": 1}, "integer in 2..4"),
        ("sliding", {"distance_max": 30}, "integer in 1..24"),
        ("sliding", {"distance_min": 22, "distance_max": 24}, "lower distance_min to 21"),
        ("sliding", {"discount": 2.0}, "number in 0.01..1"),
    ],
)
def test_impossible_options_name_the_mend_in_one_line(name, options, mend):
    with pytest.raises(TaskError) as error:
        make_task(name, **options).count("train")
    assert mend in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PLAYED)
def test_a_vocabulary_starts_with_the_special_tokens_and_repeats_no_word(name):
    vocabulary = make_task(name).vocabulary
    assert vocabulary[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS
    assert len(set(vocabulary)) == len(vocabulary)


@pytest.mark.parametrize("name", PLAYED)
def test_text_survives_encoding(name):
    task = make_task(name)
    problem = task.problems("dev", 1)[0]
    text = task.prompt(problem) + task.legal_steps(problem, task.initial_state(problem))[0]
    assert task.decode(task.encode(text)) == text


@pytest.mark.parametrize("name", [name for name in PLAYED if name not in ("chain", "sums")])  # they differ in length
def test_declared_lengths_are_the_longest_that_occur(name):
    task = make_task(name)
    problem = task.problems("dev", 1)[0]
    state, steps, contexts, lengths = task.initial_state(problem), [], [], []
    for _ in range(task.max_steps):
        contexts.append(1 + len(task.encode(task.context(problem, steps))))
        texts = task.legal_steps(problem, state)
        lengths += [len(task.encode(text)) for text in texts]
        _, state = task.advance(problem, state, texts[0])
        if state is None:
            break
        steps.append(texts[0])
    assert max(contexts) == task.max_context_tokens
    assert max(lengths) == task.max_step_tokens


@pytest.mark.parametrize("name", PLAYED)
def test_same_seed_same_problems_and_fewer_are_a_prefix_of_more(name):
    first, again, other = (make_task(name).problems("test", 40, seed=seed) for seed in (5, 5, 6))
    assert first == again != other
    assert make_task(name).problems("test", 10, seed=5) == first[:10]
    assert len({problem.id for problem in first}) == 40


@pytest.mark.parametrize("name", PLAYED)
def test_asking_for_too_many_problems_says_how_many_there_are(name):
    task = make_task(name)
    total = len(task.problems("dev"))
    with pytest.raises(TaskError, match=f"holds {total} problems"):
        task.problems("dev", total + 1)


@pytest.mark.parametrize("name", PLAYED)
def test_an_unknown_split_is_refused(name, rng):
    for call in (make_task(name).problems, make_task(name).random_play, make_task(name).hindsight):
        with pytest.raises(TaskError, match="use one of train, dev, test"):
            call("validation", 3, *([rng] if call.__name__ != "problems" else []))


def test_a_space_too_large_to_shuffle_is_drawn_without_repeats():
    total = SHUFFLE_LIMIT + 1
    drawn = draw_distinct(total, 5000, "train", seed=1)
    assert len(set(drawn.tolist())) == 5000
    assert 0 <= drawn.min() <= total // 100
    assert total - total // 100 <= drawn.max() < total
    np.testing.assert_array_equal(draw_distinct(total, 100, "train", seed=1), drawn[:100])


@pytest.mark.parametrize("name", PLAYED)
def test_rows_never_ask_for_exact_labels(name, rng):
    task = make_task(name)
    task.problems("train", 3)
    labels = (reachable, distance_table, starts_within, distances)
    before = [label.cache_info() for label in labels]
    for rows in (task.random_play, task.hindsight, task.value_play):
        rows("train", 50, rng)
    assert [label.cache_info() for label in labels] == before


def test_no_problem_and_no_task_leads_to_a_solution(rng):
    for name in PLAYED:
        task = make_task(name)
        problem = task.problems("test", 1)[0]
        state = task.initial_state(problem)
        label = task.distance(problem, state)  # fills the caches of the exact labels
        task.hindsight("train", 10, rng)
        if name == "countdown":
            secrets = {id(reachable(tuple(sorted(state)), task.cap))}
        elif name in ("blocksworld", "jugs"):
            goal = task.space.goal_of_text[problem.data[1]]
            secrets = {id(distances(task.space, goal)), id(problem_pairs(task.space, *task.split_shares, "test"))}
        else:
            secrets = {id(distance_table(2, 3, blank)) for blank in range(6)}
        assert label is not None
        for thing in reached_from(problem) + reached_from(task):
            assert id(thing) not in secrets
            assert not (isinstance(thing, str) and STEP_OF_COUNTDOWN.search(thing))
        assert all(isinstance(thing, str | int | tuple) or thing is problem for thing in reached_from(problem))


def test_the_walk_behind_the_leak_test_sees_what_is_hidden_in_an_attribute():
    table = distance_table(2, 3, 0)
    holder = {"deep": [{"deeper": (table,)}]}
    assert any(thing is table for thing in reached_from(holder))

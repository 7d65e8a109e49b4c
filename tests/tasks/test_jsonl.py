"""Your own data: every line is kept or told of, splits are hashes, gold goes to scorers and steps to learners only."""

from __future__ import annotations

import gc
import json
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS, Problem, TaskError, given_chains, make_scorer, make_task, task_report
from tasks.base import AnswerKey
from tasks.free_play import free_play
from tasks.judging.answer_line import ANSWER, answer_of
from tasks.judging.scorers import GoldScorer
from tasks.oracle import oracle
from tasks.questions.jsonl import read_jsonl
from tasks.questions.task import AnswerTask, Question
from tasks.sandbox.pool import JudgePool

GOOD = {"question": "What is 2 + 2?", "answer": 4}


def sums(n: int = 60) -> list[dict]:
    return [
        {
            "question": f"{i} + {i + 1}",
            "answer": 2 * i + 1,
            "steps": [f"{i} + {i} = {2 * i}", f"{2 * i} + 1 = {2 * i + 1}"],
        }
        for i in range(n)
    ]


@pytest.fixture
def write(tmp_path):
    def made(lines, name="data.jsonl"):
        path = tmp_path / name
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(lines), path)
        else:
            path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return str(path)

    return made


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
def test_every_line_becomes_a_problem_of_one_split(write, name):
    path = write(sums(), name)
    corpus, task = read_jsonl(path), make_task("jsonl", path=path)
    assert sum(corpus.report.kept.values()) == corpus.report.read == 60
    problems = {split: task.problems(split) for split in SPLITS}
    questions = [problem.data[0] for part in problems.values() for problem in part]
    assert len(set(questions)) == len(questions) == 60 - len(task.shown)
    assert task.problems("train", 5, seed=1) == task.problems("train", 9, seed=1)[:5]


def test_a_split_stays_when_the_file_grows(write):
    few, many = (read_jsonl(write(sums(n), f"{n}.jsonl")) for n in (60, 200))
    split_of = {item.question.text: item.split for item in many.items}
    assert all(split_of[item.question.text] == item.split for item in few.items)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken\n", "not JSON"),
        ("[1, 2]\n", "not an object but list"),
        ("\xff\n", "not UTF-8"),
        ("[" * 100_000 + "\n", "not JSON"),
        ({"answer": 4}, "question is missing"),
        ({"question": "why?"}, "answer is missing"),
        ({"question": 7, "answer": 4}, "question is int, not a text"),
        ({"question": " \n ", "answer": 4}, "question is empty"),
        ({"question": "why?", "answer": [4]}, "answer is list, not a text or number"),
        ({"question": "why?", "answer": True}, "answer is bool, not a text or number"),
        ('{"question": "why?", "answer": NaN}\n', "answer is nan"),
        ({"question": "why?", "answer": ""}, "the answer is empty"),
        ({"question": "why?", "answer": "a" * 3000}, "longer than a line"),
        ({"question": "w " * 600, "answer": 1}, "the question has 600 words, more than max_question_words=512"),
        ({"question": "why?", "answer": 4, "steps": {"a": 1}}, "steps is neither a list of texts nor a text"),
        ({"question": "why?", "answer": 4, "steps": ["a" * 2000]}, "a step has 2000 characters or more"),
        ({"question": "why?", "answer": 4, "steps": ["Answer: 4"]}, "a step reads like an answer line"),
        ({"question": "why?", "answer": "x", "choices": ["x"]}, "choices must be 2 to 10 different texts"),
        ({"question": "why?", "answer": "x", "choices": ["x", "x"]}, "choices must be 2 to 10 different texts"),
        ({"question": "why?", "answer": "z", "choices": ["x", "y"]}, "the answer is not one of the choices"),
        ({"question": "why?", "answer": "B", "choices": ["B", "A"]}, "the answer is not one of the choices"),
        ({"question": "a\x00b", "answer": 4}, "control characters"),
        ({"question": "\ud800", "answer": 4}, "broken Unicode"),
        ({"question": "why?", "answer": 4, "id": 1.5}, "the id is neither a text nor an integer"),
        ({**GOOD, "answer": 5}, "the question came before with another answer"),
        ({"question": "why?", "answer": 4, "id": "one"}, "the id came before, with another question"),
        ({"question": "why?", "answer": 10**500}, "answer has more than 400 digits"),
        (
            {"question": "why?", "answer": "a", "choices": ["a", "\ud800"]},
            "a choice holds control characters or broken Unicode",
        ),
        ({"question": "why?", "answer": 4, "id": "\ud800"}, "the id holds control characters or broken Unicode"),
        ('{"question": "why?", "answer": 1, "answer": 2}\n', "a key is given twice"),
    ],
)
def test_a_bad_line_stops_the_run_or_is_skipped_and_told(tmp_path, line, reason):
    path = tmp_path / "data.jsonl"
    text = line if isinstance(line, str) else json.dumps(line) + "\n"
    path.write_bytes(json.dumps({**GOOD, "id": "one"}).encode() + b"\n" + text.encode("latin-1"))
    with pytest.raises(TaskError, match="line 2: ") as stopped:
        read_jsonl(str(path))
    assert reason in str(stopped.value)
    assert "\n" not in str(stopped.value)
    skipped = read_jsonl(str(path), on_error="skip")
    assert len(skipped.items) == 1
    assert reason in str(skipped.report)


def test_duplicates_and_empty_lines_are_dropped_and_told(write):
    report = task_report("jsonl", path=write([*sums(), GOOD, "\n", GOOD, {**GOOD, "question": "what is  2 + 2?"}]))
    assert "64 lines, 61 kept" in report
    assert "1 dropped: the question came before, with the same answer (lines 63)" in report
    assert "1 dropped: the question came before, written otherwise, with the same answer (lines 64)" in report
    assert "1 dropped: an empty line (lines 62)" in report


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"path": "nowhere.jsonl"}, "set task.path"),
        ({}, "task jsonl needs path: set task.path=..."),
        ({"path": None}, "task jsonl needs path"),
        ({"on_error": "ignore"}, "use stop or skip"),
        ({"fields": {"frage": "question"}}, "use question, answer, steps, choices, id"),
        ({"train_fraction": 0.9, "dev_fraction": 0.2}, "must be a number in 0..0.1"),
        ({"train_fraction": 1.0, "dev_fraction": 0.0}, "no line falls to dev"),
        ({"fields": {"question": ["x"]}}, "maps our names to names of the file"),
        ({"path": "a" * 5000}, "set task.path"),
        ({"max_question_words": 0}, "must be an integer in 1..100000"),
    ],
)
def test_settings_that_cannot_work_name_the_mend(write, options, mend):
    path = {} if "path" in options or not options else {"path": write(sums())}
    with pytest.raises(TaskError) as refused:
        make_task("jsonl", **path, **options)
    assert mend in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_hold_nothing(write, tmp_path):
    with pytest.raises(TaskError, match="has no usable line: 0 were read"):
        read_jsonl(write([]))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(TaskError, match="is not a parquet file"):
        read_jsonl(str(tmp_path / "broken.parquet"))


def test_gsm8k_answers_are_taken_apart(write):
    (item,) = read_jsonl(write([{"question": "How many?", "answer": "3 and 4\nare 7\n#### 7"}])).items
    assert (item.answer, item.steps) == ("7", ("3 and 4\n", "are 7\n"))


def test_a_final_mark_beside_given_steps_leaves_one_line(write):
    (item,) = read_jsonl(write([{"question": "q", "answer": "foo\nbar #### 0", "steps": ["s"]}])).items
    assert (item.answer, item.steps) == ("0", ("s\n",))


def test_columns_that_nobody_asked_for_are_not_read(write):
    far = [pa.array([2**62] * 40, pa.int64()).cast(pa.timestamp("us"))]
    table = pa.Table.from_pylist([{"question": f"q{i}", "answer": i} for i in range(40)]).append_column("when", far)
    path = write([], "far.parquet")
    pq.write_table(table, path)
    assert len(read_jsonl(path).items) == 40


def test_choices_are_shown_and_answered_by_letter(write):
    lines = [{"question": f"pick {i}", "answer": "yes", "choices": ["no", "yes"]} for i in range(40)]
    task = make_task("jsonl", path=write(lines))
    problem = task.problems("test", 1)[0]
    assert task.prompt(problem) == f"{problem.data[0]} (A) no (B) yes\n"
    verdicts = make_scorer("jsonl", path=write(lines)).score(
        [problem] * 3, [["answer: B\n"], ["answer: (b)\n"], ["answer: A\n"]]
    )
    assert [verdict.reward for verdict in verdicts] == [1.0, 1.0, 0.0]


def test_own_field_names(write):
    lines = [{"problem": f"{i} + 1", "solution": i + 1} for i in range(40)]
    task = make_task("jsonl", path=write(lines), fields={"question": "problem", "answer": "solution"})
    assert sum(map(task.count, SPLITS)) == 40 - len(task.shown)


def test_formulas_without_the_library_that_reads_them_are_refused_at_once(write, monkeypatch):
    monkeypatch.setattr("tasks.judging.scorers.find_spec", lambda name: None)
    assert make_scorer("jsonl", path=write(sums()))
    with pytest.raises(TaskError, match="need math-verify: pip install"):
        make_scorer("jsonl", path=write([*sums(), {"question": "expand", "answer": "x^2+1"}]))


def test_given_chains_are_of_train_and_right(write):
    path = write(sums())
    task, scorer = make_task("jsonl", path=path), make_scorer("jsonl", path=path)
    chains = given_chains("jsonl", path=path)
    elsewhere = {problem.id for split in ("dev", "test") for problem in task.problems(split)}
    assert len(chains) >= task.count("train") > 20
    assert not elsewhere & {problem.id for problem, _ in chains}
    verdicts = scorer.score([problem for problem, _ in chains], [steps for _, steps in chains])
    assert {verdict.reward for verdict in verdicts} == {1.0}
    assert all(len(task.encode(step)) <= task.max_step_tokens for _, steps in chains for step in steps)
    assert all(task.decode(task.encode(step)) == step for _, steps in chains for step in steps)


# ---- the task and its scorer

WHY = Question("q", "why?")


@pytest.fixture
def toy(write):
    path = write(sums())
    return make_task("jsonl", path=path), make_scorer("jsonl", path=path)


def test_an_answer_is_terminal_and_not_scored_until_the_scorer_has_seen_it(toy):
    task, scorer = toy
    problem = task.problems("dev", 1)[0]
    steps = ["first I think\n", "answer: 41\n"]
    verdict = task.verdict(problem, steps)
    assert (verdict.terminal, verdict.legal, verdict.scored, verdict.reward) == (True, True, False, 0.0)
    left = int(problem.data[0].split()[0])
    right = ["hm\n", f"Answer: \\boxed{{{2 * left + 1}}}\n"]
    wrong, good = scorer.score([problem] * 2, [steps, right])
    assert (wrong.scored, good.scored, wrong.reward, good.reward) == (True, True, 0.0, 1.0)


@given(st.lists(st.text(max_size=40), max_size=6))
def test_the_verdict_is_total_and_the_fold_of_advance(steps):
    task = AnswerTask("toy", {"train": [], "dev": [], "test": [WHY]}, max_steps=4)
    problem = task.problems("test")[0]
    verdict = task.verdict(problem, steps)
    assert verdict.reward == 0.0
    state = task.initial_state(problem)
    for step in steps[: task.max_steps]:
        if state is None:
            break
        latest, state = task.advance(problem, state, step)
    if state is None and len(steps) == 1:
        assert verdict == latest
    assert verdict.scored or answer_of(steps) is not None


@pytest.mark.parametrize(
    ("steps", "legal"),
    [
        (["\n"], False),
        (["a"], False),
        (["a\nb\n"], False),
        (["a" * 3000 + "\n"], False),
        ([None], False),
        (["answer: 1\n", "answer: 2\n"], False),
        (["a\n"] * 4, True),
        (["ANSWER:   \n"], True),
    ],
)
def test_the_grammar(steps, legal):
    task = AnswerTask("toy", {"train": [], "dev": [], "test": [WHY]}, max_steps=4)
    verdict = task.verdict(task.problems("test")[0], steps)
    assert verdict.terminal
    assert verdict.legal is legal


@pytest.mark.parametrize("ability", [free_play, oracle])
def test_what_free_questions_do_not_have_is_refused(toy, ability):
    with pytest.raises(TaskError, match=f"task {toy[0].name} "):
        ability(toy[0])
    assert ability(make_task("jugs")).name == "jugs"


def test_a_judge_out_of_time_leaves_the_verdict_open(toy):
    task, _ = toy
    problem = task.problems("dev", 1)[0]
    with JudgePool({"equal": "tests.tasks.hostile_scorers:leave"}, workers=1) as pool:
        scorer = GoldScorer(task, AnswerKey({problem.id: "x^2+1"}), pool)
        (verdict,) = scorer.score([problem], [["answer: 1+x^2\n"]])
    assert (verdict.reward, verdict.terminal, verdict.scored) == (0.0, True, False)


# ---- the leak wall


def reached_from(*roots: object) -> list[object]:
    found: dict[int, object] = {}
    queue = list(roots)
    while queue:
        thing = queue.pop()
        if id(thing) not in found and not isinstance(thing, ModuleType | type):
            found[id(thing)] = thing
            queue += gc.get_referents(thing)
    return list(found.values())


def test_no_gold_answer_of_a_question_is_in_reach_of_the_task(write):
    lines = [{"question": f"who is {i}", "answer": f"canary {i}", "steps": [f"think {i}"]} for i in range(80)]
    task = make_task("jsonl", path=write(lines))
    problems: list[Problem] = [problem for split in SPLITS for problem in task.problems(split)]
    texts = [thing for thing in reached_from(task, problems) if isinstance(thing, str)]
    assert any("who is" in text for text in texts)
    shown = {example.steps[-1] for example in task.shown}
    assert {text for text in texts if "canary " in text} <= shown
    assert not {problem.data[0] for problem in problems} & {example.question.text for example in task.shown}
    words = set(task.vocabulary)
    held_out = {problem.data[0].split()[-1] for split in ("dev", "test") for problem in task.problems(split)}
    assert not words & held_out  # not even a word of a held-out question or answer
    assert ANSWER in words


def test_a_language_without_blanks_has_room_for_its_sentences(tmp_path):
    line = "七加七等于十四，所以答案是十五，因为再加一。" * 3
    data = [{"question": f"{a} 加 {b}？", "answer": a + b, "steps": [line]} for a in range(9) for b in range(9)]
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in data))
    task = make_task("jsonl", path=str(path))
    assert task.max_step_tokens >= len(line.encode()) / 8
    assert task.advance(task.problems("train", 1)[0], task.initial_state(task.problems("train", 1)[0]), line + "\n")[
        0
    ].legal


FORMS = {
    "choices in another order": (
        {"question": "Which is even?", "choices": ["3", "4", "5"], "answer": "B"},
        {"question": "Which is even?", "choices": ["5", "3", "4"], "answer": "C"},
    ),
    "decomposed letters": (
        {"question": "Ou est le caf\u00e9?", "answer": "la"},
        {"question": "Ou est le cafe\u0301?", "answer": "la"},
    ),
    "other case": ({"question": "What is 2 + 3?", "answer": "5"}, {"question": "what IS 2 + 3?", "answer": "5"}),
    "other blanks": (
        {"question": "What is 2 + 3?", "answer": "5"},
        {"question": " What is\u00a02 +\t3?", "answer": "5"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_question_written_otherwise_is_the_same_question(write, form):
    one, other = FORMS[form]
    corpus = read_jsonl(write([one, *sums(), other]))
    assert len(corpus.items) == 61
    assert "1 dropped: the question came before," in str(corpus.report)
    assert ("written otherwise" in str(corpus.report)) == (form != "other blanks")
    alone = read_jsonl(write([other, *sums()]))
    assert alone.items[0].split == corpus.items[0].split, "where it falls to hangs on no form"


def test_the_same_choices_with_another_answer_are_told(write):
    line = {"question": "Which is even?", "choices": ["3", "4", "5"], "answer": "B"}
    with pytest.raises(TaskError, match="line 2: the question came before with another answer"):
        read_jsonl(write([line, line | {"choices": ["5", "3", "4"]}]))  # B is 3 there


def test_lines_of_math_are_read_as_they_are(write):
    solution = "We add.\nThen $x = \\boxed{1}$, no, $x = \\boxed{\\frac12 %d}$."
    lines = [
        {"problem": f"Find x, number {i}.", "level": "Level 3", "type": "Algebra", "solution": solution % i}
        for i in range(60)
    ]
    corpus = read_jsonl(write(lines))
    assert {item.answer for item in corpus.items} == {f"\\frac12 {i}" for i in range(60)}
    assert corpus.items[0].steps == ("We add.\n", f"Then $x = \\boxed{{1}}$, no, $x = \\boxed{{\\frac12 {0}}}$.\n")
    given = read_jsonl(
        write([{**line, "answer": str(i)} for i, line in enumerate(lines)])
    )  # as MATH-500 gives it beside
    assert [item.answer for item in given.items[:2]] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"problem": "x?", "solution": "It is \\boxed{1"}, "has no \\boxed{} that closes"),
        ({"problem": "x?", "solution": None}, "solution is missing"),
        ({"problem": "x?", "answer": None}, "answer is missing"),
        ({"question": "x?", "answer": ["1", "2"]}, "answer is list, not a text or number"),
        ({"question": "x?", "answer": True}, "answer is bool, not a text or number"),
    ],
)
def test_answers_that_are_none_are_told(line, why, write):
    with pytest.raises(TaskError) as refused:
        read_jsonl(write([line]))
    assert why in str(refused.value)

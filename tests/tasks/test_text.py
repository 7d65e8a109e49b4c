"""Plain questions: what a chain answers, when chains agree, when they end, and settings that cannot work."""

from __future__ import annotations

import json

import pytest

from tasks import TaskError, make_task
from tasks.base import END_OF_TEXT, Form
from tasks.judging.answer_line import agreed, has_answer_line, last_answer
from tasks.questions.text import TextTask

TASK = TextTask()
ASKED = TASK.parse_problem("How many apples does Tom have?")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1} or rather \boxed{2}. Done", "2"),
        (r"\boxed{\frac{1}{2}} answer: 3", r"\frac{1}{2}"),
        (r"\boxed{a \} b} \boxed{open", r"a \} b"),
        ("answer: 3\nanswer: 4\nwell", "4"),
        ("thus\n**Answer:** 56 apples\n", "56 apples"),
        ("Final answer: 7", "7"),
        ("one\n\ntwo \n\n", "two"),
        ("so $12$\n", "so $12$"),
        ("so\n$12$\n", "12"),
        (r"<think>\boxed{1} answer: 2</think>three", "three"),
        (f"it is 5{END_OF_TEXT}", "it is 5"),
        ("answer:\nfive", "five"),
        ("The answer is 5.\n\nQuestion: And now?\nanswer: 6", "The answer is 5."),
        ("", None),
        (f" \n{END_OF_TEXT}", None),
    ],
)
def test_the_answer_is_the_last_box_else_the_last_answer_line_else_the_last_line(text, answer):
    assert last_answer(text) == answer


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("56", "56.0", True),
        ("1/2", "0.5", True),
        ("The answer is 56.", "56", True),
        ("Tom has 5 apples.", "5 apples", True),
        ("PARIS", " paris.", True),
        ("Paris", "Lyon", False),
        ("5", "6", False),
    ],
)
def test_answers_agree_as_judges_read_them(left, right, same):
    question = ASKED.data[0]
    assert (agreed(left, question) == agreed(right, question)) == same


def test_many_boxes_are_read_in_time_that_grows_with_the_text():
    assert last_answer(r"\boxed{" * 20_000 + "}") == ""
    assert last_answer("answer: x\n" * 20_000) == "x"


def test_a_chain_ends_where_its_text_closes_or_after_its_last_step():
    task = TextTask(max_steps=3)
    assert task.verdict(ASKED, ["a\n", "b"]).terminal is False
    for chain in (["a\n", f"b{END_OF_TEXT}"], ["a", "b", "c"]):
        verdict = task.verdict(ASKED, chain)
        assert (verdict.terminal, verdict.legal, verdict.scored) == (True, True, False)
    assert task.answer(ASKED, ["a\n", f"It is 5{END_OF_TEXT}"]) == "5"
    assert task.verdict(ASKED, ["a", None]).legal is False


@pytest.mark.parametrize("text", ["a", "a\nb", "a\n\nb\n\n\n  c", "  a\r\nb\n", "a\n \nb", "x\n\n\n\ny"])
def test_a_question_of_several_lines_comes_back_from_its_context(text):
    problem = TASK.parse_problem(text)
    question, steps = TASK.form.parts(TASK.context(problem, ["s\n\n", "t"]))
    assert steps == "s\n\nt"
    assert question.split() == text.split()
    assert question.count("\n") == text.replace("\r", "").strip().count("\n")


def test_an_answer_line_is_whole_only_with_its_newline():
    assert has_answer_line("so\nAnswer: 5\n")
    assert not has_answer_line("so\nanswer: 5")
    assert not has_answer_line("answer:\n\n5\n")


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"step": "word"}, "use line, paragraph, sentence or tokens:N"),
        ({"chat": "maybe"}, "use auto, on, off"),
        ({"system": 3}, "give a text"),
        ({"template": "Think."}, "does not hold {question}"),
        ({"chat_arguments": {"tokenize": True}}, "tokenize, which is set here"),
        ({"chat_arguments": [1]}, "maps names to values"),
        ({"max_tokens": 0}, "integer in 1.."),
        ({"max_steps": 0}, "integer in 1.."),
        ({"examples": "no/such.jsonl"}, "is not a file"),
    ],
)
def test_settings_that_cannot_work_name_the_mend(options, mend):
    with pytest.raises(TaskError) as refused:
        make_task("text", **options)
    assert mend in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", " \n ", "x" * 20_001, "\x03\x00"])
def test_nothing_or_too_much_asked_is_refused(text):
    with pytest.raises(TaskError, match="a question is a text of 1 to"):
        TASK.parse_problem(text)


def test_there_are_no_questions_of_its_own():
    assert TASK.first_problems("test", 3) == []
    with pytest.raises(TaskError, match="ask one with problem="):
        TASK.problems("train", 1)


def test_examples_of_a_file_are_solved_questions_in_order(tmp_path):
    path = tmp_path / "solved.jsonl"
    lines = [{"question": "1 + 1?", "answer": "so\n#### 2"}, {"problem": "2 + 2?", "solution": "It is\n$\\boxed{4}$"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = TextTask(examples=str(path))
    assert task.examples(5) == ["1 + 1?\n\nso\nanswer: 2\n", "2 + 2?\n\nIt is\n$\\boxed{4}$\nanswer: 4\n"]
    assert (task.form.hint, bool(TASK.form.hint)) == ("", True)
    assert Form.question("1 + 1?") == "1 + 1?\n\n"

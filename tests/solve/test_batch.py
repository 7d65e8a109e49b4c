"""Batches: lines of any kind are read, and a file of answers is gone on with or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solve.cli.answers_file import MOST_LINE, Answers, Asked, read_lines
from solve.types import SolveError

LINES = {
    '{"problem": "3 7 12 = 24"}': Asked("1", "3 7 12 = 24"),
    '{"problem": "3 7 12 = 24", "id": "mine", "more": [1]}': Asked("mine", "3 7 12 = 24"),
    '{"problem": "3 7 12 = 24", "id": 7}': Asked("7", "3 7 12 = 24"),
    '"3 7 12 = 24"': Asked("1", "3 7 12 = 24"),
}
BAD_LINES = {
    "3 7 12 = 24": "not JSON",
    '{"problem": "3 7 12 = 24"': "not JSON",
    "[" * 50_000: "not JSON",
    "[1, 2]": 'no text under "problem"',
    "null": 'no text under "problem"',
    '{"asked": "3 7 12 = 24"}': 'no text under "problem"',
    '{"problem": 3}': 'no text under "problem"',
    '{"problem": "x", "id": [1]}': "an id is a text or a number",
    '{"problem": "x", "id": true}': "an id is a text or a number",
    '{"problem": "x", "id": null}': "an id is a text or a number",
    '{"problem": "' + "x" * MOST_LINE + '"}': "longer than",
}


@pytest.mark.parametrize("line", LINES)
def test_a_good_line_is_read(line):
    assert list(read_lines([line + "\n"], plain=False)) == [LINES[line]]


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:30])
def test_a_bad_line_says_where_and_why_and_harms_no_other(line):
    before, bad, after = read_lines(['"one"\n', line + "\n", '"two"\n'], plain=False)
    assert (before, after) == (Asked("1", "one"), Asked("3", "two"))
    assert bad.error is not None
    assert bad.error.startswith("line 2: ")
    assert BAD_LINES[line] in bad.error
    assert "\n" not in bad.error


def test_of_two_lines_with_one_id_the_second_is_refused():
    first, second, third = read_lines(
        ['{"problem": "a", "id": "x"}', '{"problem": "b", "id": "x"}', '"c"'], plain=False
    )
    assert first == Asked("x", "a")
    assert second.error is not None
    assert "'x' came before" in second.error
    assert third == Asked("3", "c")


def test_plain_lines_are_the_problems_themselves_and_empty_ones_are_passed_over():
    assert list(read_lines(["3 7 12 = 24\n", "  \n", '{"a": 1}'], plain=True)) == [
        Asked("1", "3 7 12 = 24"),
        Asked("3", '{"a": 1}'),
    ]


VALUES = st.one_of(st.none(), st.booleans(), st.integers(0, 5), st.floats(), st.text(max_size=3), st.just([]))
RECORDS = st.dictionaries(st.sampled_from(["problem", "id", "other"]), VALUES).map(json.dumps)
ANY_LINE = st.one_of(st.text(), RECORDS, VALUES.map(json.dumps), st.sampled_from(sorted(LINES)))


@given(st.lists(ANY_LINE, max_size=12), st.booleans())
def test_any_lines_are_read_and_good_ones_have_ids_of_their_own(lines, plain):
    asked = list(read_lines(lines, plain=plain))
    assert len(asked) == sum(bool(line.strip()) for line in lines)
    good = [one for one in asked if one.error is None]
    assert len({one.id for one in good}) == len(good)
    assert all(isinstance(one.id, str) and isinstance(one.text, str) for one in asked)


# ---------------------------------------------------------------------------------------------- the file of answers


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture
def opened(out) -> Callable[[], Answers]:
    """Opens the file of answers as a new run would; closed when the test ends."""
    files: list[Answers] = []

    def open_again() -> Answers:
        for file in files:
            file.close()
        files.append(Answers(out))
        return files[-1]

    yield open_again
    for file in files:
        file.close()


ONE, TWO = Asked("1", "3 7 12 = 24"), Asked("2", "1 2 3 = 6")


def record(asked: Asked, **told: object) -> dict:
    return {"id": asked.id, "asked": asked.text, **told}


def test_what_was_answered_is_not_asked_again(opened, out):
    answers = opened()
    assert not answers.answered(ONE)
    answers.write(record(ONE, answer="24"))
    kept = out.read_bytes()
    answers = opened()
    assert answers.answered(ONE)
    assert not answers.answered(TWO)
    assert out.read_bytes() == kept


def test_a_problem_whose_text_changed_is_asked_again(opened):
    opened().write(record(ONE, answer="24"))
    assert not opened().answered(Asked(ONE.id, "3 7 12 = 25"))


def test_errors_are_taken_out_and_asked_again(opened, out):
    answers = opened()
    answers.write(record(ONE, error="not a problem"))
    answers.write(record(TWO, answer="6"))
    answers = opened()
    assert not answers.answered(ONE)
    assert answers.answered(TWO)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [TWO.id]


def test_a_record_is_on_disk_when_it_is_written(opened, out):
    opened().write(record(ONE, answer="24"))
    assert json.loads(out.read_text()).items() >= record(ONE, answer="24").items()


def test_a_record_that_was_changed_is_refused(opened, out):
    opened().write(record(ONE, answer="24"))
    out.write_text(out.read_text().replace('"24"', '"25"'))
    with pytest.raises(SolveError, match="line 1 is not as it was written"):
        opened()


def test_a_last_line_that_was_cut_short_is_dropped_wherever_it_was_cut(opened, out):
    answers = opened()
    answers.write(record(ONE, answer="24"))
    answers.write(record(TWO, answer="6"))
    whole = out.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        out.write_bytes(whole[:cut])
        answers = opened()
        assert answers.answered(ONE)
        assert not answers.answered(TWO)
        assert out.read_bytes() == whole[:first]
    answers.write(record(TWO, answer="6"))
    assert out.read_bytes() == whole


def test_one_run_at_a_time_writes_into_a_file(opened, out):
    answers = opened()
    with pytest.raises(SolveError, match="another run writes there"):
        Answers(out)
    answers.write(record(ONE, answer="24"))
    answers.write(record(TWO, error="no"))
    answers = opened()  # puts a new file in its place
    with pytest.raises(SolveError, match="another run writes there"):
        Answers(out)
    assert opened().answered(ONE)  # the one before is closed


def test_a_link_and_the_rights_of_a_file_stay(out, tmp_path):
    real = tmp_path / "real.jsonl"
    out.symlink_to(real)
    with closing(Answers(out)) as answers:
        answers.write(record(ONE, error="no"))
        answers.write(record(TWO, answer="6"))
    real.chmod(0o600)
    Answers(out).close()  # puts a new file in its place
    assert out.is_symlink()
    assert [json.loads(line)["id"] for line in real.read_text().splitlines()] == [TWO.id]
    assert real.stat().st_mode & 0o777 == 0o600


def test_the_last_record_of_an_id_counts_and_the_others_go_when_it_is_there(out):
    other = Asked(ONE.id, "3 7 12 = 25")
    with closing(Answers(out)) as answers:
        answers.write(record(ONE, answer="24"))
        answers.write(record(TWO, answer="6"))
    with closing(Answers(out)) as answers:
        assert not answers.answered(other)
    assert len(out.read_text().splitlines()) == 2  # nothing is lost before something stands in its place
    with closing(Answers(out)) as answers:
        answers.write(record(other, error="no"))
        answers.write(record(other, answer="25"))
    with closing(Answers(out)) as answers:
        assert answers.answered(other)
        assert not answers.answered(ONE)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [TWO.id, ONE.id]


FOREIGN = {
    "prose": b"Dear diary,\n",
    "prose without a newline": b"Dear diary,",
    "answers, then prose": b'{"id": "1", "asked": "x"}\nDear diary,',
    "JSON of another kind": b'{"name": "x"}\n',
    "a list": b"[1, 2]\n",
    "a number": b"12\n",
    "ids of another kind": b'{"id": [1], "asked": "3 7 12 = 24"}\n',
    "ids that are numbers": b'{"id": 1, "asked": "3 7 12 = 24"}\n',
    "no text": b"\x80\x81\xff\n",
    "deep": b"[" * 50_000 + b"\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(kind, out):
    out.write_bytes(FOREIGN[kind])
    with pytest.raises(SolveError, match="name another file") as refused:
        Answers(out)
    assert "\n" not in str(refused.value)
    assert out.read_bytes() == FOREIGN[kind]
    assert list(out.parent.iterdir()) == [out]


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere" / "answers.jsonl"):
        with pytest.raises(SolveError, match="choose another place"):
            Answers(place)

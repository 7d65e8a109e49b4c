from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfplay.run.traces import TRACE_VERSION, Trace, TraceError, read_rows, read_shard, write_rows, write_shard
from tasks.base import PAD_ID, Rows


def trace(problem_id: str = "countdown-1", **changes) -> Trace:
    values = {
        "problem_id": problem_id,
        "task": "countdown",
        "prompt": "7 13 2 > 40\n",
        "completion": "7+13=20|2 20\n20*2=40\n",
        "steps": ("7+13=20|2 20\n", "20*2=40\n"),
        "kinds": ("propose", "answer"),
        "visits": (12, 5),
        "targets": (0.75, 1 / 3),
        "values": (0.9, 1.0),
        "reward": 1.0,
        "solved": True,
        "rule": "best_first",
        "seed": 2**62,
        "iteration": 3,
        "model_hash": "0" * 64,
        "policy_version": 2,
        "generated_tokens": 801,
    }
    return Trace(**(values | changes))


def make_rows(lengths: list[int], width: int, rng: np.random.Generator) -> Rows:
    inside = np.arange(width) < np.array(lengths, int).reshape(-1, 1)
    shape = inside.shape
    value = np.where(rng.random(shape) < 0.5, rng.random(shape), np.nan)
    return Rows(
        tokens=np.where(inside, rng.integers(1, 90, shape), PAD_ID).astype(np.int32),
        weight=np.where(inside, rng.random(shape), 0).astype(np.float32),
        value=np.where(inside, value, np.nan).astype(np.float32),
    )


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_traces_read_back_as_written(tmp_path):
    path = tmp_path / "a.parquet"
    empty = trace(
        "empty", completion="", steps=(), kinds=(), visits=(), targets=(), values=(), reward=0.0, solved=False
    )
    traces = [trace(), empty, trace("snow ☃", prompt='"\\\x00\n')]
    shard = write_shard(path, traces)
    assert read_shard(path, shard.sha256) == traces
    assert (shard.name, shard.n) == ("a.parquet", 3)
    assert shard.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_shard_of_no_traces_reads_back_empty(tmp_path):
    shard = write_shard(tmp_path / "a.parquet", [])
    assert read_shard(tmp_path / "a.parquet", shard.sha256) == []


def test_prompt_and_completion_are_message_columns_for_any_parquet_reader(tmp_path):
    write_shard(tmp_path / "a.parquet", [trace()])
    line = pq.read_table(tmp_path / "a.parquet").to_pylist()[0]
    assert line["prompt"] == [{"role": "user", "content": "7 13 2 > 40\n"}]
    assert line["completion"] == [{"role": "assistant", "content": "7+13=20|2 20\n20*2=40\n"}]
    assert line["steps"] == ["7+13=20|2 20\n", "20*2=40\n"]
    assert set(line) == {field.name for field in dataclasses.fields(Trace)}


def test_a_trace_with_a_missing_entry_is_refused():
    with pytest.raises(ValueError, match="1 visits, 2 steps"):
        trace(visits=(12,))


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_rows_read_back_bit_for_bit_and_as_wide_as_written(tmp_path_factory, lengths, slack, seed):
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    rows = make_rows(lengths, max(lengths, default=0) + slack, np.random.default_rng(seed))
    shard = write_rows(path, rows)
    found = read_rows(path, shard.sha256)
    assert shard.n == len(found) == len(lengths)
    assert same_bits(found.tokens, rows.tokens)
    assert same_bits(found.weight, rows.weight)
    assert same_bits(found.value, rows.value)


def test_a_padding_token_inside_a_row_is_kept(tmp_path):
    rows = Rows(
        np.array([[5, PAD_ID, 7, PAD_ID]], np.int32), np.zeros((1, 4), np.float32), np.full((1, 4), np.nan, np.float32)
    )
    write_rows(tmp_path / "a.parquet", rows)
    assert read_rows(tmp_path / "a.parquet").tokens.tolist() == [[5, PAD_ID, 7, PAD_ID]]


@pytest.mark.parametrize(("name", "taught"), [("weight", 1.0), ("value", 0.5)])
def test_a_taught_token_with_the_id_of_padding_is_kept_at_the_end_of_a_row(tmp_path, rng, name, taught):
    rows = make_rows([2, 4], 5, rng)
    getattr(rows, name)[0, 2] = taught  # the token there is the end of text of a tokenizer that numbers it 0
    write_rows(tmp_path / "a.parquet", rows)
    found = read_rows(tmp_path / "a.parquet")
    assert same_bits(getattr(found, name), getattr(rows, name))
    assert same_bits(found.tokens, rows.tokens)


def test_any_flipped_bit_is_noticed_with_the_ledgers_sha256(tmp_path, rng):
    path = tmp_path / "a.parquet"
    shard = write_rows(path, make_rows([5, 3, 8], 8, rng))
    whole = path.read_bytes()
    for bit in rng.integers(0, 8 * len(whole), size=60):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(TraceError, match=r"a\.parquet was altered.*restore it from a copy"):
            read_rows(path, shard.sha256)


def test_flipped_bits_in_the_data_are_noticed_without_a_ledger_too(tmp_path, rng):
    path = tmp_path / "a.parquet"
    write_rows(path, make_rows([400] * 20, 400, rng))
    whole = path.read_bytes()
    start, end = len(whole) // 4, len(whole) // 2  # well inside the pages of data
    for byte in rng.integers(start, end, size=40):
        damaged = bytearray(whole)
        damaged[byte] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(TraceError, match=r"a\.parquet is damaged"):
            read_rows(path)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_shard_gives_one_line_that_names_the_file(tmp_path, keep):
    path = tmp_path / "a.parquet"
    write_shard(path, [trace()])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TraceError) as caught:
        read_shard(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"gone\.parquet cannot be read \(No such file"):
        read_rows(tmp_path / "gone.parquet")


def test_another_version_is_refused_and_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_shard(path, [trace()])
    table = pq.read_table(path)
    metadata = table.schema.metadata | {b"reverse_o1.trace_version": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(TraceError, match=f"version 99, this program reads {TRACE_VERSION}"):
        read_shard(path)


def test_rows_are_not_taken_for_traces_nor_a_stranger_for_either(tmp_path, rng):
    write_shard(tmp_path / "traces.parquet", [trace()])
    write_rows(tmp_path / "rows.parquet", make_rows([3], 3, rng))
    pq.write_table(pa.table({"x": [1]}), tmp_path / "stranger.parquet")
    with pytest.raises(TraceError, match="does not hold rows"):
        read_rows(tmp_path / "traces.parquet")
    with pytest.raises(TraceError, match="does not hold traces"):
        read_shard(tmp_path / "rows.parquet")
    with pytest.raises(TraceError, match="version none"):
        read_rows(tmp_path / "stranger.parquet")


def test_writing_leaves_no_temporary_file_and_replaces_what_stood_there(tmp_path):
    path = tmp_path / "a.parquet"
    write_shard(path, [trace()])
    write_shard(path, [trace("other")])
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]
    assert read_shard(path)[0].problem_id == "other"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"gone/a\.parquet cannot be written"):
        write_shard(tmp_path / "gone" / "a.parquet", [trace()])

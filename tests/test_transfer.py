"""`bench transfer`: the same problems and lines for every policy, each compared with the first."""

from __future__ import annotations

import pytest
import torch

from bench.command import UsageError
from bench.loop import transfer
from tests.selfplay.free_text import TOKENIZER, small_llama


@pytest.mark.slow
def test_a_policy_does_not_differ_from_itself_and_every_form_is_named(tmp_path, capsys):
    folder = tmp_path / "llama"
    for part in (small_llama().trunk, TOKENIZER):
        part.save_pretrained(folder)
    rows = transfer.main(f"{folder},{folder}", harder="operand_max:99", problems=3, lines=2)["rows"]
    assert [row["form"] for row in rows] == ["sums", "operand_max:99", "plain lines"] * 2
    assert [row["n"] for row in rows] == [3, 3, 2] * 2
    assert all(row["mean"] == 0 for row in rows)
    assert capsys.readouterr().out.count("; +0 +-0 from the first") == 3


def test_the_loss_of_a_line_is_that_of_its_tokens_one_by_one():
    model, line = small_llama().eval(), "7 + 8 = 15, said a line of plain text"
    tokens = TOKENIZER(line).input_ids
    with torch.no_grad():
        told = [
            -float(model(torch.tensor([tokens[:k]]))[0][0, -1].log_softmax(-1)[tokens[k]])
            for k in range(1, len(tokens))
        ]
    assert transfer.losses(model, [line])[0] == pytest.approx(sum(told) / len(told), rel=1e-5)


def test_the_pages_have_enough_lines_and_no_code():
    lines = transfer.prose(200)
    assert len(lines) == 200
    assert not any(line.startswith(("|", " ", "#", "-")) for line in lines)


def test_an_option_that_is_none_is_refused():
    with pytest.raises(UsageError, match="write NAME:NUMBER"):
        transfer.main("smollm2", harder="terms=6")

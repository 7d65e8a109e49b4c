"""`bench learner` compares the same work: the same tokens, the same weights behind it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.loop.learner import IGNORED, examples, in_turns, sums
from models.net.adapters import choose
from selfplay.config import LearnerConfig
from selfplay.learn.learner import Learner
from selfplay.team import Team
from tests.selfplay.free_text import TOKENIZER, small_llama


def letters(text: str, add_special_tokens: bool) -> SimpleNamespace:
    return SimpleNamespace(input_ids=[ord(letter) for letter in text])


def test_trainer_gets_the_rows_without_padding_and_labels_where_there_is_weight():
    rows = sums(letters, 6, shots=1, group=3, seed=0)
    for listed, tokens, weight, used in zip(examples(rows), rows.tokens, rows.weight, rows.used, strict=True):
        text = "".join(map(chr, listed["input_ids"]))
        assert text == "".join(map(chr, tokens[: used.sum()].tolist()))
        _, _, work = text.partition(text.split("\n\n")[1].split("\n")[0] + "\n")
        taught = "".join(chr(label) for label in listed["labels"] if label != IGNORED)
        assert taught == work
        assert work.splitlines()[-1].startswith("answer: ")
        assert int(weight.sum()) == len(work)
        assert len({len(column) for column in listed.values()}) == 1
    questions = ["".join(map(chr, row)).split("\n\n")[1].split("\n")[0] for row in rows.tokens]
    assert [questions.count(question) for question in questions] == [3] * 6


@pytest.mark.slow
@pytest.mark.parametrize("train", ["all", "last:1"])
def test_both_learn_the_same_weights(train):
    ours, theirs = small_llama(), small_llama()
    config = LearnerConfig(optimizer="adamw", learning_rate=1e-3, beta2=0.999, weight_decay=0.0)
    learner = Learner(choose(ours, train), config, Team())
    batches = [sums(TOKENIZER, 4, 0, 1, seed) for seed in range(3)]
    start = {name: p.clone() for name, p in ours.trunk.named_parameters()}
    seconds = in_turns(choose(theirs, train).trunk, TOKENIZER, learner, batches, 1e-3)
    assert np.array(seconds).shape == (3, 2)
    moved = 0
    for (name, p), other in zip(ours.trunk.named_parameters(), theirs.trunk.parameters(), strict=True):
        torch.testing.assert_close(p, other, rtol=1e-3, atol=1e-5)
        moved += not torch.equal(p, start[name])
    assert moved

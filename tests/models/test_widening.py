"""A net that is given new words stays the net that it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.files.checkpoint import save_checkpoint
from models.files.manifest import CheckpointError
from models.net.tokenizer import make_tokenizer
from models.policy import open_policy
from selfplay.config import SelfplayConfig
from selfplay.parts import first_model, longest_path, taught_words
from selfplay.run.commit import check_start
from tasks import make_task

OPTIONS = {**open_policy("countdown3").task_options, "streams": True}


@pytest.fixture(scope="module")
def task():
    return make_task(**OPTIONS)


def net(task, seed=0):
    return taught_words(open_policy("countdown3", trainable=True).policy.model, task, seed)


def test_old_words_keep_their_weights_and_new_ones_begin_where_they_should(task):
    old, new = open_policy("countdown3", trainable=True).policy.model, net(task)
    known = len(task.vocabulary) - len(task.stream_words)
    for name, weight in old.state_dict().items():
        torch.testing.assert_close(new.state_dict()[name][: len(weight)], weight, rtol=0, atol=0)
    embedding = new.trunk.get_input_embeddings().weight
    assert embedding.shape[0] == len(task.vocabulary)
    near = torch.cdist(embedding[known:], embedding[:known]).argmin(1)[:4]
    assert [task.vocabulary[at] for at in near] == ["="] * 4
    assert new.trunk.config.max_position_embeddings == longest_path(task)


def test_no_new_word_is_likely_before_it_is_taught(task):
    words = task.encode("3 7 12 = 15\n")
    with torch.no_grad():
        logits, _ = net(task).eval()(torch.tensor([[1, *words]]))
    share = torch.softmax(logits[0, -1], 0)[-len(task.stream_words) :].sum()
    assert share < 0.05


def test_a_seed_makes_the_same_words(task):
    first, again, other = (net(task, seed).trunk.lm_head.weight.detach().numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_checkpoint_too_short_for_streams_is_refused_before_a_run_begins(task, tmp_path):
    save_checkpoint(tmp_path / "net", net(task), make_tokenizer(task.vocabulary), {"task": OPTIONS})
    check_start(tmp_path / "net", task, longest_path(task))
    with pytest.raises(CheckpointError, match=f"fewer than the {longest_path(task) + 1} tokens"):
        check_start(tmp_path / "net", task, longest_path(task) + 1)


def test_a_run_gives_the_words_to_a_checkpoint_that_lacks_them(task):
    config = SelfplayConfig(task=OPTIONS, checkpoint="countdown3")
    check_start("countdown3", task, longest_path(task))
    model, tokenizer = first_model(task, config)
    assert tokenizer.get_vocab() == task.token_ids
    assert len(model.trunk.get_input_embeddings().weight) == len(task.vocabulary)

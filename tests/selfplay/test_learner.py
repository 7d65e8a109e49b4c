"""The learner resumes bit for bit, survives a poisoned batch, and says so when training has diverged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.net.adapters import choose
from models.net.policy_value import PolicyValueLM, tiny_llama
from models.steps.codec import WordCodec
from selfplay.config import LearnerConfig
from selfplay.learn.learner import MAX_BAD_STEPS, DivergedError, Learner, smoothed, stack, trim, within
from selfplay.learn.replay import Replay, priorities
from selfplay.teach.mixing import Mixture, batch, dealt, mixture
from selfplay.team import Team
from tasks import TaskError, make_task
from tasks.base import BOS_ID, PAD_ID, Rows

VOCABULARY = 20


def rows(seed: int, n: int = 8, length: int = 9) -> Rows:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, VOCABULARY, (n, length)).astype(np.int32)
    weight = np.ones((n, length), np.float32)
    weight[:, :3] = 0
    value = np.full((n, length), np.nan, np.float32)
    value[:, -1] = rng.random(n)
    return Rows(tokens, weight, value)


def learner(seed: int = 0, optimizer: str = "muon") -> Learner:
    torch.manual_seed(seed)
    model = tiny_llama(VOCABULARY, hidden_size=16, layers=1, heads=2, intermediate=16)
    return Learner(model, LearnerConfig(optimizer=optimizer), Team())


def weights(of: Learner) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in of.parameters])


def test_training_lowers_the_loss():
    it = learner()
    losses = [it.step(rows(0), 1.0)["policy_loss"] for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def test_smoothed_value_targets_stop_short_of_certainty_and_keep_what_is_unknown():
    value = np.array([[0.0, 1.0, 0.5, np.nan]], np.float32)
    np.testing.assert_allclose(smoothed(value, 0.02), [[0.02, 0.98, 0.5, np.nan]], rtol=1e-6)
    assert np.array_equal(smoothed(value, 0.0), value, equal_nan=True)


LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 32,
}  # fmt: skip


def language_learner(seed: int, train: str, **settings) -> Learner:
    """Of a model that runs through transformers."""
    torch.manual_seed(seed)
    dtype = settings.pop("weights", torch.float32)
    model = PolicyValueLM.from_trunk(LlamaForCausalLM(LlamaConfig(**LLAMA))).to(dtype).eval()
    config = LearnerConfig(**settings)
    return Learner(choose(model, train), config, Team(), lora_rank=4 if train == "lora" else None)


KINDS = [
    {"train": "all"}, {"train": "value"}, {"train": "last:1"}, {"train": "lora"},
    {"train": "all", "weights": torch.bfloat16}, {"train": "lora", "weights": torch.bfloat16},
    {"train": "all", "dtype": "bfloat16"}, {"train": "all", "checkpointing": True},
]  # fmt: skip


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_language_model_learns_the_same_bits_again_and_after_a_stop(kind, optimizer):
    settings = {"optimizer": optimizer, "chunk_tokens": 30} | kind
    one, same, other = (language_learner(seed, **settings) for seed in (0, 0, 1))
    start = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    for k in range(2):
        one.step(rows(k), 0.3)
        same.step(rows(k), 0.3)
    one.merge()
    other.model.load_state_dict(one.model.state_dict())
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    for each in (one, same, other):
        each.step(rows(2), 0.3)
        each.merge()
    assert any(not torch.equal(start[name], tensor) for name, tensor in one.model.state_dict().items())
    for each in (same, other):
        assert all(
            torch.equal(tensor, each.model.state_dict()[name]) for name, tensor in one.model.state_dict().items()
        )
        assert one.trained_tokens == each.trained_tokens


@pytest.mark.parametrize("train", ["all", "last:1", "lora"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_each_way_to_train_lowers_the_loss(train, optimizer):
    it = language_learner(0, train, optimizer=optimizer)
    losses = [it.step(rows(0), 1.0)["policy_loss"] for _ in range(30)]
    assert losses[-1] < 0.95 * losses[0]


def test_weights_of_16_bits_move_by_less_than_their_rounding():
    it = language_learner(0, "all", weights=torch.bfloat16, optimizer="adamw", weight_decay=0.0)
    weight = it.model.trunk.model.layers[0].mlp.up_proj.weight
    weight.data.fill_(1.0)
    it = Learner(it.model, it.config, Team())
    for _ in range(8):
        it.step(rows(0), 2e-4)  # at most 6e-7 a step, where bfloat16 has 4e-3 at 1
    masters = it.state()["trunk.model.layers.0.mlp.up_proj.weight:master"]
    assert (weight == 1.0).all()
    assert 1e-7 < (masters - 1).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("known", "settings", "warned"),
    [
        (False, {"dtype": "bfloat16"}, True), (False, {"weights": torch.bfloat16}, True), (False, {}, False),
        (True, {"dtype": "bfloat16"}, False),
    ],
)  # fmt: skip
def test_a_cpu_without_instructions_for_bfloat16_is_told_of(monkeypatch, caplog, known, settings, warned):
    monkeypatch.setattr("selfplay.learn.learner.fast", lambda pairs: known)
    language_learner(0, "all", **settings)
    assert [("set learner.dtype" in message) for message in caplog.messages] == [True] * warned


def test_a_step_takes_as_many_rows_as_have_its_tokens():
    many = rows(0, n=40)
    kept = within(many, 100, np.random.default_rng(0))
    assert len(kept) == 11  # of 9 tokens each
    assert len(within(many, 1, np.random.default_rng(0))) == 1
    assert within(many, 360, np.random.default_rng(0)) is many


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_restored_learner_goes_on_bit_for_bit(optimizer):
    one = learner(optimizer=optimizer)
    for k in range(3):
        one.step(rows(k), 0.3)
    other = learner(seed=1, optimizer=optimizer)
    other.model.load_state_dict(one.model.state_dict())
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    for k in range(3, 6):
        one.step(rows(k), 0.3)
        other.step(rows(k), 0.3)
    assert torch.equal(weights(one), weights(other))
    assert (one.steps, one.trained_tokens) == (other.steps, other.trained_tokens) == (6, 6 * 72)


def test_a_poisoned_batch_leaves_the_weights_alone():
    it = learner()
    before = weights(it)
    bad = rows(0)
    bad.weight[0, 5] = np.inf
    assert it.step(bad, 0.3) == {}
    assert torch.equal(before, weights(it))
    assert it.skipped == 1
    assert it.step(rows(0), 0.1)["policy_loss"] > 0


def test_divergence_is_reported_with_its_mend():
    it = learner()
    bad = rows(0)
    bad.weight[:] = np.inf
    for _ in range(MAX_BAD_STEPS - 1):
        it.step(bad, 0.3)
    with pytest.raises(DivergedError, match=r"learner\.learning_rate"):
        it.step(bad, 0.3)


def test_a_gradient_is_clipped_to_its_norm():
    it = learner()
    it.config.gradient_norm = 1e-3
    it.step(rows(0), 0.3)
    clipped = torch.cat([p.grad.reshape(-1) for p in it.parameters]).norm()
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


def test_stack_pads_to_the_longest_and_trim_undoes_it():
    both = stack([rows(0, n=2, length=5), rows(1, n=3, length=9)])
    assert both.tokens.shape == (5, 9)
    assert (both.tokens[:2, 5:] == PAD_ID).all()
    assert (both.weight[:2, 5:] == 0).all()
    assert np.isnan(both.value[:2, 5:]).all()
    short = trim(Rows(both.tokens[:2], both.weight[:2], both.value[:2]))
    assert np.array_equal(short.tokens, rows(0, n=2, length=5).tokens)


def test_replay_forgets_what_left_its_window():
    replay = Replay(window=2)
    for k in range(4):
        replay.add(rows(k, n=k + 1))
    assert len(replay) == 3 + 4
    seen = replay.sample(500, np.random.default_rng(0)).tokens
    kept = np.concatenate([rows(2, n=3).tokens, rows(3, n=4).tokens])
    assert {row.tobytes() for row in seen} == {row.tobytes() for row in kept}


@pytest.mark.parametrize("fill", ["random", "rules"])
def test_beside_random_play_steps_follow_reuse_of_new_rows_but_never_pass_the_cap(fill):
    config = LearnerConfig(rows=100, replay_share=0.5, reuse=5.0, fill=fill)
    assert mixture("random", 0, 40, config) == Mixture(40, 0.0)
    assert mixture("search", 100, 40, config) == Mixture(10, 0.5)
    assert mixture("search", 10_000, 40, config) == Mixture(40, 0.5)
    assert mixture("search", 0, 40, config) == Mixture(1, 0.5)


def test_beside_hindsight_all_steps_are_taken_and_the_replay_share_follows_reuse():
    config = LearnerConfig(rows=100, replay_share=0.5, reuse=5.0, fill="hindsight")
    assert mixture("hindsight", 0, 40, config) == Mixture(40, 0.0)
    assert mixture("search", 0, 40, config) == Mixture(40, 0.0)
    assert mixture("search", 80, 40, config) == Mixture(40, 0.1)
    assert mixture("star", 10_000, 40, config) == Mixture(40, 0.5)


def test_what_is_learned_on_policy_is_seen_once_and_all_of_it():
    config = LearnerConfig(rows=10)
    assert mixture("grpo", 35, 40, config) == Mixture(4, 0.0, once=True)
    assert mixture("grpo", 0, 40, config) == Mixture(0, 0.0, once=True)
    assert mixture("grpo", 35, 40, replace(config, tokens=100), 720) == Mixture(8, 0.0, once=True)
    assert mixture("grpo", 35, 40, replace(config, tokens=1000), 720) == Mixture(4, 0.0, once=True)
    assert mixture("grpo", 35, 5, replace(config, tokens=100), 720) == Mixture(5, 0.0, once=True)
    new = rows(3, n=35)
    parts = dealt(new, 4, np.random.default_rng(0))
    assert [len(part) for part in parts] == [9, 9, 9, 8]
    assert sorted(row.tobytes() for part in parts for row in part.tokens) == sorted(row.tobytes() for row in new.tokens)
    assert dealt(new, 0, np.random.default_rng(0)) == []


def test_a_batch_holds_its_share_of_replay():
    task = make_task("countdown", numbers=3, number_max=6, target_min=1, target_max=20)
    replay = Replay(1)
    replay.add(rows(0, n=5))
    rng = np.random.default_rng(0)
    drawn = [batch(task, WordCodec(task), "search", 50, replay, LearnerConfig(), rng, 0.1) for _ in range(40)]
    from_replay = sum(int((part.tokens[:, 0] != BOS_ID).sum()) for part in drawn)
    assert from_replay == pytest.approx(200, abs=45)
    assert all(len(part) == 50 for part in drawn)


def test_free_rows_come_in_the_shares_that_were_asked_for():
    task = make_task("countdown", numbers=3, number_max=6, target_min=1, target_max=20)
    config = LearnerConfig(rules_share=0.1, value_share=0.2, ended_share=0.3)
    drawn = batch(task, WordCodec(task), "hindsight", 100, Replay(1), config, np.random.default_rng(0))
    told, taught = np.isfinite(drawn.value).any(1), (drawn.weight > 0).any(1)
    ended = np.isfinite(drawn.value[:, -1])
    assert (~told & taught).sum() == 10
    assert (told & ~taught & ~ended).sum() == 20
    assert ended.sum() == (told & ~taught & ended).sum() == 30
    assert (told & taught).sum() == 40
    none = batch(
        task,
        WordCodec(task),
        "random",
        100,
        Replay(1),
        LearnerConfig(ended_share=0.3, fill="random"),
        np.random.default_rng(0),
    )
    assert not np.isfinite(none.value[:, -1]).any()


def test_a_task_without_finished_chains_says_which_setting_to_leave():
    task = make_task("sliding")
    with pytest.raises(TaskError, match=r"set learner\.ended_share=0"):
        batch(
            task, WordCodec(task), "hindsight", 100, Replay(1), LearnerConfig(ended_share=0.3), np.random.default_rng(0)
        )


def test_replay_draws_steps_near_the_goal_as_often_as_their_value_says():
    near, far = rows(0, n=1), rows(1, n=1)
    near.value[:, -1], far.value[:, -1] = 0.9, 0.9**5
    replay = Replay(window=1, nearness=3.0)
    replay.add(stack([near, far]))
    drawn = replay.sample(20_000, np.random.default_rng(0)).value[:, -1]
    assert (drawn > 0.8).mean() == pytest.approx(1 / (1 + 0.9**12), abs=0.01)


def test_rows_that_teach_a_value_only_keep_their_share():
    silent = rows(1, n=3)
    silent.weight[:] = 0
    teaching = rows(0, n=2)
    teaching.value[:, -1] = [0.9, 0.1]
    share = priorities(stack([teaching, silent]), 2.0)
    assert share[2:].sum() / share.sum() == pytest.approx(3 / 5)


def test_what_is_unlearned_counts_as_used_and_as_teaching():
    some = rows(0, n=1)
    some.tokens[0, -1], some.weight[0, -1], some.value[0, -1] = PAD_ID, -0.5, np.nan
    assert some.used[0, -1]
    assert priorities(some, 2.0).tolist() == [1.0]

"""What a run is made of: its model, its learner, who acts in its place, and the chains that came with its data."""

from __future__ import annotations

import numpy as np
import torch

from kit.seeds import derived_seed
from models.abilities import Step
from models.device import device_of
from models.local_policy import LocalPolicy
from models.net.adapters import choose
from models.net.policy_value import PolicyValueLM, tiny_llama
from models.net.tokenizer import make_tokenizer
from models.net.widening import widened
from models.policy import Opened, open_policy
from models.steps.codec import Codec
from models.steps.stream_words import StreamWords
from selfplay.config import SelfplayConfig, learns
from selfplay.learn.learner import Learner
from selfplay.teach.row_builder import RowBuilder
from selfplay.team import Team
from tasks import Rows, Task, given_chains


def learner_of(model: PolicyValueLM, config: SelfplayConfig, team: Team, phase: int) -> Learner:
    """Who trains a model in a phase; of its weights those that learn there require gradients."""
    train = learns(config, phase)
    torch.manual_seed(derived_seed(config.seed, "adapters", phase) % 2**31)
    return Learner(choose(model, train), config.learner, team, config.model.lora_rank if train == "lora" else None)


def fixed_policy(config: SelfplayConfig, task: Task) -> Opened | None:
    """The policy that acts in place of the net that learns; None: that net does.

    Raises:
        PolicyError, CheckpointError, RemoteError: it cannot be opened, or does not read the task.
    """
    if config.policy is None:
        return None
    opened = open_policy(config.policy, device=config.device)
    opened.policy.check(task)
    return opened


def given_rows(task: Task, config: SelfplayConfig, codec: Codec) -> Rows | None:
    """Solved chains that came with the task's data as rows without values, None where there are none."""
    builder = RowBuilder(task, codec)
    for problem, steps in given_chains(**config.task):
        if len(steps) <= task.max_steps and all(len(codec.tokens(step)) <= codec.max_step_tokens for step in steps):
            builder.chain(problem, [Step(step) for step in steps], [1.0] * len(steps), [np.nan] * len(steps))
    return builder.rows() if len(builder) else None


def first_model(task: Task, config: SelfplayConfig) -> tuple[PolicyValueLM, object]:
    """What a run starts from, with its tokenizer: a checkpoint, a pretrained model, or fresh small weights.

    Raises:
        CheckpointError: there is none where one was named.
        PolicyError: it is to write streams, and has no words for them.
    """
    chosen = config.model
    if not config.checkpoint and chosen.kind == "tiny":
        model = new_model(task, config).to(device_of(config.device, small=True))
        return model, make_tokenizer(task.vocabulary)
    policy = open_policy(
        start_of(config), trainable=True, dtype=chosen.dtype, device=config.device, few_shot=chosen.few_shot
    ).policy
    if isinstance(policy, LocalPolicy) and policy.lacks(task):
        return taught_words(policy.model, task, config.seed), make_tokenizer(task.vocabulary)
    if task.stream_words:
        StreamWords.of(task, policy.codec(task))  # refused now, not when the first stream is written
    return policy.model, policy.tokenizer


def taught_words(model: PolicyValueLM, task: Task, seed: int) -> PolicyValueLM:
    """A net of the task's own words with room for those of its streams, which mean nothing to it yet."""
    assert task.stream is not None, "words of streams come with their form"
    ids = task.token_ids
    like = {ids[new]: ids[known] for new, known in task.stream.stands_for().items()}
    words = derived_seed(seed, "words") % 2**31
    return widened(model, len(task.stream_words), like=like, positions=longest_path(task), seed=words)


def longest_path(task: Task) -> int:
    """Tokens of the longest context that a net of the task's words reads: a chain, and of a stream a check and going back."""
    checked = 0 if task.stream is None else task.stream.checks
    stream = 2 + checked * task.max_step_tokens if task.stream_words else 0
    return task.max_context_tokens + task.max_step_tokens + stream


def start_of(config: SelfplayConfig) -> str:
    """What names the weights that a run starts from, where it does not make them."""
    return config.checkpoint or (config.model.path or "" if config.model.kind == "hf" else config.model.kind)


def new_model(task: Task, config: SelfplayConfig) -> PolicyValueLM:
    """A small policy-and-value LM with fresh weights."""
    return tiny_llama(
        len(task.vocabulary),
        hidden_size=config.model.hidden_size,
        layers=config.model.layers,
        heads=config.model.heads,
        intermediate=config.model.intermediate,
        max_positions=longest_path(task),
    )

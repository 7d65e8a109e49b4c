"""Trained tokens per second of a language model: the learner's step against transformers' Trainer, in turns in one run.

    python -m bench learner [run_dir=DIR] [policy=smollm2] [train=all] [rows=16] [steps=6] [shots=0] [group=1] [threads=1]

Rows are sums worked line by line, questions without weight, as self-play makes them: `shots` solved ones before each question,
the same for all rows, and `group` rows a problem (GRPO's groups), which go wrong at different lines. A step is forward,
backward, clipping and AdamW (fused) on `rows` rows in float32, no value target. Theirs: `Trainer` with its collator for padded
labels, a batch a step, the same weights frozen. The two alternate within one `Trainer.train()`; time is CPU time of the
process. Tokens are those of the rows, padding not counted, whatever is computed of them; `train`: as model.train.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch

from bench import command
from kit.statistics import paired_ratio
from models.net.adapters import choose
from models.policy import open_policy
from selfplay.config import LearnerConfig
from selfplay.learn.learner import Learner
from selfplay.team import Team
from tasks.base import PAD_ID, Rows

IGNORED = -100  # label of a token without weight, for transformers


def worked(rng: np.random.Generator, terms: list[int]) -> tuple[str, str]:
    """(question, lines of work): one of the lines is off by one half of the time, and those after it go on from there."""
    lines, total, slip = [], terms[0], int(rng.integers(1, 2 * len(terms)))
    for k, term in enumerate(terms[1:], start=1):
        after = total + term + (k == slip)
        lines.append(f"{total} {'+' if term >= 0 else '-'} {abs(term)} = {after}\n")
        total = after
    question = " ".join([str(terms[0]), *(f"{'+' if term >= 0 else '-'} {abs(term)}" for term in terms[1:])])
    return f"Work out {question}\n", "".join([*lines, f"answer: {total}\n"])


def sums(tokenizer: Any, n: int, shots: int, group: int, seed: int) -> Rows:
    """`n` rows of sums of 3 to 5 one-digit terms."""
    rng, made = np.random.default_rng(seed), []

    opening = "".join("".join(worked(np.random.default_rng(s), [s + 2, 7, -3, 5])) + "\n" for s in range(shots))
    for row in range(n):
        if row % group == 0:
            later = rng.integers(1, 10, int(rng.integers(2, 5)))
            terms = [int(rng.integers(1, 10)), *(rng.choice([-1, 1], len(later)) * later).tolist()]
        question, work = worked(rng, terms)
        context, taught = (tokenizer(text, add_special_tokens=False).input_ids for text in (opening + question, work))
        made.append((context, taught))
    length = max(len(context) + len(taught) for context, taught in made)
    rows = Rows(
        np.full((n, length), PAD_ID, np.int32),
        np.zeros((n, length), np.float32),
        np.full((n, length), np.nan, np.float32),
    )
    for row, (context, taught) in enumerate(made):
        end = len(context) + len(taught)
        rows.tokens[row, :end] = context + taught
        rows.weight[row, len(context) : end] = 1.0
    return rows


def examples(rows: Rows) -> list[dict[str, list[int]]]:
    """The same rows as Trainer's data."""
    listed = []
    for tokens, weight, used in zip(rows.tokens, rows.weight, rows.used, strict=True):
        ids = tokens[used].tolist()
        labels = np.where(weight[used] != 0, tokens[used], IGNORED).tolist()
        listed.append({"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)})
    return listed


def in_turns(
    theirs: Any, tokenizer: Any, learner: Learner, batches: list[Rows], rate: float
) -> list[tuple[float, float]]:
    """CPU-seconds (ours, Trainer's) of a step on each batch, after which both have learned."""
    from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    seconds: list[tuple[float, float]] = []

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **others):
            self.started = process_time()

        def on_step_end(self, args, state, control, **others):
            middle = process_time()
            learner.step(batches[len(seconds)], 1.0)
            seconds.append((process_time() - middle, middle - self.started))

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, per_device_train_batch_size=len(batches[0]), max_steps=len(batches), learning_rate=rate, use_cpu=True,
            lr_scheduler_type="constant", optim="adamw_torch_fused", report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, train_sampling_strategy="sequential", max_grad_norm=1.0,
        )  # fmt: skip
        data = [example for rows in batches for example in examples(rows)]
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        trainer = Trainer(theirs, settings, data_collator=collator, train_dataset=data, callbacks=[Turns()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return seconds


def main(
    run_dir: str = "",
    policy: str = "smollm2",
    train: str = "all",
    rows: int = 16,
    steps: int = 6,
    shots: str = "0",
    group: int = 1,
    threads: int = 1,
) -> dict[str, Any]:
    """Measure `steps` steps after one that warms up, and print both rates.

    Raises:
        command.UsageError: settings that no learner has.
    """
    if train == "lora" or not shots.isdigit():
        raise command.UsageError(f"train={train} shots={shots}: use train=all, value or last:K, and shots=0 or more")
    torch.set_num_threads(threads)
    ours, theirs = (open_policy(policy, trainable=True, dtype="float32", device="cpu").policy for _ in range(2))
    config = replace(LearnerConfig(), optimizer="adamw", learning_rate=1e-5, beta2=0.999, weight_decay=0.0)
    learner = Learner(choose(ours.model, train), config, Team())
    batches = [sums(ours.tokenizer, rows, int(shots), group, seed) for seed in range(steps + 1)]
    seconds = in_turns(choose(theirs.model, train).trunk, ours.tokenizer, learner, batches, config.learning_rate)
    rates = [[int(batch.used.sum()) / taken for taken in pair] for batch, pair in zip(batches, seconds, strict=True)][
        1:
    ]
    ours_s, theirs_s = (median(column) for column in zip(*rates, strict=True))
    ratio, low, high = paired_ratio(*zip(*rates, strict=True))
    padding = 1 - sum(int(b.used.sum()) for b in batches) / sum(b.tokens.size for b in batches)
    print(
        f"{policy}, train={train}, {rows} rows a step, {shots} shots, {group} a problem, {100 * padding:.0f} % padding"
    )
    print(f"transformers' Trainer  {theirs_s:7.1f} trained tokens a CPU-second, {threads} threads")
    print(f"ours                   {ours_s:7.1f}, {ratio:.2f}x [{low:.2f}, {high:.2f}] over {steps} steps in turns")
    result = {
        "figures": {"ours_tokens_per_s": ours_s, "trainer_tokens_per_s": theirs_s},
        "ratio": ratio, "ci95": [low, high], "steps": steps, "rows": rows, "shots": int(shots), "group": group,
        "train": train, "threads": threads, "padding": padding,
    }  # fmt: skip
    command.save(result, run_dir, "learner")
    return result

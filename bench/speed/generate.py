"""Candidate drawing in a search against `transformers` generate: same model, prefixes and job, new tokens a second.

    python -m bench generate [run_dir=DIR] [leaves=256] [rounds=5] [warmup=400] [peers=yes]

The job: eight candidate steps at every leaf of three waves, Countdown states of depth 0, 1 and 2 with their history. The model
is tiny and warmed up on random legal play, so that steps have the length that they have in self-play. Ours: a policy's
evaluator, stochastic beam search through an empty token trie; prefill, verifier, keys and values are in the timing. The trie's
memory is kept from round to round, as a run keeps it from one batch of problems to the next. Theirs: `generate` from the same
prefixes, padded on the left, `num_return_sequences=8`, sampling, the newline as end of sequence, in the batch size that is
fastest for it; decoding, verifying and values are not asked of it. The two alternate in one run on one thread; time is CPU time
of the process, as other programs may share the cores.

Tokens: ours counts distinct tokens sampled, theirs every sampled token up to the newline, duplicates included.
peers=no: ours alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import torch

from bench import command
from models.abilities import StepEvaluator
from models.local_policy import LocalPolicy
from models.net.policy_value import PolicyValueLM, tiny_llama
from tasks import BOS_ID, NEWLINE_ID, PAD_ID, UNK_ID, Task
from tasks.free_play import free_play
from tasks.numbers.countdown import Countdown

CANDIDATES = 8
WAVES = 3
BATCHES = (64, 128, 256, 512)  # prefixes a call of generate


@dataclass(frozen=True, slots=True)
class Lot:
    """What one run of the job made."""

    tokens: int  # sampled
    steps: int  # distinct at their leaf
    seconds: float


def warmed_up_model(task: Countdown, steps: int) -> PolicyValueLM:
    """A tiny model after `steps` batches of random legal play; 400, half a minute, teach it the format of a step."""
    torch.manual_seed(0)
    model, rng = tiny_llama(len(task.vocabulary)), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = free_play(task).random_play("train", 64, rng)
        tokens, weight = torch.from_numpy(rows.tokens).long(), torch.from_numpy(rows.weight)[:, 1:]
        logits, _ = model(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        optimizer.zero_grad()
        ((loss * weight).sum() / weight.sum()).backward()
        optimizer.step()
    return model.eval()


def ours(evaluator: StepEvaluator, problems: list) -> tuple[Lot, list[list[str]]]:
    """The job, and the contexts of each wave's leaves. A wave's leaves are candidates of the one before that go on; a model
    that writes no legal step has none.
    """
    task, before, rng = evaluator.task, evaluator.generated_tokens, np.random.default_rng(0)
    waves, steps, seconds = [], 0, 0.0
    started = process_time()
    handles = evaluator.begin(problems).handles
    for _ in range(WAVES):
        if not len(handles):
            break
        seconds -= process_time() - started
        waves.append([task.context(problems[evaluator.tree(h)], evaluator.steps(h)) for h in handles.tolist()])
        seconds += process_time() - started
        expansion = evaluator.expand(handles, CANDIDATES)
        steps += len(expansion.handles)
        handles = rng.permutation(expansion.handles[~expansion.terminal])[: len(problems)]
    return Lot(evaluator.generated_tokens - before, steps, process_time() - started + seconds), waves


@torch.no_grad()
def theirs(model: PolicyValueLM, task: Task, waves: list[list[str]], batch: int) -> Lot:
    trunk: Any = model.trunk  # PreTrainedModel, its declared type, has no `generate`; a causal LM does
    tokens, steps, seconds = 0, 0, 0.0
    for wave in waves:
        contexts = sorted(([BOS_ID, *task.encode(context)] for context in wave), key=len)
        for first in range(0, len(contexts), batch):
            rows = contexts[first : first + batch]
            width = len(rows[-1])
            prefixes = torch.tensor([[PAD_ID] * (width - len(row)) + row for row in rows])
            started = process_time()
            out = trunk.generate(
                input_ids=prefixes,
                attention_mask=(prefixes != PAD_ID).long(),
                do_sample=True,
                top_k=0,
                num_return_sequences=CANDIDATES,
                max_new_tokens=task.max_step_tokens,
                eos_token_id=NEWLINE_ID,
                pad_token_id=PAD_ID,
                suppress_tokens=[PAD_ID, BOS_ID, UNK_ID],
            )[:, width:]
            seconds += process_time() - started
            tokens += int((out != PAD_ID).sum())
            steps += len({(i // CANDIDATES, *row) for i, row in enumerate(out.tolist())})
    return Lot(tokens, steps, seconds)


def best_batch(job: Callable[[int], Lot], sizes: tuple[int, ...]) -> int:
    """The batch size that makes most tokens a second, after a warm-up."""
    speed = {}
    for size in sizes:
        job(size)
        lot = job(size)
        speed[size] = lot.tokens / lot.seconds
    return max(speed, key=lambda size: speed[size])


def main(
    run_dir: str = "", leaves: int = 256, rounds: int = 5, warmup: int = 400, peers: str = "yes"
) -> dict[str, Any]:
    """Alternate the two `rounds` times on waves of `leaves` leaves, and print what each makes a second.

    Raises:
        TaskError: fewer training problems than `leaves`.
        UsageError: `peers` is neither yes nor no.
    """
    command.one_of("peers", peers, command.YES_NO)
    torch.set_num_threads(1)
    task = Countdown(numbers=4, number_max=9)
    problems = task.problems("train", leaves)
    model = warmed_up_model(task, warmup)
    evaluator = LocalPolicy(model).evaluator(task)
    _, waves = ours(evaluator, problems)  # compiles
    print(f"waves of {[len(wave) for wave in waves]} leaves, {CANDIDATES} candidates each, one thread")
    batch = 0
    if peers == "yes":
        batch = best_batch(lambda size: theirs(model, task, waves[:1], size), BATCHES)
        print(f"generate in batches of {batch} prefixes")
        print(f"{'round':>5} {'ours tok/s':>11} {'generate tok/s':>15} {'ratio':>6} {'distinct steps':>20}")
    lots, pairs = [], []
    for i in range(rounds):
        a, _ = ours(evaluator, problems)
        lots.append((a.tokens / a.seconds, a.steps / a.seconds))
        if peers == "no":
            print(f"{i:>5} {lots[-1][0]:>11,.0f} tok/s {lots[-1][1]:>11,.0f} distinct steps/s")
            continue
        b = theirs(model, task, waves, batch)
        pairs.append((b.tokens / b.seconds, b.steps / b.seconds, lots[-1][0] * b.seconds / b.tokens))
        print(f"{i:>5} {lots[-1][0]:>11,.0f} {pairs[-1][0]:>15,.0f} {pairs[-1][2]:>6.2f} {a.steps:>9} vs {b.steps:>7}")
    our_tokens, our_steps = np.median(lots, axis=0).tolist()
    result: dict[str, Any] = {
        "ours_tokens_per_second": our_tokens,
        "ours_distinct_steps_per_second": our_steps,
        "leaves": leaves,
        "rounds": rounds,
        "figures": {"ours_tokens_per_s": our_tokens, "ours_distinct_steps_per_s": our_steps},
    }
    if pairs:
        their_tokens, their_steps, ratio = np.median(pairs, axis=0).tolist()
        print(f"median ratio {ratio:.2f}; distinct steps a second: {our_steps:,.0f} vs {their_steps:,.0f}")
        result |= {
            "generate_tokens_per_second": their_tokens,
            "generate_distinct_steps_per_second": their_steps,
            "generate_batch": batch,
            "ratio": ratio,
        }
    command.save(result, run_dir, "generate")
    return result

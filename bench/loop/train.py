"""Trained tokens per second: our learner's step against a plain transformers + AdamW loop, alternating in one run.

    python -m bench train [run_dir=DIR] [seconds=20] [rows=256] [length=30]

One thread. A step is forward, backward, clipping and AdamW on the same rows and the default model; all tokens of a row count.
The plain loop is what one would write first: `LlamaForCausalLM` with an attention mask, cross-entropy over the step tokens,
`clip_grad_norm_`, `torch.optim.AdamW`, and no value head (ours trains one besides).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import command
from models.net.losses import accumulate_gradients
from models.net.policy_value import PolicyValueLM, tiny_llama

PROMPT_TOKENS = 9
MAX_POSITIONS = 256  # of the default model
VOCABULARY = 110
GRADIENT_NORM = 1.0


def batch(rows: int, length: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens, weight, value), each [rows, length]: a prompt without weight, then steps of seven tokens with a value each."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, VOCABULARY, (rows, length), generator=generator)
    weight = torch.ones(rows, length)
    weight[:, :PROMPT_TOKENS] = 0
    value = torch.full((rows, length), torch.nan)
    value[:, PROMPT_TOKENS + 6 :: 7] = 0.5
    return tokens, weight, value


def our_step(model: PolicyValueLM, data: tuple[Tensor, Tensor, Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        accumulate_gradients(model, *data, value_coefficient=0.5)
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()

    return step


def plain_step(model: PolicyValueLM, data: tuple[Tensor, Tensor, Tensor]) -> Callable[[], None]:
    trunk, (tokens, weight, _) = model.trunk, data
    optimizer = torch.optim.AdamW(trunk.parameters(), lr=1e-3)
    mask = torch.ones_like(tokens)
    labels = tokens.masked_fill(weight == 0, -100)[:, 1:].flatten()

    def step() -> None:
        optimizer.zero_grad()
        logits = trunk(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), labels).backward()
        torch.nn.utils.clip_grad_norm_(trunk.parameters(), GRADIENT_NORM)
        optimizer.step()

    return step


def measure(seconds: float, rows: int, length: int, seed: int = 0) -> dict[str, float]:
    """Tokens per CPU-second of both loops (median of alternating steps) and their ratio."""
    torch.manual_seed(seed)
    data = batch(rows, length, seed)
    steps = {"ours": our_step(tiny_llama(VOCABULARY), data), "plain": plain_step(tiny_llama(VOCABULARY), data)}
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # compiles kernels, fills caches
    end = time.monotonic() + seconds
    while not spent["ours"] or time.monotonic() < end:
        for name, step in steps.items():
            start = time.process_time()
            step()
            spent[name].append(time.process_time() - start)
    rates = {
        f"{name}_tokens_per_second": rows * length / sorted(times)[len(times) // 2] for name, times in spent.items()
    }
    ratio = rates["ours_tokens_per_second"] / rates["plain_tokens_per_second"]
    return {**rates, "ratio": ratio, "rows": rows, "length": length, "rounds": len(spent["ours"])}


def main(run_dir: str = "", seconds: float = 20.0, rows: int = 256, length: int = 30) -> dict[str, float]:
    """Measure for about `seconds` on batches of `rows` rows of `length` tokens, and print both rates.

    Raises:
        command.UsageError: rows too short to hold a step, or too long for the model.
    """
    if not PROMPT_TOKENS < length <= MAX_POSITIONS:
        raise command.UsageError(f"length={length}: a row has {PROMPT_TOKENS + 1} to {MAX_POSITIONS} tokens")
    torch.set_num_threads(1)
    result = measure(seconds, rows, length)
    print(f"plain transformers + AdamW  {result['plain_tokens_per_second']:9,.0f} trained tokens/s on one thread")
    print(
        f"ours                        {result['ours_tokens_per_second']:9,.0f} trained tokens/s, {result['ratio']:.2f}x"
    )
    command.save(result, run_dir, "train")
    return result

"""Trained tokens per second: our learner's step against a plain transformers + AdamW loop, alternating in one run.

    python -m bench.train [--run-dir DIR] [--seconds 20] [--rows 256] [--length 30]

One thread. A step is forward, backward, clipping and AdamW on the same rows and the default model; all tokens of a row count.
The plain loop is what one would write first: `LlamaForCausalLM` with an attention mask, cross-entropy over the step tokens,
`clip_grad_norm_`, `torch.optim.AdamW`, and no value head (ours trains one besides).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import accumulate_gradients
from models.policy_value import PolicyValueLM, tiny_llama

PROMPT_TOKENS = 9
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
    while time.monotonic() < end:
        for name, step in steps.items():
            start = time.process_time()
            step()
            spent[name].append(time.process_time() - start)
    rates = {
        f"{name}_tokens_per_second": rows * length / sorted(times)[len(times) // 2] for name, times in spent.items()
    }
    ratio = rates["ours_tokens_per_second"] / rates["plain_tokens_per_second"]
    return {**rates, "ratio": ratio, "rows": rows, "length": length, "rounds": len(spent["ours"])}


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, help="write train.json here")
    parser.add_argument("--seconds", type=float, default=20.0, help="time to spend measuring")
    parser.add_argument("--rows", type=int, default=256, help="rows of a batch")
    parser.add_argument("--length", type=int, default=30, help="tokens of a row")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = measure(options.seconds, options.rows, options.length)
    print(f"plain transformers + AdamW  {result['plain_tokens_per_second']:9,.0f} trained tokens/s on one thread")
    print(
        f"ours                        {result['ours_tokens_per_second']:9,.0f} trained tokens/s, {result['ratio']:.2f}x"
    )
    if options.run_dir:
        options.run_dir.mkdir(parents=True, exist_ok=True)
        (options.run_dir / "train.json").write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()

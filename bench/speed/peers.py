"""The other ways to expand leaves, on the same leaves as ours: what `bench.speed.expand` compares with.

Every function takes a `Wave` and returns `Spent`. Tokens are sampled at temperature 1 by every method; a candidate stops
counting at the first token that ends a step, though a batch goes on until its last one has.

Legend: N leaves, K candidates each, L tokens of a step at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, StaticCache

from models.cpu.packed_linear import PackedLinear

PER_NODE_LEAVES = 1  # measured, of those asked for: one node at a time costs in proportion
BATCH_LEAVES = 16  # leaves a batch of the batched methods; more are slower here
CONTINUOUS_LEAVES = 2  # continuous batching takes minutes for more on a CPU


@dataclass(frozen=True)
class Wave:
    """Leaves to expand. `prompts` and `prefixes` (prompt and steps) are token ids, one a leaf."""

    model: Any  # the causal LM
    prompts: list[list[int]]
    prefixes: list[list[int]]
    candidates: int
    step_tokens: int
    ends: np.ndarray  # bool [V]
    depth: int

    def part(self, leaves: int) -> Wave:
        """The same with fewer leaves."""
        return replace(self, prompts=self.prompts[:leaves], prefixes=self.prefixes[:leaves])


@dataclass
class Spent:
    """Tokens made and what they took."""

    tokens: int
    seconds: float
    cpu_seconds: float

    def charge(self, reading: Spent, share: float) -> Spent:
        """Add a share of what a reading took."""
        self.seconds += reading.seconds * share
        self.cpu_seconds += reading.cpu_seconds * share
        return self

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def cpu_rate(self) -> float:
        return self.tokens / self.cpu_seconds


class Clock:
    """Wall clock and CPU time of this process since it was made."""

    def __init__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, tokens: int) -> Spent:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return Spent(tokens, time.perf_counter() - self._wall, time.process_time() - self._cpu)


def left_padded(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(ids, mask), both [B, longest]."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def sample(logits: Tensor) -> Tensor:
    """One token a row, [B]."""
    return torch.multinomial(torch.softmax(logits.float(), -1), 1)[:, 0]


class Ends:
    """Counts the tokens of each row up to the one that ends its step."""

    def __init__(self, ends: np.ndarray, device: torch.device):
        self._ends = torch.from_numpy(ends).to(device)
        self._open: Tensor | None = None
        self.tokens = 0

    def take(self, tokens: Tensor) -> bool:
        """Count one token a row [B]; False once every row has ended."""
        if self._open is None:
            self._open = torch.ones_like(tokens, dtype=torch.bool)
        self.tokens += int(self._open.sum())
        self._open &= ~self._ends[tokens]
        return bool(self._open.any())


def per_node(wave: Wave) -> Spent:
    """What generate with num_return_sequences does at every node: K copies of the prefix are read, then decoded."""
    part = wave.part(min(len(wave.prefixes), PER_NODE_LEAVES))
    eos = np.flatnonzero(wave.ends).tolist()
    clock, tokens = Clock(), 0
    for prefix in part.prefixes:
        out = wave.model.generate(
            input_ids=torch.tensor([prefix], device=wave.model.device),
            attention_mask=torch.ones(1, len(prefix), dtype=torch.long, device=wave.model.device),
            do_sample=True,
            top_k=0,
            num_return_sequences=wave.candidates,
            max_new_tokens=wave.step_tokens,
            eos_token_id=eos or None,
            pad_token_id=0,
        )[:, len(prefix) :]
        counter = Ends(wave.ends, out.device)
        for column in out.T:
            counter.take(column)
        tokens += counter.tokens
    return clock.stop(tokens)


def batched(wave: Wave) -> Spent:
    """Each prefix read once, a batch of leaves at a time; its cache is repeated for the K candidates."""
    part = wave.part(BATCH_LEAVES)
    clock = Clock()
    ids, mask = left_padded(part.prefixes, wave.model.device)
    cache = DynamicCache(config=wave.model.config)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    logits = wave.model(
        ids, attention_mask=mask, position_ids=position, past_key_values=cache, logits_to_keep=1
    ).logits[:, -1]
    cache.batch_repeat_interleave(wave.candidates)
    mask, logits = (part_.repeat_interleave(wave.candidates, 0) for part_ in (mask, logits))
    counter = Ends(wave.ends, wave.model.device)
    for step in range(wave.step_tokens):
        tokens = sample(logits)
        if not counter.take(tokens) or step + 1 == wave.step_tokens:
            break
        mask = torch.cat((mask, mask.new_ones(len(mask), 1)), 1)
        logits = wave.model(
            tokens[:, None],
            attention_mask=mask,
            position_ids=mask.sum(1, keepdim=True) - 1,
            past_key_values=cache,
        ).logits[:, -1]
    return clock.stop(counter.tokens)


def _caches(wave: Wave) -> tuple[Tensor, Tensor, list[Tensor]]:
    """What earlier expansions would have left: ids and mask, left-padded, and keys and values [2, N, G, T, E] a layer."""
    ids, mask = left_padded(wave.prefixes, wave.model.device)
    cache = DynamicCache(config=wave.model.config)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    wave.model(ids, attention_mask=mask, position_ids=position, past_key_values=cache, logits_to_keep=1)
    layers: Any = cache.layers
    return ids, mask, [torch.stack((layer.keys, layer.values)) for layer in layers]


def slab(wave: Wave, *, roof: bool = False) -> Spent:
    """Keys and values of nodes kept; gathered for N K rows into one static cache, decoded in place, tails copied back.

    `roof`: the decoding alone, which is what generate with a StaticCache does once its prompt is read.
    """
    part = wave.part(BATCH_LEAVES)
    ids, mask, kept = _caches(part)
    prefill = Clock()
    if not roof:
        prompt_ids, prompt_mask = left_padded(part.prompts, wave.model.device)
        wave.model(prompt_ids, attention_mask=prompt_mask, logits_to_keep=1)
    prefill_spent = prefill.stop(0)
    clock = Clock()
    rows, width = len(ids) * wave.candidates, ids.shape[1]
    cache = StaticCache(config=wave.model.config, max_cache_len=width + wave.step_tokens)
    for i, pair in enumerate(kept):
        keys, values = (half[:, :, :-1].repeat_interleave(wave.candidates, 0) for half in pair)
        cache.update(keys, values, i)
    if roof:
        clock = Clock()
    tokens = ids[:, -1].repeat_interleave(wave.candidates)
    mask = mask.repeat_interleave(wave.candidates, 0)
    counter = Ends(wave.ends, wave.model.device)
    for step in range(wave.step_tokens):
        logits = wave.model(
            tokens[:, None],
            attention_mask=torch.cat((mask, mask.new_zeros(rows, width + wave.step_tokens - mask.shape[1])), 1),
            position_ids=mask.sum(1, keepdim=True) - 1,
            past_key_values=cache,
        ).logits[:, -1]
        tokens = sample(logits)
        mask = torch.cat((mask, mask.new_ones(rows, 1)), 1)
        if not counter.take(tokens) or step + 1 == wave.step_tokens:
            break
    if not roof:
        layers: Any = cache.layers
        _ = [torch.stack((layer.keys[:, :, width:], layer.values[:, :, width:])) for layer in layers]
    # the prompt is read once a tree, and a tree of this depth was expanded so often
    return clock.stop(counter.tokens).charge(prefill_spent, 1 / (wave.depth + 1))


def generate_static(wave: Wave) -> Spent:
    """Raw decoding of N K rows: the roof of every method that goes through the model's own forward."""
    return slab(wave, roof=True)


def continuous(wave: Wave) -> Spent:
    """transformers' continuous batching over the sequences of a few leaves."""
    part = wave.part(CONTINUOUS_LEAVES)
    settings = GenerationConfig(
        max_new_tokens=wave.step_tokens,
        do_sample=True,
        top_k=0,
        eos_token_id=np.flatnonzero(wave.ends).tolist() or -1,
        pad_token_id=0,
    )
    before = wave.model.config._attn_implementation
    clock = Clock()
    out = wave.model.generate_batch(
        inputs=[prefix for prefix in part.prefixes for _ in range(wave.candidates)],
        generation_config=settings,
        progress_bar=False,
    )
    spent = clock.stop(sum(len(request.generated_tokens) for request in out.values()))
    wave.model.set_attn_implementation(before)
    return spent


def ceilings(model: Any, rows: int, seconds: float = 2.0) -> dict[str, float]:
    """Tokens a second if a forward of `rows` tokens were its matrix products alone, plain and (on a CPU) packed ahead."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    inputs = {
        m.in_features: torch.randn(rows, m.in_features, dtype=m.weight.dtype, device=m.weight.device) for m in layers
    }
    found = {"linears": _rate(lambda: [F.linear(inputs[m.in_features], m.weight) for m in layers], rows, seconds)}
    if model.device.type == "cpu":
        packed = [(m.in_features, PackedLinear(m.weight, None)) for m in layers]
        found["packed_linears"] = _rate(lambda: [layer(inputs[size]) for size, layer in packed], rows, seconds)
    return found


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """What the device can do: GFLOP/s of a large product, GB/s of a large copy (read and written)."""
    size = 2048 if device.type == "cpu" else 8192
    a = torch.randn(size, size, dtype=dtype, device=device)
    words = torch.empty(1 << 27, dtype=torch.uint8, device=device)
    target = torch.empty_like(words)
    return {
        "gemm_gflops": _rate(lambda: a @ a, 2 * size**3, 1.0) / 1e9,
        "copy_gb_per_s": _rate(lambda: target.copy_(words), 2 * words.numel(), 1.0) / 1e9,
    }


def _rate(work, amount: float, seconds: float) -> float:
    """`amount` a second of the fastest run within about so many seconds."""
    work()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        best = min(best, (clock := Clock(), work(), clock.stop(0))[2].seconds)
    return amount / best

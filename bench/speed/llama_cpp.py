"""llama.cpp on the leaves of `speed.expand`: its bindings, the same GGUF file, candidates as sequences that share a prefix."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

from bench.speed.peers import Clock, Spent, Wave
from kit.files import replacing

BATCH = 512  # tokens a call
TYPES = {"bf16": 32, "q8_0": 7}  # llama.cpp's numbers of the types that a file can be rewritten in


def available() -> bool:
    """True where the bindings can be imported."""
    return find_spec("llama_cpp") is not None


def rewritten(file: Path, kind: str, folder: Path) -> Path:
    """`file` with its matrices in one of `TYPES`, in `folder`, where it stays for the next time.

    Raises:
        OSError: llama.cpp could not write it.
    """
    import llama_cpp

    target = folder / f"{file.stem}.{kind}.gguf"
    if target.exists():
        return target
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize, settings.pure, settings.nthread = TYPES[kind], True, True, 1
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    with replacing(target) as new:
        if llama_cpp.llama_model_quantize(str(file).encode(), str(new).encode(), ctypes.byref(settings)):
            raise OSError(f"llama.cpp could not write {new}")
    return target


class LlamaCpp:
    """One model file, one thread; close it after use."""

    def __init__(self, file: Path, threads: int = 1):
        import llama_cpp

        self._lib = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        self._threads = threads

    def close(self) -> None:
        self._lib.llama_model_free(self._model)

    def expand(self, wave: Wave) -> Spent:
        """Decode the wave's candidates, every token of theirs entered; of the reading before, the prompt's share is charged."""
        lib = self._lib
        sequences = len(wave.prefixes) * wave.candidates
        settings = lib.llama_context_default_params()
        settings.n_ctx = sequences * (max(map(len, wave.prefixes)) + wave.step_tokens + 8)
        settings.n_batch = settings.n_ubatch = BATCH
        settings.n_seq_max = sequences
        settings.n_threads = settings.n_threads_batch = self._threads
        settings.kv_unified = False  # a cache a sequence: twice as fast as one for all, which every sequence would scan
        context = lib.llama_init_from_model(self._model, settings)
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_dist(0))
        batch = lib.llama_batch_init(BATCH, 0, 1)
        memory = lib.llama_get_memory(context)
        try:
            reading = Clock()
            first: dict[int, int] = {}
            for leaf, prefix in enumerate(wave.prefixes):
                home = leaf * wave.candidates
                for start in range(0, len(prefix), BATCH):
                    part = list(enumerate(prefix))[start : start + BATCH]
                    self._decode(context, batch, [(token, at, home, at + 1 == len(prefix)) for at, token in part])
                last = len(part) - 1
                for sequence in range(home, home + wave.candidates):
                    if sequence != home:
                        lib.llama_memory_seq_cp(memory, home, sequence, -1, -1)
                    first[sequence] = lib.llama_sampler_sample(chain, context, last)
            read = reading.stop(0)
            clock, tokens, now = Clock(), 0, dict(first)
            for step in range(wave.step_tokens):
                tokens += len(now)
                rows = [
                    (token, len(wave.prefixes[sequence // wave.candidates]) + step, sequence, True)
                    for sequence, token in now.items()
                ]
                following = self._sampled(context, chain, batch, rows)
                now = {sequence: token for sequence, token in following.items() if not wave.ends[now[sequence]]}
                if not now:
                    break
            share = sum(map(len, wave.prompts)) / sum(map(len, wave.prefixes)) / (wave.depth + 1)
            return clock.stop(tokens).charge(read, share)
        finally:
            lib.llama_batch_free(batch)
            lib.llama_sampler_free(chain)
            lib.llama_free(context)

    def _sampled(self, context, chain, batch, rows: list[tuple[int, int, int, bool]]) -> dict[int, int]:
        found = {}
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            self._decode(context, batch, part)
            for i, (_, _, sequence, _) in enumerate(part):
                found[sequence] = self._lib.llama_sampler_sample(chain, context, i)
        return found

    def _decode(self, context, batch, rows: list[tuple[int, int, int, bool]]) -> None:
        """One call over (token, position, sequence, wants logits)."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token), position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if code := self._lib.llama_decode(context, batch):
            raise RuntimeError(f"llama.cpp could not decode a batch of {len(rows)} tokens (code {code})")

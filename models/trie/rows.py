"""Rows of next tokens: what a trie node remembers of the model's logits.

A small vocabulary is kept whole and in order. Of a large one only the `kept` most probable tokens are (their log-probabilities
exact, most probable first), since 49,152 float32 a token would take eight times the memory of its keys and values; tokens
beyond them are never drawn, and their mass stays unseen. A nucleus (`top_p`, Holtzman et al. 2020) cuts a row in either case.
"""

from __future__ import annotations

import numpy as np
import torch

from kit.arithmetic import fast_exp
from kit.jit import FAST, jit
from models.cpu.long_attention import to_float

KEPT = 256  # next tokens kept of a large vocabulary
WHOLE = 1024  # vocabularies up to this size are kept whole
_SPAN = 64  # tokens whose maximum is looked at first
_NEVER = np.float32(-1e30)


class RowMaker:
    """Makes rows of log-probabilities from logits. V vocabulary, W tokens kept of each row."""

    def __init__(self, vocabulary_size: int, masked: tuple[int, ...] = (), *, kept: int = KEPT, top_p: float = 1.0):
        """`masked`: tokens that are never sampled; their logits are dropped before normalising.

        Raises:
            ValueError: `top_p` outside (0, 1], or nothing kept.
        """
        if not 0 < top_p <= 1 or kept < 1:
            raise ValueError(f"top_p must lie in (0, 1] and kept be at least 1, not {top_p} and {kept}")
        self.vocabulary_size, self.top_p = vocabulary_size, top_p
        self.keeps_some = vocabulary_size > WHOLE and kept < vocabulary_size
        self.width = kept if self.keeps_some else vocabulary_size
        self._masked = np.zeros(vocabulary_size, np.bool_)
        self._masked[[token for token in masked if token < vocabulary_size]] = True

    def rows(self, logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """(log-probabilities float32 [B, W], their tokens int32 [B, W], None where all are kept) of `logits` [B, V or more].

        The logits are of any float type and device.
        """
        logits = logits[:, : self.vocabulary_size].detach().cpu()
        if logits.dtype not in (torch.float32, torch.bfloat16):
            logits = logits.float()
        if logits.dtype == torch.bfloat16:
            logits = logits.view(torch.uint16)
        tokens = np.full((len(logits), self.width), -1, np.int32)
        logprobs = np.full((len(logits), self.width), -np.inf, np.float32)
        choose(logits.numpy(), self._masked, np.float32(self.top_p), tokens, logprobs)
        if self.keeps_some:
            return logprobs, np.maximum(tokens, 0)
        rows = np.full((len(logits), self.vocabulary_size + 1), -np.inf, np.float32)
        np.put_along_axis(rows, tokens.astype(np.int64), logprobs, axis=1)  # -1, nothing kept, is the last column
        return rows[:, :-1], None


@jit(fastmath=FAST)
def _load(source, masked, row, peaks):
    """row [V] = the logits of `source` as float32; peaks: maximum of each span. Returns log of the sum of exponentials."""
    for v in range(row.size):
        row[v] = _NEVER if masked[v] else to_float(source[v])
    top = _NEVER
    for b in range(peaks.size):
        span = row[b * _SPAN : min((b + 1) * _SPAN, row.size)]
        peak = _NEVER
        for v in range(span.size):
            peak = max(peak, span[v])
        peaks[b] = peak
        top = max(top, peak)
    total = np.float32(0.0)
    for v in range(row.size):
        total += fast_exp(row[v] - top) if row[v] > _NEVER else np.float32(0.0)
    return top + np.float32(np.log(total))


@jit
def choose(logits, masked, top_p, keep, found):
    """The most probable tokens of each row of `logits` [B, V]: ids into `keep` [B, W], log-probabilities into `found` [B, W].

    Most probable first, equal ones in order of id; entries beyond the last are left as they are. Only tokens not below the W-th
    largest maximum of a span are looked at: W of them at least there are.
    """
    size, width = logits.shape[1], keep.shape[1]
    row, peaks = np.empty(size, np.float32), np.empty(-(-size // _SPAN), np.float32)
    tokens, weights = np.empty(size, np.int32), np.empty(size, np.float32)
    for b in range(logits.shape[0]):
        shift = _load(logits[b], masked, row, peaks)
        least = np.float32(_NEVER / 2)
        if peaks.size > width:
            least = max(least, np.partition(peaks, peaks.size - width)[peaks.size - width])
        count = 0
        for s in range(peaks.size):
            if peaks[s] >= least:
                for v in range(s * _SPAN, min((s + 1) * _SPAN, size)):
                    if row[v] >= least:
                        tokens[count], weights[count] = v, -row[v]
                        count += 1
        order = np.argsort(weights[:count], kind="mergesort")
        mass = np.float32(0.0)
        for i in range(min(width, count)):
            token = tokens[order[i]]
            keep[b, i], found[b, i] = token, row[token] - shift
            mass += np.exp(found[b, i])
            if top_p < 1.0 and mass >= top_p:
                break

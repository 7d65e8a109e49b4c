"""What stands between the matrix products of a Llama layer: residual sums with norms, and the gated activation, in numba.

Types of 16 bits are bfloat16 as bits. Legend: N rows of one batch, D hidden size, F feed-forward size.
"""

from __future__ import annotations

import math

import numpy as np

from kit.arithmetic import fast_exp
from kit.jit import FAST, jit
from models.cpu.long_attention import put, to_float


@jit(fastmath=FAST)
def add_and_normalise(stream, delta, gain, epsilon, out):
    """stream [N, D] += delta [N, D or more], unless that is empty; out = stream / rms(stream) * gain, row by row."""
    for b in range(stream.shape[0]):
        row = stream[b]
        if delta.shape[0]:
            change = delta[b]
            for j in range(row.size):
                row[j] += to_float(change[j])
        total = np.float32(0.0)
        for j in range(row.size):
            total += row[j] * row[j]
        scale = np.float32(1.0 / math.sqrt(total / row.size + epsilon))
        target = out[b]
        for j in range(row.size):
            put(target, j, row[j] * scale * gain[j])


@jit(fastmath=FAST)
def gate(gate_up, out):
    """out [N, F] = silu(gate) * up, for gate_up [N, 2F] = (gate, up)."""
    width = out.shape[1]
    line = np.empty(width, np.float32)
    for b in range(out.shape[0]):
        gates, ups, target = gate_up[b, :width], gate_up[b, width:], out[b]
        for j in range(width):  # three short loops vectorise, one long one does not
            line[j] = to_float(gates[j])
        for j in range(width):
            g = line[j]
            e = fast_exp(-abs(g))
            line[j] = g * max(e, np.float32(1.0) if g >= np.float32(0.0) else e) / (np.float32(1.0) + e)
        for j in range(width):
            put(target, j, line[j] * to_float(ups[j]))

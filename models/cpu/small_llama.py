"""A small Llama over a batch of trie nodes in one compiled call, a tile of rows at a time through all layers.

A model of a few hundred thousand weights is bound by what happens between its products: calls, and activations that travel
through memory. Here a tile's activations stay in the nearest caches from the embedding to the log-probabilities. Products are
those of `models.cpu.products`, in float32 or in pairs of bfloat16: the type of the packed weights tells.

Legend: N rows of one batch, D hidden size, H query heads, G key-value heads, E head size, F feed-forward size, V vocabulary.
"""

from __future__ import annotations

import math

import numpy as np

from kit.arithmetic import fast_exp, largest
from kit.jit import FAST, jit
from models.cpu.products import add_and_normalise, gate, product, whole
from models.cpu.short_attention import attend

TILE = 48  # rows; eight blocks of a product
SQRT_HALF = math.sqrt(0.5)


@jit(fastmath=FAST)
def _log_softmax(logits, mask, out):
    """out [V]: log-probabilities of logits [V or more] + mask [V], whose entries are 0 or -inf."""
    row = logits[: mask.size]
    for v in range(mask.size):
        row[v] += mask[v]
    top = largest(row)
    total = np.float32(0.0)
    for v in range(mask.size):
        total += fast_exp(row[v] - top)
    shift = np.float32(top + math.log(total))
    for v in range(mask.size):
        out[v] = row[v] - shift


@jit
def forward(
    tokens, nodes, slots, positions, paths, embedding, weights, starts, sizes, heads, lanes, cos, sin, epsilon, mask, kv, final,
    logprobs,
):  # fmt: skip
    """logprobs [cap, V] of `nodes` [N], and final [N, D]: normed hidden states without the last norm's gain.

    tokens, slots, positions int32 [N], paths int32 [N, T] as in `short_attention.attend`; embedding float32 [., D]; weights
    flat, of qkv, output, gate and up, down of each layer at starts int64 [layers, 4], of the logits at starts[layers, 0];
    sizes (H, G, F); mask float32 [V]: -inf where never sampled; kv [layers, S, 2, G E].
    """
    n_heads, n_kv_heads, width = sizes
    size, hidden = len(lanes), embedding.shape[1]
    qkv_size, mixed_size = (n_heads + 2 * n_kv_heads) * size, n_heads * size
    stream, ones = np.zeros((TILE, hidden), np.float32), np.ones(hidden, np.float32)
    normed, mixed = np.zeros((TILE, hidden), weights.dtype), np.zeros((TILE, mixed_size), weights.dtype)
    gated = np.zeros((TILE, width), weights.dtype)
    qkv, change = np.zeros((TILE, whole(qkv_size)), np.float32), np.zeros((TILE, whole(hidden)), np.float32)
    gates, logits = np.zeros((TILE, whole(2 * width)), np.float32), np.zeros((TILE, whole(mask.size)), np.float32)
    nothing = np.zeros(max(qkv.shape[1], change.shape[1], gates.shape[1], logits.shape[1]), np.float32)
    last = len(starts) - 1
    for begin in range(0, len(nodes), TILE):
        rows = min(TILE, len(nodes) - begin)
        end = begin + rows
        for r in range(rows):
            stream[r] = embedding[tokens[begin + r]]
        x = stream[:rows]
        add_and_normalise(x, change[:0], ones, epsilon, normed)
        for layer in range(last):
            product(normed, rows, weights, starts[layer, 0], nothing, qkv)
            attend(
                qkv[:rows], slots[begin:end], positions[begin:end], paths[begin:end], cos, sin, kv, layer,
                n_heads, n_kv_heads, heads, lanes, mixed[:rows],
            )  # fmt: skip
            product(mixed, rows, weights, starts[layer, 1], nothing, change)
            add_and_normalise(x, change[:rows], ones, epsilon, normed)
            product(normed, rows, weights, starts[layer, 2], nothing, gates)
            gate(gates[:rows], gated[:rows])
            product(gated, rows, weights, starts[layer, 3], nothing, change)
            add_and_normalise(x, change[:rows], ones, epsilon, normed)
        add_and_normalise(x, change[:0], ones, epsilon, final[begin:end])
        product(normed, rows, weights, starts[last, 0], nothing, logits)
        for r in range(rows):
            _log_softmax(logits[r], mask, logprobs[nodes[begin + r]])


@jit
def value_of(final, gain, weights, bias, outer, outer_bias, out):
    """out [N]: P(solved) by a `ValueHead` at final [N, D], each row's the same whatever rows are beside it, bit for bit.

    gain float32 [D], of the last norm; weights: the inner matrix, packed in float32; bias float32 [D, filled up to
    whole blocks]; outer float32 [D].
    """
    width = final.shape[1]
    x, inner = np.zeros((TILE, width), np.float32), np.zeros((TILE, whole(width)), np.float32)
    for begin in range(0, len(final), TILE):
        rows = min(TILE, len(final) - begin)
        for r in range(rows):
            x[r] = final[begin + r] * gain
        product(x, rows, weights, 0, bias, inner)
        for r in range(rows):
            total = np.float32(0.0)
            for d in range(width):
                z = inner[r, d]
                total += np.float32(0.5) * z * np.float32(1.0 + math.erf(z * SQRT_HALF)) * outer[d]
            out[begin + r] = 1.0 / (1.0 + math.exp(-np.float64(total + outer_bias)))

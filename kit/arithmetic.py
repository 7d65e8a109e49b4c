"""Small compiled functions that kernels of several rooms use: a 64-bit mix, uniform numbers by counter, exp, maximum."""

from __future__ import annotations

import numpy as np

from kit.jit import FAST, jit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@jit(inline="always")
def mix64(x):
    """The finaliser of SplitMix (Steele, Lea, Flood 2014): a bijection of 64-bit words; of arrays too, as `mix64.py_func`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit(inline="always")
def splitmix64(x):
    """A counter in, an independent-looking word out."""
    return mix64(np.uint64(x) + GOLDEN)


@jit
def uniform(seed, counter, index):
    """Uniform in (0, 1), a pure function of (seed, counter, index)."""
    x = mix64(np.uint64(seed) + GOLDEN * (np.uint64(counter) + np.uint64(1)))
    x = mix64(x + GOLDEN * (np.uint64(index) + np.uint64(1)))
    return (np.float64(x >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@jit(fastmath=FAST, inline="always")
def fast_exp(x):
    """float32 exp for x <= 0, about 1e-7 relative (Cephes' exp2f polynomial); loops over it vectorise, math.exp's do not."""
    z = max(np.float32(x), np.float32(-87.0)) * np.float32(1.4426950408889634)
    n = np.floor(z + np.float32(0.5))
    f = np.float32(z - n)
    p = np.float32(1.535336188319500e-4)
    p = p * f + np.float32(1.339887440266574e-3)
    p = p * f + np.float32(9.618437357674640e-3)
    p = p * f + np.float32(5.550332471162809e-2)
    p = p * f + np.float32(2.402264791363012e-1)
    p = p * f + np.float32(6.931472028550421e-1)
    p = p * f + np.float32(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@jit(fastmath=FAST | {"nnan"})
def largest(row):
    """Maximum of float32 [V] without NaN, -inf included; a loop that promises so vectorises."""
    top = np.float32(-np.inf)
    for v in range(row.size):
        top = max(top, row[v])
    return top

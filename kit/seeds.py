"""Counter-based randomness: a generator is a pure function of the run's seed and of where it is used."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Philox stream keyed by (seed, purpose, counters); two different keys give independent streams."""
    key = [seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(purpose.encode()), *counters]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for code that takes an integer, keyed like `generator`."""
    return int(generator(seed, purpose, *counters).integers(0, 2**63 - 1))

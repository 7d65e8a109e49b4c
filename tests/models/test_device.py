"""device=auto|cpu|cuda names a device, or says in one line what to use instead."""

from __future__ import annotations

import pytest
import torch

from models.abilities import PolicyError
from models.device import device_of, within_memory
from models.policy import open_policy


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_a_gpu_where_there_is_one_but_for_small_nets(there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_of("auto") == device_of(None) == ("cuda" if there else "cpu")
    assert device_of("auto", small=True) == device_of("cpu") == "cpu"


def test_a_gpu_that_is_not_there_is_refused_with_the_mend(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for asked in (lambda: device_of("cuda"), lambda: open_policy("countdown4", device="cuda")):
        with pytest.raises(PolicyError, match=r"^device=cuda: torch sees no GPU here; use device=cpu"):
            asked()
    with pytest.raises(PolicyError, match="device=tpu is unknown: use one of auto, cpu, cuda"):
        device_of("tpu")


def test_a_gpu_that_is_too_small_is_one_line():
    with (
        pytest.raises(PolicyError, match=r"^the GPU has too little memory: lower workers, or use device=cpu$"),
        within_memory("lower workers"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

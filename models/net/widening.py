"""A net learns new words: rows are added to its embedding and its output layer, and every old weight stays what it was.

A word that comes to stand where an old one stood begins as that one does; any other begins at random, spread as the old ones
are. In the output layer all new rows begin near the mean of the old: no new word is likely before it is taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from models.net.policy_value import PolicyValueLM

NOISE = 0.2  # of a row's deviation, where a row begins as another: rows that are alike would learn alike


@torch.no_grad()
def widened(model: PolicyValueLM, added: int, *, like: Mapping[int, int], positions: int, seed: int) -> PolicyValueLM:
    """`model` itself, with `added` tokens behind its own and room for paths of `positions` tokens.

    `like`: of a new token, the old one in whose place it stands.
    """
    trunk = model.trunk
    old = len(cast("Tensor", trunk.get_input_embeddings().weight))
    trunk.resize_token_embeddings(old + added, mean_resizing=False)
    trunk.config.max_position_embeddings = max(trunk.config.max_position_embeddings, positions)
    generator = torch.Generator().manual_seed(seed)
    embedding = cast("Tensor", trunk.get_input_embeddings().weight)
    output = cast("Tensor", trunk.get_output_embeddings().weight)
    embedding[old:] = _noise(embedding[:old], added, generator)
    for new, known in like.items():
        embedding[new] = embedding[known] + NOISE * embedding[new]
    if output is not embedding:
        output[old:] = output[:old].mean(0) + NOISE * _noise(output[:old], added, generator)
    return model


def _noise(rows: Tensor, added: int, generator: torch.Generator) -> Tensor:
    """float [added, D], as spread as `rows` [V, D]."""
    return rows.std() * torch.randn(added, rows.shape[1], generator=generator).to(rows)

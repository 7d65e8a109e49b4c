"""Which forward computes the nodes of a trie: three behind one contract, `models.trie.batch.TrieForward`.

`LlamaForward` serves a small Llama in one compiled call. `CausalForward` serves any causal LM node by node through its own
layers. `PrefixForward` runs what neither serves over whole prefixes: slow and correct. transformers is imported only where a
model needs it: that takes seconds.

A forward holds a *snapshot*: `refresh()` copies the weights, and until the next one training does not show.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from models.files.bare_llama import PlainLlama, plain
from models.forward.small import LlamaForward
from models.trie.batch import NEVER_SAMPLED, TrieForward
from models.trie.rows import WHOLE

_WARNED: set[str] = set()


def forward_for(
    model,
    vocabulary_size: int | None = None,
    masked: tuple[int, ...] = NEVER_SAMPLED,
    *,
    longest: int = 0,
    **settings,
) -> TrieForward:
    """The fastest forward that is exact for `model` (a `PolicyValueLM`: `trunk` and `value_head`).

    `vocabulary_size`: tokens that may be sampled; ids above it are padding of the embedding. None: all of the trunk's.
    `longest`: tokens of a path that may come up; a trunk that is exact for shorter ones only is then run over whole prefixes.
    The policy is pi(token | path, token not in `masked`): masked logits are dropped *before* normalising. `settings` go to
    `CausalForward`, but for `autocast` (the type of the products, else the model's `inference_dtype`), which both know. A trunk
    that neither can serve is run over whole prefixes, which is slow, and a warning says so once.
    """
    size = vocabulary_size or len(model.trunk.get_input_embeddings().weight)
    if getattr(model, "inference_dtype", None) is not None:
        settings = {"autocast": model.inference_dtype} | settings
    if is_plain_llama(model.trunk) and size <= WHOLE and settings.keys() <= {"autocast"}:
        return LlamaForward(model, size, masked, **settings)
    from models.forward.causal import CausalForward
    from models.forward.trial import UnservedError, max_positions, turning_point

    try:
        config = model.trunk.config.get_text_config()
        if (turn := turning_point(config)) < min(longest, max_positions(config)):
            raise UnservedError(f"{type(model.trunk).__name__} turns texts longer than {turn} tokens by other angles")
        return CausalForward(model, size, masked, **settings)
    except UnservedError as error:
        kind = type(model.trunk).__name__
        if kind not in _WARNED:
            _WARNED.add(kind)
            warnings.warn(f"{error}: every step reads its whole prefix anew, which is slow", UserWarning, stacklevel=2)
        from models.forward.prefix import PrefixForward

        return PrefixForward(model, size, masked)


def is_plain_llama(trunk: Any) -> bool:
    """True for a float32 Llama on the CPU whose config is `plain`."""
    if not isinstance(trunk, PlainLlama) and not _of_transformers(trunk):
        return False
    weights = trunk.get_output_embeddings().weight
    return plain(trunk.config) and weights.dtype == torch.float32 and weights.device.type == "cpu"


def _of_transformers(trunk: torch.nn.Module) -> bool:
    from transformers import LlamaForCausalLM

    return type(trunk) is LlamaForCausalLM

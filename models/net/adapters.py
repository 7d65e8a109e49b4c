"""What of a model learns: all of it, the value head, its last layers, or low-rank adapters beside its linear layers (LoRA,
Hu et al. 2021; peft).
"""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from models.net.output_rule import TrainError
from models.net.policy_value import PolicyValueLM

LAST = "last:"  # of `choose`, before the number of layers
ADAPTER = "default"  # peft's name of it
_NORM = re.compile(r"norm|^ln")


def layers_of(trunk: Any) -> str:
    """Name of the trunk's list of decoder layers.

    Raises:
        TrainError: it has no list of as many modules as its config has layers.
    """
    depth = trunk.config.get_text_config().num_hidden_layers
    for name, module in trunk.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name
    raise TrainError(
        f"{type(trunk).__name__} has no list of {depth} layers: use model.train=all, value or lora, learner.optimizer=adamw "
        "and learner.checkpointing=false"
    )


def choose(model: PolicyValueLM, train: str) -> PolicyValueLM:
    """The model, and of its parameters only those require gradients that are to learn; the value head's always do.

    `train`: all | value, the head alone | last:K, the last K layers and the norm behind them; embeddings and output stay |
    lora, nothing of the trunk itself: see `Adapted`.

    Raises:
        TrainError: there are fewer layers.
    """
    model.trunk.requires_grad_(train == "all")
    if train.startswith(LAST):
        last, name = int(train.removeprefix(LAST)), layers_of(model.trunk)
        layers: Any = model.trunk.get_submodule(name)
        if last > len(layers):
            raise TrainError(f"model.train={train}: the model has {len(layers)} layers; use {LAST}{len(layers)} or all")
        around = model.trunk.get_submodule(name.rpartition(".")[0])
        norms = [part for key, part in around.named_children() if _NORM.search(key) and "embed" not in key]
        for part in [*layers[-last:], *norms]:
            part.requires_grad_(True)
    return model


class Adapted(nn.Module):
    """A model's value head, and a copy of its trunk with adapters: they learn, and `merge` brings what they say into the model.

    Only the linear layers are copied, as they were before they learned; all else is the model's own.
    """

    def __init__(self, model: PolicyValueLM, rank: int):
        """Adapters in every linear layer of the trunk but the output. Seed torch first: half of their weights are random.

        Raises:
            TrainError: peft is not installed, or the trunk has no linear layer.
        """
        super().__init__()
        peft, linear = peft_library(), _linear(model.trunk)
        if not linear:
            raise TrainError(
                f"{type(model.trunk).__name__} has no linear layers that adapters fit: use model.train=all or value"
            )
        self._plain = [model]  # in a list: no submodule
        self.value_head = model.value_head
        theirs = {id(p) for module in linear.values() for p in module.parameters()}
        self.trunk: Any = copy.deepcopy(
            model.trunk, memo={id(p): p for p in model.trunk.parameters() if id(p) not in theirs}
        )
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(linear))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft asks by a name that is to go, and turns GPT-2's matrices by itself
            peft.inject_adapter_in_model(config, self.trunk, adapter_name=ADAPTER)
        self.value_head.requires_grad_(True)

    @torch.no_grad()
    def merge(self) -> None:
        """Write W + (alpha / r) B A into the model's own linear layers."""
        for name, layer in self._adapted().items():
            base = layer.get_base_layer().weight
            merged = base.float() + layer.get_delta_weight(ADAPTER).float()
            cast("Tensor", self._plain[0].trunk.get_submodule(name).weight).copy_(merged)

    def state(self) -> dict[str, Tensor]:
        """Adapters, and the weights beneath them: merged weights do not give them back to the last bit."""
        return {f"adapted.{name}": tensor for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `state`; other tensors are left alone. The model is not merged anew."""
        for name, tensor in self._tensors().items():
            tensor.copy_(tensors[f"adapted.{name}"])

    def _adapted(self) -> dict[str, Any]:
        return {name: module for name, module in self.trunk.named_modules() if hasattr(module, "get_delta_weight")}

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": parameter.detach()
            for name, layer in self._adapted().items()
            for key, parameter in layer.named_parameters()
        }


def _linear(trunk: Any) -> dict[str, nn.Module]:
    """What gets adapters, by name: linear layers, in GPT-2's form too, but the output."""
    output = trunk.get_output_embeddings()
    return {
        name: module
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output
    }


def peft_library(setting: str = "model.train=lora") -> Any:
    """peft, an extra, which `setting` asks for.

    Raises:
        TrainError: it is not installed.
    """
    try:
        import peft
    except ImportError:
        raise TrainError(f"{setting} needs peft: pip install 'reverse-o1[peft]'") from None
    return peft

"""Matrix products of a frozen model on a CPU: weights packed once into the blocks that they are computed in.

torch packs the weights of a bfloat16 or float32 product anew in every call, which costs more than the product itself where a
batch has few rows. On one thread of a CPU with 512-bit vectors products are those of `models.cpu.products`, at the core's peak
for few rows too (docs/results/engine.md); elsewhere oneDNN's, packed ahead, in float32 of rounded numbers where a CPU has no
instructions for bfloat16. The result of a row does not depend on how many
rows are computed beside it, bit for bit, which a test holds.
"""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from models.cpu import products
from models.cpu.products import seen

ROWS = 64  # rows that oneDNN's blocks are chosen for; others work too
SPLIT = 1024  # terms beyond which oneDNN adds up the product of a single row in another order than that of several
DTYPES = (torch.float32, torch.bfloat16)


def can_pack() -> bool:
    """True where torch is built with oneDNN's packed products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class PackedLinear(nn.Module):
    """y = x W^T + b for a frozen W [out, in], held in packed form."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None, *, own: bool | None = None
    ):
        """`dtype`: to compute in and to return, float32 or bfloat16; None: the weight's own.
        `own`: by this project's kernels; None: where they serve `dtype`, and torch computes in one thread.
        """
        super().__init__()
        self.weight = weight.detach()  # read for its type and shape only
        self.dtype = dtype or weight.dtype
        rounded = self.weight.to(self.dtype)
        pairs = self.dtype == torch.bfloat16
        served = products.fast(pairs) and self.weight.shape[1] % 2 == 0
        self._own = served and (torch.get_num_threads() == 1 if own is None else own)
        self.bias = None if bias is None else bias.detach().to(self.dtype)
        if self._own:
            self._blocks = products.packed(rounded.float().numpy(), pairs)
            self._addend = np.zeros(products.whole(len(weight)), np.float32)
            if self.bias is not None:
                self._addend[: len(weight)] = self.bias.float().numpy()
        else:
            emulated = pairs and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
            self._inside = torch.float32 if emulated else self.dtype
            self.bias = None if self.bias is None else self.bias.to(self._inside)
            self._packed = torch.ops.mkldnn._reorder_linear_weight(rounded.to(self._inside).contiguous(), ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        x = x.to(self.dtype)
        if self._own:
            return self._by_blocks(x)
        return self._by_onednn(x.to(self._inside)).to(self.dtype)

    def into(self, x: np.ndarray, out: np.ndarray) -> None:
        """out [N, `columns`] = x [N, in], both as memory that numpy sees (`seen`); columns beyond out are filled."""
        if self._own:
            products.product(x, len(x), self._blocks, 0, self._addend, out)
        else:
            out[:, : len(self.weight)] = seen(self(_tensor(x, self.dtype)))

    @property
    def columns(self) -> int:
        """Columns that `into` writes: those of the weight, filled up to whole blocks."""
        return products.whole(len(self.weight))

    def _by_blocks(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        out = torch.empty(len(rows), len(self._addend), dtype=self.dtype)
        products.product(seen(rows), len(rows), self._blocks, 0, self._addend, seen(out))
        return out[:, : len(self.weight)].contiguous().view(*x.shape[:-1], len(self.weight))

    def _by_onednn(self, x: Tensor) -> Tensor:
        if x.numel() > x.shape[-1] or x.shape[-1] <= SPLIT:
            return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        pair = x.expand(*x.shape[:-2], 2, x.shape[-1]) if x.ndim > 1 else x.expand(2, -1)
        two = torch.ops.mkldnn._linear_pointwise(pair.contiguous(), self._packed, self.bias, "none", [], "")
        return two[..., :1, :] if x.ndim > 1 else two[0]


def _tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The inverse of `seen`."""
    return torch.from_numpy(array).view(dtype)


def packed_copy(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A frozen copy of `model` for inference, every linear layer packed; parameters of the others are copied as they are.

    `dtype`: of the products, as under autocast; None: each weight's own.
    """
    from transformers.pytorch_utils import Conv1D

    linear = {id(module): module for module in model.modules() if type(module) in (nn.Linear, Conv1D)}
    matrices = {id(module.weight): module.weight for module in linear.values()}
    twin = copy.deepcopy(model, memo=dict(matrices))  # matrices are shared: packing copies them
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear | Conv1D) and id(child.weight) in matrices and child.weight.dtype in DTYPES:
                weight = child.weight.T if isinstance(child, Conv1D) else child.weight
                setattr(parent, name, PackedLinear(weight, cast("Tensor | None", child.bias), dtype))
            elif isinstance(child, nn.Embedding) and id(child.weight) in matrices:  # tied: the embedding needs its own
                child.weight = nn.Parameter(child.weight.detach().clone(), requires_grad=False)
    return twin.requires_grad_(False).eval()

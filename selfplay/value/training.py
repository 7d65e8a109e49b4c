"""Training a value head on a pretrained trunk: features read once, the head alone, or adapters together with the head.

Legend: B rows, L tokens, N states with a target, D hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.forward.packed_rows import WholeRows, rows_reader
from models.net.adapters import peft_library
from models.net.losses import accumulate_gradients
from models.net.policy_value import PolicyValueLM
from models.net.value_head import ValueHead
from selfplay.learn.learner import select, trim
from tasks import Rows

MODES = ("frozen", "lora")
FORWARD_TOKENS = 8192  # of one forward without gradients; shared ones count once a row here, and are computed once
TRAIN_TOKENS = 8192  # of one forward and backward
HEAD_ROWS, HEAD_EPOCHS, HEAD_PATIENCE, WEIGHT_DECAY = 256, 200, 10, 0.1  # of the head alone: states a step, epochs
HEAD_SHARE = 0.1  # of the adapters' learning rate, for the head: it has learned, and AdamW's first steps are large
POLICY_CHUNK = 16  # rows whose log-probabilities are compared at once


@dataclass(frozen=True)
class Settings:
    """One training of a value head. Options of the task come as `task.NAME=VALUE`."""

    out: str = ""  # folder of the result; a checkpoint that is there is replaced
    model: str = "smollm2"  # smollm2 | a folder of safetensors | a GGUF file
    dtype: str = "float32"  # of the weights: float32 | bfloat16 | float16 | auto
    few_shot: int = 3  # solved problems shown before each question
    task: str = "countdown"
    mode: str = "frozen"  # frozen | lora
    examples: int = 4000  # rows to learn from
    own_share: float = 0.0  # of them, states of the model's own chains on train problems
    head_learning_rate: float = 3e-4  # AdamW's, of the head alone
    rank: int = 8  # lora: of the adapters
    steps: int = 60  # lora: updates of adapters and head
    rows: int = 32  # lora: rows an update
    learning_rate: float = 1e-3  # lora: AdamW's peak, of the adapters
    policy_coefficient: float = 0.0  # lora: of the cross-entropy on own chains, which holds the policy in place
    dev: int = 200  # dev problems to measure on (all, where there are fewer)
    dev_samples: int = 4  # the model's own chains on each; 0: measure on states of random play only
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """What the trunk made of the N states that have a target."""

    hidden: Tensor  # float32 [N, D], final hidden state of the state's last token
    bag: Tensor  # float32 [N, D], sum of the embeddings up to there: what a reader without a trunk would know
    target: Tensor  # float32 [N]
    row: np.ndarray  # int [N]


@torch.no_grad()
def features(model: PolicyValueLM, rows: Rows) -> Features:
    """One reading of the rows, and what it leaves at every value target."""
    reader, embed = _reader(model), cast("nn.Embedding", model.trunk.get_input_embeddings())
    tokens_BL = torch.from_numpy(rows.tokens.astype(np.int64)).to(embed.weight.device)
    known = ~np.isnan(rows.value)
    used = int(np.flatnonzero(known.any(0)).max()) + 1
    row, column = known.nonzero()
    length_B = torch.from_numpy((known * np.arange(1, known.shape[1] + 1)).max(1)).to(tokens_BL.device)
    hidden, bag = [], []
    size = max(2, FORWARD_TOKENS // used)
    for first in range(0, len(rows), size):
        part_BL = tokens_BL[first : first + size, :used]
        here = (row >= first) & (row < first + size)
        where = torch.from_numpy(row[here] - first), torch.from_numpy(column[here])
        hidden.append(reader.hidden(part_BL, length_B[first : first + size])[where].float())
        bag.append(embed(part_BL).float().cumsum(1)[where])
    return Features(torch.cat(hidden), torch.cat(bag), torch.from_numpy(rows.value[known]).to(tokens_BL.device), row)


# ---- the head


class StandardisedHead(nn.Module):
    """A value head that reads (hidden - mean) / deviation; `folded` is the same function as a plain `ValueHead`."""

    mean: Tensor  # [D]
    deviation: Tensor  # [D]

    def __init__(self, hidden_ND: Tensor):
        """`hidden_ND`: what mean and deviation are taken from. Says 0.5 until it is trained."""
        super().__init__()
        self.head = ValueHead(hidden_ND.shape[1])
        nn.init.zeros_(self.head.outer.weight)
        nn.init.zeros_(self.head.outer.bias)
        deviation = hidden_ND.std(0)
        self.register_buffer("mean", hidden_ND.mean(0))
        self.register_buffer("deviation", deviation.clamp(min=max(1e-2 * float(deviation.median()), 1e-6)))
        self.to(hidden_ND.device)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> value logits [...]."""
        return self.head((hidden.float() - self.mean) / self.deviation)

    @torch.no_grad()
    def folded(self) -> ValueHead:
        """W ((h - m) / s) + b = (W / s) h + (b - (W / s) m)."""
        plain = copy.deepcopy(self.head)
        weight = self.head.inner.weight.double() / self.deviation.double()
        plain.inner.weight.copy_(weight)
        plain.inner.bias.copy_(self.head.inner.bias.double() - weight @ self.mean.double())
        return plain


def fit_head(hidden_ND: Tensor, target_N: Tensor, held_N: np.ndarray, rate: float) -> tuple[StandardisedHead, dict]:
    """A head trained on features by BCE with AdamW, as it was when the states of `held_N` bool [N] were told best.

    Returns it with its epochs and its BCE in nats on either part; `constant_bce` is that of the mean target.
    """
    held = torch.from_numpy(held_N).to(hidden_ND.device)
    x_ND, y_N, x_held, y_held = hidden_ND[~held], target_N[~held], hidden_ND[held], target_N[held]
    head = StandardisedHead(x_ND)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    best, kept, told = math.inf, copy.deepcopy(head.state_dict()), {}
    for epoch in range(HEAD_EPOCHS):
        total = 0.0
        for index in torch.randperm(len(x_ND)).to(x_ND.device).split(HEAD_ROWS):
            loss = F.binary_cross_entropy_with_logits(head(x_ND[index]), y_N[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(index)
        with torch.no_grad():
            bce = float(F.binary_cross_entropy_with_logits(head(x_held), y_held))
        if bce < best:
            best, kept = bce, copy.deepcopy(head.state_dict())
            told = {"epochs": epoch + 1, "bce": total / len(x_ND), "held_out_bce": bce}
        elif epoch + 1 - told.get("epochs", 0) >= HEAD_PATIENCE:
            break
    head.load_state_dict(kept)
    constant = y_N.mean().expand(len(y_held))
    return head, told | {"constant_bce": float(F.binary_cross_entropy(constant, y_held))}


def install(model: PolicyValueLM, head: StandardisedHead) -> None:
    """Make `head` the model's value head, in the type of the trunk's weights."""
    weight = cast("nn.Embedding", model.trunk.get_input_embeddings()).weight
    model.value_head = head.folded().to(weight).requires_grad_(False).eval()


@torch.no_grad()
def probabilities(head: nn.Module, hidden_ND: Tensor) -> np.ndarray:
    """P(solved) float64 [N]."""
    weight = next(head.parameters())
    return torch.sigmoid(head(hidden_ND.to(weight.dtype)).float()).double().cpu().numpy()


# ---- adapters


def add_adapters(model: PolicyValueLM, rank: int) -> Any:
    """Adapters in every linear layer of the trunk but the output, trainable; peft's wrapper, which can merge them."""
    peft = peft_library("mode=lora")
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is to go
        return peft.get_peft_model(model.trunk, config)


def adapt(model: PolicyValueLM, head: StandardisedHead, rows: Rows, held: Rows, settings: Settings) -> dict[str, float]:
    """Train the adapters that were added together with a head that has learned from the frozen trunk, one pass over `rows`.

    They should be new to the head: what it knows by heart teaches the trunk nothing. Rows `held` only measure: returns their
    value BCE before and after. The head is left in the model unfolded. The loss is value BCE + `policy_coefficient` * policy
    cross-entropy.
    """
    model.value_head = cast("ValueHead", head.requires_grad_(True))
    inside = [p for p in model.trunk.parameters() if p.requires_grad]
    groups = [{"params": inside, "peak": settings.learning_rate}]
    groups.append({"params": list(head.parameters()), "peak": HEAD_SHARE * settings.learning_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    parameters = [*inside, *head.parameters()]
    before, reader = _value_bce(model, held), _reader(model)
    # `models.net.losses` puts a coefficient before the value, here one stands before the policy: the same up to a factor, which
    # AdamW does not see.
    scale = settings.policy_coefficient or 1.0
    order = np.arange(settings.steps * settings.rows) % len(rows)
    for step in range(settings.steps):
        part = select(rows, order[step * settings.rows : (step + 1) * settings.rows])
        tokens_BL, weight_BL, value_BL = _tensors(part, model)
        optimizer.zero_grad()
        weight_BL *= bool(settings.policy_coefficient)
        accumulate_gradients(reader, tokens_BL, weight_BL, value_BL, 1 / scale, TRAIN_TOKENS)
        nn.utils.clip_grad_norm_(parameters, 1 / scale)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _rate(step, settings.steps)
        optimizer.step()
    return {"held_out_bce_before": before, "held_out_bce": _value_bce(model, held)}


def merge(model: PolicyValueLM, head: StandardisedHead, adapters: Any) -> None:
    """Add the adapters to the weights that they adapt, and fold the head: a plain model again."""
    adapters.merge_and_unload()
    install(model, head)


@torch.no_grad()
def policy_change(model: PolicyValueLM, adapters: Any, rows: Rows) -> dict[str, float]:
    """Policy loss on weighted rows without and with the adapters, and KL(without || with), in nats a token."""
    with adapters.disable_adapter():
        readers = [_reader(model)]
    readers.append(_reader(model))
    sums = np.zeros(4)  # of loss without, loss with, KL, weight
    for first in range(0, len(rows), POLICY_CHUNK):
        part = select(rows, np.arange(first, min(first + POLICY_CHUNK, len(rows))))
        tokens_BL, weight_BL, _ = _tensors(part, model)
        where = (weight_BL[:, 1:] > 0).nonzero(as_tuple=True)
        target_N, weight_N = tokens_BL[:, 1:][where], weight_BL[:, 1:][where]
        length_B = torch.full_like(tokens_BL[:, 0], tokens_BL.shape[1])
        old_NV, new_NV = (
            F.log_softmax(reader.logits(reader.hidden(tokens_BL, length_B)[:, :-1][where]).float(), -1)
            for reader in readers
        )
        losses = [F.nll_loss(logs_NV, target_N, reduction="none") for logs_NV in (old_NV, new_NV)]
        kl_N = (old_NV.exp() * (old_NV - new_NV)).sum(-1)
        sums += [float((x * weight_N).sum()) for x in (*losses, kl_N, torch.ones_like(kl_N))]
    return dict(zip(("policy_loss_before", "policy_loss", "policy_kl"), (sums[:3] / sums[3]).tolist(), strict=True))


def _reader(model: PolicyValueLM) -> WholeRows:
    """What reads rows, in bfloat16 where the model generates in it; adapters in the trunk are read as they are now."""
    return rows_reader(model, model.trunk, model.inference_dtype)


@torch.no_grad()
def _value_bce(model: PolicyValueLM, rows: Rows) -> float:
    seen = features(model, rows)
    return float(F.binary_cross_entropy_with_logits(model.value_head(seen.hidden), seen.target))


def _tensors(rows: Rows, model: PolicyValueLM) -> tuple[Tensor, Tensor, Tensor]:
    device = next(model.parameters()).device
    rows = trim(rows)
    arrays = rows.tokens.astype(np.int64), rows.weight, rows.value
    tokens, weight, value = (torch.from_numpy(array).to(device) for array in arrays)
    return tokens, weight, value


def _rate(step: int, steps: int) -> float:
    """Share of the peak: up over the first tenth, then down to 0."""
    warmup = max(1, steps // 10)
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup), 1.0)

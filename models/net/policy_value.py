"""A causal language model with a value head: one forward gives the policy's logits and P(solved) after every token.

Legend: B rows, L tokens, D hidden size, V vocabulary.

The trunk is any transformers causal LM, held as it is, so that it can be saved and loaded by programs that know nothing of
the value head (`models.files.checkpoint`). The head (`models.net.value_head`) is read off the last token of a step.
"""

from __future__ import annotations

from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from models.net.output_rule import OutputRule, base_of, output_rule
from models.net.value_head import ValueHead
from tasks.base import BOS_ID, PAD_ID


class PolicyValueConfig(PretrainedConfig):
    """Wraps the config of the trunk; nothing of its own to choose."""

    model_type = "policy_value"

    def __init__(self, trunk: PretrainedConfig | dict | None = None, **kwargs):
        if trunk is None:
            trunk = LlamaConfig()
        elif isinstance(trunk, dict):
            fields = dict(trunk)
            trunk = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.trunk = trunk
        super().__init__(**kwargs)

    def get_text_config(self, *args, **kwargs) -> PretrainedConfig:
        return self.trunk.get_text_config(*args, **kwargs)


class PolicyValueLM(PreTrainedModel):
    """Policy and value over one trunk. `trunk` is the causal LM; `value_head` reads its last hidden state."""

    config_class = PolicyValueConfig
    base_model_prefix = "trunk"
    _supports_sdpa = True
    _supports_attention_backend = True
    tokenizer: PreTrainedTokenizerBase | None = None  # of a pretrained trunk; None: tokens are a task's words
    few_shot = 0
    inference_dtype: torch.dtype | None = None  # of the products when generating, where it is not the weights' own

    def __init__(self, config: PolicyValueConfig, trunk: PreTrainedModel | None = None):
        """`trunk`: an already loaded causal LM to wrap; None builds a fresh one from `config.trunk`."""
        super().__init__(config)
        trunk = trunk if trunk is not None else AutoModelForCausalLM.from_config(config.trunk)
        self.trunk = trunk
        self.value_head = ValueHead(cast("nn.Embedding", trunk.get_input_embeddings()).embedding_dim)
        self._init_weights(self.value_head)
        self.all_tied_weights_keys = {
            f"trunk.{key}": f"trunk.{source}" for key, source in trunk.all_tied_weights_keys.items()
        }

    @classmethod
    def from_trunk(cls, trunk: PreTrainedModel) -> PolicyValueLM:
        """Wrap a loaded causal LM with a fresh value head (P = 0.5 everywhere until trained)."""
        return cls(PolicyValueConfig(trunk.config), trunk)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The value head only; the trunk initialises itself. A zero last layer: an untrained head has no opinion."""
        if isinstance(module, ValueHead):
            nn.init.normal_(module.inner.weight, std=module.inner.in_features**-0.5)
            nn.init.zeros_(module.inner.bias)
            nn.init.zeros_(module.outer.weight)
            nn.init.zeros_(module.outer.bias)

    def adopt(self, tokenizer: PreTrainedTokenizerBase, few_shot: int) -> None:
        """Speak through the tokenizer of a pretrained model, with so many solved examples before a question.

        Where its device multiplies in bfloat16, float32 weights are generated with in bfloat16, as under autocast.
        """
        self.tokenizer, self.few_shot = tokenizer, few_shot
        weight = self.trunk.get_input_embeddings().weight
        fast = weight.device.type == "cuda" or (weight.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
        self.inference_dtype = torch.bfloat16 if fast and weight.dtype == torch.float32 else None

    @property
    def head(self) -> nn.Module:
        """The policy's output layer, hidden [..., D] -> logits [..., V]."""
        return self.trunk.get_output_embeddings()

    @cached_property
    def output_rule(self) -> OutputRule:
        """What makes logits of the head's output."""
        return output_rule(self.trunk)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> the policy's logits [..., V], as the trunk makes them.

        Raises:
            TrainError: it makes them otherwise than by its output layer, a factor and a soft cap.
        """
        return self.output_rule(self.head(hidden))

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs) -> Tensor:
        """Final hidden states (after the trunk's last norm), [B, L, D], by the trunk's own forward."""
        base = base_of(self.trunk)
        return base(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **kwargs).last_hidden_state

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs) -> tuple[Tensor, Tensor]:
        """(logits [B, L, V], value_logits [B, L]). Logits at t predict token t+1; the value at t is P(solved) after t.

        `attention_mask` [B, L], 1 on tokens and 0 on padding; further keywords go to the trunk (e.g. `position_ids`).
        """
        hidden_BLD = self.hidden(input_ids, attention_mask, **kwargs)
        return self.logits(hidden_BLD), self.value_head(hidden_BLD)


def tiny_llama(
    task_vocabulary_size: int,
    *,
    hidden_size: int = 64,
    layers: int = 3,
    heads: int = 4,
    intermediate: int = 192,
    max_positions: int = 256,
    rope_theta: float = 100.0,
) -> PolicyValueLM:
    """The default model, about 0.18 M parameters, trained from scratch here. Seed torch first: weights are random.

    Initialised wider than transformers' 0.02, which is meant for large models, and with the projections into the residual
    stream scaled down by their number (GPT-2; Radford et al. 2019, section 2.3).
    """
    config = LlamaConfig(
        vocab_size=task_vocabulary_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        tie_word_embeddings=False,
        attention_dropout=0.0,
        initializer_range=0.4 * hidden_size**-0.5,  # 0.05 at 64
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=None,
    )
    model = PolicyValueLM(PolicyValueConfig(config))
    with torch.no_grad():
        for layer in model.trunk.model.layers:
            layer.self_attn.o_proj.weight *= (2 * layers) ** -0.5
            layer.mlp.down_proj.weight *= (2 * layers) ** -0.5
    return model

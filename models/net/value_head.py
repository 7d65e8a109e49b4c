"""The value head: P(solved) read off a hidden state. AlphaZero's (Silver et al. 2018, Methods, "Architecture": hidden layer,
then a scalar); deviations: GELU, and a sigmoid in place of tanh, as values here are P(solved).
"""

from __future__ import annotations

from torch import Tensor, nn


class ValueHead(nn.Module):
    """Linear(D, D) - GELU - Linear(D, 1). The logit of P(solved)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.outer = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> value logits [...]."""
        return self.outer(nn.functional.gelu(self.inner(hidden))).squeeze(-1)

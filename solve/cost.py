"""What an answer has cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one problem; of a batch, the mean of what its problems shared."""

    simulations: int
    generated_tokens: int
    prefilled_tokens: float
    seconds: float  # wall clock
    flops: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def flops_per_token(model) -> float:
    """2 N of a forward, N the weights that multiply (Kaplan et al. 2020, section 2.1): all but the input embedding, head in.

    Attention's share, 2 x layers x context x width, is left out: below a tenth for contexts shorter than a model is wide.
    """
    trunk = model.trunk
    table = trunk.get_input_embeddings().weight
    tied = trunk.get_output_embeddings().weight is table
    weights = sum(parameter.numel() for parameter in model.parameters()) - (0 if tied else table.numel())
    return 2.0 * weights

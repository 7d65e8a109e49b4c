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
    flops: float | None  # None: nobody says how large the model is

    def to_dict(self) -> dict[str, float | None]:
        """Plain numbers."""
        return asdict(self)

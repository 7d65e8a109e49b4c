"""A solution for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solve.solver import Solution


def page(found: Solution) -> str:
    """The problem, the steps, the answer and what it cost, a line each."""
    cost = found.cost
    said = {True: "accepted by the verifier", False: "no chain was accepted", None: "not judged"}[found.solved]
    sure = "" if found.solved is not None else f", confidence {found.confidence:.2f}"
    if sure and not found.calibrated:
        sure += ", not calibrated"
    return "\n".join(
        [
            found.problem,
            *(f"  {step.rstrip()}" for step in found.steps),
            f"answer  {found.answer if found.answer is not None else 'none found'}  ({said}{sure})",
            f"search  {found.strategy}, verify={found.verify}, value {'on' if found.value_trusted else 'off'}; "
            f"{found.chains} chains, stopped: {found.stopped}",
            f"cost    {cost.simulations} simulations, {cost.generated_tokens} generated and {cost.prefilled_tokens:.0f} "
            f"prefilled tokens, {cost.seconds:.2f} s"
            + ("" if cost.flops is None else f", {cost.flops / 1e6:.3g} MFLOP"),
        ]
    )

"""A solution for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from solve.solver import Solution


def page(solution: Solution) -> str:
    """The problem, the steps, the answer and what it cost, a line each."""
    cost = solution.cost
    verdict = {True: "accepted by the verifier", False: "no chain was accepted", None: "not judged"}[solution.solved]
    sure = "" if solution.solved is not None else f", confidence {solution.confidence:.2f}"
    if sure and not solution.calibrated:
        sure += ", not calibrated"
    return "\n".join(
        [
            solution.problem,
            *(f"  {line.rstrip()}" for step in solution.steps for line in step.splitlines() if line.strip()),
            f"answer  {solution.answer if solution.answer is not None else 'none found'}  ({verdict}{sure})",
            f"search  {solution.strategy}, verify={solution.verify}, value {'on' if solution.value_trusted else 'off'}; "
            f"{solution.chains} chains, stopped: {solution.stopped}",
            f"cost    {cost.simulations} simulations, {cost.generated_tokens} generated and {cost.prefilled_tokens:.0f} "
            f"prefilled tokens, {cost.seconds:.2f} s"
            + ("" if cost.flops is None else f", {cost.flops / 1e6:.3g} MFLOP"),
        ]
    )

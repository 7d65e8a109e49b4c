"""A solution for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.steps.stream_types import Thought
    from solve.plan import Solution

SHOWN = ("answer", "thoughts")  # what `show` knows


def page(solution: Solution, show: str = "answer") -> str:
    """The problem, the steps, the answer and what it cost, a line each; `show`="thoughts": the hidden chain before them."""
    cost = solution.cost
    verdict = {True: "accepted by the verifier", False: "no chain was accepted", None: "not judged"}[solution.solved]
    sure = "" if solution.solved is not None else f", confidence {solution.confidence:.2f}"
    if sure and not solution.calibrated:
        sure += ", not calibrated"
    return "\n".join(
        [
            solution.problem,
            *(hidden(solution.thoughts) if show == "thoughts" else ()),
            *(f"  {line.rstrip()}" for step in solution.steps for line in step.splitlines() if line.strip()),
            f"answer  {solution.answer if solution.answer is not None else 'none found'}  ({verdict}{sure})",
            f"search  {solution.strategy}, verify={solution.verify}, value {'on' if solution.value_trusted else 'off'}; "
            f"{solution.chains} chains, stopped: {solution.stopped}",
            f"cost    {cost.simulations} simulations, {cost.generated_tokens} generated and {cost.prefilled_tokens:.0f} "
            f"prefilled tokens, {cost.seconds:.2f} s"
            + ("" if cost.flops is None else f", {cost.flops / 1e6:.3g} MFLOP"),
        ]
    )


def hidden(thoughts: Sequence[Thought]) -> list[str]:
    """The lines of a hidden chain, a step further in each; a line that goes back stands where it goes to."""
    lines = []
    for thought in thoughts:
        depth, said = thought.depth, ""
        if thought.kind == "undo":
            depth = thought.back or 0
            said = (
                "   gives up" if thought.back is None else f"   back to {'the start' if not depth else f'step {depth}'}"
            )
        lines.append(f"  | {'  ' * depth}{thought.text.rstrip()}{said}")
    return lines

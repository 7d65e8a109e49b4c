"""A hidden chain as text, whole or told in numbers.

What is hidden is kept apart where it is made: an `Answered` holds the answer and the chain in fields of their own, and nothing
here or in the routes ever cuts one out of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from tasks.streams import YES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.steps.stream_types import Thought
    from serve.engine.ticket import Answered

Visibility = Literal["hide", "summary", "show"]  # from least to most
VISIBILITIES: tuple[Visibility, ...] = get_args(Visibility)


def capped(asked: Visibility | None, most: Visibility) -> Visibility:
    """What a request gets to see where the server shows `most` at most. None asks for nothing."""
    return VISIBILITIES[min(VISIBILITIES.index(asked or "hide"), VISIBILITIES.index(most))]


def reasoning(found: Answered, visibility: Visibility) -> str | None:
    """The text that stands for the hidden chain; None: nothing does."""
    if visibility == "hide":
        return None
    return summary(found) if visibility == "summary" else written(found)


def written(found: Answered) -> str:
    """All that was written: a stream's lines with its ways back, or every chain that a search has come to the end of."""
    if found.solution.thoughts and found.solution.chains <= 1:
        return _stream(found.solution.thoughts)
    attempts, judged = [], found.solution.verify == "task"
    for number, chain in enumerate(found.chains, 1):
        end = {None: "", True: "accepted", False: "refused" if judged else "without an answer"}[
            None if chain.reward is None else chain.reward >= 1
        ]
        head = f"Attempt {number}" + (f" ({end}):" if end else ":")
        told = _stream(chain.thoughts) if chain.thoughts else "\n".join(step.rstrip() for step in chain.steps)
        attempts.append(f"{head}\n{told}")
    return "\n\n".join(attempts)


def summary(found: Answered) -> str:
    """Numbers of steps, ways and verdicts, in words of ours: nothing that was thought is in it."""
    solution = found.solution
    many = solution.chains > 1 or not solution.thoughts
    parts = [f"Tried {_many(solution.chains, 'way')}"] if many else []
    if many and solution.agreeing > 1:
        parts.append(f"{solution.agreeing} of them agree")
    kinds = [thought.kind for thought in solution.thoughts if thought.text.strip() != YES]  # that is no step
    if kinds:
        undos, checks = kinds.count("undo"), kinds.count("check")
        parts.append(f"{'wrote' if many else 'Wrote'} {_many(len(kinds) - undos, 'step')}")
        if undos:
            parts.append(f"went back {_many(undos, 'time')}")
        if checks:
            parts.append(f"checked {_many(checks, 'step')}")
    if solution.solved:
        end = "the verifier accepted the answer"
    else:
        end = "settled on an answer" if found.text else "found no answer"
    return f"{', '.join(parts)}; {end}."


def _stream(thoughts: Sequence[Thought]) -> str:
    return "\n".join(_line(thought.text, thought.kind == "undo", thought.back) for thought in thoughts)


def _line(text: str, undo: bool, back: int | None) -> str:
    if not undo:
        return text.rstrip()
    return f"{text.rstrip()} (gives up)" if back is None else f"{text.rstrip()} (back to step {back})"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

"""The history of every handle of an evaluator that keeps a record a state: its steps, parent and verdict."""

from __future__ import annotations

from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

from mcts.types import NO_KEY
from models.abilities import Step
from models.steps.states import State
from tasks.base import Task, Verdict


class Record(Protocol):
    """One state of one tree."""

    state: State
    tree: int  # position of the problem in `begin`
    parent: int  # handle of the state before the last step, the own one at a root
    tokens: tuple[int, ...] | None  # of the last step, as the policy sampled them; None: not known


R = TypeVar("R", bound=Record)


class Lineage(Generic[R]):
    """Base of evaluators that keep a record a handle in `_records`."""

    task: Task
    _records: list[R]

    def parent(self, handle: int) -> int:
        """Handle of the state before the last step; a root is its own parent."""
        return self._records[handle].parent

    def tree(self, handle: int) -> int:
        """Position in `begin` of the problem that the state belongs to."""
        return self._records[handle].tree

    def step(self, handle: int) -> Step:
        """The last step; without text and tokens at a root."""
        record = self._records[handle]
        return Step(record.state.steps[-1] if record.state.steps else "", record.tokens)

    def history(self, handle: int) -> list[Step]:
        """All steps from the root."""
        steps = []
        while (parent := self._records[handle].parent) != handle:
            steps.append(self.step(handle))
            handle = parent
        return steps[::-1]

    def steps(self, handle: int) -> list[str]:
        """Their texts."""
        return list(self._records[handle].state.steps)

    def state(self, handle: int) -> tuple | None:
        """The task's own state; None when terminal."""
        return self._records[handle].state.inner

    def verdict(self, handle: int) -> Verdict:
        """What the task said of the last step."""
        return self._records[handle].state.verdict

    def _key(self, tree: int, state: State) -> int:
        """64-bit digest of the task's state key within one tree; NO_KEY for terminal states."""
        if state.inner is None:
            return NO_KEY
        key = self.task.state_key(state.problem, state.inner)
        return NO_KEY if key is None else digest(tree.to_bytes(4, "little") + key) or 1


def digest(data: bytes) -> int:
    """64 bits of blake2b."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")

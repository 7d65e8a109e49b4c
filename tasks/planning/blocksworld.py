"""Blocksworld with random goals: 4 to 6 blocks, one hand, and a table with room for all of them.

    A b c D e | A D c E b           context: goal | present state
    c b A D E b c                   step: block c onto block b, or "c table"; then the new state, written by the model

A state is its stacks, each from the bottom up, sorted by their lowest blocks; a capital starts a stack. So "A D c E b"
is a alone, c on d, b on e. Only a block that carries none can be moved, onto the table or another such block.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tasks.base import SPECIAL_TOKENS
from tasks.planning.kernels import BAR, NO_STATE
from tasks.planning.space import Space, make_space
from tasks.planning.task import Planning
from tasks.splits import check_int

TABLE = "table"
BLOCKS_MAX = 6

Stacks = tuple[tuple[int, ...], ...]  # each stack from the bottom up, sorted


class Blocksworld(Planning):
    """Blocksworld with `blocks` blocks (4..6).

    Problems start `distance_min`..`distance_max` moves from the goal (default 4 to the deepest there is, twice the blocks
    less two), those to practise on from `practice_min` moves (default `distance_min`). `goal_holdout`: share of goals held
    out, a quarter of it dev, the rest test. `max_steps`: default twice the deepest distance. `discount`: value of a state
    is discount ** distance. `walk_moves`: length of the random walks behind `hindsight` and `value_play`.

    Raises:
        TaskError: options that cannot be met.
    """

    name = "blocksworld"

    def __init__(
        self,
        blocks: int = 5,  # 4 to 6: 73, 501 or 4051 arrangements, each of them a goal
        distance_min: int = 4,  # moves between start and goal
        distance_max: int | None = None,  # null: the deepest there is, twice the blocks less two
        practice_min: int | None = None,  # moves of the shortest problems to practise on; null: distance_min
        goal_holdout: float = 0.2,  # share of the goals that train never sees; a quarter of them is dev, the rest test
        max_steps: int | None = None,  # of a chain; null: four times the blocks less four
        discount: float = 0.9,  # value of a state: discount^distance
        walk_moves: int = 24,  # length of the random walks behind hindsight
    ) -> None:
        self.blocks = check_int("blocks", blocks, 4, BLOCKS_MAX)
        names = "abcdef"[: self.blocks]
        self.example = f"{' '.join(names).capitalize()} | {' '.join(names[::-1]).capitalize()}"
        super().__init__(
            blocksworld_space(self.blocks),
            distance_min=distance_min,
            distance_max=distance_max,
            practice_min=practice_min,
            goal_holdout=goal_holdout,
            max_steps=4 * (self.blocks - 1) if max_steps is None else max_steps,
            discount=discount,
            walk_moves=walk_moves,
        )

    def what_is_wrong(self, goal: str, start: str) -> str:
        return f"write each of {self.blocks} blocks once, stacks bottom up, a capital first, sorted by the capitals"


@lru_cache(maxsize=4)
def blocksworld_space(blocks: int) -> Space:
    """All arrangements of the blocks; every arrangement is a goal."""
    vocabulary = (*SPECIAL_TOKENS, BAR, TABLE, *"abcdef"[:blocks], *"ABCDEF"[:blocks])
    ids: dict[str, int] = {word: i for i, word in enumerate(vocabulary)}
    states = sorted(arrangements(blocks))
    number = {stacks: s for s, stacks in enumerate(states)}
    moves = [(block, onto) for block in range(blocks) for onto in (*range(blocks), None) if block != onto]
    after = np.full((len(states), len(moves)), NO_STATE, np.int32)
    for s, stacks in enumerate(states):
        clear = {None, *(stack[-1] for stack in stacks)}
        for m, (block, onto) in enumerate(moves):
            if block in clear and onto in clear:
                after[s, m] = number.get(moved(stacks, block, onto), NO_STATE)
    texts = [stacks_text(stacks).split() for stacks in states]
    words = np.array([[ids[word] for word in text] for text in texts])
    move_words = [[ids["abcdef"[b]], ids[TABLE if onto is None else "abcdef"[onto]]] for b, onto in moves]
    everything = np.tile(np.array([0, len(states)], np.int32), (len(states), 1))
    return make_space(
        vocabulary,
        [f"blocksworld:{' '.join(text)}".encode() for text in texts],
        after=after,
        met=np.arange(len(states), dtype=np.int32)[:, None],
        span=everything,
        start_span=everything,
        goal_words=words,
        state_words=words,
        move_words=np.array(move_words),
    )


def arrangements(blocks: int) -> list[Stacks]:
    """Every way to stack blocks 0..blocks-1, each once: the last block goes anywhere in each way to stack the others."""
    if blocks == 0:
        return [()]
    found, block = [], blocks - 1
    for stacks in arrangements(block):
        found.append(tuple(sorted((*stacks, (block,)))))
        for k, stack in enumerate(stacks):
            others = stacks[:k] + stacks[k + 1 :]
            found += [tuple(sorted((*others, (*stack[:h], block, *stack[h:])))) for h in range(len(stack) + 1)]
    return found


def moved(stacks: Stacks, block: int, onto: int | None) -> Stacks | None:
    """The stacks after a clear block was moved onto another one (None: the table); None if it cannot be or stays put."""
    source = next((stack for stack in stacks if stack[-1] == block), None)
    target = () if onto is None else next((stack for stack in stacks if stack[-1] == onto), None)
    if source is None or target is None or source == (*target, block):
        return None
    rest = [stack for stack in stacks if stack not in (source, target)]
    return tuple(sorted([stack for stack in (*rest, source[:-1], (*target, block)) if stack]))


def stacks_text(stacks: Stacks) -> str:
    """The canonical text: "A D c E b"."""
    return " ".join("abcdef"[b].upper() if height == 0 else "abcdef"[b] for s in stacks for height, b in enumerate(s))

"""Water jugs: measure an amount with two or three jugs, a tap and a sink. Deep plans over many ways to the same state.

    4 of 5 7 11 | 0 0 0             context: the amount to measure and the jugs' capacities | what is in each jug
    fill 2 0 7 0                    step: fill a jug, empty it, or pour it into another until one is empty or the other
    pour 2 1 5 2 0                  full; then the new contents, written by the model

All jugs are empty at the start; the goal is reached when any of them holds the amount. A move that changes nothing is
illegal. Capacities ascend. The split of a goal hangs on capacities and amount up to a common factor, because a plan for
5 7 11 is one for 10 14 22. Every jug can be emptied, so every state can reach every goal of its jugs.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import gcd

import numpy as np

from kit.jit import jit
from tasks.base import SPECIAL_TOKENS
from tasks.planning.kernels import BAR, NO_GOAL, NO_STATE
from tasks.planning.space import Space, make_space
from tasks.planning.task import Planning
from tasks.splits import check_int

WORDS = (BAR, "of", "fill", "empty", "pour")
OF_ID, FILL_ID, EMPTY_ID, POUR_ID, ZERO_ID = range(len(SPECIAL_TOKENS) + 1, len(SPECIAL_TOKENS) + 6)  # ZERO_ID: "0"
CAPACITY_MAX = 24


class Jugs(Planning):
    """Water jugs: `jugs` (2 or 3) of different capacities 1..`capacity_max` (at most 24).

    Problems are `distance_min`..`distance_max` moves deep (`distance_max` None: as deep as any, at most `max_steps`), those
    to practise on from `practice_min` moves (default `distance_min`). `goal_holdout`: share of goals held out, a quarter
    of it dev, the rest test. `discount`: value of a state is discount ** distance. `walk_moves`: length of the random
    walks behind `hindsight` and `value_play`.

    Raises:
        TaskError: options that cannot be met.
    """

    name = "jugs"

    def __init__(
        self,
        jugs: int = 3,  # 2 or 3, of different capacities
        capacity_max: int = 18,  # capacities 1 to this, at most 24
        distance_min: int = 4,  # moves from all empty to the amount
        distance_max: int | None = 14,  # null: as deep as any, at most max_steps
        practice_min: int | None = None,  # moves of the shortest problems to practise on; null: distance_min
        goal_holdout: float = 0.2,  # share of (capacities, amount) that train never sees; a quarter of it is dev, the rest test
        max_steps: int = 24,  # of a chain
        discount: float = 0.9,  # value of a state: discount^distance
        walk_moves: int = 24,  # length of the random walks behind hindsight
    ) -> None:
        self.jugs = check_int("jugs", jugs, 2, 3)
        self.capacity_max = check_int("capacity_max", capacity_max, 4, CAPACITY_MAX)
        self.example = "4 of 3 5 8 | 0 0 0" if self.jugs == 3 else "4 of 3 5 | 0 0"
        super().__init__(
            jugs_space(self.jugs, self.capacity_max),
            distance_min=distance_min,
            distance_max=distance_max,
            practice_min=practice_min,
            goal_holdout=goal_holdout,
            max_steps=max_steps,
            discount=discount,
            walk_moves=walk_moves,
        )

    def what_is_wrong(self, goal: str, start: str) -> str:
        if goal in self.space.goal_of_text:
            return f"these contents cannot occur: start with {' '.join('0' * self.jugs)}"
        return f"no amount of {self.jugs} jugs, ascending, up to {self.capacity_max}, that can be measured"


@lru_cache(maxsize=4)
def jugs_space(jugs: int, capacity_max: int) -> Space:
    """All jugs one after the other, each with all contents that can occur, all empty first, and all amounts as goals."""
    kinds = [(word, j) for word in (FILL_ID, EMPTY_ID) for j in range(jugs)]
    pours = [(i, j) for i in range(jugs) for j in range(jugs) if i != j]
    number = ZERO_ID + 1  # of the first jug
    contents, after, met, span, goals, identities = [], [], [], [], [], []
    first = 0
    for capacities in combinations(range(1, capacity_max + 1), jugs):
        held, to = explore(np.array(capacities), np.array(pours))
        amounts = np.unique(held[held > 0])
        goal_of_amount = np.full(capacity_max + 1, NO_GOAL, np.int32)
        goal_of_amount[amounts] = len(goals) + np.arange(len(amounts))
        contents.append(held)
        after.append(np.where(to == NO_STATE, NO_STATE, to + first).astype(np.int32))
        met.append(goal_of_amount[held])
        span += [(first, first + len(held))] * len(amounts)
        first += len(held)
        common = gcd(*capacities)
        for amount in amounts.tolist():
            goals.append([ZERO_ID + amount, OF_ID, *(ZERO_ID + size for size in capacities)])
            simple = " ".join(str(size // common) for size in capacities)
            identities.append(f"jugs:{amount // common} of {simple}".encode())
    spans = np.array(span, np.int32)
    return make_space(
        (*SPECIAL_TOKENS, *WORDS, *map(str, range(capacity_max + 1))),
        identities,
        after=np.concatenate(after),
        met=np.concatenate(met),
        span=spans,
        start_span=spans[:, :1] + np.array([0, 1], np.int32),
        goal_words=np.array(goals),
        state_words=np.concatenate(contents) + ZERO_ID,
        move_words=np.array(
            [[word, number + j, 0] for word, j in kinds] + [[POUR_ID, number + i, number + j] for i, j in pours]
        ),
    )


@jit
def explore(capacities, pours):
    """What can occur with jugs of int `capacities` [J], by breadth-first search from all empty, and where moves lead.

    Moves are: fill each, empty each, then the `pours` [2 columns: from, into]. Returns contents int64 [N, J] and after int64
    [N, moves], NO_STATE where nothing changes.
    """
    jugs = len(capacities)
    weight = np.ones(jugs, np.int64)  # contents as one number
    for j in range(1, jugs):
        weight[j] = weight[j - 1] * (capacities[j - 1] + 1)
    total = weight[-1] * (capacities[-1] + 1)
    place = np.full(total, -1, np.int64)
    contents = np.zeros((total, jugs), np.int64)
    after = np.full((total, 2 * jugs + len(pours)), NO_STATE, np.int64)
    place[0], head, tail = 0, 0, 1
    new = np.zeros(jugs, np.int64)
    while head < tail:
        for move in range(after.shape[1]):
            new[:] = contents[head]
            if move < jugs:
                new[move] = capacities[move]
            elif move < 2 * jugs:
                new[move - jugs] = 0
            else:
                i, j = pours[move - 2 * jugs]
                amount = min(new[i], capacities[j] - new[j])
                new[i] -= amount
                new[j] += amount
            code = (new * weight).sum()
            if place[code] < 0:
                place[code] = tail
                contents[tail] = new
                tail += 1
            if place[code] != head:
                after[head, move] = place[code]
        head += 1
    return contents[:tail], after[:tail]

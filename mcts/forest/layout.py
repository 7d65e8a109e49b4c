"""Where a forest keeps what: the records of its nodes, and the words of `work`, which a round is played in.

A *block* is the children of one node: `lanes` records of four words in four planes, visits | total | prior | link, where
lanes is 4 or a multiple of 8, so that four children are exactly one cache line. A record is named by the word of its
visits; its other words are lanes, 2 lanes and 3 lanes further.

* visits: int32, visits under way included.
* total: float32, sum of values carried up; while visits is 0, the first-play value. Q is total / max(visits, 1) either way.
* prior: float32; -1e30 on lanes beyond the number of children.
* link: 0 a leaf; > 0 the child block, line << 6 | lanes / 4; < 0 a leaf that waits in the wave under way, or a terminal.

A block is laid out in two steps, since most are never gone through: its priors when its node is expanded (totals too where
first plays are given), the other planes by the first descent through the node, which is the one that finds a single visit
there. Until then they hold anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.registry import cpu_target

from kit.jit import jit

forest_jit = functools.partial(jit, _nrt=False)

LINE = 16  # words of 4 bytes in a cache line
MAX_LANES = 248  # a link has six bits for a quarter of it, and lanes are a multiple of eight
TABLE = 4096  # exploration factors at hand; beyond, they are computed

# The first words of `work`: addresses, two words each; then settings and the state of the round.
(AT_LINES, AT_PARENTS, AT_ANSWERS, AT_BASES, AT_HALVING) = range(5)
(TOP, MOST_LINES, NEW_LINES, TREES, WIDTH, COLUMNS, SLOTS, WAVE, DEPTH_ROOM, DEEPEST, CURSOR, LEAVES,
 PENDING_VALUE, FIRST_PLAY_KIND, FIRST_PLAY, C_INIT, C_BASE, VALUE_SCALE, VISIT_OFFSET, CONSIDERED, BASE_COLUMNS,
 HALVING_COLUMNS) = range(10, 32)  # fmt: skip
VISITED = 32  # two words, int64
HEAD = 48
FIRST_PLAY_CONSTANT, FIRST_PLAY_PARENT, FIRST_PLAY_GIVEN, FIRST_PLAY_MEAN = range(4)
WAITING = 0xC0000000  # link of a leaf of the wave under way; below it, with the sign, a terminal and its reward
EXTRA = 64  # descents of a tree in one round beyond its leaves; a tree all of whose descents end in terminals is done
NO_ROOM = -1  # of `play_*`: no lines or steps for another round; other negative results are -2 - code of `_check`

_SIGNATURE = "int64(int64)"

U = np.uint64


# ---- sections of `work`


(OF_TABLE, OF_SIMULATIONS, OF_LIMITS, OF_TAKEN, OF_CHOICES, OF_LINK, OF_NODE, OF_PARENT, OF_ACTION, OF_TREE, OF_DEPTH,
 OF_FIRST, OF_LENGTH, OF_AREA, OF_SERVED, OF_ROWS, OF_STEPS) = range(17)  # fmt: skip
ROW = 8  # words of a descent under way: link, visits, node, area, tree, mean
_A_LEAF = 9 + 1 + ROW


@forest_jit
def first_word(trees, slots, which):
    """First word of a section of `work`: exploration factors | a word a tree: simulations, limits, leaves taken, how many of
    the root's children are considered | a word a leaf: link, node, parent, action, tree, depth, first play, length and area of
    its path | trees served | descents under way, eight words each | steps of each area.
    """
    if which == OF_TABLE:
        return HEAD
    if which < OF_LINK:
        return HEAD + TABLE + (which - OF_SIMULATIONS) * trees
    first = HEAD + TABLE + 4 * trees
    if which < OF_STEPS:
        return first + (which - OF_LINK) * slots
    return first + _A_LEAF * slots


@forest_jit
def section(w, which):
    """`first_word` of this `work`."""
    return U(first_word(w[TREES], w[SLOTS], which))


def work_words(trees: int, slots: int, depth_room: int) -> int:
    """int32 words of `work`."""
    return first_word.py_func(trees, slots, OF_STEPS) + slots * depth_room


@functools.cache
def entry(kernel: Any) -> Callable[[int], int]:
    """The compiled function itself, of one int64 to one: a tenth of a microsecond less a call than by way of its dispatcher.

    From a warm cache it comes without the quarter of a second that numba takes to get ready to compile.
    """
    try:
        found = kernel._cache._load_overload(_SIGNATURE, cpu_target.target_context)
    except Exception:  # noqa: BLE001  another numba, or a cache that cannot be read
        found = None
    if found is None:
        kernel.compile(_SIGNATURE)
        found = kernel.overloads[kernel.signatures[0]]
    return found.entry_point

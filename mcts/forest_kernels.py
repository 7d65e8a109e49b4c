"""The hot loop of `mcts.forest`, compiled: one call enters the answers of the last wave and selects the next.

All jitted code of the forest is in this file: numba would not notice a change in a callee of another one. Each entry is
compiled for one signature when the module is first imported and read from the cache after that.

A *block* is the children of one node: `lanes` records of four words in four planes, visits | total | prior | link, where
lanes is 4 or a multiple of 8, so that four children are exactly one cache line. A record is named by the word of its
visits; its other words are lanes, 2 lanes and 3 lanes further.

* visits: int32, visits under way included.
* total: float32, sum of values carried up; while visits is 0, the first-play value. Q is total / max(visits, 1) either way.
* prior: float32.
* link: 0 a leaf; > 0 the child block, line << 6 | lanes / 4; < 0 a leaf that waits in the wave under way, or a terminal.

Lanes beyond the number of children have a total of -1e30 and are never chosen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from mcts.forest_pick import (
    NEVER_CHOSEN,
    gumbel_of_four,
    gumbel_of_many,
    gumbel_root_of_four,
    gumbel_root_of_many,
    prefetch,
    puct_of_four,
    puct_of_many,
)

JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}

LINE = 16  # words of 4 bytes in a cache line
MAX_LANES = 248  # a link has six bits for a quarter of it, and lanes are a multiple of eight
TABLE = 4096  # exploration factors at hand; beyond, they are computed
NOBODY = np.float32(NEVER_CHOSEN)

# Words of `work` before its sections.
(TOP, TREES, WIDTH, SLOTS, WAVE, DEPTH_ROOM, DEEPEST, CURSOR, LEAVES, VISITED,
 PENDING_VALUE, FIRST_PLAY_KIND, FIRST_PLAY, C_INIT, C_BASE, VALUE_SCALE, VISIT_OFFSET, CONSIDERED) = range(18)  # fmt: skip
HEAD = 32
FIRST_PLAY_CONSTANT, FIRST_PLAY_PARENT, FIRST_PLAY_GIVEN = range(3)
WAITING = 0xC0000000  # link of a leaf of the wave under way; below it, with the sign, a terminal and its reward
EXTRA = 64  # descents of a tree in one round beyond its leaves; a tree all of whose descents end in terminals is done

U = np.uint64


# ---- sections of `work`


(OF_TABLE, OF_SIMULATIONS, OF_LIMITS, OF_TAKEN, OF_CHOICES, OF_LINK, OF_NODE, OF_PARENT, OF_ACTION, OF_TREE, OF_DEPTH,
 OF_FIRST, OF_LENGTH, OF_AREA, OF_STEPS) = range(15)  # fmt: skip


@njit(**JIT)
def section(work, which):
    """First word of a section of `work`: exploration factors | a word a tree: simulations, limits, leaves taken, how many of
    the root's children are considered | a word a leaf: link, node, parent, action, tree, depth, first play, length and area of
    its path | trees served | five lists of descents | steps of each area.
    """
    trees, slots = U(work[TREES]), U(work[SLOTS])
    if which == OF_TABLE:
        return U(HEAD)
    if which < OF_LINK:
        return U(HEAD + TABLE) + U(which - OF_SIMULATIONS) * trees
    first = U(HEAD + TABLE) + U(4) * trees
    if which < OF_STEPS:
        return first + U(which - OF_LINK) * slots
    return first + U(15) * slots


def work_words(trees: int, slots: int, depth_room: int) -> int:
    """int32 words of `work`."""
    return HEAD + TABLE + 4 * trees + 15 * slots + slots * depth_room


@njit(**JIT)
def _explore_beyond(settings, visits):
    """c(N) sqrt(N), c(N) = log((1 + N + c_base) / c_base) + c_init, for the visits that the table does not hold."""
    n, c_base = np.float64(visits), np.float64(settings[C_BASE])
    return np.float32((math.log((1.0 + n + c_base) / c_base) + np.float64(settings[C_INIT])) * math.sqrt(n))


# ---- one round


@njit(**JIT)
def _reward(link):
    """Reward of a terminal: its float32 bits less the lowest one are kept in the link, below the sign."""
    return np.uint32(np.uint32(link) << np.uint32(1)).view(np.float32)


@njit(**JIT)
def check(work, answers):
    """-1 if all answers of the wave can be entered, else 2 * row + 0 (value), or + 1 (children or priors)."""
    width = U(work[WIDTH])
    for row in range(U(work[LEAVES])):
        value, count = answers[row, U(0)], answers[row, U(1)]
        if not (value >= np.float32(0.0) and value <= np.float32(1.0)):
            return np.int64(2 * row)
        if count == np.float32(-1.0):
            continue
        if not (count >= np.float32(1.0) and count <= np.float32(width)):
            return np.int64(2 * row + 1)
        total, low = np.float32(0.0), np.float32(0.0)
        for i in range(U(count)):
            total += answers[row, U(2) + i]
            low = min(low, answers[row, U(2) + i])
        if not (low >= np.float32(0.0) and total > np.float32(0.0) and total < np.float32(np.inf)):
            return np.int64(2 * row + 1)
    return np.int64(-1)


@njit(**JIT)
def _enter(lines, parents, work, answers, bases):
    """Children of the wave's leaves, and their values up the paths. `bases` [T, lanes]: log P of a root's children is added."""
    values, settings = lines.view(np.float32), work.view(np.float32)
    zero, pending = np.float32(0.0), settings[PENDING_VALUE]
    kind, constant = work[FIRST_PLAY_KIND], settings[FIRST_PLAY]
    leaf_link, leaf_node = section(work, OF_LINK), section(work, OF_NODE)
    leaf_parent, leaf_tree, choices = section(work, OF_PARENT), section(work, OF_TREE), section(work, OF_CHOICES)
    width, top = U(work[WIDTH]), U(work[TOP])
    for row in range(U(work[LEAVES])):
        word = U(work[leaf_link + row])
        value, count = answers[row, U(0)], answers[row, U(1)]
        if count < zero:
            lines[word] = np.int32(U(0x80000000) | (U(answers.view(np.uint32)[row, U(0)]) >> U(1)))
            continue
        used = U(count)
        lanes = U(4) if used <= U(4) else (used + U(7)) & ~U(7)
        block = top * U(LINE)
        lines[word] = np.int32((top << U(6)) | (lanes >> U(2)))
        first = constant if kind == FIRST_PLAY_CONSTANT else max(value - constant, zero)
        for i in range(lanes):
            lines[block + i] = 0
            values[block + lanes + i] = first
            values[block + U(2) * lanes + i] = zero
            lines[block + U(3) * lanes + i] = 0
        for i in range(used):
            values[block + U(2) * lanes + i] = answers[row, U(2) + i]
        if kind == FIRST_PLAY_GIVEN:
            for i in range(used):
                values[block + lanes + i] = answers[row, U(2) + width + i]
        for i in range(used, lanes):
            values[block + lanes + i] = NOBODY
        if bases.size and work[leaf_parent + row] < 0:
            tree = U(work[leaf_tree + row])
            work[choices + tree] = np.int32(min(used, U(work[CONSIDERED])))
            for i in range(used):
                bases[tree, i] += np.float32(math.log(max(answers[row, U(2) + i], np.float32(1e-37))))
        parents[U(2) * top] = work[leaf_node + row]
        parents.view(np.float32)[U(2) * top + U(1)] = value
        for i in range(U(1), lanes >> U(2)):
            parents[U(2) * (top + i)] = -np.int32(i) - 2
        top += lanes >> U(2)
    work[TOP] = np.int32(top)
    path_length, path_area = section(work, OF_LENGTH), section(work, OF_AREA)
    steps, room = section(work, OF_STEPS), U(work[DEPTH_ROOM])
    for row in range(U(work[LEAVES])):
        value = answers[row, U(0)] - pending
        first = steps + U(work[path_area + row]) * room
        for i in range(U(work[path_length + row])):
            values[U(work[first + i])] += value


@njit(**JIT)
def _take_back(lines, values, work, area, length, pending):
    """Undo the visits under way of the first `length` records of a path; the lanes of the block after them."""
    first, lanes = section(work, OF_STEPS) + area * U(work[DEPTH_ROOM]), U(4)
    for i in range(length):
        total = U(work[first + i])
        lines[total - lanes] -= np.int32(1)
        values[total] -= pending
        lanes = (U(lines[total + U(2) * lanes]) & U(63)) << U(2)
    return lanes


@njit(**JIT)
def _finish(lines, values, settings, work, tree, area, length, word, link, block, lanes, parent):
    """End a descent at a leaf, a terminal, or a leaf that waits already, which ends the tree's round; `word`: of its link."""
    total, pending = word - U(2) * lanes, settings[PENDING_VALUE]
    if link == 0:
        row, action = U(work[LEAVES]), word - block - U(3) * lanes
        lines[word] = -np.int32(0x40000000)
        work[section(work, OF_LINK) + row] = np.int32(word)
        work[section(work, OF_NODE) + row] = np.int32((block >> U(2)) + action)
        work[section(work, OF_PARENT) + row] = np.int32(parent)
        work[section(work, OF_ACTION) + row] = np.int32(action)
        work[section(work, OF_TREE) + row] = np.int32(tree)
        work[section(work, OF_DEPTH) + row] = np.int32(length) - np.int32(1)
        settings[section(work, OF_FIRST) + row] = values[total]
        work[section(work, OF_LENGTH) + row] = np.int32(length)
        work[section(work, OF_AREA) + row] = np.int32(area)
        values[total] = pending
        work[LEAVES] = np.int32(row) + np.int32(1)
        work[DEEPEST] = max(work[DEEPEST], np.int32(length))
        work[section(work, OF_TAKEN) + tree] += np.int32(1)
    elif np.uint32(link) < np.uint32(WAITING):
        value, first = _reward(link), section(work, OF_STEPS) + area * U(work[DEPTH_ROOM])
        values[total] += value
        for i in range(length - U(1)):
            values[U(work[first + i])] += value - pending
    else:
        _take_back(lines, values, work, area, length - U(1), pending)
        lines[total - lanes] -= np.int32(1)
        work[section(work, OF_SIMULATIONS) + tree] -= np.int32(1)
        work[section(work, OF_TAKEN) + tree] = work[WAVE]


@njit(**JIT)
def _serve(work, served):
    """Trees of this round, in turn from the cursor, as many as get all their leaves into the slots; their number."""
    trees, most = U(work[TREES]), U(work[SLOTS]) // U(work[WAVE])
    simulations, limits, taken = section(work, OF_SIMULATIONS), section(work, OF_LIMITS), section(work, OF_TAKEN)
    count, tree = U(0), U(work[CURSOR])
    for _ in range(trees):
        if count == most:
            break
        if work[simulations + tree] < work[limits + tree]:
            work[served + count] = np.int32(tree)
            work[taken + tree] = 0
            count += U(1)
        tree = tree + U(1) if tree + U(1) < trees else U(0)
    work[CURSOR] = np.int32(tree)
    return count


@njit(**JIT)
def _select(lines, parents, work, bases, halving):
    """The next wave; the number of trees served. They descend side by side, level by level, until each has its leaves.

    PUCT if `bases` is empty, else Gumbel, with `halving` [choices, visits of the root so far] -> visits of who is considered.
    """
    raws, gumbel = parents.view(np.float32), bases.size > 0
    scale, offset, columns = (
        work.view(np.float32)[VALUE_SCALE],
        work.view(np.float32)[VISIT_OFFSET],
        U(halving.shape[1]),
    )
    choices, base_columns, flat = section(work, OF_CHOICES), U(bases.shape[1]), bases.reshape(bases.size)
    values, settings = lines.view(np.float32), work.view(np.float32)
    pending, factors = settings[PENDING_VALUE], U(HEAD)
    wave, room, steps = work[WAVE], U(work[DEPTH_ROOM]), section(work, OF_STEPS)
    simulations, limits, taken = section(work, OF_SIMULATIONS), section(work, OF_LIMITS), section(work, OF_TAKEN)
    slots = U(work[SLOTS])
    served = section(work, OF_AREA) + slots
    of_tree = served + slots
    of_area, of_visits, of_link, of_node = (
        of_tree + slots,
        of_tree + U(2) * slots,
        of_tree + U(3) * slots,
        of_tree + U(4) * slots,
    )
    work[LEAVES], visited = 0, np.int64(0)
    count = _serve(work, served)
    for _ in range(wave + EXTRA):
        active, started = U(0), False
        for g in range(count):
            tree = U(work[served + g])
            if work[taken + tree] == wave or work[simulations + tree] >= work[limits + tree]:
                continue
            started = True
            work[simulations + tree] += np.int32(1)
            word, area = tree * U(LINE), g * U(wave) + U(work[taken + tree])
            visits = lines[word]
            lines[word] = visits + np.int32(1)
            work[steps + area * room] = np.int32(word + U(4))
            link = lines[word + U(12)]
            visited += 1
            if link > 0:
                values[word + U(4)] += pending
                prefetch(lines, (U(link) >> U(6)) * U(LINE))
                work[of_tree + active], work[of_area + active] = np.int32(tree), np.int32(area)
                work[of_visits + active], work[of_link + active] = visits, link
                work[of_node + active] = np.int32(word >> U(2))
                active += U(1)
            else:
                _finish(lines, values, settings, work, tree, area, U(1), word + U(12), link, word, U(4), U(0xFFFFFFFF))
        if not started:
            break
        depth = U(1)
        while active > U(0):
            kept = U(0)
            for j in range(active):
                link = U(work[of_link + j])
                block, lanes = (link >> U(6)) * U(LINE), (link & U(63)) << U(2)
                above = work[of_visits + j]
                if gumbel:
                    raw, tree = raws[U(2) * (link >> U(6)) + U(1)], U(work[of_tree + j])
                    if depth == U(1):
                        want = halving[U(work[choices + tree]), min(U(above - 1), columns - U(1))]
                        row = tree * base_columns
                        if lanes == U(4):
                            word = gumbel_root_of_four(lines, block, lanes, raw, scale, offset, flat, row, want)
                        else:
                            word = gumbel_root_of_many(lines, block, lanes, raw, scale, offset, flat, row, want)
                    elif lanes == U(4):
                        word = gumbel_of_four(lines, block, lanes, raw, scale, offset, flat, U(0), np.int32(0))
                    else:
                        word = gumbel_of_many(lines, block, lanes, raw, scale, offset, flat, U(0), np.int32(0))
                else:
                    explore = settings[factors + U(above)] if above < TABLE else _explore_beyond(settings, above)
                    if lanes == U(4):
                        word = puct_of_four(lines, block, explore)
                    else:
                        word = puct_of_many(lines, block, lanes, explore)
                visits = lines[word]
                lines[word] = visits + np.int32(1)
                tree, area = U(work[of_tree + j]), U(work[of_area + j])
                work[steps + area * room + depth] = np.int32(word + lanes)
                below = lines[word + U(3) * lanes]
                if below > 0:
                    values[word + lanes] += pending
                    first = (U(below) >> U(6)) * U(LINE)
                    for line in range(first, first + (U(below) & U(63)) * U(LINE), U(LINE)):
                        prefetch(lines, line)
                    work[of_tree + kept], work[of_area + kept] = np.int32(tree), np.int32(area)
                    work[of_visits + kept], work[of_link + kept] = visits, below
                    work[of_node + kept] = np.int32((block >> U(2)) + (word - block))
                    kept += U(1)
                else:
                    parent = U(work[of_node + j])
                    visited += np.int64(depth) + 1
                    _finish(
                        lines,
                        values,
                        settings,
                        work,
                        tree,
                        area,
                        depth + U(1),
                        word + U(3) * lanes,
                        below,
                        block,
                        lanes,
                        parent,
                    )
            active = kept
            depth += U(1)
    for g in range(count):
        tree = U(work[served + g])
        if work[taken + tree] == 0:  # nothing but terminals in so many descents: this tree has no more to ask
            work[limits + tree] = work[simulations + tree]
    work[VISITED] = np.int32(visited)
    return count


@njit("int64(int32[::1], int32[::1], int32[::1], float32[:, ::1], float32[:, ::1], int32[:, ::1])", **JIT)
def play(lines, parents, work, answers, bases, halving):
    """One round: enter the answers of the wave under way, select the next.

    Returns the number of its leaves; or -1 - code of `check`, and then nothing has changed.
    """
    wrong = check(work, answers)
    if wrong >= 0:
        return -1 - wrong
    _enter(lines, parents, work, answers, bases)
    while _select(lines, parents, work, bases, halving) > 0 and work[LEAVES] == 0:
        pass
    return np.int64(work[LEAVES])


@njit("void(int32[::1], int32[::1])", **JIT)
def cancel(lines, work):
    """Take the wave under way back: visits, values under way, links and first plays of its leaves."""
    values, settings = lines.view(np.float32), work.view(np.float32)
    path_area, path_length = section(work, OF_AREA), section(work, OF_LENGTH)
    leaf_tree, leaf_link, leaf_first = section(work, OF_TREE), section(work, OF_LINK), section(work, OF_FIRST)
    for row in range(U(work[LEAVES])):
        above = U(work[path_length + row]) - U(1)
        lanes = _take_back(lines, values, work, U(work[path_area + row]), above, settings[PENDING_VALUE])
        word = U(work[leaf_link + row])
        lines[word] = 0
        values[word - U(2) * lanes] = settings[leaf_first + row]
        lines[word - U(3) * lanes] -= np.int32(1)
        work[section(work, OF_SIMULATIONS) + U(work[leaf_tree + row])] -= np.int32(1)
    work[LEAVES] = 0

"""The hot loop of `mcts.forest.forest`, compiled: one call enters the answers of the last wave and selects the next.

The kernels take one
number, the address of `work`, which holds the addresses of the other arrays: unpacking six arrays costs more than a round of
one tree. Arrays inside are bare pointers, which numba neither counts references of nor wraps negative indices for.
"""

from __future__ import annotations

import math

import numpy as np

from mcts.forest.layout import (  # fmt: skip
    AT_ANSWERS,
    AT_BASES,
    AT_HALVING,
    AT_LINES,
    AT_PARENTS,
    BASE_COLUMNS,
    C_BASE,
    C_INIT,
    COLUMNS,
    CONSIDERED,
    CURSOR,
    DEEPEST,
    DEPTH_ROOM,
    EXTRA,
    FIRST_PLAY,
    FIRST_PLAY_CONSTANT,
    FIRST_PLAY_GIVEN,
    FIRST_PLAY_KIND,
    FIRST_PLAY_MEAN,
    FIRST_PLAY_PARENT,
    HALVING_COLUMNS,
    HEAD,
    LEAVES,
    LINE,
    MOST_LINES,
    NEW_LINES,
    NO_ROOM,
    OF_AREA,
    OF_CHOICES,
    OF_FIRST,
    OF_LENGTH,
    OF_LIMITS,
    OF_LINK,
    OF_NODE,
    OF_PARENT,
    OF_ROWS,
    OF_SERVED,
    OF_SIMULATIONS,
    OF_STEPS,
    OF_TAKEN,
    OF_TREE,
    PENDING_VALUE,
    ROW,
    SLOTS,
    TABLE,
    TOP,
    TREES,
    VALUE_SCALE,
    VISIT_OFFSET,
    VISITED,
    WAITING,
    WAVE,
    WIDTH,
    U,
    forest_jit,
    section,
)
from mcts.forest.pick import (
    NOBODY,
    are_priors,
    floats_of,
    ints_at,
    ints_of,
    lay_and_pick,
    lay_priors,
    longs_of,
    pick_by_gumbel,
    pick_by_gumbel_at_root,
    pick_by_puct,
    prefetch,
)


@forest_jit
def _explore_beyond(f, visits):
    """c(N) sqrt(N), c(N) = log((1 + N + c_base) / c_base) + c_init, for the visits that the table does not hold."""
    n, c_base = np.float64(visits), np.float64(f[C_BASE])
    return np.float32((math.log((1.0 + n + c_base) / c_base) + np.float64(f[C_INIT])) * math.sqrt(n))


# ---- one round


@forest_jit
def _reward(link):
    """Reward of a terminal: its float32 bits less the lowest one are kept in the link, below the sign."""
    return np.uint32(np.uint32(link) << np.uint32(1)).view(np.float32)


@forest_jit
def _lanes(children):
    """Lanes of a block of so many."""
    return U(4) if children <= U(4) else (children + U(7)) & ~U(7)


@forest_jit
def _check(w, answers):
    """-1 if all answers of the wave can be entered, else 2 * row + 0 (value), or + 1 (children or priors)."""
    width, columns = np.float32(w[WIDTH]), U(w[COLUMNS])
    for row in range(U(w[LEAVES])):
        at = row * columns
        value, count = answers[at], answers[at + U(1)]
        if not (value >= np.float32(0.0) and value <= np.float32(1.0)):
            return np.int64(2 * row)
        if count != np.float32(-1.0) and not (
            count >= np.float32(1.0) and count <= width and are_priors(answers, at + U(2), U(count), _lanes(U(count)))
        ):
            return np.int64(2 * row + 1)
    return np.int64(-1)


@forest_jit
def _enter(w, lines, parents, answers, bases, gumbel):
    """Children of the wave's leaves, and their values up the paths. `bases` [T, lanes]: log P of a root's children is added."""
    settings, values, raws = floats_of(w), floats_of(lines), floats_of(parents)
    zero, pending, given = np.float32(0.0), settings[PENDING_VALUE], w[FIRST_PLAY_KIND] == FIRST_PLAY_GIVEN
    leaf_link, leaf_node = section(w, OF_LINK), section(w, OF_NODE)
    leaf_parent, leaf_tree, choices = section(w, OF_PARENT), section(w, OF_TREE), section(w, OF_CHOICES)
    width, top, columns = U(w[WIDTH]), U(w[TOP]), U(w[COLUMNS])
    path_length, path_area = section(w, OF_LENGTH), section(w, OF_AREA)
    steps, room = section(w, OF_STEPS), U(w[DEPTH_ROOM])
    for row in range(U(w[LEAVES])):
        word, at = U(w[leaf_link + row]), row * columns
        value, count = answers[at], answers[at + U(1)]
        change, path = value - pending, steps + U(w[path_area + row]) * room
        for step in range(path, path + U(w[path_length + row])):
            values[U(w[step])] += change
        if count < zero:
            lines[word] = np.int32(U(0x80000000) | (U(np.uint32(ints_of(answers)[at])) >> U(1)))
            continue
        used = U(count)
        lanes = _lanes(used)
        block = top * U(LINE)
        lines[word] = np.int32((top << U(6)) | (lanes >> U(2)))
        lay_priors(values, block + U(2) * lanes, answers, at + U(2), used, lanes)
        if given:
            for i in range(used):
                values[block + lanes + i] = answers[at + U(2) + width + i]
            for i in range(used, lanes):
                values[block + lanes + i] = NOBODY
        if gumbel and w[leaf_parent + row] < 0:
            tree = U(w[leaf_tree + row])
            w[choices + tree] = np.int32(min(used, U(w[CONSIDERED])))
            for i in range(used):
                base = tree * U(w[BASE_COLUMNS]) + i
                bases[base] += np.float32(math.log(max(answers[at + U(2) + i], np.float32(1e-37))))
        parents[U(2) * top] = w[leaf_node + row]
        raws[U(2) * top + U(1)] = value
        for i in range(U(1), lanes >> U(2)):
            parents[U(2) * (top + i)] = -np.int32(i) - 2
        top += lanes >> U(2)
    w[TOP] = np.int32(top)


@forest_jit
def _take_back(w, lines, values, area, length, pending):
    """Undo the visits under way of the first `length` records of a path; the lanes of the block after them."""
    first, lanes = section(w, OF_STEPS) + area * U(w[DEPTH_ROOM]), U(4)
    for i in range(length):
        total = U(w[first + i])
        lines[total - lanes] -= np.int32(1)
        values[total] -= pending
        lanes = (U(lines[total + U(2) * lanes]) & U(63)) << U(2)
    return lanes


@forest_jit
def _finish(w, lines, tree, area, length, word, link, block, lanes, parent):
    """End a descent at a leaf, a terminal, or a leaf that waits already, which ends the tree's round; `word`: of its link."""
    settings, values = floats_of(w), floats_of(lines)
    total, pending = word - U(2) * lanes, settings[PENDING_VALUE]
    if link == 0:
        row, action, slots = U(w[LEAVES]), word - block - U(3) * lanes, U(w[SLOTS])
        lines[word] = -np.int32(0x40000000)
        at = section(w, OF_LINK) + row  # the sections of leaves follow each other
        w[at], w[at + slots] = np.int32(word), np.int32((block >> U(2)) + action)
        w[at + U(2) * slots], w[at + U(3) * slots] = np.int32(parent), np.int32(action)
        w[at + U(4) * slots], w[at + U(5) * slots] = np.int32(tree), np.int32(length) - np.int32(1)
        settings[at + U(6) * slots] = values[total]
        w[at + U(7) * slots], w[at + U(8) * slots] = np.int32(length), np.int32(area)
        values[total] = pending
        w[LEAVES] = np.int32(row) + np.int32(1)
        w[DEEPEST] = max(w[DEEPEST], np.int32(length))
        w[section(w, OF_TAKEN) + tree] += np.int32(1)
    elif np.uint32(link) < np.uint32(WAITING):
        value, first = _reward(link), section(w, OF_STEPS) + area * U(w[DEPTH_ROOM])
        values[total] += value
        for i in range(length - U(1)):
            values[U(w[first + i])] += value - pending
    else:
        _take_back(w, lines, values, area, length - U(1), pending)
        lines[total - lanes] -= np.int32(1)
        w[section(w, OF_SIMULATIONS) + tree] -= np.int32(1)
        w[section(w, OF_TAKEN) + tree] = w[WAVE]


@forest_jit
def _serve(w, served):
    """Trees of this round, in turn from the cursor, as many as get all their leaves into the slots; their number."""
    trees, most = U(w[TREES]), U(w[SLOTS]) // U(w[WAVE])
    simulations, limits, taken = section(w, OF_SIMULATIONS), section(w, OF_LIMITS), section(w, OF_TAKEN)
    count, tree = U(0), U(w[CURSOR])
    for _ in range(trees):
        if count == most:
            break
        if w[simulations + tree] < w[limits + tree]:
            w[served + count] = np.int32(tree)
            w[taken + tree] = 0
            count += U(1)
        tree = tree + U(1) if tree + U(1) < trees else U(0)
    w[CURSOR] = np.int32(tree)
    return count


@forest_jit
def _lay(w, lines, values, raws, block, lanes, explore, mean):
    """Lay out a block that no descent has gone through, and pick by PUCT: none of its children has a visit."""
    settings, kind = floats_of(w), w[FIRST_PLAY_KIND]
    if kind == FIRST_PLAY_GIVEN:
        for i in range(lanes):
            lines[block + i] = 0
            lines[block + U(3) * lanes + i] = 0
        return pick_by_puct(values, block, lanes, explore, mean)
    first = np.float32(0.0)
    if kind == FIRST_PLAY_CONSTANT:
        first = settings[FIRST_PLAY]
    elif kind == FIRST_PLAY_PARENT:
        first = max(raws[(block >> U(3)) + U(1)] - settings[FIRST_PLAY], first)
    return lay_and_pick(values, block, lanes, explore, mean, first)


@forest_jit
def _open(w, lines, settings, values, at, word, lanes, link, visits, node, area, tree):
    """Note a descent that goes on below the expanded node whose visits are at `word`, and count it there."""
    total = values[word + lanes]
    w[at], w[at + U(1)], w[at + U(2)] = link, visits, np.int32(node)
    w[at + U(3)], w[at + U(4)] = np.int32(area), np.int32(tree)
    mean = np.float32(0.0)
    if w[FIRST_PLAY_KIND] == FIRST_PLAY_MEAN:
        mean = max(total / np.float32(visits) - settings[FIRST_PLAY], mean)
    settings[at + U(5)] = mean
    if settings[PENDING_VALUE] != np.float32(0.0):
        values[word + lanes] = total + settings[PENDING_VALUE]
    first = (U(link) >> U(6)) * U(LINE)
    for line in range(first, first + (U(link) & U(63)) * U(LINE), U(LINE)):
        prefetch(lines, line)


@forest_jit(inline="always")
def _select(w, lines, parents, bases, halving, gumbel):
    """The next wave; the number of trees served. They descend side by side, level by level, until each has its leaves.

    gumbel False: PUCT. True: `halving` [choices, visits of the root so far] -> visits of who is considered.
    """
    settings, values, raws = floats_of(w), floats_of(lines), floats_of(parents)
    wave, room, steps, rows = w[WAVE], U(w[DEPTH_ROOM]), section(w, OF_STEPS), section(w, OF_ROWS)
    simulations, limits, taken = section(w, OF_SIMULATIONS), section(w, OF_LIMITS), section(w, OF_TAKEN)
    served, choices = section(w, OF_SERVED), section(w, OF_CHOICES)
    w[LEAVES], visited = 0, np.int64(0)
    count = _serve(w, served)
    for _ in range(wave + EXTRA):
        active, started = U(0), False
        for g in range(count):
            tree = U(w[served + g])
            if w[taken + tree] == wave or w[simulations + tree] >= w[limits + tree]:
                continue
            started = True
            w[simulations + tree] += np.int32(1)
            word, area = tree * U(LINE), g * U(wave) + U(w[taken + tree])
            visits, link = lines[word], lines[word + U(12)]
            lines[word] = visits + np.int32(1)
            w[steps + area * room] = np.int32(word + U(4))
            visited += 1
            if link > 0:
                at = rows + U(ROW) * active
                _open(w, lines, settings, values, at, word, U(4), link, visits, word >> U(2), area, tree)
                active += U(1)
            else:
                _finish(w, lines, tree, area, U(1), word + U(12), link, word, U(4), U(0xFFFFFFFF))
        if not started:
            break
        depth = U(1)
        while active > U(0):
            kept = U(0)
            visited += np.int64(active)
            for j in range(active):
                at = rows + U(ROW) * j
                link, above, node, area, tree = (
                    U(w[at]), w[at + U(1)], U(w[at + U(2)]), U(w[at + U(3)]), U(w[at + U(4)]),
                )  # fmt: skip
                block, lanes = (link >> U(6)) * U(LINE), (link & U(63)) << U(2)
                explore = settings[U(HEAD) + U(above)] if above < TABLE else _explore_beyond(settings, above)
                if above == 1:
                    word = _lay(w, lines, values, raws, block, lanes, explore, settings[at + U(5)])
                if gumbel:
                    raw = raws[U(2) * (link >> U(6)) + U(1)]
                    scale, offset = settings[VALUE_SCALE], settings[VISIT_OFFSET]
                    if depth == U(1):
                        columns = U(w[HALVING_COLUMNS])
                        want = halving[U(w[choices + tree]) * columns + min(U(above - 1), columns - U(1))]
                        row = tree * U(w[BASE_COLUMNS])
                        word = pick_by_gumbel_at_root(values, block, lanes, raw, scale, offset, bases, row, want)
                    else:
                        word = pick_by_gumbel(values, block, lanes, raw, scale, offset, bases, U(0), np.int32(0))
                elif above > 1:
                    word = pick_by_puct(values, block, lanes, explore, settings[at + U(5)])
                visits, below = lines[word], lines[word + U(3) * lanes]
                lines[word] = visits + np.int32(1)
                w[steps + area * room + depth] = np.int32(word + lanes)
                if below > 0:
                    child = (block >> U(2)) + (word - block)
                    _open(
                        w, lines, settings, values, rows + U(ROW) * kept, word, lanes, below, visits, child, area, tree
                    )
                    kept += U(1)
                else:
                    _finish(w, lines, tree, area, depth + U(1), word + U(3) * lanes, below, block, lanes, node)
            active = kept
            depth += U(1)
    for g in range(count):
        tree = U(w[served + g])
        if w[taken + tree] == 0:  # nothing but terminals in so many descents: this tree has no more to ask
            w[limits + tree] = w[simulations + tree]
    longs_of(w)[U(VISITED) >> U(1)] += visited
    return count


@forest_jit(inline="always")
def _play(address, gumbel):
    """One round: enter the answers of the wave under way, select the next.

    Returns the number of its leaves; or NO_ROOM, or -2 - code of `_check`, and then nothing has changed.
    """
    w = ints_at(address)
    at = longs_of(w)
    if w[TOP] + w[NEW_LINES] > w[MOST_LINES] or w[DEEPEST] + 2 > w[DEPTH_ROOM]:
        return np.int64(NO_ROOM)
    lines, parents, answers = ints_at(at[AT_LINES]), ints_at(at[AT_PARENTS]), floats_of(ints_at(at[AT_ANSWERS]))
    bases, halving = floats_of(ints_at(at[AT_BASES])), ints_at(at[AT_HALVING])
    wrong = _check(w, answers)
    if wrong >= 0:
        return -2 - wrong
    _enter(w, lines, parents, answers, bases, gumbel)
    while _select(w, lines, parents, bases, halving, gumbel) > 0 and w[LEAVES] == 0:
        pass
    return np.int64(w[LEAVES])


@forest_jit
def play_puct(address):
    """`_play` by PUCT."""
    return _play(address, False)


@forest_jit
def play_gumbel(address):
    """`_play` by Gumbel."""
    return _play(address, True)


@forest_jit
def cancel(address):
    """Take the wave under way back: visits, values under way, links and first plays of its leaves. Returns their number."""
    w = ints_at(address)
    lines = ints_at(longs_of(w)[AT_LINES])
    values, settings = floats_of(lines), floats_of(w)
    path_area, path_length = section(w, OF_AREA), section(w, OF_LENGTH)
    leaf_tree, leaf_link, leaf_first = section(w, OF_TREE), section(w, OF_LINK), section(w, OF_FIRST)
    for row in range(U(w[LEAVES])):
        above = U(w[path_length + row]) - U(1)
        lanes = _take_back(w, lines, values, U(w[path_area + row]), above, settings[PENDING_VALUE])
        word = U(w[leaf_link + row])
        lines[word] = 0
        values[word - U(2) * lanes] = settings[leaf_first + row]
        lines[word - U(3) * lanes] -= np.int32(1)
        w[section(w, OF_SIMULATIONS) + U(w[leaf_tree + row])] -= np.int32(1)
    cancelled, w[LEAVES] = np.int64(w[LEAVES]), 0
    return cancelled

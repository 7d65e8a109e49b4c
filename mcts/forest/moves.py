"""Finding and moving blocks of a forest, compiled. Independent of `forest_kernels`, whose layout it reads."""

from __future__ import annotations

import numpy as np

from kit.jit import jit

LINE = 16  # words of 4 bytes in a cache line
U = np.uint64


@jit
def block_of(parents, top, line):
    """First line of the block that `line` is part of, and its number of lines: first << 6 | lines."""
    first = line
    if parents[U(2) * line] < -1:
        first = line - U(-parents[U(2) * line] - 2)
    size = U(1)
    while first + size < U(top) and parents[U(2) * (first + size)] < -1:
        size += U(1)
    return first << U(6) | size


@jit
def transplant(lines, parents, roots, into, into_parents, top, moved):
    """Copy the subtrees below the nodes `roots` [T] into an empty forest; the first line after them.

    `roots[t]` becomes the root of tree t. Blocks are laid out breadth first, all trees together. `moved` int32 [old nodes]
    gets the new ids of those that are kept.
    """
    trees = U(roots.size)
    for t in range(trees):
        node = U(roots[t])
        found = block_of(parents, top, node >> U(2))
        block, lanes = (found >> U(6)) * U(LINE), (found & U(63)) << U(2)
        lane = node - (block >> U(2))
        for plane in range(U(4)):
            into[t * U(LINE) + U(4) * plane] = lines[block + plane * lanes + lane]
        moved[node] = np.int32(t << U(2))
        into_parents[U(2) * t] = -1
    end, at = trees, U(0)
    while at < end:
        own = U(1)
        while at + own < end and into_parents[U(2) * (at + own)] < -1:
            own += U(1)
        lanes = own << U(2)
        links = at * U(LINE) + U(3) * lanes
        for lane in range(lanes if at >= trees else U(1)):
            link = into[links + lane]
            if link <= 0:
                continue
            source, size = U(link) >> U(6), U(link) & U(63)
            for i in range(size * U(LINE)):
                into[end * U(LINE) + i] = lines[source * U(LINE) + i]
            if into[links + lane - U(3) * lanes] == 1:  # not laid out: no visits, no links
                for i in range(size << U(2)):
                    into[end * U(LINE) + i] = into[end * U(LINE) + U(12) * size + i] = 0
            for i in range(size << U(2)):
                moved[(source << U(2)) + i] = np.int32((end << U(2)) + i)
            into[links + lane] = np.int32((end << U(6)) | size)
            into_parents[U(2) * end] = np.int32((at << U(2)) + lane)
            into_parents[U(2) * end + U(1)] = parents[U(2) * source + U(1)]
            for i in range(U(1), size):
                into_parents[U(2) * (end + i)] = -np.int32(i) - 2
            end += size
        at += own
    return end

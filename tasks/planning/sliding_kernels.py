"""The sliding puzzle in numba: ranks, breadth-first search and training rows. All of the task's jitted code.

A board is a row-major array of N tiles, 0 is the blank. Its rank is its Lehmer code, 0..N!-1. A move is named by where
the blank goes. Boards can reach each other if permutation parity plus the blank's row + column agree.

Legend: N squares, W moves of a walk, B rows, L tokens of a row, G goals.
Tokens of a row: BOS, N goal, bar, N state, newline | move, N next state, newline.
"""

from __future__ import annotations

import numpy as np

from kit.jit import jit
from tasks.base import BOS_ID, NEWLINE_ID, SPECIAL_TOKENS

BAR, MOVES = "|", ("U", "D", "L", "R")
BAR_ID = len(SPECIAL_TOKENS)
UP_ID, DOWN_ID, LEFT_ID, RIGHT_ID, TILE_ID = range(BAR_ID + 1, BAR_ID + 6)  # TILE_ID: "0"
UNREACHABLE = 255  # in a table of distances
MAX_SQUARES = 9


def vocabulary(squares: int) -> tuple[str, ...]:
    """Words in the order of their ids; tile v is TILE_ID + v."""
    return (*SPECIAL_TOKENS, BAR, *MOVES, *map(str, range(squares)))


def context_tokens(squares: int) -> int:
    return 2 * squares + 3


def step_tokens(squares: int) -> int:
    return squares + 2


@jit
def rank(board):
    """Lehmer code of a board."""
    code = 0
    for i in range(len(board)):
        smaller = 0
        for j in range(i + 1, len(board)):
            smaller += board[j] < board[i]
        code = code * (len(board) - i) + smaller
    return code


@jit
def unrank(code, board):
    """Inverse of `rank`, into `board`."""
    n = len(board)
    for i in range(n - 1, -1, -1):
        board[i] = code % (n - i)
        code //= n - i
        for j in range(i + 1, n):
            if board[j] >= board[i]:
                board[j] += 1


@jit
def unrank_many(codes, squares):
    """int64 [K, N]: the boards of int ranks [K]."""
    boards = np.empty((len(codes), squares), np.int64)
    for k in range(len(codes)):
        unrank(codes[k], boards[k])
    return boards


@jit
def distances_to(goal, rows, cols):
    """uint8 [N!] by rank: moves to `goal` by breadth-first search, UNREACHABLE from the other parity class."""
    total = 1
    for i in range(2, len(goal) + 1):
        total *= i
    distance = np.full(total, UNREACHABLE, np.uint8)
    queue = np.empty(total // 2, np.int32)
    queue[0] = rank(goal)
    distance[queue[0]] = 0
    head, tail = 0, 1
    board = np.empty(len(goal), np.int64)
    while head < tail:
        code = queue[head]
        head += 1
        unrank(code, board)
        blank = _blank(board)
        for move in range(4):
            square = _target(blank, move, rows, cols)
            if square >= 0:
                board[blank], board[square] = board[square], 0
                after = rank(board)
                if distance[after] == UNREACHABLE:
                    distance[after] = distance[code] + 1
                    queue[tail] = after
                    tail += 1
                board[square], board[blank] = board[blank], 0
    return distance


@jit
def random_rows(rng, goals, rows, cols, moves, discount, tokens, value):
    """Fill int32 tokens [B, L]: a goal of `goals` (ranks [G]) and a state that can reach it, uniform, a random move.

    Fill float32 value [B, L] at the context's end: discount ** (moves until the play met the goal), 0 after `moves` moves.
    """
    squares = rows * cols
    goal = np.empty(squares, np.int64)
    board = np.empty(squares, np.int64)
    k = 0
    while k < tokens.shape[0]:
        code = goals[int(rng.random() * len(goals))]
        unrank(code, goal)
        _shuffle(rng, board)
        if _parity(board, cols) != _parity(goal, cols):
            _swap_two_tiles(board)
        if rank(board) == code:
            continue
        _write_context(tokens[k], goal, board)
        _write_step(tokens[k], _slide(rng, board, -1, rows, cols), board)
        earned = 0.0
        for move in range(1, moves + 1):
            if rank(board) == code:
                earned = discount**move
                break
            _slide(rng, board, -1, rows, cols)
        value[k, 2 * squares + 2] = earned
        k += 1


@jit
def walk_rows(rng, splits, split, rows, cols, moves, discount, shorten, tokens, value):
    """Fill int32 tokens [B, L] and float32 value [B, L] (NaN), one row from each random walk of `moves` moves.

    A walk starts anywhere and never takes a move back. One of its boards that belongs to `split` (codes by rank in
    `splits` uint8 [N!]) becomes the goal, another one the state. If `shorten`, the step goes to the neighbour nearest
    to the goal within the walk's own graph (its boards and moves, taken both ways), else along the walk, forth or back
    at random. Values are discount ** (distance to the goal in the walk's graph), of the state on the newline that ends
    the context and of the next state on the newline that ends the step.
    """
    squares = rows * cols
    boards = np.empty((moves + 1, squares), np.int64)
    codes = np.empty(moves + 1, np.int64)  # 4 bits a tile
    node = np.empty(moves + 1, np.int64)  # first place in the walk with the same board
    distance = np.empty(moves + 1, np.int64)  # by node
    nearer = np.empty(moves + 1, np.int64)  # by node: the next node towards the goal
    k = 0
    while k < tokens.shape[0]:
        _walk(rng, boards, codes, node, rows, cols)
        goal = node[int(rng.random() * (moves + 1))]
        state = int(rng.random() * (moves + 1))
        if node[state] == goal or splits[rank(boards[goal])] != split:
            continue
        _distances_in_walk(node, goal, distance, nearer)
        if shorten:
            after = nearer[node[state]]
        elif state == moves or (state > 0 and rng.random() < 0.5):
            after = node[state - 1]
        else:
            after = node[state + 1]
        _write_context(tokens[k], boards[goal], boards[state])
        _write_step(tokens[k], _move_id(_blank(boards[after]) - _blank(boards[state]), cols), boards[after])
        value[k, 2 * squares + 2] = discount ** distance[node[state]]
        value[k, tokens.shape[1] - 1] = discount ** distance[after]
        k += 1


@jit
def _walk(rng, boards, codes, node, rows, cols):
    """A random walk that never takes a move back, from a uniform board: its boards, their codes and nodes."""
    last = -1
    _shuffle(rng, boards[0])
    for k in range(len(boards)):
        if k:
            boards[k] = boards[k - 1]
            blank = _blank(boards[k])
            _slide(rng, boards[k], last, rows, cols)
            last = blank
        codes[k] = 0
        for tile in boards[k]:
            codes[k] = codes[k] * 16 + tile
        node[k] = k
        for j in range(k):
            if codes[j] == codes[k]:
                node[k] = j
                break


@jit
def _distances_in_walk(node, goal, distance, nearer):
    """Least number of moves to `goal` inside the walk's graph, by sweeps over its edges until nothing changes."""
    last = len(node) - 1
    distance[:] = last + 1
    distance[goal] = 0
    changed = True
    while changed:
        changed = False
        for sweep in range(2 * last):
            edge = sweep if sweep < last else 2 * last - 1 - sweep  # forth, then back
            a, b = node[edge], node[edge + 1]
            if distance[b] > distance[a] + 1:
                distance[b], nearer[b], changed = distance[a] + 1, a, True
            elif distance[a] > distance[b] + 1:
                distance[a], nearer[a], changed = distance[b] + 1, b, True


@jit
def _slide(rng, board, forbidden, rows, cols):
    """One random legal move in place, not to the square `forbidden`; returns the move's token."""
    blank = _blank(board)
    options = 0
    chosen = -1
    for move in range(4):
        square = _target(blank, move, rows, cols)
        if square >= 0 and square != forbidden:
            options += 1
            if rng.random() * options < 1.0:  # each of the options stays with equal probability
                chosen = square
    board[blank], board[chosen] = board[chosen], 0
    return _move_id(chosen - blank, cols)


@jit
def _target(blank, move, rows, cols):
    """The square the blank moves to (U, D, L, R), -1 if that is off the board."""
    row, col = blank // cols, blank % cols
    if move == 0:
        return blank - cols if row > 0 else -1
    if move == 1:
        return blank + cols if row < rows - 1 else -1
    if move == 2:
        return blank - 1 if col > 0 else -1
    return blank + 1 if col < cols - 1 else -1


@jit
def _move_id(shift, cols):
    if shift == -cols:
        return UP_ID
    if shift == cols:
        return DOWN_ID
    return LEFT_ID if shift < 0 else RIGHT_ID


@jit
def _blank(board):
    square = 0
    while board[square] != 0:
        square += 1
    return square


@jit
def _parity(board, cols):
    """0 or 1, the same for all boards that can reach each other."""
    inversions = 0
    for i in range(len(board)):
        for j in range(i + 1, len(board)):
            inversions += board[j] < board[i]
    blank = _blank(board)
    return (inversions + blank // cols + blank % cols) % 2


@jit
def _shuffle(rng, board):
    """A uniform random board in place (Fisher-Yates)."""
    for i in range(len(board)):
        j = int(rng.random() * (i + 1))
        board[i] = board[j]
        board[j] = i


@jit
def _swap_two_tiles(board):
    """Change the parity class: swap the first two squares that are not blank."""
    first = 0 if board[0] != 0 else 1
    second = first + 1 if board[first + 1] != 0 else first + 2
    board[first], board[second] = board[second], board[first]


@jit
def _write_context(row, goal, board):
    squares = len(goal)
    row[0] = BOS_ID
    row[squares + 1] = BAR_ID
    for i in range(squares):
        row[1 + i] = TILE_ID + goal[i]
        row[squares + 2 + i] = TILE_ID + board[i]
    row[2 * squares + 2] = NEWLINE_ID


@jit
def _write_step(row, move_id, board):
    start = 2 * len(board) + 3
    row[start] = move_id
    for i in range(len(board)):
        row[start + 1 + i] = TILE_ID + board[i]
    row[start + 1 + len(board)] = NEWLINE_ID

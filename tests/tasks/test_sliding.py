"""The sliding puzzle: exact distances, splits by goal, the verifier and the rows."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import BOS_ID, SPLITS, Problem, TaskError, make_task
from tasks.planning.sliding_kernels import rank, unrank_many
from tasks.planning.sliding_space import distance_table

SMALL, LARGE = make_task("sliding"), make_task("sliding", rows=3, cols=3)
MOVES = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
PROBLEM = Problem("sliding:2x3:123045>123450", "sliding", ((1, 2, 3, 0, 4, 5), (1, 2, 3, 4, 5, 0)))
WAY = ["R 1 2 3 4 0 5\n", "R 1 2 3 4 5 0\n"]


def slow_move(board: tuple[int, ...], rows: int, cols: int, move: str) -> tuple[int, ...] | None:
    """The board after a move, on a grid of rows, or None."""
    grid = [list(board[r * cols : (r + 1) * cols]) for r in range(rows)]
    r, c = next((r, c) for r in range(rows) for c in range(cols) if grid[r][c] == 0)
    r2, c2 = r + MOVES[move][0], c + MOVES[move][1]
    if not (0 <= r2 < rows and 0 <= c2 < cols):
        return None
    grid[r][c], grid[r2][c2] = grid[r2][c2], 0
    return tuple(tile for row in grid for tile in row)


def slow_distances(goal: tuple[int, ...], rows: int, cols: int, depth: int = 99) -> dict[tuple[int, ...], int]:
    """Plain breadth-first search from a goal."""
    found, queue = {goal: 0}, deque([goal])
    while queue:
        board = queue.popleft()
        for move in MOVES:
            after = slow_move(board, rows, cols, move)
            if after is not None and after not in found and found[board] < depth:
                found[after] = found[board] + 1
                queue.append(after)
    return found


def read_row(task, tokens: np.ndarray) -> tuple[Problem, str]:
    assert tokens[0] == BOS_ID
    context, step = task.decode(tokens[1:]).splitlines(keepends=True)
    goal, start = (tuple(map(int, side.split())) for side in context.split("|"))
    return Problem("row", "sliding", (start, goal)), step


@pytest.mark.parametrize("squares", [4, 6, 9])
def test_a_rank_names_one_board(squares):
    codes = np.linspace(0, [0, 0, 0, 0, 23, 0, 719, 0, 0, 362_879][squares], 24).astype(np.int64)
    boards = unrank_many(codes, squares)
    assert [rank(board) for board in boards] == codes.tolist()
    assert (np.sort(boards, 1) == np.arange(squares)).all()


@pytest.mark.parametrize("blank", range(6))
def test_distances_equal_plain_breadth_first_search_on_every_board(blank, rng):
    goal = tuple(np.insert(rng.permutation(np.arange(1, 6)), blank, 0).tolist())
    expected = slow_distances(goal, 2, 3)
    problem = Problem("any", "sliding", (goal, goal))
    assert len(expected) == 360
    for board in map(tuple, unrank_many(np.arange(720), 6).tolist()):
        assert SMALL.distance(problem, board) == expected.get(board)
        assert SMALL.solvable(problem, board) == (board in expected)


def test_distances_on_nine_squares_equal_a_shallow_search_and_the_known_depth():
    goal = (5, 1, 0, 8, 7, 2, 3, 6, 4)
    problem = Problem("any", "sliding", (goal, goal))
    for board, moves in slow_distances(goal, 3, 3, depth=9).items():
        assert LARGE.distance(problem, board) == moves
    table = distance_table(3, 3, 8)
    assert (table < 255).sum() == 181_440
    assert table[table < 255].max() == 31  # the 8-puzzle's diameter from a corner blank


@pytest.mark.parametrize("task", [SMALL, LARGE], ids=["2x3", "3x3"])
def test_splits_go_by_goal_and_every_problem_is_in_range(task):
    goals = {}
    for split in SPLITS:
        problems = task.problems(split, 300, seed=1)
        goals[split] = {problem.data[1] for problem in problems}
        moves = [task.distance(problem, problem.data[0]) for problem in problems]
        assert min(moves) >= task.distance_min
        assert max(moves) == task.distance_max
        assert len({problem.id for problem in problems}) == 300
    assert not goals["train"] & goals["dev"] | goals["train"] & goals["test"] | goals["dev"] & goals["test"]


def test_goals_are_dealt_in_their_shares_and_problems_are_all_pairs_in_range():
    counts = {split: len({p.data[1] for p in SMALL.problems(split)}) for split in SPLITS}
    assert sum(counts.values()) == 720
    for split, share in zip(SPLITS, (0.8, 0.05, 0.15), strict=True):
        assert abs(counts[split] - 720 * share) < 4 * (720 * share * (1 - share)) ** 0.5
    by_goal: dict[tuple, set] = {}
    for problem in SMALL.problems("dev"):
        by_goal.setdefault(problem.data[1], set()).add(problem.data[0])
    for goal, starts in list(by_goal.items())[:5]:
        assert starts == {board for board, moves in slow_distances(goal, 2, 3).items() if 4 <= moves <= 14}


def test_a_split_too_large_to_list_asks_for_n():
    with pytest.raises(TaskError, match="give n"):
        LARGE.problems("test")


def test_a_chain_ends_with_reward_one_as_soon_as_the_goal_is_reached():
    assert SMALL.verdict(PROBLEM, WAY[:1]).terminal is False
    assert SMALL.verdict(PROBLEM, WAY).reward == 1
    assert SMALL.verdict(PROBLEM, [*WAY, "L 1 2 3 4 0 5\n"]).legal is False


def test_a_chain_that_reaches_the_limit_is_over_without_reward():
    back_and_forth = ["R 1 2 3 4 0 5\n", "L 1 2 3 0 4 5\n"] * 12
    assert SMALL.verdict(PROBLEM, back_and_forth[:-1]).terminal is False
    verdict = SMALL.verdict(PROBLEM, back_and_forth)
    assert (verdict.terminal, verdict.legal, verdict.reward) == (True, True, 0.0)
    assert SMALL.verdict(PROBLEM, [*back_and_forth, *WAY]).reward == 0


def test_the_context_shows_only_goal_and_present_state():
    assert SMALL.prompt(PROBLEM) == "1 2 3 4 5 0 | 1 2 3 0 4 5\n"
    assert SMALL.context(PROBLEM, WAY[:1]) == "1 2 3 4 5 0 | 1 2 3 4 0 5\n"
    assert SMALL.context(PROBLEM, ["U 0 2 3 1 4 5\n", "D 1 2 3 0 4 5\n"]) == SMALL.prompt(PROBLEM)
    assert SMALL.parse_problem(SMALL.prompt(PROBLEM)) == PROBLEM


@pytest.mark.parametrize(
    "step",
    [
        "",
        "\n",
        "R",
        "R 1 2 3 4 0 5",
        "L 1 2 0 3 4 5\n",  # wraps around the edge
        "R 1 2 3 0 4 5\n",
        "D 1 2 3 4 0 5\n",
        "r 1 2 3 4 0 5\n",
        "R  1 2 3 4 0 5\n",
        "R 1 2 3 4 0 5 \n",
        "R 1 2 3 4 00 5\n",
        "R 1 2 3 4 \u0660 5\n",
        "R 1 2 3 4 5\n",
        "R " + "1 " * 1_000_000 + "\n",
        None,
    ],
)
def test_hostile_and_sloppy_steps_are_illegal_with_a_short_printable_reason(step):
    verdict, after = SMALL.advance(PROBLEM, PROBLEM.data[0], step)
    assert (verdict.legal, verdict.terminal, verdict.reward, after) == (False, True, 0.0, None)
    assert 0 < len(verdict.reason) < 120
    assert verdict.reason.isascii()
    assert SMALL.parse_step(PROBLEM, [], step)[0] == "illegal"


@given(st.lists(st.one_of(st.text(), st.sampled_from([*WAY, "L 1 2 3 0 4 5\n", "U 0 2 3 1 4 5\n"])), max_size=6))
def test_any_chain_gets_the_verdict_of_a_slow_checker(steps):
    board, legal, solved = PROBLEM.data[0], True, False
    for step in steps:
        after = slow_move(board, 2, 3, step[0]) if step[:1] in MOVES and len(step[:1]) else None
        if solved or after is None or step != f"{step[0]} {' '.join(map(str, after))}\n":
            legal, solved = False, False
            break
        board, solved = after, after == PROBLEM.data[1]
    verdict = SMALL.verdict(PROBLEM, steps)
    assert (verdict.legal, verdict.reward) == (legal, float(solved))


@pytest.mark.parametrize("task", [SMALL, LARGE], ids=["2x3", "3x3"])
def test_legal_steps_are_the_moves_of_a_grid(task):
    for problem in task.problems("train", 20):
        board = problem.data[0]
        after = {move: slow_move(board, task.rows, task.cols, move) for move in MOVES}
        expected = {f"{move} {' '.join(map(str, b))}\n" for move, b in after.items() if b is not None}
        assert set(task.legal_steps(problem, board)) == expected
        for step in expected:
            assert task.advance(problem, board, step)[0].legal
            assert task.parse_step(problem, [], step)[0] == "propose"


def test_a_bad_problem_text_names_the_mend():
    for text, mend in [
        ("1 2 3", "goal | start"),
        ("1 2 3 4 5 0 | 2 1 3 4 5 0", "swap two tiles"),
        ("x" * 10**6, "as 1 2"),
    ]:
        with pytest.raises(TaskError, match=mend):
            SMALL.parse_problem(text)


@pytest.mark.parametrize("task", [SMALL, LARGE, make_task("sliding", rows=3, cols=2)], ids=["2x3", "3x3", "3x2"])
@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_legal_single_steps_towards_goals_of_their_split(task, split, rng):
    goals = {tuple(board) for board in unrank_many(task._goals(split), task.squares).tolist()}
    for play in (task.random_play, task.hindsight, task.value_play):
        rows = play(split, 150, rng)
        for tokens, weight, value in zip(rows.tokens, rows.weight, rows.value, strict=True):
            problem, step = read_row(task, tokens)
            start, goal = problem.data
            verdict, after = task.advance(problem, start, step)
            assert goal in goals
            assert start != goal
            assert verdict.legal
            assert task.solvable(problem, start)
            assert weight.sum() == (0 if play == task.value_play else task.max_step_tokens)
            assert weight[: task.max_context_tokens].sum() == 0
            if play == task.random_play:
                assert np.isfinite(value).sum() == 1
                assert 0 <= value[task.max_context_tokens - 1] <= 0.9 ** task.distance(problem, start) + 1e-6
                continue
            here, there = value[task.max_context_tokens - 1], value[-1]
            assert np.isfinite(value).sum() == 2
            assert (
                here <= 0.9 ** task.distance(problem, start) + 1e-6
            )  # a way inside a walk is no shorter than the best
            assert there <= 0.9 ** (0 if after is None else task.distance(problem, after)) + 1e-6
            if play == task.hindsight:
                assert there == pytest.approx(here / 0.9)
            else:
                assert there == pytest.approx(here / 0.9) or there <= here
            assert (there == 1) == (after is None)


def test_value_play_leads_away_about_half_of_the_time(rng):
    rows = SMALL.value_play("train", 4000, rng)
    away = rows.value[:, -1] < rows.value[:, SMALL.max_context_tokens - 1]
    assert 0.3 < away.mean() < 0.6


def test_random_play_is_worth_what_it_earns(rng):
    rows = SMALL.random_play("train", 20_000, rng)
    problems = [read_row(SMALL, tokens)[0] for tokens in rows.tokens]
    value = rows.value[:, SMALL.max_context_tokens - 1]
    away = np.array([SMALL.distance(p, p.data[0]) for p in problems])
    near, far = value[away == 1].mean(), value[away >= 10].mean()
    assert near > 0.35  # the next move alone meets the goal at least one time in three, for 0.9
    assert far < 0.02


def test_rules_only_leaves_the_move_to_better_teachers(rng):
    rows = SMALL.random_play("train", 50, rng, rules_only=True)
    assert (rows.weight[:, : SMALL.max_context_tokens + 1] == 0).all()
    assert (rows.weight[:, SMALL.max_context_tokens + 1 :] == 1).all()


def test_random_play_is_uniform_over_moves(rng):
    rows = SMALL.random_play("train", 40_000, rng)
    middle = rows.tokens[rows.tokens[:, 9] == SMALL.token_ids["0"]]  # blank in the middle of the first row: D, L, R
    shares = [np.mean(middle[:, 15] == SMALL.token_ids[move]) for move in "UDLR"]
    assert shares[0] == 0
    assert all(abs(share - 1 / 3) < 0.03 for share in shares[1:])


@pytest.mark.parametrize("play", ["random_play", "hindsight", "value_play"])
def test_the_same_generator_state_gives_the_same_rows(play):
    first, again, other = (getattr(SMALL, play)("train", 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for field in ("tokens", "weight", "value"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.tokens != other.tokens).any()


def test_a_split_too_large_to_list_still_counts_deals_and_practises(rng):
    large = make_task("sliding", rows=3, cols=3, distance_max=10)
    assert large.count("train") > 10_000_000
    assert len({problem.id for problem in large.practice(20, rng)}) == 20
    assert large.first_problems("dev", 5) == large.first_problems("dev", 9)[:5]
    assert SMALL.count("dev") == len(SMALL.problems("dev"))

"""Targets by graph backup: what a search teaches is true of the graph that it explored, and exact where it explored all."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

import mcts
from models.abilities import Step
from models.steps.codec import WordCodec
from selfplay.config import ActorConfig
from selfplay.teach.row_builder import RowBuilder
from selfplay.teach.targets import Targets, search_rows
from tasks.base import BOS_ID, PAD_ID
from tasks.numbers.countdown import Countdown
from tasks.planning.sliding import Sliding

PUZZLE = Sliding(rows=2, cols=3, distance_min=8, distance_max=10, discount=0.9)
NUMBERS = Countdown(numbers=3, number_max=6, target_max=30)


class LegalPlay:
    """An evaluator that proposes a state's legal steps, equally probable, in a fixed order; every state is worth 0.4."""

    def __init__(self, task):
        self.task = task

    def begin(self, problems) -> mcts.Roots:
        self.problems = problems
        self.chains = [(tree, [], self.task.initial_state(problem)) for tree, problem in enumerate(problems)]
        self.orders: dict[int, list[str]] = {}
        n = len(problems)
        keys = [self._key(tree, state) for tree, _, state in self.chains]
        return mcts.Roots(np.arange(n), np.array(keys, np.uint64), np.full(n, 0.4, np.float32))

    def _key(self, tree: int, state) -> int:
        key = hashlib.blake2b(self.task.state_key(self.problems[tree], state), digest_size=8).digest()
        return int.from_bytes(key) or 1

    def expand(self, handles, n_candidates, draw="sample") -> mcts.Expansion:
        rows, counts, left = [], [], []
        for handle in handles.tolist():
            tree, steps, state = self.chains[handle]
            if handle not in self.orders:
                self.orders[handle] = list(self.task.legal_steps(self.problems[tree], state))
                self.orders[handle].reverse()
            order = self.orders[handle]
            total = len(self.task.legal_steps(self.problems[tree], state))
            counts.append(min(n_candidates, len(order)))
            for _ in range(counts[-1]):
                step = order.pop()
                verdict, after = self.task.advance(self.problems[tree], state, step)
                self.chains.append((tree, [*steps, step], after))
                key = self._key(tree, after) if after is not None else 0
                rows.append((len(self.chains) - 1, key, -math.log(total), verdict.reward, after is None))
            left.append(len(order) / total)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        handles_, keys, logprobs, rewards, ends = zip(*rows, strict=True)
        n, rewards = len(rows), np.array(rewards, np.float32)
        with np.errstate(divide="ignore"):
            unseen = np.log(np.array(left, np.float32))
        return mcts.Expansion(
            offsets, np.array(handles_, np.int64), np.array(keys, np.uint64), np.array(logprobs, np.float32),
            np.where(ends, rewards, np.float32(0.4)), rewards, np.array(ends), np.ones(n, bool),
            np.ones(n, np.int32), np.array(counts, np.int32), unseen, unseen,
        )  # fmt: skip

    def step(self, handle: int) -> Step:
        return self.history(handle)[-1]

    def history(self, handle: int) -> list[Step]:
        return [Step(text, tuple(self.task.encode(text))) for text in self.chains[handle][1]]

    def steps(self, handle: int) -> list[str]:
        return list(self.chains[handle][1])


def taught(task, problem, simulations, *, trust_value=True, **settings):
    """(result, targets, rows) of one searched problem."""
    config = ActorConfig(discount=task.discount, losing_rows=10**6, **settings)
    evaluator = LegalPlay(task)
    rule = mcts.Proportional(n_candidates=4, rollout=False)
    result = mcts.search(evaluator.begin([problem]), evaluator, rule, mcts.Budget(simulations=simulations), seed=3)
    targets = Targets.of(result.store, config.discount, trust_value=trust_value)
    builder = RowBuilder(task, WordCodec(task))
    rng = np.random.default_rng(0)
    search_rows(builder, task, problem, result, 0, targets, evaluator, config, rng, teach_policy=True)
    return result, targets, builder.rows()


def policy_rows(task, rows):
    """(lines, value of the first state) of every row that teaches a step; the first line is the context."""
    for tokens, weight, value in zip(rows.tokens, rows.weight, rows.value, strict=True):
        if (weight > 0).any():
            text = task.decode([token for token in tokens if token not in (BOS_ID, PAD_ID)])
            yield text.strip().split("\n"), value[~np.isnan(value)][0]


def board(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


PUZZLES = PUZZLE.problems("train", 3, seed=1)


@pytest.mark.parametrize("problem", PUZZLES, ids=lambda problem: problem.id)
def test_where_everything_was_explored_steps_and_values_are_exact(problem):
    result, _, rows = taught(PUZZLE, problem, 5000, rows_per_problem=10**6)
    assert result.status[0] == mcts.Status.CLOSED
    seen = 0
    for (context, step), value in policy_rows(PUZZLE, rows):
        state = board(context.split("|")[1])
        distance = PUZZLE.distance(problem, state)
        _, after = PUZZLE.advance(problem, state, step + "\n")
        assert (0 if after is None else PUZZLE.distance(problem, after)) == distance - 1
        assert value == pytest.approx(0.9**distance)
        seen += 1
    assert seen == 359  # 6! / 2 boards, all but the goal


@pytest.mark.parametrize("problem", PUZZLES, ids=lambda problem: problem.id)
@pytest.mark.parametrize("detour", [0, 2])
def test_a_detour_bounds_the_ways_that_teach(problem, detour):
    result, targets, every = taught(PUZZLE, problem, 150, rows_per_problem=10**6)
    _, _, near = taught(PUZZLE, problem, 150, rows_per_problem=10**6, detour=detour)
    root = targets.distance[result.roots[0]]
    assert root != mcts.UNREACHED
    live = targets.members[0]
    reached = live[targets.distance[live] != mcts.UNREACHED]
    through = result.store.nodes["depth"][reached] + targets.distance[reached]
    n_near = sum(1 for _ in policy_rows(PUZZLE, near))
    on_path = result.store.edges["parent"][result.solution_path(0)]
    within = through <= root + detour
    assert within.sum() <= n_near <= within.sum() + len(on_path)  # one shortest way is taught whatever its depths say
    assert n_near < sum(1 for _ in policy_rows(PUZZLE, every)) == len(reached)


def test_numbers_teach_distinct_whole_solutions():
    problem = NUMBERS.problems("train", 1)[0]
    _, _, rows = taught(NUMBERS, problem, 500, rows_per_problem=3)
    solutions = [tuple(step + "\n" for step in lines[1:]) for lines, _ in policy_rows(NUMBERS, rows)]
    assert 1 <= len(solutions) == len(set(solutions)) <= 3
    assert all(NUMBERS.verdict(problem, steps).reward == 1 for steps in solutions)


def n_shortest(result, targets, node: int) -> int:
    """Shortest ways from a node to a solution, by walking them all."""
    distance, store = targets.distance, result.store
    if distance[node] == 0:
        return 1
    ends = store.edges["child"][store.edges_of(node)]
    return sum(n_shortest(result, targets, int(end)) for end in ends if distance[end] == distance[node] - 1)


@pytest.mark.parametrize("problem", NUMBERS.problems("train", 6, seed=2), ids=lambda problem: problem.id)
def test_where_few_solutions_exist_every_one_is_taught(problem):
    result, targets, rows = taught(NUMBERS, problem, 500, rows_per_problem=64)
    ways = n_shortest(result, targets, int(result.roots[0]))
    assert targets.ways[result.roots[0]] == ways
    assert sum(1 for _ in policy_rows(NUMBERS, rows)) == ways < 64


@pytest.mark.parametrize(("trust_value", "most"), [(True, 0.2), (False, 0.0)])
def test_an_unsolved_tree_teaches_values_only(trust_value, most):
    """Half the search's own value 0.4 where it is trusted, else the outcome, which is 0."""
    result, _, rows = taught(PUZZLE, PUZZLES[0], 5, trust_value=trust_value)
    assert not result.solved[0]
    assert not (rows.weight > 0).any()
    assert len(rows)
    assert np.nanmax(rows.value) == pytest.approx(most)

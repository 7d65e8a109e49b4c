"""The trees that `bench.store` measures: ours, and what the field uses, each over the same tables of priors and values.

An engine plays `trees` searches of `simulations` each with `actions` children a node and returns (seconds of CPU time,
simulations, nodes visited or 0 where it does not say). What stands for the network costs as little as the engine's
interface allows: rows of a table. A peer that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from types import SimpleNamespace

import numpy as np

from mcts.forest import Forest
from mcts.forest_rules import TreeGumbel, TreePUCT

ROWS = 8192


@dataclass(frozen=True)
class World:
    """Tables of ROWS answers: priors float32 [ROWS, A], values float32 [ROWS]."""

    priors: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(actions: int) -> World:
        rng = np.random.default_rng(1)
        priors = rng.dirichlet(np.full(actions, 0.5), ROWS).astype(np.float32).clip(1e-6)
        return World(priors / priors.sum(1, keepdims=True), rng.random(ROWS, dtype=np.float32))

    def batches(self, size: int) -> list[slice]:
        return [slice(i, i + size) for i in range(0, ROWS - size + 1, size)]


Engine = Callable[[World, int, int], tuple[float, int, int]]  # (world, trees, simulations)


def ours(world: World, trees: int, simulations: int, rule: TreePUCT | TreeGumbel | None = None):
    """`Forest`, answers copied in place."""
    actions = world.priors.shape[1]
    rows = np.hstack((world.values[:, None], np.full((ROWS, 1), actions, np.float32), world.priors))
    batches = [rows[part] for part in world.batches(trees)]
    lanes = 4 if actions <= 4 else (actions + 7) // 8 * 8
    forest = Forest(trees, actions, simulations=simulations, rule=rule, capacity=trees * simulations * lanes)
    answers, step, visited, turn = forest.answers, forest.step, 0, 0
    started = process_time()
    while step():
        answers[:] = batches[turn % len(batches)]
        turn += 1
        visited += forest.visited
    return process_time() - started, trees * simulations, visited


def ours_gumbel(world: World, trees: int, simulations: int):
    return ours(world, trees, simulations, TreeGumbel())


def python(world: World, trees: int, simulations: int):
    """PUCT as every LLM tree-search repository writes it: one object a node."""

    class Node:
        __slots__ = ("children", "prior", "total", "visits")

        def __init__(self, prior: float):
            self.visits, self.total, self.prior = 0, 0.0, prior
            self.children: list[Node] = []

    priors, values = world.priors.tolist(), world.values.tolist()
    roots, row, visited = [Node(1.0) for _ in range(trees)], 0, 0
    started = process_time()
    for _ in range(simulations):
        for node in roots:
            path = [node]
            while node.children:
                factor = (math.log((1 + node.visits + 19652) / 19652) + 1.25) * math.sqrt(node.visits)
                best, high = node.children[0], -1.0
                for child in node.children:
                    score = factor * child.prior / (1 + child.visits)
                    if child.visits:
                        score += child.total / child.visits
                    if score > high:
                        best, high = child, score
                node = best
                path.append(node)
            node.children = [Node(p) for p in priors[row]]
            value = values[row]
            for node in path:
                node.visits += 1
                node.total += value
            visited += len(path)
            row = (row + 1) % ROWS
    return process_time() - started, trees * simulations, visited


@functools.cache
def _mctx(kind: str, actions: int, trees: int, simulations: int):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import jax
    import jax.numpy as jnp
    import mctx

    policy = {"muzero": mctx.muzero_policy, "gumbel": mctx.gumbel_muzero_policy}[kind]

    @jax.jit
    def run(key, logits, values):
        def step(params, rng, action, state):
            after = (state * 31 + 7 * action + 12345) % 1_000_003
            row = after % ROWS
            zeros = jnp.zeros(trees)
            return mctx.RecurrentFnOutput(zeros, zeros + 1, logits[row], values[row]), after

        states = jnp.arange(trees, dtype=jnp.int32)
        root = mctx.RootFnOutput(prior_logits=logits[states], value=values[states], embedding=states)
        return policy((), key, root, step, simulations).action_weights

    return run, jax


def _mctx_engine(kind: str, world: World, trees: int, simulations: int):
    run, jax = _mctx(kind, world.priors.shape[1], trees, simulations)
    arguments = (jax.random.PRNGKey(0), np.log(world.priors), world.values)
    run(*arguments).block_until_ready()
    started = process_time()
    run(*arguments).block_until_ready()
    return process_time() - started, trees * simulations, 0


def gumbel_mcts(world: World, trees: int, simulations: int):
    """gumbel-mcts (PyPI), its batched numba PUCT; states are one number, the model a table behind its torch interface."""
    import torch
    from gumbel_mcts.puct import PUCT  # ty: ignore[import-not-found]
    from numba import njit

    actions = world.priors.shape[1]

    @njit
    def fast_step(board, action, player):
        after = board.copy()
        after[0] = (board[0] * 31 + 7 * action + 12345) % 1_000_003
        return 0.0, 0, False, after

    @njit
    def get_valid_mask(board, player):
        return np.ones(actions, np.float32)

    logic = SimpleNamespace(
        NUM_ACTIONS=actions, BOARD_SHAPE=(1,), BOARD_DTYPE=np.int64, MAX_MOVES=1 << 20, MAX_LEGAL_MOVES=actions,
        PLAYER_1=1, PLAYER_2=1, fast_step=fast_step, get_valid_mask=get_valid_mask,
    )  # fmt: skip
    priors, values = torch.from_numpy(world.priors), torch.from_numpy(world.values)

    class Model:
        def forward_for_mcts(self, batch):
            row = batch["boards"][:, 0].long() % ROWS
            return {"policy": priors[row], "value": values[row]}

    def play():
        engine = PUCT(trees, trees * (simulations + 2), logic, device="cpu")
        engine.initialize_roots(range(trees), np.arange(trees)[:, None], np.ones(trees, np.int8))
        started = process_time()
        engine.run_simulation_batch(Model(), list(range(trees)), simulations)
        return process_time() - started

    play()
    return play(), trees * simulations, 0


def open_spiel(world: World, trees: int, simulations: int):
    """open_spiel's C++ MCTSBot on its smallest game that lasts, with the cheapest evaluator that it has in C++.

    It takes no tables: tree and game are its own, so this row shows an order of magnitude and nothing finer.
    """
    import pyspiel  # ty: ignore[import-not-found]

    game = pyspiel.load_game("connect_four")
    evaluator = pyspiel.RandomRolloutEvaluator(1, 0)
    bot = pyspiel.MCTSBot(game, evaluator, 1.25, simulations, 1000, False, 0, False)
    state = game.new_initial_state()
    started = process_time()
    for _ in range(trees):
        bot.step(state)
    return process_time() - started, trees * simulations, 0


ENGINES: dict[str, Engine] = {
    "ours": ours,
    "ours_gumbel": ours_gumbel,
    "mctx_muzero": functools.partial(_mctx_engine, "muzero"),
    "mctx_gumbel": functools.partial(_mctx_engine, "gumbel"),
    "gumbel_mcts": gumbel_mcts,
    "open_spiel": open_spiel,
    "python": python,
}

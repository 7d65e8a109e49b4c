"""The trees that `bench.speed.store` measures: ours, and what the field uses, each over the same tables of priors and values.

An engine plays `trees` searches of `simulations` each with `actions` children a node and returns (seconds of CPU time,
simulations, nodes visited or 0 where it does not say). What stands for the network costs as little as the engine's
interface allows: rows of a table. A peer that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from types import SimpleNamespace

import numpy as np

from mcts.forest.forest import Forest
from mcts.forest.rules import TreeGumbel, TreePUCT

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
    """`Forest`, answers copied in place. First plays of the parent's mean, as in LightZero and in `python`."""
    actions = world.priors.shape[1]
    rows = np.hstack((world.values[:, None], np.full((ROWS, 1), actions, np.float32), world.priors))
    batches = [rows[part] for part in world.batches(trees)]
    lanes = 4 if actions <= 4 else (actions + 7) // 8 * 8
    forest = Forest(trees, actions, simulations=simulations, rule=rule, capacity=trees * simulations * lanes)
    answers, turn = forest.answers, itertools.cycle(batches)
    started = process_time()
    while forest.step():
        answers[:] = next(turn)
    return process_time() - started, trees * simulations, forest.visited


def ours_zero(world: World, trees: int, simulations: int):
    """First plays of 0, as in gumbel-mcts, and as mctx's normalised ones: deeper paths than by the mean of the parent."""
    return ours(world, trees, simulations, TreePUCT(first_play=0.0))


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
                best, high, mean = node.children[0], -1.0, node.total / node.visits
                for child in node.children:
                    value = child.total / child.visits if child.visits else mean
                    score = value + factor * child.prior / (1 + child.visits)
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
            answer = mctx.RecurrentFnOutput(
                reward=zeros, discount=zeros + 1, prior_logits=logits[row], value=values[row]
            )
            return answer, after

        states = jnp.arange(trees, dtype=jnp.int32)
        root = mctx.RootFnOutput(prior_logits=logits[states], value=values[states], embedding=states)
        return policy((), key, root, step, simulations).action_weights

    return run, jax


def _mctx_engine(kind: str, world: World, trees: int, simulations: int):
    run, jax = _mctx(kind, world.priors.shape[1], trees, simulations)
    arguments = (jax.random.PRNGKey(0), np.log(world.priors), world.values)
    started = process_time()
    run(*arguments).block_until_ready()
    return process_time() - started, trees * simulations, 0


@functools.cache
def _gumbel_mcts_game(actions: int):
    """A game whose state is one number, as gumbel-mcts wants it; compiled once."""
    from numba import njit

    @njit
    def fast_step(board, action, player):
        after = board.copy()
        after[0] = (board[0] * 31 + 7 * action + 12345) % 1_000_003
        return 0.0, 0, False, after

    @njit
    def get_valid_mask(board, player):
        return np.ones(actions, np.float32)

    return SimpleNamespace(
        NUM_ACTIONS=actions, BOARD_SHAPE=(1,), BOARD_DTYPE=np.int64, MAX_MOVES=1 << 20, MAX_LEGAL_MOVES=actions,
        PLAYER_1=1, PLAYER_2=1, fast_step=fast_step, get_valid_mask=get_valid_mask,
    )  # fmt: skip


def gumbel_mcts(world: World, trees: int, simulations: int):
    """gumbel-mcts (PyPI), its batched numba PUCT; the model is a table behind its torch interface."""
    import torch

    peer = importlib.import_module("gumbel_mcts.puct")
    game = _gumbel_mcts_game(world.priors.shape[1])
    priors, values = torch.from_numpy(world.priors), torch.from_numpy(world.values)

    class Model:
        def forward_for_mcts(self, batch):
            row = batch["boards"][:, 0].long() % ROWS
            return {"policy": priors[row], "value": values[row]}

    engine = peer.PUCT(trees, trees * (simulations + 2), game, device="cpu")
    engine.initialize_roots(range(trees), np.arange(trees)[:, None], np.ones(trees, np.int8))
    started = process_time()
    engine.run_simulation_batch(Model(), list(range(trees)), simulations)
    return process_time() - started, trees * simulations, 0


@functools.cache
def _lightzero_tree():
    """The C++ tree alone: its package would import the whole of LightZero."""
    package = importlib.util.find_spec("lzero")
    for folder in (package.submodule_search_locations or []) if package else []:
        for path in Path(folder, "mcts", "ctree", "ctree_muzero").glob("mz_tree*.so"):
            spec = importlib.util.spec_from_file_location("mz_tree", path)
            if spec and spec.loader:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ImportError("LightZero is not installed: pip install --no-deps LightZero")


def lightzero(world: World, trees: int, simulations: int):
    """LightZero's C++ ctree_muzero, driven as its `MuZeroMCTSCtree.search` does, answers ready as the lists that it takes."""
    tree, actions = _lightzero_tree(), world.priors.shape[1]
    logits, zeros, nobody = np.log(world.priors), [0.0] * trees, [-1] * trees
    batches = [(world.values[part].tolist(), logits[part].tolist()) for part in world.batches(trees)]
    roots = tree.Roots(trees, [list(range(actions)) for _ in range(trees)])
    roots.prepare_no_noise(zeros, batches[0][1], nobody)
    bounds = tree.MinMaxStatsList(trees)
    bounds.set_delta(0.01)
    started = process_time()
    for simulation in range(simulations):
        results = tree.ResultsWrapper(num=trees)
        tree.batch_traverse(roots, 19652, 1.25, 0.997, bounds, results, nobody)
        values, policies = batches[simulation % len(batches)]
        tree.batch_backpropagate(simulation + 1, 0.997, zeros, values, policies, bounds, results, nobody)
    return process_time() - started, trees * simulations, 0


def open_spiel(world: World, trees: int, simulations: int):
    """open_spiel's C++ MCTSBot on `catch` (3 actions), on which it is fastest, with the cheapest evaluator that it has in C++.

    It takes no tables: tree and game are its own, so this row shows an order of magnitude and nothing finer.
    """
    pyspiel = importlib.import_module("pyspiel")
    game = pyspiel.load_game("catch")
    evaluator = pyspiel.RandomRolloutEvaluator(1, 0)
    bot = pyspiel.MCTSBot(game, evaluator, 1.25, simulations, 1000, False, 0, False)
    state = game.new_initial_state()
    state.apply_action(0)  # chance: where the fruit falls
    started = process_time()
    for _ in range(trees):
        bot.step(state)
    return process_time() - started, trees * simulations, 0


ENGINES: dict[str, Engine] = {
    "ours": ours,
    "ours_zero": ours_zero,
    "ours_gumbel": ours_gumbel,
    "mctx_muzero": functools.partial(_mctx_engine, "muzero"),
    "mctx_gumbel": functools.partial(_mctx_engine, "gumbel"),
    "gumbel_mcts": gumbel_mcts,
    "lightzero": lightzero,
    "open_spiel": open_spiel,
    "python": python,
}
RIVAL = {  # which of ours a peer is compared with: the same rule, or the nearest
    "mctx_muzero": "ours_zero", "mctx_gumbel": "ours_gumbel", "gumbel_mcts": "ours_zero", "lightzero": "ours",
    "open_spiel": "ours_zero", "python": "ours",
}  # fmt: skip

"""The tree against its peers, and against the memory it lives in; one core, all in one run.

    python -m bench store [run_dir=DIR] [rounds=3] [shapes=4x64x256,8x64x256] [largest=1e7] [turn=0.1] [peers=yes]
    pip install --no-deps gumbel-mcts open_spiel LightZero      the peers that the dev extra does not bring

Table of engines: actions x trees x simulations, simulations a second of CPU time; the engines take turns, each plays searches
for at least `turn` seconds, and the best of `rounds` turns counts (the noise of a shared machine only ever takes time).
`ours_over_this` compares like with like: `RIVAL` names ours for each. Growth: ns a visited node while a forest of 64 trees
grows to `largest` nodes, beside a pointer chase over as many bytes, in huge pages like ours. peers=no: ours
alone, in seconds: without peers, threads and picture. With run_dir: `store.json` and `store.png`.
"""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time

import numpy as np

from bench import command
from bench.speed.store_peers import ENGINES, RIVAL, Engine, World
from kit.jit import jit
from mcts import BestFirst, Budget, Expansion, Leaves, Roots, Store, resume
from mcts.forest.forest import Forest
from mcts.forest.layout import entry
from mcts.store.memory import Pages
from mcts.store.store import splitmix64

SHAPES = [  # (actions, trees, simulations)
    (4, 1, 256), (4, 16, 256), (4, 64, 64), (4, 64, 256), (4, 64, 1024), (4, 256, 256),
    (8, 1, 256), (8, 64, 256), (16, 64, 256), (32, 1, 256), (32, 64, 256),
]  # fmt: skip
SIZES = (1e3, 1e4, 1e5, 1e6, 3e6, 1e7)
OURS = "ours"  # how names of our engines begin


def _shapes(text: str) -> list[tuple[int, int, int]]:
    if text == "all":
        return SHAPES
    try:
        found = [tuple(map(int, shape.split("x"))) for shape in text.split(",")]
    except ValueError:
        found = []
    if not all(len(shape) == 3 and min(shape) > 0 for shape in found) or not found:
        raise command.UsageError(
            f"shapes={text}: write all, or ACTIONSxTREESxSIMULATIONS with commas between, as 4x64x256"
        )
    return [(actions, trees, simulations) for actions, trees, simulations in found]


def compare(shapes: list[tuple[int, int, int]], rounds: int, turn: float, peers: bool = True) -> list[dict]:
    """A row an engine and shape; engines that are not installed are named once and left out. `peers`: not ours alone."""
    engines, rows = {name: engine for name, engine in ENGINES.items() if peers or name.startswith(OURS)}, []
    for name in list(engines):
        try:
            engines[name](World.of(4), 1, 8)
        except ImportError as error:
            print(f"without {name}: {error}")
            del engines[name]
    for actions, trees, simulations in shapes:
        world, best = World.of(actions), {}
        for engine in engines.values():
            engine(world, trees, simulations)  # compile
        for _ in range(rounds):
            for name, engine in engines.items():
                seconds, played, visited = _turn(engine, world, trees, simulations, turn)
                speed = played / seconds
                if speed > best.get(name, (0.0, 0.0))[0]:
                    best[name] = speed, 1e9 * seconds / visited if visited else 0.0
        for name, (speed, per_visit) in best.items():
            ours = best[RIVAL.get(name, name)][0]
            rows.append(
                {
                    "engine": name, "actions": actions, "trees": trees, "simulations": simulations,
                    "sims_per_s": speed, "ns_per_visit": per_visit or None, "ours_over_this": ours / speed,
                }
            )  # fmt: skip
            print(
                f"A={actions:<3} B={trees:<4} {simulations:>5} simulations  {name:<12} {speed:>12,.0f}/s"
                f"  {f'{per_visit:.1f} ns/visit' if per_visit else '':<15} ours/this {ours / speed:>7.1f}"
            )
    return rows


def _turn(engine: Engine, world: World, trees: int, simulations: int, turn: float) -> tuple[float, int, int]:
    """Searches until a turn is over: (seconds, simulations, visited) of all."""
    seconds, played, visited = 0.0, 0, 0
    gc.collect()
    gc.disable()  # what a peer imports would be scanned again and again for another's garbage
    while seconds < turn:
        more = engine(world, trees, simulations)
        seconds, played, visited = seconds + more[0], played + more[1], visited + more[2]
    gc.enable()
    return seconds, played, visited


def growth(largest: float, rounds: int, trees: int = 64) -> tuple[list[dict], float]:
    """(ns a visited node over the last tenth of the growth to each size up to `largest` nodes, bytes a node).

    Best of `rounds`; in each, forests are grown to a size until their windows make 1e6 nodes, the first without being counted.
    """
    world, points, nbytes = World.of(4), [], 0.0
    rows = np.hstack((world.values[:, None], np.full((len(world.values), 1), 4, np.float32), world.priors))
    turn = itertools.cycle([rows[part] for part in world.batches(trees)])
    for size in (s for s in SIZES if s <= largest):
        _last_tenth(size, trees, turn)
        best = {"ns_per_visit": np.inf, "path": 0.0}
        for _ in range(rounds):
            windows = [_last_tenth(size, trees, turn) for _ in range(max(1, int(1e6 / size)))]
            seconds, visited, played, nbytes = np.sum(windows, 0)
            nbytes /= len(windows)
            found = {"ns_per_visit": 1e9 * seconds / visited, "path": visited / played / trees}
            best = min(best, found, key=lambda each: each["ns_per_visit"])
        points.append({"nodes": int(size), **best})
        print(f"{int(size):>12,} nodes: {best['ns_per_visit']:.1f} ns a visited node, paths of {best['path']:.1f}")
    return points, nbytes


def _last_tenth(size: float, trees: int, turn: Iterator[np.ndarray]) -> tuple[float, int, int, float]:
    """Grow a forest to `size` nodes: (seconds, nodes visited, rounds) of the last tenth, bytes a node."""
    forest = Forest(trees, 4, capacity=int(1.01 * size) + 8 * trees)
    answers, step = forest.answers, forest.step
    while forest.n_nodes < 0.9 * size:
        step()
        answers[:] = next(turn)
    before, played = forest.visited, max(1, (int(size) - forest.n_nodes) // (4 * trees))
    started = process_time()
    for _ in range(played):
        step()
        answers[:] = next(turn)
    return process_time() - started, forest.visited - before, played, forest.nbytes / forest.n_nodes


@jit
def _chase(chain, hops):
    at = 0
    for _ in range(hops):
        at = chain[at]
    return at


def chase(largest: float, rounds: int) -> list[dict]:
    """ns a dependent hop through one random cycle over as many 64-byte lines as the forest of each size; best of `rounds`."""
    points = []
    for size in (s for s in SIZES if s <= largest):
        lines = int(size) // 4
        pages = Pages(16 * lines)
        chain = pages.words
        order = np.random.default_rng(0).permutation(lines).astype(np.int32)
        chain[16 * order] = 16 * np.roll(order, -1)
        hops = 200_000
        _chase(chain, hops)
        times = []
        for _ in range(rounds):
            started = process_time()
            _chase(chain, hops)
            times.append(process_time() - started)
        points.append({"nodes": 4 * lines, "ns_per_hop": 1e9 * min(times) / hops})
        print(f"{4 * lines:>12,} nodes' bytes: {points[-1]['ns_per_hop']:.1f} ns a dependent hop")
    return points


@jit
def _nothing(address):
    return address


def round_microseconds(simulations: int = 256, repeats: int = 60) -> tuple[float, float]:
    """Wall time of one round of one tree as Python calls it: (`Forest.step` less an empty compiled call, the empty call)."""
    best, empty_call = {"step": np.inf, "empty": np.inf}, entry(_nothing)
    for _ in range(repeats):
        for kind in best:
            forest = Forest(1, 4, simulations=10**6, capacity=8 * simulations)
            forest.step()
            forest.answer([[0.4, 0.3, 0.2, 0.1]], [0.5])
            call, address = forest.step, id(forest)
            started = time.perf_counter()
            if kind == "step":
                for _ in range(simulations):
                    call()
            else:
                for _ in range(simulations):
                    empty_call(address)
            best[kind] = min(best[kind], 1e6 * (time.perf_counter() - started) / simulations)
    return best["step"] - best["empty"], best["empty"]


def cached_start() -> float:
    """Seconds from `import numba` done to the first wave of a forest, in a fresh process with warm caches; best of 5."""
    code = (
        "import numba, numpy, time; t = time.perf_counter(); from mcts.forest.forest import Forest; "
        "Forest(1, 4).step(); print(time.perf_counter() - t)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


@jit
def _arithmetic(n):
    total = 1
    for i in range(n):
        total = (total * 31 + i) % 1_000_003
    return total


def two_threads(trees: int, searches: int, rounds: int, simulations: int = 256) -> tuple[float, float]:
    """Wall time of one thread that plays `trees` trees over that of two with half of them each; and the same of a control,
    compiled arithmetic in calls of a tenth of a millisecond: what the machine has to give. In turns, best of `rounds`.
    """
    world = World.of(4)
    rows = np.hstack((world.values[:, None], np.full((len(world.values), 1), 4, np.float32), world.priors))

    def play(share: int) -> None:
        batches = [rows[part] for part in world.batches(share)]
        for _ in range(searches):
            forest, turn = (
                Forest(share, 4, simulations=simulations, capacity=5 * share * simulations),
                itertools.cycle(batches),
            )
            while forest.step():
                forest.answers[:] = next(turn)

    def calculate(share: int) -> None:
        for _ in range(searches * simulations * share // trees):
            _arithmetic(20_000)

    best: dict = {}
    for _ in range(rounds):
        for work, n in itertools.product((play, calculate), (1, 2)):
            threads = [threading.Thread(target=work, args=(trees // n,)) for _ in range(n)]
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            best[work, n] = min(best.get((work, n), np.inf), time.perf_counter() - started)
    return best[play, 1] / best[play, 2], best[calculate, 1] / best[calculate, 2]


class _Steps:
    """`n` states with keys, 32 steps each to any of them: nearly every candidate is a state that is known."""

    def __init__(self, n: int):
        self.n = n

    def begin(self, problems: Sequence[int]) -> Roots:
        return Roots(np.zeros(1, np.int64), np.ones(1, np.uint64), np.full(1, 0.5, np.float32))

    def expand(self, handles: np.ndarray, n_candidates: int, draw: str = "sample") -> Expansion:
        k, leaves = 32, len(handles)
        after = ((handles[:, None] * 2654435761 + np.arange(k) * 40503 + 17) % self.n).ravel()
        c = leaves * k
        half, none = np.full(c, 0.5, np.float32), np.full(leaves, -np.inf, np.float32)
        return Expansion(
            np.arange(leaves + 1) * k, after, splitmix64(after) | np.uint64(1), half - 4, half, 0 * half,
            np.zeros(c, np.bool_), np.ones(c, np.bool_), np.ones(c, np.int32), np.full(leaves, k, np.int32), none, none,
        )  # fmt: skip


class _TimedStore(Store):
    """Counts the seconds of its inserts."""

    seconds = 0.0

    def insert(self, leaves: Leaves, expansion: Expansion) -> int:
        started = process_time()
        try:
            return super().insert(leaves, expansion)
        finally:
            self.seconds += process_time() - started


def merges_a_second(states: int = 20_000, repeats: int = 3) -> float:
    """Candidates a second that `Store.insert` merges into known states, in a graph of 160,000 edges; best of `repeats`."""
    rates = []
    for _ in range(1 + repeats):
        steps = _Steps(states)
        store = _TimedStore.plant(steps.begin([0]))
        resume(store, steps, BestFirst(n_candidates=32), Budget(simulations=states // 4), wave_size=64)
        rates.append((store.n_edges - store.n_nodes + 1) / store.seconds)
    return max(rates[1:])


def main(
    run_dir: str = "", rounds: int = 3, shapes: str = "all", largest: float = 1e7, turn: float = 0.1, peers: str = "yes"
) -> dict:
    """Measure, print, and with `run_dir` write store.json and, with peers, store.png.

    Raises:
        UsageError: a shape is no ACTIONSxTREESxSIMULATIONS, or `peers` neither yes nor no.
    """
    command.one_of("peers", peers, command.YES_NO)
    result: dict = {"rows": compare(_shapes(shapes), rounds, turn, peers == "yes")}
    command.save(result, run_dir, "store")  # should the rest be cut
    result["growth"], result["bytes_per_node"] = growth(largest, rounds)
    result["chase"] = chase(largest, rounds)
    result["cached_start_s"] = cached_start()
    result["round_us"], result["empty_call_us"] = round_microseconds()
    result["merges_per_s"] = merges_a_second()
    for trees in (128, 2048) if peers == "yes" else ():
        name = f"two_threads_over_one_{trees}_trees"
        result[name], result[f"{name}_control"] = two_threads(trees, max(1, int(40 * turn)), 3 * rounds)
    for name, number in result.items():
        if isinstance(number, float):
            print(f"{name:<36} {number:,.3f}")
    result["figures"] = figures(result)
    command.save(result, run_dir, "store")
    if run_dir and peers == "yes":
        plot(result, Path(run_dir) / "store.png")
    return result


def figures(result: dict) -> dict[str, float]:
    """What of ours `bench paired` compares."""
    found = {
        f"{row['engine']}_{row['actions']}x{row['trees']}x{row['simulations']}_sims_per_s": row["sims_per_s"]
        for row in result["rows"]
        if row["engine"].startswith(OURS)
    }
    for point in result["growth"]:
        size = f"{point['nodes']:.0e}".replace("e+0", "e")  # 1e6
        found[f"grown_{size}_visit_ns"] = point["ns_per_visit"]
    found["node_bytes"] = result["bytes_per_node"]
    return found | {name: result[name] for name in ("merges_per_s", "cached_start_s", "round_us")}


def plot(result: dict, path: Path) -> None:
    """Growth beside the pointer chase, and how often ours is faster than each engine."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    left.plot(
        *zip(*((p["nodes"], p["ns_per_visit"]) for p in result["growth"]), strict=True),
        "o-",
        label="a visited node, 64 trees",
    )
    left.plot(
        *zip(*((p["nodes"], p["ns_per_hop"]) for p in result["chase"]), strict=True),
        "s--",
        label="a dependent hop, same bytes",
    )
    left.set(xscale="log", xlabel="nodes", ylabel="ns", ylim=(0, None))
    left.legend(frameon=False)
    shown = max(result["rows"], key=lambda row: (row["trees"] == 64, row["actions"] == 4, row["simulations"] == 256))
    shape = {name: shown[name] for name in ("actions", "trees", "simulations")}
    bars = [row for row in result["rows"] if shape.items() <= row.items() and not row["engine"].startswith("ours")]
    drawn = right.barh([row["engine"] for row in bars], [row["ours_over_this"] for row in bars], color="0.6")
    right.bar_label(drawn, fmt="%.3gx", padding=3)
    words = ", ".join(f"{number} {name}" for name, number in shape.items())
    right.set(xscale="log", xlabel="times as many simulations a second", title=words)
    right.set_xlim(min(1, *right.get_xlim()), 2 * right.get_xlim()[1])
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)

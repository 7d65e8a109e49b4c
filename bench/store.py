"""The tree against its peers, and against the memory it lives in; one core, all in one run.

    python -m bench store [run_dir=DIR] [rounds=3] [quick=1]
    python -m bench.store                      the same

Table of engines: actions x trees x simulations, simulations a second of CPU time, the engines alternating, best of `rounds`
(the noise of a shared machine only ever takes time). `ours_over_this` compares Gumbel with Gumbel, PUCT with all others.
Growth: ns a visited node while a forest of 64 trees grows, beside a pointer chase over as many bytes, in huge pages like ours.
With run_dir: `results.json` and `store.png`. quick=1: two shapes and 1e6 nodes, a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from time import process_time

import numpy as np
from numba import njit

from bench import command
from bench.store_peers import ENGINES, World
from mcts import forest_kernels
from mcts.forest import Forest
from mcts.memory import huge_pages

SHAPES = [  # (actions, trees, simulations)
    (4, 1, 256), (4, 16, 256), (4, 64, 64), (4, 64, 256), (4, 64, 1024), (4, 256, 256),
    (8, 1, 256), (8, 64, 256), (16, 64, 256), (32, 1, 256), (32, 64, 256),
]  # fmt: skip
QUICK = [(4, 1, 256), (4, 64, 256)]
SIZES = (1e3, 1e4, 1e5, 1e6, 3e6, 1e7)
GUMBEL = ("ours_gumbel", "mctx_gumbel")


def compare(shapes: list[tuple[int, int, int]], rounds: int) -> list[dict]:
    """A row an engine and shape; engines that are not installed are named once and left out."""
    engines, rows = dict(ENGINES), []
    for name in ENGINES:
        try:
            engines[name](World.of(4), 1, 8)
        except ImportError as error:
            print(f"without {name}: {error}")
            del engines[name]
    for actions, trees, simulations in shapes:
        world, best = World.of(actions), {}
        for _ in range(rounds):
            for name, engine in engines.items():
                seconds, played, visited = engine(world, trees, simulations)
                speed = played / max(seconds, 1e-9)
                if speed > best.get(name, (0.0, 0.0))[0]:
                    best[name] = speed, 1e9 * seconds / visited if visited else 0.0
        for name, (speed, per_visit) in best.items():
            ours = best["ours_gumbel" if name in GUMBEL else "ours"][0]
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


def growth(largest: float, trees: int = 64) -> tuple[list[dict], float]:
    """(ns a visited node at sizes up to `largest` nodes, the last tenth of the growth to each; bytes a node)."""
    world, points = World.of(4), []
    rows = np.hstack((world.values[:, None], np.full((len(world.values), 1), 4, np.float32), world.priors))
    batches = [rows[part] for part in world.batches(trees)]
    forest = Forest(trees, 4, capacity=int(1.01 * largest) + 8 * trees)
    turn, forest_step = 0, forest.step
    for size in (s for s in SIZES if s <= largest):
        while forest.n_nodes < 0.9 * size:
            forest_step()
            forest.answers[:] = batches[turn % len(batches)]
            turn += 1
        visited, played = 0, max(1, (int(size) - forest.n_nodes) // (4 * trees))
        started = process_time()
        for _ in range(played):
            forest_step()
            forest.answers[:] = batches[turn % len(batches)]
            turn += 1
            visited += forest.visited
        seconds = process_time() - started
        points.append(
            {"nodes": forest.n_nodes, "ns_per_visit": 1e9 * seconds / visited, "path": visited / played / trees}
        )
        point = points[-1]
        print(
            f"{forest.n_nodes:>12,} nodes: {point['ns_per_visit']:.1f} ns a visited node, paths of {point['path']:.1f}"
        )
    return points, forest.nbytes / forest.n_nodes


@njit(cache=True)
def _chase(chain, hops):
    at = 0
    for _ in range(hops):
        at = chain[at]
    return at


def chase(largest: float) -> list[dict]:
    """ns a dependent hop through one random cycle over as many 64-byte lines as the forest of each size has."""
    points = []
    for size in (s for s in SIZES if s <= largest):
        lines = int(size) // 4
        chain = huge_pages(16 * lines)
        order = np.random.default_rng(0).permutation(lines).astype(np.int32)
        chain[16 * order] = 16 * np.roll(order, -1)
        hops = 200_000
        _chase(chain, hops)
        started = process_time()
        _chase(chain, hops)
        points.append({"nodes": 4 * lines, "ns_per_hop": 1e9 * (process_time() - started) / hops})
        print(f"{4 * lines:>12,} nodes' bytes: {points[-1]['ns_per_hop']:.1f} ns a dependent hop")
    return points


@njit("int64(int32[::1], int32[::1], int32[::1], float32[:, ::1], float32[:, ::1], int32[:, ::1])", cache=True)
def _nothing(lines, parents, work, answers, bases, halving):
    return 0


def round_microseconds(simulations: int = 256, repeats: int = 40) -> dict[str, float]:
    """One round of one tree, wall time, best of `repeats` searches: the kernel less an empty call, and `Forest.step` whole."""
    best = {"kernel": np.inf, "empty": np.inf, "step": np.inf}
    for _ in range(repeats):
        for kind in best:
            forest = Forest(1, 4, simulations=10**6, capacity=8 * simulations)
            forest.step()
            forest.answer([[0.4, 0.3, 0.2, 0.1]], [0.5])
            call = {"kernel": forest_kernels.play, "empty": _nothing, "step": None}[kind]
            arrays = forest.arrays()
            started = time.perf_counter()
            if call is None:
                for _ in range(simulations):
                    forest.step()
            else:
                for _ in range(simulations):
                    call(*arrays)
            best[kind] = min(best[kind], 1e6 * (time.perf_counter() - started) / simulations)
    return {"over_empty_call": best["kernel"] - best["empty"], "step": best["step"]}


def cached_start() -> float:
    """Seconds from `import numba` done to the first wave of a forest, in a fresh process with warm caches; best of 5."""
    code = (
        "import numba, numpy, time; t = time.perf_counter(); from mcts.forest import Forest; "
        "Forest(1, 4).step(); print(time.perf_counter() - t)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def two_threads(simulations: int = 4000, trees: int = 64) -> float:
    """Wall time of one thread for 2 x `trees` trees over that of two threads with `trees` each; the best of 3."""
    world = World.of(4)
    rows = np.hstack((world.values[:, None], np.full((len(world.values), 1), 4, np.float32), world.priors))
    batches = [rows[part] for part in world.batches(trees)]

    def play() -> None:
        forest, turn = Forest(trees, 4, simulations=simulations, capacity=5 * trees * simulations), 0
        while forest.step():
            forest.answers[:] = batches[turn % len(batches)]
            turn += 1

    ratios = []
    for _ in range(3):
        started = time.perf_counter()
        play()
        play()
        one = time.perf_counter() - started
        threads = [threading.Thread(target=play) for _ in range(2)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ratios.append(one / (time.perf_counter() - started))
    return max(ratios)


def main(run_dir: str = "", rounds: int = 3, quick: int = 0) -> dict:
    """Measure, print, and with `run_dir` write results.json and store.png."""
    largest = 1e6 if quick else SIZES[-1]
    result: dict = {"rows": compare(QUICK if quick else SHAPES, rounds)}
    result["growth"], result["bytes_per_node"] = growth(largest)
    result["chase"] = chase(largest)
    result["cached_start_s"] = cached_start()
    timing = round_microseconds()
    result["round_us"], result["step_us"] = timing["over_empty_call"], timing["step"]
    result["two_threads_over_one"] = two_threads(500 if quick else 4000)
    for name in ("bytes_per_node", "cached_start_s", "round_us", "step_us", "two_threads_over_one"):
        print(f"{name:<22} {result[name]:.3f}")
    if run_dir:
        (Path(run_dir) / "results.json").write_text(json.dumps(result, indent=1) + "\n")
        plot(result, Path(run_dir) / "store.png")
    return result


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
    bars = [row for row in result["rows"] if (row["actions"], row["trees"], row["simulations"]) == (4, 64, 256)]
    bars = [row for row in bars if not row["engine"].startswith("ours")]
    right.barh([row["engine"] for row in bars], [row["ours_over_this"] for row in bars], color="0.6")
    right.set(xscale="log", xlabel="times as many simulations a second (4 actions, 64 trees, 256 simulations)")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(command.run(main, sys.argv[1:]))

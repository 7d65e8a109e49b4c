"""Many trees of packed records, for evaluators that answer in microseconds: a table, a small net, a simulator.

`Store` is the graph of states that a language model's search grows: equal states merge, candidates are drawn in portions,
each expansion costs milliseconds. A `Forest` is the other end: a node's children are known when it is expanded, nothing
merges, and a simulation costs about 15 ns a visited node. 18 bytes a node, its parent's included; see `forest_layout`.

    forest = Forest(n_trees=64, n_actions=4, simulations=256)
    while forest.step():                                 # one compiled call: backup of the last wave, the next one
        priors, values = net(states[forest.nodes])       # [L, A], [L]
        forest.answer(priors, values)

The caller keeps its own state of a node under the node's id; `parents` and `actions` say where a new leaf comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from mcts.forest import kernels, layout
from mcts.forest.layout import LINE, MAX_LANES
from mcts.forest.records import Block, Records
from mcts.forest.rules import TreeGumbel, TreePUCT
from mcts.gumbel_formulas import completed_q, halving_table

_NO_LIMIT = np.iinfo(np.int32).max
_DEPTH_ROOM = 64  # records of a path to make room for at first
_MAX_LINES = 1 << 26  # of a link's 26 bits


class ForestError(ValueError):
    """An answer or a setting that cannot be used; one line that names the mend. The forest is as it was before."""


def _of_leaves(which: int, doc: str) -> Any:
    return property(lambda forest: forest._section(which, forest.leaves), doc=doc)


class Forest:
    """Trees of one search, and the wave under way. T trees, A actions, L leaves of the wave.

    leaves: L, nodes to be evaluated. n_trees, n_actions, rule: as given.
    """

    def __init__(
        self,
        n_trees: int,
        n_actions: int,
        *,
        simulations: int | np.ndarray | None = None,
        rule: TreePUCT | TreeGumbel | None = None,
        seed: int = 0,
        noise: npt.ArrayLike | None = None,
        wave: int = 1,
        slots: int | None = None,
        capacity: int = 1 << 12,
    ):
        """A forest of unexpanded roots, whose ids are 0, 4, 8, ...

        Args:
            n_actions: most children of a node.
            simulations: limit of each tree, the evaluation of the root included, or int [T], one each; None: no limit.
            seed: of the Gumbel noise, one draw for each tree and action.
            noise: float32 [T, A], Gumbel noise drawn elsewhere.
            wave: leaves of one tree in a round. A descent to a leaf that waits already ends the tree's round, untaken; a tree
                all of whose descents in a round end in terminals is done.
            slots: leaves of a round over all trees, None: T * wave. With fewer, trees take turns; a tree is always served
                with its whole wave, so that it does not depend on the others.
            capacity: nodes to make room for at once; grows by doubling.

        Raises:
            ForestError: a setting outside its range.
        """
        rule = rule or TreePUCT()
        slots = n_trees * wave if slots is None else slots
        if simulations is not None and np.shape(simulations) not in ((), (n_trees,)):
            raise ForestError(f"simulations must be one number, or one for each of the {n_trees} trees")
        limits = _NO_LIMIT if simulations is None else simulations
        for name, value, low, high in (
            ("n_trees", n_trees, 1, 1 << 22),
            ("n_actions", n_actions, 1, MAX_LANES),
            ("wave", wave, 1, 1 << 20),
            ("slots", slots, wave, 1 << 22),
            ("simulations", limits, 0, _NO_LIMIT),
        ):
            if not (low <= np.min(value) and np.max(value) <= high):
                more = "; mcts.search takes any number of candidates" if name == "n_actions" and value > high else ""
                raise ForestError(f"{name}={value} must lie in {low}..{high}{more}")
        if (gumbel := isinstance(rule, TreeGumbel)) and not isinstance(simulations, int):
            raise ForestError("Gumbel halves a fixed number of simulations: give simulations=, one number")
        self.n_trees, self.n_actions, self.rule, self._limit = n_trees, n_actions, rule, int(np.max(limits))
        self._given = isinstance(rule, TreePUCT) and rule.first_play == "given"
        self._lanes = 4 if n_actions <= 4 else (n_actions + 7) // 8 * 8
        columns = 2 + n_actions * (2 if self._given else 1)
        room = np.zeros(slots * columns + 8, np.float32)  # rows are read in whole vectors
        self._answers = room[: slots * columns].reshape(slots, columns)
        self._cells = np.split(self._answers, [1, 2, 2 + n_actions], 1)  # value | children | priors | first plays
        self._cells[0], self._cells[1] = self._answers[:, 0], self._answers[:, 1]
        self._uneven = True  # the cells of children may say something else than A
        self._records = Records(n_trees, max(capacity // 4, 1) + n_trees, touch=True)
        self._work = np.zeros(layout.work_words(n_trees, slots, _DEPTH_ROOM), np.int32)
        self._begin(slots, wave, limits)
        self._bases, self._halving = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32)
        if isinstance(rule, TreeGumbel):
            drawn = np.random.default_rng(seed).gumbel(size=(n_trees, n_actions)) if noise is None else noise
            self._bases = np.zeros((n_trees, self._lanes), np.float32)
            if np.shape(drawn) != (n_trees, n_actions) or not np.isfinite(drawn).all():
                raise ForestError(f"noise must be finite numbers [{n_trees}, {n_actions}]")
            self._bases[:, :n_actions] = rule.gumbel_scale * np.asarray(drawn)
            self._halving = halving_table(min(rule.max_considered, n_actions), max(self._limit - 1, 1))
        self._play = layout.entry(kernels.play_gumbel if gumbel else kernels.play_puct)
        self.leaves = 0
        self._point()

    def _point(self) -> None:
        """Tell the kernels where the arrays are."""
        work, records = self._work, self._records
        arrays = (records.lines, records.parents, self._answers, self._bases, self._halving)
        work[: 2 * len(arrays)].view(np.int64)[:] = [array.ctypes.data for array in arrays]
        work[layout.MOST_LINES] = records.n_lines
        work[layout.BASE_COLUMNS], work[layout.HALVING_COLUMNS] = self._bases.shape[1], self._halving.shape[1]
        self._address = work.ctypes.data

    def _begin(self, slots: int, wave: int, limits: int | np.ndarray) -> None:
        work = self._work
        work[layout.TOP] = work[layout.TREES] = self.n_trees
        work[layout.WIDTH], work[layout.SLOTS], work[layout.WAVE] = self.n_actions, slots, wave
        work[layout.DEPTH_ROOM], work[layout.COLUMNS] = _DEPTH_ROOM, self._answers.shape[1]
        work[layout.NEW_LINES] = slots * self._lanes // 4
        self.rule.write(work)
        self._section(layout.OF_LIMITS, self.n_trees)[:] = limits

    # ---- a round

    def step(self) -> bool:
        """Carry up the answers of the wave under way and select the next; False if there is nothing left to evaluate.

        Raises:
            ForestError: an answer that cannot be used, or no room for more nodes. Nothing has changed: answer again.
        """
        while (found := self._play(self._address)) < 0:
            if found != layout.NO_ROOM:
                self._refuse(-2 - found)
            self._make_room()
        self.leaves = found
        return found > 0

    def answer(
        self,
        priors: npt.ArrayLike,
        values: npt.ArrayLike,
        *,
        counts: npt.ArrayLike | None = None,
        terminal: npt.ArrayLike | None = None,
        first_play: npt.ArrayLike | None = None,
    ) -> None:
        """What the evaluator says of the wave's leaves. Entered by the next `step`; until then it may be given again.

        Args:
            priors: float32 [L, A], in 0..1e30 and not all 0; not normalised here.
            values: float32 [L] in [0, 1]; the reward of a terminal.
            counts: [L], children of each leaf, the first `counts` of its priors; None: A.
            terminal: bool [L]; None: none is.
            first_play: float32 [L, A] in [0, 1], for the rule's first_play="given".

        Raises:
            ForestError: a shape does not fit the wave, or first plays are missing.
        """
        wide, cells = self.n_actions, self._cells
        if (leaves := self.leaves) < len(self._answers):
            cells = [part[:leaves] for part in cells]
        try:
            cells[0][:], cells[2][:] = values, priors
            if self._uneven or counts is not None or terminal is not None:
                self._cells[1][:], self._uneven = wide, counts is not None or terminal is not None
                cells[1][:] = wide if counts is None else counts
                if terminal is not None:
                    cells[1][np.asarray(terminal, np.bool_)] = -1.0
            if self._given:
                cells[3][:] = np.nan if first_play is None else first_play
        except (ValueError, IndexError) as error:
            raise ForestError(f"answers for {leaves} leaves of {wide} actions are needed: {error}") from None
        if self._given and not ((cells[3] >= 0) & (cells[3] <= 1)).all():
            raise ForestError("first_play='given' needs first_play in [0, 1] for every action")

    def cancel(self) -> None:
        """Take the wave under way back, as if it had not been selected: the evaluator failed and will not be asked again.

        Totals are as before to the last bit if the rule's `pending_value` is 0, else to rounding.
        """
        layout.entry(kernels.cancel)(self._address)
        self.leaves = 0

    def search(self, evaluate: Callable[[Forest], tuple[npt.ArrayLike, npt.ArrayLike]]) -> Forest:
        """Play rounds until every tree is at its limit. `evaluate(forest)` returns (priors [L, A], values [L]).

        An evaluator that raises leaves the forest without its last wave, and usable.
        """
        while self.step():
            try:
                self.answer(*evaluate(self))
            except BaseException:
                self.cancel()
                raise
        return self

    # ---- the wave under way: views, valid until the next call

    @property
    def answers(self) -> np.ndarray:
        """What `answer` fills, for evaluators that write in place: float32 [slots, 2 + A (+ A)], a row a leaf.

        Columns: value; number of children, -1 for a terminal; priors; first plays where the rule takes them.
        """
        self._uneven = True
        return self._answers

    @property
    def visited(self) -> int:
        """Nodes on the paths of all descents so far."""
        return int(self._work[layout.VISITED : layout.VISITED + 2].view(np.int64)[0])

    nodes = _of_leaves(layout.OF_NODE, "Ids of the leaves, int32 [L].")
    parents = _of_leaves(layout.OF_PARENT, "Ids of their parents, -1 for a root, int32 [L].")
    actions = _of_leaves(layout.OF_ACTION, "Which child of its parent each leaf is, int32 [L].")
    trees = _of_leaves(layout.OF_TREE, "Trees of the leaves, int32 [L].")
    depths = _of_leaves(layout.OF_DEPTH, "Edges between root and leaf, int32 [L].")

    # ---- what was found

    @property
    def simulations(self) -> np.ndarray:
        """Descents of each tree, those under way included, int32 [T]; a copy."""
        return self._section(layout.OF_SIMULATIONS, self.n_trees).copy()

    @property
    def n_nodes(self) -> int:
        """Ids in use; a block of children takes a multiple of four."""
        return 4 * self._top

    @property
    def nbytes(self) -> int:
        """Bytes of the records in use, parents included."""
        return 18 * self.n_nodes

    def children(self, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids int32, visits int32, Q float32) of a node's children, [K]; empty for a leaf. Q without a visit: first play.

        Raises:
            ForestError: no such node.
        """
        if not 0 <= node < self.n_nodes:
            raise ForestError(f"node {node} is not among the {self.n_nodes} of this forest")
        if (block := self._records.block(node, self._top)) is None:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
        q = np.where(block.visits > 0, block.totals / np.maximum(block.visits, 1), self._first_plays(block))
        return block.ids, block.visits, q.astype(np.float32)

    def _first_plays(self, block: Block) -> np.ndarray | np.float32:
        rule = self.rule
        if self._given:
            return block.totals
        if isinstance(rule, TreeGumbel):
            return np.float32(0)
        if not isinstance(rule.first_play, str):
            return np.float32(rule.first_play)
        value = {"mean": block.mean, "parent": block.raw}[rule.first_play]
        return max(value - np.float32(rule.first_play_reduction), np.float32(0))

    def root_visits(self) -> np.ndarray:
        """Visits of the roots' children, int32 [T, A]; 0 where a root has fewer."""
        out = np.zeros((self.n_trees, self.n_actions), np.int32)
        for tree in range(self.n_trees):
            visits = self.children(4 * tree)[1]
            out[tree, : len(visits)] = visits
        return out

    def best_actions(self) -> np.ndarray:
        """The action that each tree's rule takes, int32 [T]; -1 for a root without children.

        PUCT: the most visited, then the highest Q. Gumbel: the highest g + log P + sigma(Q) among the most visited.
        """
        return np.array([self._best_action(tree) for tree in range(self.n_trees)], np.int32)

    def _best_action(self, tree: int) -> int:
        _, visits, q = self.children(4 * tree)
        block = self._records.block(4 * tree, self._top)
        if block is None:
            return -1
        score = q.astype(np.float64)
        if isinstance(self.rule, TreeGumbel):
            sigma = completed_q(
                np.log(block.priors.astype(np.float64)), visits, score, float(block.raw),
                value_scale=self.rule.value_scale, maxvisit_init=self.rule.maxvisit_init,
            )  # fmt: skip
            score = self._bases[tree, : len(visits)] + sigma
        return int(np.argmax(np.where(visits == visits.max(), score, -np.inf)))

    def reroot(self, nodes: npt.ArrayLike) -> np.ndarray:
        """Keep of tree t what lies below `nodes[t]`, which becomes its root: tree reuse after a move.

        Simulations are counted anew, from the visits that are kept. Returns int32 [n_nodes before]: the new id of each node,
        or -1 for what is gone, so that the caller can move its own states.

        Raises:
            ForestError: a wave is under way, a node is not in its tree, or the rule is Gumbel's.
        """
        roots = np.ascontiguousarray(nodes, np.int32)
        if isinstance(self.rule, TreeGumbel):
            raise ForestError("halving counts visits from none: begin a new forest at the move, or search by PUCT")
        if self.leaves:
            raise ForestError("a wave is under way: step() or cancel() before reroot()")
        if roots.shape != (self.n_trees,) or roots.min() < 0 or roots.max() >= self.n_nodes:
            raise ForestError(f"reroot() needs one node of each of the {self.n_trees} trees")
        for tree, node in enumerate(roots.tolist()):
            if (found := self._records.tree_of(node, self._top)) != tree:
                raise ForestError(f"node {node} is in tree {found}, not {tree}")
        self._records, moved, self._work[layout.TOP] = self._records.below(roots, self._top)
        self._point()
        self._section(layout.OF_SIMULATIONS, self.n_trees)[:] = self._records.lines[: self.n_trees * LINE : LINE]
        return moved

    # ---- as arrays

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """(arrays, settings) from which `from_state` goes on identically; the settings are fit for JSON."""
        arrays = {
            "lines": self._records.lines[: LINE * self._top].copy(), "parents": self._records.parents[: 2 * self._top].copy(),
            "work": self._work.copy(), "answers": self._answers.copy(), "bases": self._bases.copy(),
        }  # fmt: skip
        arrays["work"][: layout.TOP] = 0  # addresses
        slots, wave = (int(self._work[i]) for i in (layout.SLOTS, layout.WAVE))
        names = {
            "n_trees": self.n_trees,
            "n_actions": self.n_actions,
            "simulations": self._limit,
            "wave": wave,
            "slots": slots,
        }
        return arrays, names | {"rule": type(self.rule).__name__, "rule_settings": asdict(self.rule)}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], settings: Mapping) -> Forest:
        """Inverse of `state`. What it is given is trusted: `mcts.files` reads it from a file that was not changed."""
        rule = {"TreePUCT": TreePUCT, "TreeGumbel": TreeGumbel}[settings["rule"]](**settings["rule_settings"])
        names = ("n_trees", "n_actions", "simulations", "wave", "slots")
        forest = cls(**{name: settings[name] for name in names}, rule=rule, capacity=len(arrays["lines"]) // 4)
        forest._records.lines[: len(arrays["lines"])] = arrays["lines"]
        forest._records.parents[: len(arrays["parents"])] = arrays["parents"]
        forest._work, forest.leaves = arrays["work"].copy(), int(arrays["work"][layout.LEAVES])
        forest._answers[:], forest._bases[:] = arrays["answers"], arrays["bases"]
        forest._point()
        return forest

    # ---- room

    @property
    def _top(self) -> int:
        return int(self._work[layout.TOP])

    def _section(self, which: int, length: int) -> np.ndarray:
        first = layout.first_word.py_func(self.n_trees, int(self._work[layout.SLOTS]), which)
        return self._work[first : first + length]

    def _refuse(self, code: int) -> None:
        row, what = divmod(code, 2)
        node, answers = int(self.nodes[row]), self._answers[row]
        if what == 0:
            raise ForestError(f"the value {answers[0]} of node {node} is not in [0, 1]")
        if not 1 <= answers[1] <= self.n_actions:
            raise ForestError(
                f"{answers[1]:.0f} children of node {node}: use 1..{self.n_actions}, or terminal for a node without any"
            )
        raise ForestError(f"the priors of node {node} must lie in 0..1e30 and not all be 0")

    def _make_room(self) -> None:
        """Room for nodes and paths of at least one more round."""
        work, have = self._work, self._records.n_lines
        needed, room = self._top + int(work[layout.NEW_LINES]), int(work[layout.DEPTH_ROOM])
        if needed > _MAX_LINES:
            raise ForestError(f"{self.n_nodes} nodes: no ids are left; stop here, or reroot()")
        if needed > have:
            while have < needed:
                have *= 2
            self._records = self._records.larger(min(have, _MAX_LINES), self._top)
        if int(work[layout.DEEPEST]) + 2 > room:
            slots = int(work[layout.SLOTS])
            first = layout.first_word.py_func(self.n_trees, slots, layout.OF_STEPS)
            self._work = np.zeros(layout.work_words(self.n_trees, slots, 2 * room), np.int32)
            self._work[:first] = work[:first]
            self._work[layout.DEPTH_ROOM] = 2 * room
            self._work[first:].reshape(slots, 2 * room)[:, :room] = work[first:].reshape(slots, room)
        self._point()

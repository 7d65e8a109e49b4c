"""Step-level beam search and DVTS, level by level over all problems at once.

Beam search (Snell et al. 2024, section 5.2) keeps the best states of a level over all beams; diverse verifier tree search
(DVTS; Beeching, Tunstall, Rush 2024) keeps the best child of each of its independent subtrees, so that one early favourite
does not take all. Steps are drawn without replacement at each state, and equal states of a level are kept once.

Both are sized by their limit: N = limit / tokens of a chain states are drawn a level, `candidates` at each beam.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mcts.types import NO_KEY, Expansion
from solve.search.wall import Curtained
from solve.types import COLDEST, NEVER, Chain, Workbench
from tasks.base import Problem


@dataclass(frozen=True, slots=True)
class Beam:
    """`candidates` a beam; `width`: beams kept, None: as many as the limit pays for. `subtrees`: DVTS.

    States are ranked by value, where it is not trusted by the log-probability of the chain so far.
    """

    candidates: int = 4
    width: int | None = None
    subtrees: bool = False
    temperature: float = 1.0
    sized: bool = True

    def __post_init__(self) -> None:
        if not COLDEST <= self.temperature < math.inf:
            raise ValueError(f"a temperature to draw distinct steps at is {COLDEST} or more")
        if self.candidates < 1 or (self.width is not None and self.width < 1):
            raise ValueError("at least 1")

    def start(self, bench: Workbench, problems: Sequence[Problem], limit: int | None = None) -> BeamSearch:
        return BeamSearch(self, bench, problems, limit)


@dataclass(slots=True)
class _State:
    handle: int
    logprob: float
    score: float
    value: float
    subtree: int = 0


@dataclass(slots=True)
class _Beams:
    """One problem's."""

    width: int
    candidates: int
    alive: list[_State]
    chains: list[Chain] = field(default_factory=list)


class BeamSearch:
    """See `solve.types.Search`. Ends when no beam goes on; what is left of a limit then stays unspent."""

    def __init__(self, settings: Beam, bench: Workbench, problems: Sequence[Problem], limit: int | None):
        self._settings, self._bench, self._problems = settings, bench, problems
        self.evaluator = bench.policy.evaluator(bench.task, temperature=settings.temperature, seed=bench.seed)
        self._seen = Curtained(self.evaluator, values=bench.trust_value)
        roots = self._seen.begin(problems)
        count = len(problems)
        self.tokens, self.simulations = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.solved_at = np.full(count, NEVER, np.int64)
        each = bench.chain_tokens or bench.task.max_steps * bench.task.max_step_tokens  # not known: as long as can be
        chains = 1 if limit is None else max(1, limit // each)
        candidates = min(settings.candidates, chains)
        width = settings.width or max(1, chains // candidates)
        self._beams = [
            _Beams(width, candidates, [_State(int(handle), 0.0, 0.0, float(value))])
            for handle, value in zip(roots.handles, roots.raw_values, strict=True)
        ]

    @property
    def prefilled_tokens(self) -> int:
        return self.evaluator.prefilled_tokens

    @property
    def exhausted(self) -> np.ndarray:
        return np.array([not beams.alive for beams in self._beams])

    def advance(
        self, limits: np.ndarray, seconds: float | None = None, simulations: int | np.ndarray | None = None
    ) -> None:
        start = time.monotonic()
        most = NEVER if simulations is None else simulations
        while not self._bench.interrupted() and (seconds is None or time.monotonic() - start < seconds):
            open_ = (self.tokens < limits) & (self.solved_at == NEVER) & ~self.exhausted & (self.simulations < most)
            active = np.flatnonzero(open_).tolist()
            if not active:
                return
            at_root = [i for i in active if not self.simulations[i]]
            for group, of in ((at_root, "root"), ([i for i in active if i not in set(at_root)], "level")):
                for share in sorted({self._asked(i, of) for i in group}):
                    self._level([i for i in group if self._asked(i, of) == share], share)

    def chains(self, problem: int, within: int | None = None) -> list[Chain]:
        return [chain for chain in self._beams[problem].chains if within is None or chain.tokens <= within]

    def _asked(self, i: int, of: str) -> int:
        """Candidates to draw at each of a problem's states: the root alone fills a whole level."""
        beams = self._beams[i]
        return beams.candidates * beams.width if of == "root" else beams.candidates

    def _level(self, active: list[int], candidates: int) -> None:
        """Expand every beam of the problems `active` and keep the best of what comes."""
        states = [(i, state) for i in active for state in self._beams[i].alive]
        handles = np.array([state.handle for _, state in states], np.int64)
        expansion = self._seen.expand(handles, candidates)
        fresh: dict[int, list[tuple[_State, int]]] = {i: [] for i in active}
        for row, (i, state) in enumerate(states):
            self.tokens[i] += int(expansion.leaf_tokens[row])
            self.simulations[i] += 1
            for c in range(int(expansion.offsets[row]), int(expansion.offsets[row + 1])):
                child = self._child(i, state, expansion, c)
                if child is not None:
                    fresh[i].append((child, int(expansion.keys[c])))
        for i in active:
            self._beams[i].alive = self._kept(self._beams[i], fresh[i])

    def _child(self, i: int, state: _State, expansion: Expansion, c: int) -> _State | None:
        """The state after candidate `c`, None where the chain has ended."""
        handle, logprob = int(expansion.handles[c]), state.logprob + float(expansion.logprobs[c])
        if not expansion.terminal[c]:
            value = float(expansion.raw_values[c])
            return _State(handle, logprob, value if self._bench.trust_value else logprob, value, state.subtree)
        steps, verdict = tuple(self.evaluator.steps(handle)), self.evaluator.verdict(handle)
        answer, reward = self._bench.outcome(self._problems[i], steps, verdict)
        paid = int(self.tokens[i])
        value = self._bench.chain_value(state.value, float(expansion.logprobs[c]), float(expansion.raw_values[c]))
        self._beams[i].chains.append(Chain(steps, answer, paid, float(np.exp(logprob)), 1, value, reward))
        if self._bench.verify == "task" and verdict.reward >= 1:
            self.solved_at[i] = min(self.solved_at[i], paid)
        return None

    def _kept(self, beams: _Beams, fresh: list[tuple[_State, int]]) -> list[_State]:
        ranked = sorted(fresh, key=lambda pair: -pair[0].score)
        distinct, seen = [], set()
        for state, key in ranked:
            if key == NO_KEY or key not in seen:
                distinct.append(state)
                seen.add(key)
        if not self._settings.subtrees:
            return distinct[: beams.width]
        if len(beams.alive) == 1 and not beams.alive[0].subtree:  # the root's children open the subtrees
            for k, state in enumerate(distinct[: beams.width], start=1):
                state.subtree = k
            return distinct[: beams.width]
        best: dict[int, _State] = {}
        for state in distinct:
            best.setdefault(state.subtree, state)
        return list(best.values())

"""Drawing distinct steps at trie nodes: stochastic beam search without replacement, and best-first.

A step is a run of tokens up to a delimiter (a newline, as a rule); one that has none within `max_step_tokens` is drawn too,
unfinished. What was handed out at a start is never drawn there again, over any number of calls: each sampled prefix remembers
which fraction of its mass is left, and steps are drawn from the policy restricted to what is left.

* `sample`: stochastic beam search (Kool et al. 2019, "Stochastic Beams and Where to Find Them"): K steps without
  replacement in proportion to their mass, all starts of a wave level by level. Exact, see `draw_kernels.sample_level`.
* `best`: the most probable untaken prefix, completed greedily; K times.

Noise is counter-based, keyed by (seed of the start, tokens since the start, number of the draw): what is drawn at a start
does not depend on the other starts of its wave.

Tokens whose log-probability is below `prune_logprob` are never drawn and their mass stays unseen; the distribution that is
drawn from is renormalised over the others. Log-probabilities that are returned are the exact ones at temperature 1.

Legend: L starts of one wave, K steps a start, C steps of one draw, S tokens of the longest step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mcts.types import Draw
from models.trie import sampling_kernels as kernels
from models.trie.sampling_kernels import ENDED, NO_ENTRY, PENDING, STALE
from models.trie.step_ends import StepEnds
from models.trie.trie import TokenTrie
from tasks.base import NEWLINE_ID

ENTRY: np.dtype = np.dtype(
    [
        ("hash", np.uint64),  # of the tokens since the start
        ("weight", np.float64),  # mass of the prefix under pi ** (1 / temperature), 1 at the start
        ("remaining", np.float64),  # fraction of `weight` not yet handed out
        ("logprob", np.float64),  # log pi of the prefix from the start
        ("best_logprob", np.float64),  # of the most probable prefix below that was not sampled yet
        ("best_place", np.int32),  # its place, or STALE, SELF, NONE
        ("node", np.int32),  # trie node, or PENDING, ENDED, HANDED_OUT
        ("parent", np.int32),
        ("first_child", np.int32),
        ("next_sibling", np.int32),
        ("next_in_slot", np.int32),
        ("slot", np.int32),
        ("place", np.int32),  # of the token in the row of the parent's node
        ("token", np.int32),
        ("depth", np.int32),  # tokens since the start
        ("birth", np.int32),  # the draw that sampled it, 0 once it is accounted for
        ("mode", np.int8),  # of `StepEnds`, ENDS after the token that ends a step
    ],
    align=True,
)
SLOT: np.dtype = np.dtype(
    [
        ("seed", np.uint64),
        ("seen_mass", np.float64),  # mass of the steps handed out, under pi
        ("root", np.int32),  # entry of the start itself
        ("newest", np.int32),  # head of the list of its entries
        ("round", np.int32),  # draws made so far
        ("new_tokens", np.int32),  # tokens sampled by the last draw
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class DrawnSteps:
    """Steps of one draw. Those of start l are rows offsets[l]:offsets[l+1], in the order drawn."""

    offsets: np.ndarray  # int64 [L+1]
    tokens: np.ndarray  # int32 [C, S], zeros after the end
    lengths: np.ndarray  # int32 [C], tokens of the step, delimiter included
    logprobs: np.ndarray  # float64 [C], log pi(step | start), exact, at temperature 1
    finished: np.ndarray  # bool [C], False: no delimiter within max_step_tokens, which `StepEnds.cut` would allow
    parent_nodes: np.ndarray  # int32 [C], trie node before the step's last token, which itself is not computed
    new_tokens: np.ndarray  # int32 [C], tokens that this step was the first to need
    leaf_tokens: np.ndarray  # int32 [L], tokens newly sampled for the start, prefixes that led nowhere included
    unseen_logmass: np.ndarray  # float64 [L], log of pi's mass not handed out; -inf: nothing left to draw
    best_unseen_logprob: np.ndarray  # float64 [L], bound on the log pi of every step not handed out


class StepSampler:
    """Draws steps from a trie and keeps account of what each start has handed out."""

    def __init__(
        self,
        trie: TokenTrie,
        *,
        max_step_tokens: int,
        temperature: float = 1.0,
        prune_logprob: float = -12.0,
        ends: StepEnds | np.ndarray | None = None,
    ):
        """`ends`: where a step ends, or bool [V], the tokens that end one; None: the newline of a task's vocabulary.

        Raises ValueError for a temperature that is not positive or a step limit below 1."""
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}; for greedy use draw='best'")
        if max_step_tokens < 1:
            raise ValueError(f"max_step_tokens must be at least 1, not {max_step_tokens}")
        self.trie = trie
        self.max_step_tokens = max_step_tokens
        if ends is None:
            ends = np.arange(trie.forward.vocabulary_size) == NEWLINE_ID
        if isinstance(ends, np.ndarray):
            ends = StepEnds.at(ends)
        self._limits = (temperature, np.float32(prune_logprob), ends.kinds, ends.after, max_step_tokens)
        self._cut = ends.cut
        self._draw_number = 0
        self._entries, self._slots = np.zeros(1 << 12, ENTRY), np.zeros(1 << 8, SLOT)
        self._n_entries = self._n_slots = 0

    def clear(self) -> None:
        """Forget every start. Call it with `trie.clear()`."""
        self._n_entries = self._n_slots = 0

    def open(self, starts: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Slots (int32 [L]) for drawing at trie nodes `starts` [L], with noise of `seeds` (uint64 [L]).

        Each slot has its own account: two slots at one node may hand out the same step.
        """
        count = len(starts)
        self._entries = grown(self._entries, self._n_entries, count)
        self._slots = grown(self._slots, self._n_slots, count)
        slots = np.arange(self._n_slots, self._n_slots + count, dtype=np.int32)
        roots = np.arange(self._n_entries, self._n_entries + count, dtype=np.int32)
        entries = np.zeros(count, ENTRY)
        entries["weight"] = entries["remaining"] = 1.0
        entries["best_place"] = STALE
        for field in ("parent", "first_child", "next_sibling", "next_in_slot"):
            entries[field] = NO_ENTRY
        entries["node"], entries["slot"] = starts, slots
        self._entries[roots] = entries
        fresh = np.zeros(count, SLOT)
        fresh["seed"], fresh["root"], fresh["newest"] = seeds, roots, roots
        self._slots[slots] = fresh
        self._n_entries += count
        self._n_slots += count
        return slots

    def leave_out(self, slots: np.ndarray, steps: Sequence[Sequence[int]]) -> None:
        """Never draw the step of `steps` [L] at each of `slots` [L]: its mass counts as handed out.

        Its tokens end a step (`StepEnds`). No step that opens with the same token was drawn there, or left out, before.
        """
        at = self._slots["root"][np.ascontiguousarray(slots, np.int32)]
        going = np.arange(len(at))
        for k in range(max(map(len, steps), default=0)):
            going = going[[len(steps[i]) > k for i in going]]
            tokens, found = np.array([steps[i][k] for i in going], np.int32), np.empty(len(going), np.int32)
            self._entries = grown(self._entries, self._n_entries, len(going))
            self._n_entries = kernels.enter_token(
                *self._tables(), at[going], tokens, *self._rows(), *self._limits, self._draw_number, found
            )
            at[going] = found
            going = going[found != NO_ENTRY]
            self._compute(at[going])
        left_out = np.flatnonzero(at != NO_ENTRY)
        self._hand_out(at[left_out], left_out)

    def draw(self, slots: np.ndarray, k: int, draw: Draw = "sample") -> DrawnSteps:
        """Up to `k` steps never drawn before at each of `slots` (int32 [L], distinct); fewer where they run out."""
        slots = np.ascontiguousarray(slots, np.int32)
        self._draw_number += 1
        self._slots["round"][slots] += 1
        self._slots["new_tokens"][slots] = 0
        if draw == "sample":
            parts = [self._hand_out(*self._beam_search(slots, k))]
        else:
            parts = [self._hand_out(*self._best_first(slots)) for _ in range(k)]
        return self._collect(slots, parts)

    def _beam_search(self, slots: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the steps drawn, and the wave position of each; stochastic beam search of width `k`."""
        roots = self._slots["root"][slots]
        beams = np.full((len(slots), k), NO_ENTRY, np.int32)
        beams[:, 0] = roots
        times = np.zeros((len(slots), k))
        counts = (self._entries["remaining"][roots] > 0).astype(np.int32)
        column = np.arange(k)
        for active in self._relay(slots, k, counts > 0):
            part, part_times, part_counts = beams[active], times[active], counts[active]
            self._entries = grown(self._entries, self._n_entries, part.size)
            self._n_entries = kernels.sample_level(
                *self._tables(), part, part_times, part_counts, *self._rows(), *self._limits, self._draw_number
            )
            beams[active], times[active], counts[active] = part, part_times, part_counts
            alive = column < part_counts[:, None]
            self._compute(part[alive])
            open_beams = alive & (self._entries["node"][part] != ENDED)
            self._going[active] = open_beams.sum(1)
        return beams[column < counts[:, None]], np.repeat(np.arange(len(slots)), counts)

    def _best_first(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """End of the next step of each slot that has one left, and the wave position of each; best-first."""
        current = np.empty(len(slots), np.int32)
        kernels.best_frontier(self._entries, self._slots, slots, self.trie.logprobs, self._limits[1], current)
        leaves = np.flatnonzero(current != NO_ENTRY)
        current = current[leaves]
        for active in self._relay(slots[leaves], 1, self._entries["node"][current] != ENDED):
            part = current[active]
            self._entries = grown(self._entries, self._n_entries, len(part))
            self._n_entries = kernels.best_level(*self._tables(), part, *self._rows(), *self._limits, self._draw_number)
            current[active] = part
            self._compute(part)
            self._going[active] = self._entries["node"][part] != ENDED
        return current, leaves

    def _relay(self, slots: np.ndarray, k: int, ready: np.ndarray) -> Iterator[np.ndarray]:
        """Positions in `slots` [L] to go on with, one token each time, until all are done.

        The caller keeps `_going` [L], the rows that a start still needs, up to date. Those that retire make room for the next
        of the queue, nearest in depth first.
        """
        depths = self.trie.depths[self._entries["node"][self._slots["root"][slots]]]
        queue = np.flatnonzero(ready)
        queue = queue[np.argsort(depths[queue], kind="stable")]
        needs = np.cumsum(depths[queue] + 1 + k * self.max_step_tokens)  # slots of keys and values, nothing shared
        self._going = np.zeros(len(slots), np.int64)
        active, taken, returned = queue[:0], 0, 0
        while len(active) or taken < len(queue):
            free = self.trie.forward.batch_rows - int(self._going[active].sum())
            fits = int(np.searchsorted(needs, self.trie.kv.room + returned, side="right")) - taken
            more = max(min(free // k, fits), 0 if len(active) else 1)
            if more and taken < len(queue):
                joining = queue[taken : taken + more]
                self._going[joining] = k
                active, taken = np.sort(np.concatenate((active, joining))), taken + len(joining)
            yield active
            active = active[self._going[active] > 0]
            returned = int(needs[taken - 1]) - int((depths[active] + 1 + k * self.max_step_tokens).sum())

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        return self.trie.logprobs, self.trie.choices

    def _tables(self) -> tuple[np.ndarray, np.ndarray, int]:
        return self._entries, self._slots, self._n_entries

    def _compute(self, entries: np.ndarray) -> None:
        """Give trie nodes to those of `entries` that are new prefixes."""
        new = entries[self._entries["node"][entries] == PENDING]
        if len(new):
            parents = self._entries["node"][self._entries["parent"][new]]
            self._entries["node"][new] = self.trie.extend(parents, self._entries["token"][new], with_values=False)

    def _hand_out(self, last: np.ndarray, leaves: np.ndarray) -> dict[str, np.ndarray]:
        count = len(last)
        steps = {
            "tokens": np.zeros((count, self.max_step_tokens), np.int32),
            "lengths": np.empty(count, np.int32),
            "finished": np.empty(count, np.bool_),
            "new_tokens": np.empty(count, np.int32),
            "parent_nodes": np.empty(count, np.int32),
        }
        logprobs = self._entries["logprob"][last]
        kernels.hand_out(self._entries, self._slots, last, self._draw_number, *steps.values())
        steps["finished"] |= self._cut
        return steps | {"logprobs": logprobs, "leaves": leaves}

    def _collect(self, slots: np.ndarray, parts: list[dict[str, np.ndarray]]) -> DrawnSteps:
        steps = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        leaves = steps.pop("leaves")
        order = np.argsort(leaves, kind="stable")
        bounds = np.empty(len(slots), np.int32)
        kernels.best_frontier(self._entries, self._slots, slots, self.trie.logprobs, self._limits[1], bounds)
        left = bounds != NO_ENTRY
        rows = self._slots[slots]
        unseen = np.maximum(1.0 - rows["seen_mass"], 1e-12)  # float32 log-probabilities do not resolve less
        return DrawnSteps(
            offsets=np.concatenate(([0], np.cumsum(np.bincount(leaves, minlength=len(slots))))),
            leaf_tokens=rows["new_tokens"].copy(),
            unseen_logmass=np.where(left, np.log(unseen), -np.inf),
            best_unseen_logprob=np.where(left, self._entries["best_logprob"][bounds], -np.inf),
            **{name: array[order] for name, array in steps.items()},
        )


def grown(rows: np.ndarray, used: int, more: int) -> np.ndarray:
    """`rows` with room for `more` after the first `used`, doubled if need be; zeros there."""
    capacity = len(rows)
    while capacity < used + more:
        capacity *= 2
    if capacity == len(rows):
        return rows
    larger = np.zeros((capacity, *rows.shape[1:]), rows.dtype)
    larger[:used] = rows[:used]
    return larger
